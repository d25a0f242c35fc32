"""A service of its own: articles by HTTP, out of a real database, continuing the trace that each request names.

Usage: ``python articles_service.py FOLDER``, with ``OTEL_*`` variables. Prints its port; ends when its input does, and
then prints the paths that were asked for.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from opentelemetry import propagate, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.sqlite3 import SQLite3Instrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind


def main(folder: Path) -> None:
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    SQLite3Instrumentor().instrument()
    tracer = trace.get_tracer("articles")
    asked: list[str] = []

    def article(title: str) -> str:
        with contextlib.closing(sqlite3.connect(folder / "articles.db")) as connection:
            return str(connection.cursor().execute("SELECT ? || ' is explained'", (title,)).fetchone()[0])

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            context = propagate.extract(dict(self.headers.items()))
            with tracer.start_as_current_span("GET /articles/{title}", context, SpanKind.SERVER):
                body = article(self.path.rpartition("/")[2]).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        print(server.server_port, flush=True)
        sys.stdin.read()
        server.shutdown()
    provider.shutdown()
    print(json.dumps(asked))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
