"""Mutual TLS between tools and their back ends."""

from __future__ import annotations

import base64
import hashlib


def certificate_thumbprint(certificate: bytes) -> str:
    """Return the ``x5t#S256`` of a certificate (DER): base64url of its SHA-256, without padding (RFC 8705, 3.1)."""
    return base64.urlsafe_b64encode(hashlib.sha256(certificate).digest()).rstrip(b"=").decode()
