"""``zt-agents login | logout | whoami``: who sits at this command line, as their identity provider says.

Tokens are kept in a file of the user's own and never printed.
"""

from __future__ import annotations

import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from zt_agents._internal.clock import rfc3339, system_clock
from zt_agents._internal.suggest import did_you_mean
from zt_agents.catalog.lock import ToolLock, lock_path
from zt_agents.cli.display import console, say, say_json
from zt_agents.cli.options import DEFAULT_POLICY, PolicyOption
from zt_agents.errors import ConfigurationError, IdentityError, IdentityProviderError, MissingExtraError
from zt_agents.identity.approving.one_time_codes import qr_text
from zt_agents.identity.principals import User
from zt_agents.identity.provider.login_file import StoredLogin, holding, login_path, read_login
from zt_agents.identity.provider.login_flows import DeviceLogin, LoginRequest, LoopbackListener
from zt_agents.identity.provider.oauth_client import OAuthClient, Tokens
from zt_agents.identity.provider.oidc import IdentityProvider
from zt_agents.identity.provider.terms import ALGORITHMS, ProviderTerms, checked_issuer

NOBODY = 1
"""Exit code where nobody has logged in."""
_PATIENCE = 300.0
"""Seconds for which a browser may be away."""

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def login(
    policy: PolicyOption = DEFAULT_POLICY,
    issuer: Annotated[str, typer.Option(help="The identity provider, where there is no policy file.")] = "",
    client_id: Annotated[str, typer.Option("--client-id", help="Our client there, with --issuer.")] = "",
    groups: Annotated[str, typer.Option(help="The claim with groups, with --issuer; a.b is b within a.")] = "groups",
    device: Annotated[bool, typer.Option("--device", help="Log in on another device, by a code.")] = False,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Print the address, and open nothing.")] = False,
    port: Annotated[int, typer.Option(help="Of 127.0.0.1, where the browser comes back; a free one by default.")] = 0,
    scope: Annotated[str, typer.Option(help="What is asked for.")] = "openid profile email",
) -> None:
    """Log in at the identity provider: in a browser, or with --device on another device."""
    terms = _terms(policy, issuer, client_id, groups)
    with asking(terms) as provider:
        client = OAuthClient(provider, terms.client_id)
        if device:
            tokens, nonce = _on_a_device(client, scope), None
        else:
            tokens, nonce = _in_a_browser(client, scope, port=port, opens=not no_browser)
        stored, user = StoredLogin.begun(provider, tokens, nonce=nonce, now=system_clock())
    path = login_path()
    with holding(path):
        stored.save(path)
    say(f"You are {_called(user)}, says {terms.issuer}.", style="green")


def logout() -> None:
    """Forget the login of this command line, and tell the identity provider so."""
    path = login_path()
    with holding(path):
        try:
            stored = read_login(path)
            if stored is None:
                say("Nobody has logged in.")
                return
            _tell(stored)
        finally:
            path.unlink(missing_ok=True)
    say("You are logged out here. A browser that is logged in at the identity provider stays so.")


def whoami(as_json: JsonOption = False) -> None:
    """Say who is logged in, as the identity provider says now. Exit code 1: nobody."""
    found = logged_in()
    if found is None:
        if as_json:
            say_json(None)
        else:
            say("Nobody has logged in. Run: zt-agents login")
        raise typer.Exit(NOBODY)
    _, user = found
    facts = _facts(user)
    if as_json:
        say_json(facts)
        return
    for name, value in facts.items():
        if value:
            say(f"{name:>16}  {', '.join(value) if isinstance(value, list) else value}")


def logged_in() -> tuple[StoredLogin, User] | None:
    """Return the login of this command line, verified and refreshed if that is due; None where there is none.

    Raises:
        LoginRequiredError: it has ended.
        IdentityError: it cannot be verified.
        ConfigurationError: others can read or write its file.
    """
    path = login_path()
    with holding(path):
        stored = read_login(path)
        if stored is None:
            return None
        with asking(stored.terms) as provider:
            renewed, user = stored.fresh(provider, now=system_clock())
        if renewed is not stored:
            renewed.save(path)
    return renewed, user


