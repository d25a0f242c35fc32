"""Serving an issuer.

A certificate that is renewed in its file is shown on the next connection: those of the built-in authority last an hour.
"""

from __future__ import annotations

import ssl
from contextlib import suppress
from pathlib import Path
from typing import Any

import uvicorn

from zt_agents.console.prompt import prompt_server
from zt_agents.errors import ConfigurationError
from zt_agents.identity.signing.keys import read_private_file
from zt_agents.issuer.app import Issuer


class _Renewed(ssl.SSLContext):
    """Shows the certificate that is in its files when a connection is opened."""

    files: tuple[Path, Path]
    _stamps: object = None

    def wrap_bio(self, *args: Any, **options: Any) -> ssl.SSLObject:
        with suppress(OSError, ValueError, ConfigurationError):  # half written: the next connection looks again
            self.refresh()
        return super().wrap_bio(*args, **options)

    def refresh(self) -> None:
        certificate, key = self.files
        stamps = [(found.st_ino, found.st_mtime_ns) for found in (certificate.stat(), key.stat())]
        if stamps != self._stamps:
            read_private_file(key)  # refuses one that others can read
            self.load_cert_chain(certificate, key, password="")
            self._stamps = stamps


def server(issuer: Issuer, *, certificate: Path | None = None, key: Path | None = None) -> uvicorn.Server:
    """Return a server of *issuer*, to be run on a socket; with *certificate* and *key* (PEM), by TLS.

    Raises:
        ConfigurationError: certificate or key cannot be used, or others can read the key.
    """
    context = _context(certificate, key) if certificate is not None and key is not None else None
    return prompt_server(issuer.application(), tls=context)


def _context(certificate: Path, key: Path) -> ssl.SSLContext:
    context = _Renewed(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.files = certificate, key
    try:
        context.refresh()
    except (OSError, ValueError) as error:
        text = f"{certificate} and {key} are no certificate and its key, or the key is encrypted."
        raise ConfigurationError(text) from error
    return context
