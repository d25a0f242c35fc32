"""The one address under which a console is reached: everything that is pinned is pinned to it."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

from zt_agents._internal.origins import is_loopback
from zt_agents.errors import ConfigurationError

_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port, as a browser writes them."""

    text: str
    """Such as ``https://approvals.acme.example``."""
    secure: bool
    host: str
    """What a browser sends as ``Host``."""
    name: str
    """The host's name alone; WebAuthn's RP ID."""
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the origin that *text* names.

        Raises:
            ConfigurationError: it is none, or one where cookies and tokens would cross a network unencrypted.
        """
        try:
            parts = urlsplit(text)
            name, port = parts.hostname or "", parts.port
        except ValueError:
            name, port, parts = "", None, urlsplit("")
        extra = parts.username is not None or parts.password is not None or parts.query or parts.fragment
        if not name or not text.isascii() or extra or parts.path not in {"", "/"} or parts.scheme not in _DEFAULT_PORTS:
            raise ConfigurationError(
                "--origin is not the address of a console.", hint="Write https://host or http://localhost:port."
            )
        secure = parts.scheme == "https"
        if not secure and not is_loopback(name):
            raise ConfigurationError(
                "A console that others reach needs https.",
                hint="Put a TLS proxy in front of it, and give its address as --origin.",
            )
        host = f"[{name}]" if ":" in name else name
        usual = _DEFAULT_PORTS[parts.scheme]
        if port not in (None, usual):
            host = f"{host}:{port}"
        return cls(f"{parts.scheme}://{host}", secure, host, name, usual if port is None else port)


def is_address(name: str) -> bool:
    """Return whether *name* is an IP address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
