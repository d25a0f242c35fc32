"""A service behind a tool: tells who called it, as the baggage says, and in which trace.

Usage: ``python baggage_service.py``, with the guard's public key as JSON on standard input. Prints its port.
"""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

from zt_agents.errors import IdentityError
from zt_agents.identity import verify_baggage

KEY = json.loads(sys.stdin.readline())


class Service(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        try:
            said = verify_baggage(self.headers.get("baggage", ""), key=KEY, issuer="spiffe://acme.example/zt-agents")
            caller = said.agent_id if said else None
        except IdentityError as error:
            caller = str(error)
        body = json.dumps({"caller": caller, "traceparent": self.headers.get("traceparent")}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Stay quiet."""


if __name__ == "__main__":
    server = HTTPServer(("127.0.0.1", 0), Service)
    print(server.server_port, flush=True)
    server.serve_forever()
