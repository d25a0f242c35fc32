"""The thumbprint that a token is bound to is the one that RFC 8705 means."""

import base64
import hashlib

from zt_agents.credentials.tls import certificate_thumbprint


def test_the_thumbprint_is_sha256_over_der_without_padding() -> None:
    thumbprint = certificate_thumbprint(b"certificate")
    assert len(thumbprint) == 43
    assert "=" not in thumbprint
    assert base64.urlsafe_b64decode(thumbprint + "=") == hashlib.sha256(b"certificate").digest()
