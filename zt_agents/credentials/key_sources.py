"""Where a service has the guard's public keys from: what it was given, a file, or a URL.

Rules:

1. A token names a key and brings none: where keys come from was configured (RFC 8725, 3.10).
2. Keys are told apart by their RFC 7638 thumbprint, whatever a JWK Set calls them. One with anything private in it, or
   anything unknown, is refused as a whole.
3. An unknown name makes a source look again, in case the keys were rotated, but not more often than every ten seconds
   and once at a time: whoever invents names gets no requests made.
4. A source that cannot be read goes on with what it knew for an hour, and then knows nothing: StoreError.
5. A URL is ``https``, or ``http`` on this machine; it is read without following redirects, for five seconds and 64 KB.
"""

from __future__ import annotations

import os
import threading
import time
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Mapping
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO, Any, Protocol
from urllib.parse import urlsplit

from zt_agents._internal.origins import is_loopback
from zt_agents.credentials.strict_encodings import read_object
from zt_agents.errors import ConfigurationError, StoreError, TokenInvalidError
from zt_agents.identity.signing.public_keys import VerificationKey

REFRESH_SECONDS = 300
"""How old keys may be before they are read again."""
RETRY_SECONDS = 10
"""How long nothing is read again, after keys were read or could not be."""
STALE_SECONDS = 3_600
"""For how long keys are good that cannot be read again."""
_MAX_BYTES = 65_536
_MAX_KEYS = 256
_TIMEOUT = 5.0

_Keys = dict[str, VerificationKey]


class KeySource(Protocol):
    """Finds a public key by its name. A :class:`zt_agents.identity.signing.key_ring.KeyRing` is one, too."""

    def find(self, kid: str, now: float) -> VerificationKey | None:
        """Return the key called *kid*, or None.

        Raises:
            StoreError: the keys cannot be had.
        """
        ...


class StaticKeys:
    """The keys of one JWK Set (RFC 7517, section 5), for good."""

    def __init__(self, jwks: Mapping[str, Any]) -> None:
        """Take the keys.

        Raises:
            TokenInvalidError: it is no JWK Set, or a key in it is not a public one of a known kind.
        """
        self._keys = _read(jwks)

    def find(self, kid: str, now: float) -> VerificationKey | None:
        """Return the key called *kid*, or None; these keys do not change with the time."""
        return self._keys.get(kid)


class _ReadKeys(ABC):
    """Keys that are read now and then."""

    def __init__(self) -> None:
        self._keys: _Keys = {}
        self._read_at = -1.0
        """When they were read; before that there are none."""
        self._tried_at = -1.0
        self._lock = threading.Lock()

    def find(self, kid: str, now: float) -> VerificationKey | None:
        key = self._keys.get(kid)
        if key is None or not 0 <= now - self._read_at < REFRESH_SECONDS:
            self._look_again(now, wait=key is None)
            key = self._keys.get(kid)
        if not 0 <= now - self._read_at < STALE_SECONDS:
            raise StoreError(f"The public keys at {self._place()} could not be read.")
        return key

    def _look_again(self, now: float, *, wait: bool) -> None:
        if not self._lock.acquire(blocking=wait):
            return  # another thread does, and this one knows the key that it needs
        try:
            if 0 <= now - self._tried_at < RETRY_SECONDS:
                return
            self._tried_at = now
            self._keys = _read(read_object(self._fetch()))
            self._read_at = now
        except (OSError, HTTPException, ValueError, TokenInvalidError):
            return  # find() says so when they have become too old
        finally:
            self._lock.release()

    @abstractmethod
    def _fetch(self) -> bytes: ...

    @abstractmethod
    def _place(self) -> str: ...


class FileKeys(_ReadKeys):
    """The keys in a file: a JWK Set, as ``zt-agents keys jwks`` writes it. A new one is noticed."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__()
        self._path = Path(path)

    def _fetch(self) -> bytes:
        with self._path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise ValueError("it is too large to be a set of keys")
        return content

    def _place(self) -> str:
        return str(self._path)


class HttpKeys(_ReadKeys):
    """The keys at a URL: the issuer's JWK Set."""

    def __init__(self, url: str) -> None:
        """Name the URL; it is read when the first token comes.

        Raises:
            ConfigurationError: it is not ``https``, nor on this machine.
        """
        super().__init__()
        parts = urlsplit(url)
        if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname or "")):
            raise ConfigurationError("Public keys are read by https, or by http from this machine alone.")
        self._url = url
        direct = [urllib.request.ProxyHandler({})] if parts.scheme == "http" else []
        self._opener = urllib.request.build_opener(_NoRedirects, *direct)

    def _fetch(self) -> bytes:
        deadline = time.monotonic() + _TIMEOUT
        with self._opener.open(self._url, timeout=_TIMEOUT) as response:
            content = bytearray()
            while chunk := response.read1(_MAX_BYTES):
                content += chunk
                if len(content) > _MAX_BYTES or time.monotonic() > deadline:
                    raise ValueError("it is too large, or too slow, to be a set of keys")
            return bytes(content)

    def _place(self) -> str:
        return self._url


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        return None  # the answer is an error then


def _read(jwks: Mapping[str, Any]) -> _Keys:
    listed = jwks.get("keys")
    if not isinstance(listed, list) or len(listed) > _MAX_KEYS:
        raise TokenInvalidError("This is no JWK Set.")
    keys = [VerificationKey.from_jwk(jwk) for jwk in listed]
    return {key.kid: key for key in keys}
