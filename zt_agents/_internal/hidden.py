"""A value that shows itself nowhere: a token, a key, a password, inside of an object that is shown, logged or kept.

Rules:

1. Nothing but :meth:`Hidden.reveal` gives the value: no attribute holds it, and no text, JSON or copy of whatever holds
   the object has it.
2. It is neither pickled nor written by a serializer: these fail, and say what of.
3. Two are equal if their values are, and it is true where its value is: a text that is empty stays an empty one.

Whoever debugs the process, or looks through closures on purpose, finds the value: this is against what happens by
itself, in logs, traces, checkpoints and error reports.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

_Value = TypeVar("_Value")


class Hidden(Generic[_Value]):
    """A value that is there for who asks for it."""

    __slots__ = ("reveal",)

    reveal: Callable[[], _Value]
    """Return the value. Hand it on at once, and keep it nowhere."""

    def __init__(self, value: _Value) -> None:
        self.reveal = lambda: value

    @classmethod
    def of(cls, value: _Value | Hidden[_Value]) -> Hidden[_Value]:
        """Return *value*, hidden if it was not."""
        return value if isinstance(value, Hidden) else cls(value)

    def __bool__(self) -> bool:
        return bool(self.reveal())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Hidden) and bool(self.reveal() == other.reveal())

    def __hash__(self) -> int:
        return hash(self.reveal())

    def __copy__(self) -> Hidden[_Value]:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> Hidden[_Value]:
        return self

    def __repr__(self) -> str:
        return "Hidden()"

    def __reduce__(self) -> str:
        raise TypeError("a hidden value is neither pickled nor written")
