"""Where a value came from, and how sensitive it is.

A label only ever degrades: joining two labels gives the lower integrity and the higher data class. A session's label
is the join of everything its tools returned, so one look at a stranger's text marks all that follows.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Integrity(StrEnum):
    """How far the words can be trusted, best first."""

    USER = "user"
    """Written by the human on whose behalf the agent acts."""
    TRUSTED = "trusted"
    """From a system whose content the organisation answers for."""
    UNTRUSTED = "untrusted"
    """Anyone may have written it: mail, tickets, web pages. Where prompt injections live."""

    @property
    def rank(self) -> int:
        """0 for what is trusted most."""
        return _INTEGRITY_RANK[self]


class DataClass(StrEnum):
    """How sensitive the data is, least first."""

    PUBLIC = "public"
    INTERNAL = "internal"
    CONFIDENTIAL = "confidential"
    RESTRICTED = "restricted"

    @property
    def rank(self) -> int:
        """0 for what is least sensitive."""
        return _DATA_CLASS_RANK[self]


_INTEGRITY_RANK = {value: rank for rank, value in enumerate(Integrity)}
_DATA_CLASS_RANK = {value: rank for rank, value in enumerate(DataClass)}


@dataclass(frozen=True, slots=True)
class Label:
    """Integrity and data class of what a session has seen so far."""

    integrity: Integrity = Integrity.USER
    data_class: DataClass = DataClass.PUBLIC

    @property
    def name(self) -> str:
        """``integrity/data_class``, such as ``untrusted/internal``."""
        return f"{self.integrity}/{self.data_class}"

    def join(self, other: Label) -> Label:
        """Return the label of something made from both."""
        return Label(
            max(self.integrity, other.integrity, key=lambda value: value.rank),
            max(self.data_class, other.data_class, key=lambda value: value.rank),
        )
