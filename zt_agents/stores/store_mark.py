"""Which file a store was made as: noted in ``<store>.id`` beside it.

A store that is gone, or has another in its place, has forgotten what it was told. Whoever has read it before notices;
the mark is for those that start afterwards.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from zt_agents._internal.key_files import write_once
from zt_agents.errors import StoreError


class StoreMark:
    """The mark of one store."""

    def __init__(self, store: Path, *, name: str, anew: str, hint: str) -> None:
        """Name the store.

        Args:
            store: its file.
            name: what it is, for errors.
            anew: what it means to begin without it, such as ``nothing revoked``.
            hint: what holds until it can be used.
        """
        self._store = store
        self._path = store.with_name(f"{store.name}.id")
        self._name = name
        self._anew = anew
        self._hint = hint

    def exists(self) -> bool:
        """Return whether the store was ever made."""
        return self._path.exists()

    def gone(self) -> StoreError:
        """Return the error that says that the store is not there any more."""
        return StoreError(f"The {self._name} {self._store} is gone.", hint=self._way_out)

    def check(self, found: str) -> None:
        """Mark the store as the one with the id *found*, or see that it is.

        Raises:
            StoreError: it is another one, or the mark can be neither read nor made.
        """
        try:
            with suppress(FileExistsError):
                write_once(self._path, f"{found}\n".encode())
            known = self._path.read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            raise StoreError(f"{self._path} can be neither read nor made.", hint=self._hint) from error
        if known != found:
            text = f"The {self._name} {self._store} is not the one that was used here before."
            raise StoreError(text, hint=self._way_out)

    @property
    def _way_out(self) -> str:
        return f"Put it back. To begin anew, with {self._anew}, remove {self._path}."
