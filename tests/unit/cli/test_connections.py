"""Connections to servers that are slow on purpose, and addresses that are none."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from notices_received import certificate

from zt_agents.cli import connections
from zt_agents.cli.connections import HttpPoster, split_address, stays_here
from zt_agents.errors import ConfigurationError


@contextlib.contextmanager
def dripping(tls: ssl.SSLContext | None) -> Iterator[int]:
    """Serve one client one byte at a time, so that it never waits long for the next."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)

        def drip() -> None:
            with contextlib.suppress(OSError):
                plain, _ = server.accept()
                with plain if tls is None else tls.wrap_socket(plain, server_side=True) as connection:
                    connection.recv(65_536)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
                    for _ in range(1000):
                        connection.sendall(b"x")
                        time.sleep(0.02)

        thread = threading.Thread(target=drip)
        thread.start()
        yield server.getsockname()[1]
        thread.join()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_an_answer_that_never_ends_is_ended(scheme, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(connections, "LONGEST", 0.2)
    trusted, context = certificate(tmp_path)
    with dripping(context if scheme == "https" else None) as port:
        poster = HttpPoster(urlsplit(f"{scheme}://127.0.0.1:{port}/"), ca=trusted)
        started = time.monotonic()
        with pytest.raises(OSError, match=r"longer than 0\.2 s"):
            poster.post(b"{}", {})
        assert time.monotonic() - started < 5
        poster.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_what_stays_here(host: str) -> None:
    assert stays_here(host)


@pytest.mark.parametrize("host", ["", "0.0.0.0", "10.0.0.1", "localhost.example", "127.0.0.1.example", "0x7f000001"])
def test_what_does_not(host: str) -> None:
    assert not stays_here(host)


@pytest.mark.parametrize(
    "address", ["", "https://", "https://h:0", "https://h:99999", "https://[::1", "https://a..b", f"https://{'a' * 64}"]
)
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(ConfigurationError):
        split_address(address, {"https"}, "--to")


def test_an_address_may_be_a_number() -> None:
    assert split_address("https://[::1]:8443/x", {"https"}, "--to").hostname == "::1"