def _terms(policy: Path, issuer: str, client_id: str, groups: str) -> ProviderTerms:
    if issuer or client_id:
        try:
            checked_issuer(issuer)
        except ValueError as error:
            raise ConfigurationError(f"--issuer cannot be used: {error}.") from error
        if not client_id or not all(path := groups.split(".")):
            raise ConfigurationError("With --issuer there is a --client-id, and --groups is not empty.")
        return ProviderTerms(issuer=issuer, client_id=client_id, algorithms=ALGORITHMS, groups=tuple(path))
    if not policy.exists():
        raise ConfigurationError(
            f"There is no policy file {policy} that names an identity provider.",
            hint="Name it with --policy, or use --issuer and --client-id.",
        )
    return provider_terms(policy)


def provider_terms(path: Path, agent: str = "") -> ProviderTerms:
    """Return the identity provider that the policy in *path* names; *agent*, if any, has to be one of its agents.

    Raises:
        ConfigurationError: it names none, or has no such agent.
        PolicyFileError: it has mistakes.
    """
    from zt_agents.policy import load_policy  # loads pydantic and CEL
    from zt_agents.stores.sqlite_agents import SqliteAgentStore

    registered = SqliteAgentStore.beside(path).registered()
    policy = load_policy(path, parameters=ToolLock.read(lock_path(path)).parameters, registered=registered)
    if policy.identity_provider is None:
        raise ConfigurationError(
            f"{path} names no identity provider.", hint="Add identity_provider to it, with its issuer and client_id."
        )
    if agent and agent not in policy.agents:
        raise ConfigurationError(f"No agent is called {agent!r}.{did_you_mean(agent, policy.agents)}")
    return policy.identity_provider


@contextmanager
def asking(terms: ProviderTerms) -> Iterator[IdentityProvider]:
    """Hold the connections to a provider for as long as the block runs."""
    provider = IdentityProvider(terms)
    try:
        yield provider
    finally:
        provider.close()


def _in_a_browser(client: OAuthClient, scope: str, *, port: int, opens: bool) -> tuple[Tokens, str]:
    try:
        listener = LoopbackListener(port)
    except OSError as error:
        raise ConfigurationError(f"Port {port} of 127.0.0.1 cannot be used: {error.strerror}.") from error
    with listener:
        request = LoginRequest(listener.redirect_uri)
        address = request.address(client, scope=scope)
        if not opens or not webbrowser.open(address):
            say("Open this address in a browser on this machine:")
        else:
            say("Your browser shows the login. If it does not, open:")
        say(address)
        query = listener.wait(request.is_ours, seconds=_PATIENCE)
    return request.redeem(client, query, now=system_clock()), request.nonce.reveal()


def _on_a_device(client: OAuthClient, scope: str) -> Tokens:
    begun = DeviceLogin.begin(client, scope=scope, now=system_clock())
    if begun.address_with_code and console().is_terminal:
        with suppress(MissingExtraError):  # the address and the code say the same
            console().print(Text(qr_text(begun.address_with_code), style="white on black"), soft_wrap=True)
    say(f"Open {begun.address} on any device, and enter the code {begun.user_code}")
    say("Nobody but you should have asked for this code: whoever enters it logs in this terminal.", style="dim")
    return begun.wait(client, clock=system_clock)


def _tell(stored: StoredLogin) -> None:
    """Have the provider end the refresh token (RFC 7009); it may not be there to hear it."""
    if not stored.refresh_token:
        return
    try:
        with asking(stored.terms) as provider:
            form = {"token": stored.refresh_token.reveal(), "token_type_hint": "refresh_token"}
            OAuthClient(provider, stored.terms.client_id).post("revocation_endpoint", form, now=system_clock())
    except IdentityProviderError as error:
        say(f"The identity provider was not told ({error.error}): there, the login ends by itself.", style="yellow")
    except IdentityError as error:
        say(f"The identity provider was not told: {error.message}", style="yellow")


def _called(user: User) -> str:
    return f"{user.name} ({user.id})" if user.name else user.id


def _facts(user: User) -> dict[str, Any]:
    login = user.login
    assert login is not None
    return {
        "user": user.id,
        "name": user.name,
        "issuer": login.issuer,
        "subject": login.subject,
        "groups": list(user.groups),
        "roles": list(user.roles),
        "acr": login.acr,
        "amr": list(login.amr),
        "authenticated_at": rfc3339(login.authenticated_at) if login.authenticated_at is not None else "",
        "expires_at": rfc3339(login.expires_at),
    }
