"""``zt-agents approvals notify``: tell people of requests for approval, by webhooks and mail.

It holds no key of the guard, and nothing that it sends lets anybody answer: whoever follows a notice answers at the
console or with ``zt-agents approvals``, as themselves. Run one of it for each store.
"""

from __future__ import annotations

import contextlib
import re
import signal
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from zt_agents._internal.hidden import Hidden
from zt_agents.cli.approvals import DEFAULT_STORE, StoreOption, approvals_app
from zt_agents.cli.connections import split_address, stays_here, tls_context
from zt_agents.cli.destinations import (
    Destination,
    Mailbox,
    MailServer,
    Webhook,
    WebhookFormat,
    read_private,
    read_secrets,
)
from zt_agents.cli.display import say
from zt_agents.cli.notifying import Notifier
from zt_agents.errors import ConfigurationError
from zt_agents.stores.sqlite_approvals import SqliteApprovalStore
from zt_agents.stores.sqlite_notices import SqliteNoticeStore

UNTOLD = 1
"""Exit code of a run that ended with something untold."""
_MOST = 50
"""Destinations: each has a thread."""


@approvals_app.command()
def notify(
    store: StoreOption = DEFAULT_STORE,
    webhook: Annotated[
        list[str] | None, typer.Option(metavar="URL", help="Post to it; @FILE names a file that holds the URL.")
    ] = None,
    form: Annotated[
        list[WebhookFormat] | None, typer.Option("--format", help="What is posted: once, or once for each webhook.")
    ] = None,
    secret_file: Annotated[
        list[Path] | None, typer.Option(help="Sign what is posted with what is in it: once, or once for each webhook.")
    ] = None,
    smtp: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="The server that takes mail.")] = None,
    mail_from: Annotated[str | None, typer.Option(metavar="ADDRESS", help="Who the mail is from.")] = None,
    mail_to: Annotated[
        list[str] | None, typer.Option(metavar="ADDRESS", help="Mail to it; may be given several times.")
    ] = None,
    smtp_user: Annotated[str | None, typer.Option(help="Log in at the server as this user.")] = None,
    smtp_password_file: Annotated[Path | None, typer.Option(help="The file that holds the password.")] = None,
    starttls: Annotated[bool, typer.Option("--starttls", help="Begin TLS on a plain connection.")] = False,
    tls: Annotated[bool, typer.Option("--tls", help="Connect by TLS.")] = False,
    console: Annotated[str, typer.Option(metavar="URL", help="Link to the requests there.")] = "",
    with_arguments: Annotated[
        bool, typer.Option("--with-arguments", help="Show arguments, shortened. They leave the guard's machine.")
    ] = False,
    once: Annotated[bool, typer.Option("--once/--follow", help="Tell of what there is and end.")] = False,
    every: Annotated[float, typer.Option(min=0.05, help="Seconds between two looks at the store.")] = 1.0,
    ca: Annotated[Path | None, typer.Option(help="The certificates to trust, instead of the system's.")] = None,
    allow_unencrypted: Annotated[
        bool, typer.Option("--allow-unencrypted", help="Let notices leave the machine without TLS.")
    ] = False,
) -> None:
    """Tell people of each request that waits for an answer, and of what became of it: at least once.

    Exit code 1: somebody could not be told.
    """
    destinations: list[Destination] = [
        *_webhooks(webhook or [], form or [], secret_file or [], ca=ca, unencrypted=allow_unencrypted)
    ]
    if smtp is not None:
        if tls and starttls:
            raise typer.BadParameter("name one of --tls and --starttls")
        server = _mail_server(smtp, tls=tls, starttls=starttls, ca=ca, unencrypted=allow_unencrypted)
        if (smtp_user is None) != (smtp_password_file is None):
            raise typer.BadParameter("--smtp-user and --smtp-password-file go together")
        if smtp_user is not None and smtp_password_file is not None:
            server = _with_login(server, smtp_user, read_private(smtp_password_file))
        if mail_from is None or not mail_to:
            raise typer.BadParameter("--smtp needs --mail-from and --mail-to")
        destinations += [Mailbox(server, sender=mail_from, to=address) for address in mail_to]
    elif mail_from or mail_to or smtp_user or smtp_password_file or starttls or tls:
        raise typer.BadParameter("mail needs --smtp")
    if not destinations:
        raise typer.BadParameter("name where to: --webhook or --smtp")
    if len({each.name for each in destinations}) < len(destinations) or len(destinations) > _MOST:
        raise typer.BadParameter(f"at most {_MOST} destinations, each named once")
    notifier = Notifier(
        SqliteApprovalStore(store, create=False),
        SqliteNoticeStore.beside(store),
        destinations,
        console=_console_url(console),
        with_arguments=with_arguments,
    )
    with _ended_by_sigterm():
        told = notifier.run(every=every, once=once)
    if once and not told:
        say("Not everything could be told. What may pass is tried again by the next run.", stderr=True)
        raise typer.Exit(UNTOLD)


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Have whoever ends a service interrupt it, as whoever sits at a terminal would."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _webhooks(
    urls: Sequence[str], forms: Sequence[WebhookFormat], files: Sequence[Path], *, ca: Path | None, unencrypted: bool
) -> list[Webhook]:
    for option, given in (("--format", forms), ("--secret-file", files)):
        if given and len(given) not in {1, len(urls)}:
            raise typer.BadParameter("is given once, or once for each --webhook", param_hint=option)
    if files and not urls:
        raise typer.BadParameter("goes with --webhook", param_hint="--secret-file")
    secrets = [read_secrets(path) for path in files] or [()]
    return [
        Webhook(
            read_private(Path(url[1:])) if url.startswith("@") else url,
            forms[number % len(forms)] if forms else WebhookFormat.JSON,
            secrets=secrets[number % len(secrets)],
            ca=ca,
            unencrypted=unencrypted,
        )
        for number, url in enumerate(urls)
    ]


def _mail_server(address: str, *, tls: bool, starttls: bool, ca: Path | None, unencrypted: bool) -> MailServer:
    parts = split_address(f"smtp://{address}", {"smtp"}, "--smtp")
    if parts.port is None or parts.path or parts.query or parts.fragment or parts.username or parts.password:
        raise ConfigurationError("--smtp cannot use this address.", hint="Write HOST:PORT.")
    host = parts.hostname or ""
    if not (tls or starttls or unencrypted or stays_here(host)):
        raise ConfigurationError(
            f"Mail would be sent to {host} unencrypted.", hint="Say --tls, --starttls or --allow-unencrypted."
        )
    return MailServer(host, parts.port, tls_context(ca) if tls or starttls else None, starttls)


def _with_login(server: MailServer, user: str, password: str) -> MailServer:
    if server.tls is None and not stays_here(server.host):
        raise ConfigurationError("The password would be sent unencrypted.", hint="Say --tls or --starttls.")
    if not password or re.search(r"[^\x20-\x7e]", user + password):
        raise ConfigurationError("The mail server's user or password is empty, or not printable ASCII.")
    return server._replace(user=user, password=Hidden(password))


def _console_url(url: str) -> str:
    if not url:
        return ""
    parts = split_address(url, {"http", "https"}, "--console")
    if re.search(r"[^\x21-\x7e]|[<>|\"\\^`{}]", url) or parts.query or parts.fragment or "@" in parts.netloc:
        raise ConfigurationError("--console cannot use this address.", hint="Write https://host:port.")
    if parts.scheme == "http" and not stays_here(parts.hostname or ""):
        raise ConfigurationError("Whoever follows a link to the console would sign in unencrypted.", hint="Use https.")
    return url.rstrip("/")
