"""JSON that one reader reads in one way and another in another is read by nobody here."""

from __future__ import annotations

import pytest

from zt_agents.credentials.strict_encodings import read_object


@pytest.mark.parametrize(
    "text",
    [
        b'{"a": 1, "a": 2}',
        b'{"a": 1, "\\u0061": 2}',
        b'{"a": {"b": 1, "b": 1}}',
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": 1} {}',
        b"[1]",
        b"null",
        b"",
        b'\xef\xbb\xbf{"a": 1}',
        b'{"a": "\xff"}',
        b'{"a": ' + b"[" * 100_000,
    ],
)
def test_what_is_not_one_object_that_says_each_thing_once_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_object(text)


def test_an_object_is_read() -> None:
    assert read_object(b' {"a": [1, null, "\xc3\xa9"]} ') == {"a": [1, None, "é"]}
