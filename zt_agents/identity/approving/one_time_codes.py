"""One-time codes of an authenticator app (TOTP, RFC 6238): a second factor that an approver types.

Rules:

1. Six digits, 30 seconds, HMAC-SHA-1: what every authenticator app computes, whatever else an ``otpauth`` URI says.
   SHA-1 is no weakness here: HMAC does not rest on collisions.
2. A code is six ASCII digits and nothing around them. A digit of another script is no digit.
3. A clock may be one step off, no more. All three codes are compared, each in constant time.
4. The step that a code belongs to is returned, so that whoever keeps it can refuse every code that is not from a
   later one (RFC 6238, 5.2: accepted at most once). Nothing here remembers; nor does it count attempts, without which
   six digits are no secret.
5. A secret has 160 bits and never shows itself. Whoever has it can make every code: keep it encrypted.

What a code does not do: it is for no call in particular. Who is tricked into typing it into a false page has given it
away; a passkey (:mod:`zt_agents.identity.approving.passkeys`) has not.
"""

from __future__ import annotations

import base64
import io
import re
import secrets
from dataclasses import InitVar, dataclass, field
from hmac import compare_digest
from typing import Any

from zt_agents._internal.hidden import Hidden
from zt_agents._internal.optional import require

STEP = 30
"""Seconds that a code is shown for."""
SKEW = 1
"""Steps that the approver's clock may be off, either way."""
SECRET_BYTES = 20
"""160 bits, the length of HMAC-SHA-1's key (RFC 4226, section 4, R6)."""
_CODE = re.compile(r"[0-9]{6}")


@dataclass(frozen=True, slots=True)
class OneTimeSecret:
    """What an authenticator app and the guard's side share."""

    raw: InitVar[bytes]
    _held: Hidden[bytes] = field(init=False, repr=False)

    def __post_init__(self, raw: bytes) -> None:
        if len(raw) != SECRET_BYTES:
            raise ValueError(f"a secret has {SECRET_BYTES} bytes")
        object.__setattr__(self, "_held", Hidden(raw))

    def reveal(self) -> bytes:
        """Return the secret itself."""
        return self._held.reveal()

    @classmethod
    def generate(cls) -> OneTimeSecret:
        """Return a new secret."""
        return cls(secrets.token_bytes(SECRET_BYTES))

    @property
    def base32(self) -> str:
        """The 32 characters that can be typed into an app which cannot scan."""
        return base64.b32encode(self.reveal()).decode()

    def uri(self, *, approver: str, trust_domain: str) -> str:
        """Return the ``otpauth://`` URI that an app reads: it contains the secret."""
        uri: str = _totp(self).provisioning_uri(name=approver, issuer_name=trust_domain)
        return uri


def matching_step(secret: OneTimeSecret, code: str, now: float) -> int | None:
    """Return the number of the step whose code *code* is, or None where it is none of *now*.

    Args:
        secret: of the approver's factor.
        code: as it was typed.
        now: seconds since the epoch.

    Returns:
        Whole steps of 30 seconds since the epoch. Where two steps have the same code, it is the later one: a caller
        who accepts only steps after the last one will not take that code again.
    """
    if not isinstance(code, str) or _CODE.fullmatch(code) is None:
        return None
    totp = _totp(secret)
    current = int(now) // STEP
    found = None
    for step in range(max(current - SKEW, 0), current + SKEW + 1):
        if compare_digest(totp.generate_otp(step), code):
            found = step
    return found


def qr_text(uri: str) -> str:
    """Return *uri* as a QR code of half blocks, for a terminal: print it white on black."""
    text = io.StringIO()
    _qr_code(uri).terminal(text, compact=True)
    return text.getvalue()


def qr_svg(uri: str) -> str:
    """Return *uri* as a QR code in an ``<svg>`` element, for a page: black on white, without script or style."""
    svg: str = _qr_code(uri).svg_inline(scale=4, light="#fff")
    return svg


def _totp(secret: OneTimeSecret) -> Any:
    return require("pyotp", extra="approvals", purpose="a one-time code").TOTP(secret.base32)


def _qr_code(uri: str) -> Any:
    return require("segno", extra="approvals", purpose="a QR code").make_qr(uri)
