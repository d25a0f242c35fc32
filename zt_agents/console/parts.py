"""What the console is made of, and what every address needs of it: who is signed in, and a page in return."""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import Depends, HTTPException, Request, Response
from fastapi.responses import HTMLResponse

from zt_agents._internal.clock import Clock
from zt_agents.audit.sink import AuditSource
from zt_agents.console.inbox import Inbox
from zt_agents.console.logins import Logins
from zt_agents.console.origins import Origin
from zt_agents.console.pages import Pages
from zt_agents.console.passkeys import Passkeys
from zt_agents.console.rates import Rates, network
from zt_agents.console.sessions import Person, Session, Sessions
from zt_agents.console.ways import Way
from zt_agents.desk import AnswerDesk
from zt_agents.identity.approving.factors import FactorKind

ONWARD = re.compile(r"/(requests/[0-9a-f]{32})?")
"""Where links lead that people follow, and where they may be sent on to."""
FRESH = 900.0
"""Seconds after signing in within which passkeys can be changed."""
_LOGINS, _ANSWERS, _ANSWERS_OF_A_NETWORK = 10, 60, 300
"""Tries a minute. Whoever comes through a proxy that is not named with ``--proxy`` shares its network's."""


class Console:
    """One console."""

    def __init__(
        self,
        *,
        desk: AnswerDesk,
        logins: Logins,
        origin: Origin,
        clock: Clock,
        passkeys: Passkeys | None = None,
        log: AuditSource | None = None,
        policy_version: str = "",
    ) -> None:
        """Join the parts.

        Args:
            desk: files the answers.
            logins: verifies who signs in.
            origin: under which browsers reach the console.
            clock: seconds since the epoch.
            passkeys: of approvers, where there may be any.
            log: where similar calls are looked for.
            policy_version: of the policy as it is now, where it is known.
        """
        self.desk = desk
        self.logins = logins
        self.origin = origin
        self.clock = clock
        self.passkeys = passkeys if passkeys is not None and passkeys.possible else None
        self.log = log
        self.policy_version = policy_version
        self.sessions = Sessions(clock)
        self.inbox = Inbox(desk.store, clock, signer=desk.signer.id, holds=desk.proofs.holds)
        self.pages = Pages(clock)
        self.login_rates = Rates(burst=_LOGINS, period=60, clock=clock)
        self.answer_rates = Rates(burst=_ANSWERS, period=60, clock=clock)
        self._network_rates = Rates(burst=_ANSWERS_OF_A_NETWORK, period=60, clock=clock)
        self.cookie = "__Host-zt_console" if origin.secure else f"zt_console_{origin.port}"
        """Browsers hold a name with ``__Host-`` to this very host, over https. To ports they hold none."""

    def ways(self, person: Person) -> frozenset[Way]:
        """Return in which ways *person* can say yes."""
        found = {Way.PLAIN}
        factors = self.desk.proofs.factors
        if factors is not None and factors.of(person.id, FactorKind.TOTP):
            found.add(Way.CODE)
        if self.passkeys is not None and self.passkeys.of(person.id):
            found.add(Way.PASSKEY)
        return frozenset(found)

    def session(self, request: Request, *, acted: bool) -> Session | None:
        """Return the session of *request*, if its person is still who they were."""
        number = request.cookies.get(self.cookie, "")
        session = self.sessions.find(number, acted=acted) if number else None
        if session is not None and not self.logins.stands(session.person, now=self.clock()):
            self.sessions.close(number)
            return None
        return session

    def sign_in(self, request: Request, response: Response, person: Person, way: str) -> None:
        """Make a new session, whose number goes into a cookie of *response*."""
        number = self.sessions.open(person, way, instead_of=request.cookies.get(self.cookie, ""))
        response.set_cookie(self.cookie, number, path="/", httponly=True, samesite="strict", secure=self.origin.secure)

    def page(self, name: str, *, session: Session | None, status: int = 200, **values: Any) -> HTMLResponse:
        """Return the template *name* filled in, for *session*."""
        return HTMLResponse(self.pages.render(name, session=session, **values), status)

    def count_login(self, who: str) -> None:
        """Count a try to sign in, of a network or a person; refuse one too many with 429."""
        _refuse_until(self.login_rates.take(who))

    def count_answer(self, request: Request, person: Person) -> None:
        """Count an answer; refuse one too many with 429."""
        _refuse_until(self._network_rates.take(client(request)))
        _refuse_until(self.answer_rates.take(person.id))


def the_console(request: Request) -> Console:
    """Return the console that serves *request*."""
    console: Console = request.app.state.console
    return console


def _refuse_until(wait: float) -> None:
    if wait:
        raise HTTPException(429, "Too many tries. Wait a minute.", {"Retry-After": str(int(wait) + 1)})


def client(request: Request) -> str:
    """Return the network that *request* comes from."""
    return network(request.client.host if request.client else "")


TheConsole = Annotated[Console, Depends(the_console)]


def _signed_in(request: Request, console: TheConsole) -> Session:
    return _required(console.session(request, acted=True))


def _looking_on(request: Request, console: TheConsole) -> Session:
    return _required(console.session(request, acted=False))


def _required(session: Session | None) -> Session:
    if session is None:
        raise HTTPException(401, "Sign in first.")
    return session


SignedIn = Annotated[Session, Depends(_signed_in)]
"""The session of a person who does something."""
LookingOn = Annotated[Session, Depends(_looking_on)]
"""The session that a page asks something for by itself, which does not keep it alive."""
