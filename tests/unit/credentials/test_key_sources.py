"""Where a service has keys from, and what it does when they change, are gone, or are not what they should be."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from zt_agents.credentials import FileKeys, HttpKeys, StaticKeys
from zt_agents.errors import ConfigurationError, StoreError, TokenInvalidError
from zt_agents.identity import SigningKey

OLD, NEW = SigningKey.generate(), SigningKey.generate("EdDSA")
NOW = 1_800_000_000.0


def jwks(*keys: SigningKey) -> dict[str, Any]:
    return {"keys": [key.jwk for key in keys]}


class Issuer:
    """A real HTTP server that answers as it is told, and counts."""

    def __init__(self) -> None:
        self.content = json.dumps(jwks(OLD)).encode()
        self.status, self.asked, self.location = 200, 0, ""
        self.drip = False
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked += 1
                if outer.drip:
                    self.drip()
                    return
                self.send_response(outer.status)
                if outer.location:
                    self.send_header("Location", outer.location)
                self.send_header("Content-Length", str(len(outer.content)))
                self.end_headers()
                self.wfile.write(outer.content)

            def drip(self) -> None:
                self.send_response(200)
                self.send_header("Content-Length", "60000")
                self.end_headers()
                with suppress(OSError):
                    for _ in range(60):
                        self.wfile.write(b" ")
                        time.sleep(0.05)

            def log_message(self, *_: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/jwks"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join(5)
        self._server.server_close()


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    made = Issuer()
    yield made
    made.close()


def test_keys_are_found_by_what_they_are() -> None:
    misnamed = {"keys": [{**OLD.jwk, "kid": NEW.thumbprint}]}
    keys = StaticKeys(misnamed)
    assert keys.find(NEW.thumbprint, NOW) is None
    assert keys.find(OLD.thumbprint, NOW) == OLD.verification


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"keys": {}}, id="no list"),
        pytest.param({"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}, id="a shared secret"),
        pytest.param({"keys": [{**OLD.jwk, "d": "AAAA"}]}, id="a private key"),
        pytest.param({"keys": [{**OLD.jwk, "alg": "HS256"}]}, id="another algorithm"),
        pytest.param({"keys": [{**OLD.jwk, "use": "enc"}]}, id="a key to encrypt with"),
        pytest.param({"keys": [{**OLD.jwk, "x5u": "https://evil.example"}]}, id="a key from elsewhere"),
        pytest.param({"keys": [OLD.jwk] * 257}, id="more than there could be"),
    ],
)
def test_what_is_no_set_of_public_keys_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(TokenInvalidError):
        StaticKeys(bad)


def test_a_file_is_read_again_when_a_key_is_new(tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps(jwks(OLD)))
    keys = FileKeys(path)
    assert keys.find(OLD.thumbprint, NOW) == OLD.verification
    path.write_text(json.dumps(jwks(OLD, NEW)))
    assert keys.find(NEW.thumbprint, NOW + 5) is None, "not more often than every ten seconds"
    assert keys.find(NEW.thumbprint, NOW + 11) == NEW.verification


def test_a_key_that_was_taken_out_is_not_known_for_long(tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps(jwks(OLD, NEW)))
    keys = FileKeys(path)
    assert keys.find(OLD.thumbprint, NOW)
    path.write_text(json.dumps(jwks(NEW)))
    assert keys.find(OLD.thumbprint, NOW + 301) is None


def test_a_file_that_is_not_there_is_no_empty_set(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="could not be read"):
        FileKeys(tmp_path / "none.json").find(OLD.thumbprint, NOW)


def test_what_cannot_be_read_again_is_good_for_an_hour(tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps(jwks(OLD)))
    keys = FileKeys(path)
    assert keys.find(OLD.thumbprint, NOW)
    path.write_text("{")
    assert keys.find(OLD.thumbprint, NOW + 3_599)
    with pytest.raises(StoreError):
        keys.find(OLD.thumbprint, NOW + 3_600)
    path.write_text(json.dumps(jwks(OLD)))
    assert keys.find(OLD.thumbprint, NOW + 3_700)


def test_a_clock_that_goes_back_does_not_keep_old_keys(tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps(jwks(OLD)))
    keys = FileKeys(path)
    keys.find(OLD.thumbprint, NOW)
    path.unlink()
    with pytest.raises(StoreError):
        keys.find(OLD.thumbprint, NOW - 1_000)


def test_a_url_is_read_once_and_not_for_every_name_that_somebody_invents(issuer: Issuer) -> None:
    keys = HttpKeys(issuer.url)
    for number in range(50):
        assert keys.find(f"invented-{number}", NOW + number / 10) is None
        assert keys.find(OLD.thumbprint, NOW + number / 10)
    assert issuer.asked == 1


def test_one_thread_reads_for_all(issuer: Issuer) -> None:
    keys = HttpKeys(issuer.url)
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(keys.find(OLD.thumbprint, NOW))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert (issuer.asked, found) == (1, [OLD.verification] * 8)


def test_rotation_is_seen(issuer: Issuer) -> None:
    keys = HttpKeys(issuer.url)
    assert keys.find(OLD.thumbprint, NOW)
    issuer.content = json.dumps(jwks(OLD, NEW)).encode()
    assert keys.find(NEW.thumbprint, NOW + 10)


@pytest.mark.parametrize(
    ("status", "content", "location"),
    [
        pytest.param(500, b"", "", id="an error"),
        pytest.param(200, b"<html>", "", id="a page"),
        pytest.param(200, b'{"keys": [], "keys": []}', "", id="a name twice"),
        pytest.param(200, b'{"keys": [' + b" " * 70_000 + b"]}", "", id="more than there could be"),
        pytest.param(302, json.dumps(jwks(NEW)).encode(), "/elsewhere", id="a redirect"),
        pytest.param(200, json.dumps({"keys": [{**NEW.jwk, "d": "AA"}]}).encode(), "", id="a private key"),
    ],
)
def test_what_an_issuer_should_not_answer_changes_nothing(
    issuer: Issuer, status: int, content: bytes, location: str
) -> None:
    keys = HttpKeys(issuer.url)
    assert keys.find(OLD.thumbprint, NOW)
    issuer.status, issuer.content, issuer.location = status, content, location
    assert keys.find(NEW.thumbprint, NOW + 20) is None
    assert keys.find(OLD.thumbprint, NOW + 20)
    assert issuer.asked == 2


def test_an_issuer_that_never_ends_its_answer_is_not_waited_for(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zt_agents.credentials.key_sources._TIMEOUT", 0.3)
    keys = HttpKeys(issuer.url)
    issuer.drip = True
    began = time.monotonic()
    with pytest.raises(StoreError):
        keys.find(OLD.thumbprint, NOW)
    assert time.monotonic() - began < 3


def test_known_keys_do_not_wait_for_an_issuer(issuer: Issuer) -> None:
    keys = HttpKeys(issuer.url)
    assert keys.find(OLD.thumbprint, NOW)
    with keys._lock:  # as if another thread were asking
        assert keys.find(OLD.thumbprint, NOW + 301)


@pytest.mark.parametrize("url", ["http://keys.acme.example/jwks", "file:///etc/passwd", "ftp://localhost/x", ""])
def test_a_url_is_https_or_on_this_machine(url: str) -> None:
    with pytest.raises(ConfigurationError):
        HttpKeys(url)
