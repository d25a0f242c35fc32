"""Long-lived secrets of tools, lent to a body for one call, so that no agent's process holds them at hand.

::

    @tool
    def charge(amount: int) -> str:
        key = current_call().secret("stripe_key").reveal()

Rules:

1. A secret is fetched when a body asks for it, and for the tools that the policy names with it; not before, not for
   others, and where it is depends on the policy alone.
2. What was fetched is wiped when the call ends, and taken back where its source can do that.
3. A secret is in no text: not in the wrapper's, not in an error, not in a local variable of a frame that an error of
   this room has passed through.
4. A source that fails lends nothing. What it said stays here: the error names the secret and the kind of failure.

What cannot be done: a body that has revealed a secret can keep it, as a text in Python cannot be wiped, and hostile
code in the same process can reach what a body can. Only a source that takes back what it lent, as Vault does with its
leases, ends that.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import NoReturn, Protocol

from zt_agents._internal.hidden import Hidden
from zt_agents.catalog.secret_specs import SecretSpec
from zt_agents.errors import SecretUnavailableError

_WORDS = {
    "fault": "its source failed in an unforeseen way",
    "lease": "what its source said of a lease is not what the policy expects",
    "malformed": "its source holds or answers something else",
    "missing": "there is none",
    "refused": "its source refused",
    "unreachable": "its source could not be reached in time",
    "unsafe": "others can read or exchange the file it is in",
}


class Withheld(Exception):  # noqa: N818 - control flow: never leaves this room
    """A source cannot give a secret, for *reason*: one of the words that :class:`SecretUnavailableError` knows."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a source gave."""

    fields: Hidden[Mapping[str, str]]
    """By name; a secret that is one text has the name ``value``."""
    end: Callable[[], bool] | None = None
    """Takes it back where it came from, and says whether that worked. May wait, and be called again."""


class SecretStore(Protocol):
    """Where one secret is."""

    def fetch(self) -> Fetched:
        """Return the secret as it is now.

        Raises:
            Withheld: it cannot be had.
        """
        ...


class Secret:
    """A secret that was lent to a call. Nothing shows it but :meth:`reveal`."""

    __slots__ = ("_end", "_held", "_over", "name")

    def __init__(self, name: str, fetched: Fetched) -> None:
        self.name = name
        self._held = Hidden({key: bytearray(value, "utf-8") for key, value in fetched.fields.reveal().items()})
        self._end = fetched.end
        self._over = False

    @property
    def fields(self) -> tuple[str, ...]:
        """What it is made of, such as ``("username", "password")``; ``("value",)`` where it is one text."""
        return tuple(self._held.reveal())

    def reveal(self, field: str = "") -> str:
        """Return the secret, or the *field* of one that has several. Hand it on at once, and keep it nowhere.

        Raises:
            SecretUnavailableError: the call has ended, or there is no such field.
        """
        if self._over:
            self._refuse("over", "the call it was lent to has ended")
        if not field and len(self.fields) == 1:
            (field,) = self.fields
        if field not in self.fields:
            self._refuse("field", f"its fields are {', '.join(self.fields)}: name one of them")
        return self._held.reveal()[field].decode()

    def wipe(self) -> Callable[[], bool] | None:
        """Overwrite it, and return what takes it back where it came from, if anything does: once."""
        self._over = True
        for held in self._held.reveal().values():
            held[:] = bytes(len(held))
            held.clear()
        end, self._end = self._end, None
        return end

    def _refuse(self, reason: str, why: str) -> NoReturn:
        raise SecretUnavailableError(self.name, reason, f"The secret {self.name!r} cannot be revealed: {why}.")

    def __repr__(self) -> str:
        return f"Secret({self.name!r})"

    def __reduce__(self) -> str:
        raise TypeError("a secret is neither copied nor pickled")


class SecretsBroker:
    """Lends secrets. Safe to use from any thread."""

    def __init__(
        self, stores: Mapping[str, tuple[SecretSpec, SecretStore]], *, close: Callable[[], None] | None = None
    ) -> None:
        """*close* is called when nothing is asked of the stores any more."""
        self._stores = dict(stores)
        self._close = close
        self._begin()
        _made.add(self)
        self.kept: Callable[[str], None] = lambda name: None
        """Told the name of a secret that could not be taken back when its call had ended."""

    def _begin(self) -> None:
        self._lock = Lock()
        self._returning: ThreadPoolExecutor | None = None

    def spec(self, name: str) -> SecretSpec | None:
        known = self._stores.get(name)
        return known[0] if known else None

    def lends(self, name: str, tool: str) -> bool:
        """Return whether the policy lends the secret *name* to *tool*."""
        known = self._stores.get(name)
        return known is not None and tool in known[0].tools

    def fetch(self, name: str) -> Secret:
        """Return the secret *name*, whose asker was checked.

        Raises:
            SecretUnavailableError: its source does not give it.
        """
        spec, store = self._stores[name]
        reason = "fault"
        try:
            return Secret(name, store.fetch())
        except Withheld as withheld:
            reason = withheld.reason
        except Exception:  # noqa: BLE001, S110 - what a store was holding when it failed must not be seen: see rule 3
            pass
        text = f"The secret {name!r} could not be fetched from {spec.place}: {_WORDS[reason]}."
        raise SecretUnavailableError(name, reason, text)

    def take_back(self, secrets: Sequence[Secret]) -> None:
        """Wipe *secrets*, and have them taken back where they came from: without waiting, while threads can be had."""
        ends = [(secret.name, secret.wipe()) for secret in secrets]
        for name, end in ends:
            if end is None:
                continue
            try:
                with self._lock:
                    if self._returning is None:
                        self._returning = ThreadPoolExecutor(1, thread_name_prefix="zt-agents-leases")
                    self._returning.submit(self._return, name, end)
            except RuntimeError:  # the main thread has ended, and no other begins any more
                self._return(name, end)

    def _return(self, name: str, end: Callable[[], bool]) -> None:
        try:
            taken = any(end() for _ in range(_TRIES))
        except Exception:  # noqa: BLE001 - a source that is closed by now, for example: then it was not taken back
            taken = False
        if not taken:
            self.kept(name)

    def close(self) -> None:
        """Wait until what was lent has been taken back."""
        with self._lock:
            returning, self._returning = self._returning, None
        if returning is not None:
            returning.shutdown(wait=True)
        if self._close is not None:
            self._close()


_TRIES = 3
"""How often a source is asked to take a secret back, before that is said to have failed."""

_made: weakref.WeakSet[SecretsBroker] = weakref.WeakSet()


def _after_fork() -> None:
    for broker in list(_made):
        broker._begin()  # the thread that takes back stayed in the parent


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork)
