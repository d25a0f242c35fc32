"""How a person at a command line logs in: in a browser here, or on another device.

Rules:

1. Authorization code with PKCE (S256), a ``state`` and a ``nonce``, each new and random (RFC 9700, section 2.1).
2. The browser comes back to 127.0.0.1, on a free port, to one path and once; nothing else of this machine is reachable
   by it (RFC 8252, section 7.3). It is told a fixed text, and never sent elsewhere. Another program that connects, and
   says little, nothing or nonsense, keeps it from nothing.
3. An answer without our ``state`` is not looked at: the wait goes on. One that names another issuer, or none where the
   provider says that it names itself, ends the login (RFC 9207).
4. On another device: the interval that the provider asks for is kept, and the code's end is the end (RFC 8628).
5. Nobody has logged in before the ID token was verified.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode

from zt_agents._internal.hidden import Hidden
from zt_agents.errors import IdentityProviderError, LoginRequiredError
from zt_agents.identity.provider.oauth_client import OAuthClient, Tokens
from zt_agents.identity.provider.terms import checked_address

CALLBACK = "/callback"
_DEVICE = "urn:ietf:params:oauth:grant-type:device_code"
_SLOWER = 5.0
"""Seconds that ``slow_down`` adds to the interval (RFC 8628, section 3.5)."""
_LONGEST_DEVICE = 1800.0
_PAGE = (
    b"<!doctype html><html lang=en><meta charset=utf-8><title>zt-agents</title>"
    b"<p>Go back to the terminal: the login goes on there. This window can be closed."
)
_SAFE_HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": "default-src 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Connection": "close",
}


def _random() -> Hidden[str]:
    return Hidden(secrets.token_urlsafe(32))


def _challenge(verifier: Hidden[str]) -> dict[str, str]:
    """Return what goes before a verifier (RFC 7636, section 4.3)."""
    digest = hashlib.sha256(verifier.reveal().encode()).digest()
    challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    return {"code_challenge": challenge, "code_challenge_method": "S256"}


@dataclass(frozen=True, slots=True)
class LoginRequest:
    """One attempt to log in by a browser."""

    redirect_uri: str
    state: Hidden[str] = field(default_factory=_random)
    nonce: Hidden[str] = field(default_factory=_random)
    verifier: Hidden[str] = field(default_factory=_random)

    def address(self, client: OAuthClient, *, scope: str) -> str:
        """Return where the browser goes."""
        terms = client.provider.terms
        asked = {
            "response_type": "code",
            "client_id": client.client_id,
            "redirect_uri": self.redirect_uri,
            "scope": scope,
            "state": self.state.reveal(),
            "nonce": self.nonce.reveal(),
            **_challenge(self.verifier),
        }
        if terms.max_age:
            asked["max_age"] = str(terms.max_age)
        if terms.acr:
            asked["acr_values"] = " ".join(terms.acr)
        endpoint = client.provider.document().address("authorization_endpoint")
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(asked)}"

    def is_ours(self, query: str) -> bool:
        """Return whether an answer is to this attempt."""
        states = parse_qs(query, keep_blank_values=True).get("state", [])
        return len(states) == 1 and hmac.compare_digest(states[0].encode(), self.state.reveal().encode())

    def redeem(self, client: OAuthClient, query: str, *, now: float) -> Tokens:
        """Return the tokens for the answer in *query*.

        Raises:
            IdentityProviderError: it is none to this attempt, names another provider, or the provider refuses.
        """
        said = parse_qs(query, keep_blank_values=True)
        if not self.is_ours(query) or any(len(values) != 1 for values in said.values()):
            raise IdentityProviderError("The answer is not to this login.", error="state")
        document = client.provider.document()
        if said.get("iss", [document.issuer]) != [document.issuer] or (document.names_itself and "iss" not in said):
            raise IdentityProviderError("The answer is from another identity provider.", error="issuer")
        if "code" not in said or "error" in said:
            code = said.get("error", [""])[0]
            shown = code if code.replace("_", "").isalpha() and code.isascii() and len(code) <= 64 else "no code"
            raise IdentityProviderError(f"The identity provider did not log you in: {shown}.", error=shown)
        form = {"code": said["code"][0], "redirect_uri": self.redirect_uri, "code_verifier": self.verifier.reveal()}
        return client.grant("authorization_code", form, now=now)


class _Quiet(ThreadingHTTPServer):
    """A thread for each connection: browsers open some that they do not use, and others may say a byte a second."""

    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        pass  # whoever hung up; a traceback would hold what they sent


class LoopbackListener:
    """Waits on 127.0.0.1 for the browser to come back."""

    def __init__(self, port: int = 0) -> None:
        self._query: Hidden[str] | None = None
        self._taking = threading.Lock()
        self._came = threading.Event()
        self._accepts: Callable[[str], bool] = lambda _: False
        listener = self

        class _Callback(BaseHTTPRequestHandler):
            timeout = 5

            def do_GET(self) -> None:
                ours = listener._takes(self.path, self.headers.get_all("Host"))
                try:
                    self.send_response(200 if ours else 404)
                    for name, value in _SAFE_HEADERS.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(_PAGE if ours else b"")
                finally:
                    if ours:
                        listener._came.set()

            def log_message(self, *_: object) -> None:
                pass  # the address holds the code

        self._server = _Quiet(("127.0.0.1", port), _Callback)
        self._server.timeout = 0.2

    @property
    def port(self) -> int:
        return int(self._server.server_port)

    @property
    def redirect_uri(self) -> str:
        return f"http://127.0.0.1:{self.port}{CALLBACK}"

    def wait(self, accepts: Callable[[str], bool], *, seconds: float) -> str:
        """Return the query that the browser came back with, of those that *accepts* takes.

        Raises:
            LoginRequiredError: it did not come back in time.
        """
        self._accepts = accepts
        end = time.monotonic() + seconds
        while not self._came.is_set():
            if time.monotonic() > end:
                raise LoginRequiredError("Nobody logged in in time.", hint="Run: zt-agents login")
            self._server.handle_request()
        assert self._query is not None
        return self._query.reveal()

    def _takes(self, target: str, hosts: list[str] | None) -> bool:
        """Return whether this request is the one that is waited for, and no other is from now on."""
        path, _, query = target.partition("?")
        if path != CALLBACK or hosts != [f"127.0.0.1:{self.port}"] or not self._accepts(query):
            return False
        with self._taking:
            first = self._query is None
            self._query = Hidden(query) if first else self._query
        return first

    def __enter__(self) -> LoopbackListener:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.server_close()


@dataclass(frozen=True, slots=True)
class DeviceLogin:
    """A login that goes on elsewhere (RFC 8628, section 3.2)."""

    user_code: str
    """To be typed, or compared, there."""
    address: str
    """Where."""
    address_with_code: str
    """The same with the code in it, for a QR code; or an empty text."""
    device_code: Hidden[str]
    verifier: Hidden[str]
    """PKCE, which some providers want here too; others pass it over."""
    interval: float
    """Seconds between two questions."""
    expires_in: float
    """Seconds."""

    @classmethod
    def begin(cls, client: OAuthClient, *, scope: str, now: float) -> DeviceLogin:
        """Ask for a code.

        Raises:
            IdentityProviderError: the provider does not give one.
        """
        verifier = _random()
        body = client.post("device_authorization_endpoint", {"scope": scope, **_challenge(verifier)}, now=now)
        user_code, device_code = body.get("user_code"), body.get("device_code")
        life, interval = body.get("expires_in", 0), body.get("interval", 5)
        good = all(isinstance(each, str) and each.isprintable() and each for each in (user_code, device_code))
        good = good and type(life) is int and type(interval) is int and life > 0 and interval >= 0
        try:
            address = checked_address(body.get("verification_uri"), what="verification_uri")
            complete = body.get("verification_uri_complete", "")
            complete = checked_address(complete, what="verification_uri_complete") if complete else ""
        except ValueError:
            good = False
        if not good or len(str(user_code)) > 64:
            raise IdentityProviderError("The identity provider gave no code for a device.", error="answer")
        return cls(
            user_code=str(user_code),
            address=address,
            address_with_code=complete,
            device_code=Hidden(str(device_code)),
            verifier=verifier,
            interval=max(1.0, float(interval)),
            expires_in=float(life),
        )

    def wait(
        self,
        client: OAuthClient,
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], Any] = time.sleep,
        timer: Callable[[], float] = time.monotonic,
    ) -> Tokens:
        """Return the tokens, once somebody has logged in there.

        Raises:
            LoginRequiredError: nobody did in time.
            IdentityProviderError: they said no, or the provider did.
        """
        form = {"device_code": self.device_code.reveal(), "code_verifier": self.verifier.reveal()}
        interval, end = self.interval, timer() + min(self.expires_in, _LONGEST_DEVICE)
        while timer() + interval < end:
            sleep(interval)
            try:
                return client.grant(_DEVICE, form, now=clock())
            except IdentityProviderError as error:
                if error.error == "slow_down":
                    interval += _SLOWER
                elif error.error == "unreachable":
                    interval *= 2  # RFC 8628, section 3.5
                elif error.error != "authorization_pending":
                    raise
        raise LoginRequiredError("Nobody logged in in time.", hint="Run: zt-agents login --device")
