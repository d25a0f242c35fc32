"""JSON and base64url that can be read in one way only.

Of a name that stands in an object twice, one reader takes the first and another the last (RFC 8259, section 4); RFC
7519, section 4, lets a reader refuse it, and here it is refused. Base64url has spare bits at its end: two texts for the
same bytes would be two tokens with the same signature.
"""

from __future__ import annotations

import base64
import json
from typing import Any


def read_base64url(text: str) -> bytes:
    """Return the bytes that *text* stands for (RFC 4648, section 5, without padding).

    Raises:
        ValueError: it is not what their encoding is.
    """
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if base64url(raw) != text:
        raise ValueError("it is not written as base64url is written")
    return raw


def base64url(raw: bytes) -> str:
    """Return *raw* as text (RFC 4648, section 5, without padding)."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def read_object(text: bytes) -> dict[str, Any]:
    """Return the one JSON object that *text* is.

    Raises:
        ValueError: it is something else, or says a name twice.
    """
    try:
        value = _decoder.decode(text.decode())
    except json.JSONDecodeError:
        raise ValueError("it is no JSON") from None  # the error holds all of the text
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if type(value) is not dict:
        raise ValueError("it is no object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is there twice")
    return found


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


_decoder = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse)
