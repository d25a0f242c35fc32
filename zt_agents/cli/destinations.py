"""Where notices go: webhooks, signed as Standard Webhooks has it, and mailboxes.

Rules:

1. ``deliver`` makes one attempt, and says what came of it. Only an acknowledgement means that a notice was delivered.
2. TLS checks the server's certificate and name. What leaves the machine unencrypted was asked for by name, and no
   password ever does.
3. A URL may be a credential: a webhook is shown by its host. In the store of notices a destination is a hash, and what
   a server says beside its code is not repeated.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import os
import re
import smtplib
import ssl
from collections.abc import Callable, Iterator, Sequence
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, parsedate_to_datetime
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple, Protocol

from zt_agents._internal.clock import as_datetime
from zt_agents._internal.hidden import Hidden
from zt_agents.approvals.notices import Notice, NoticeEvent, as_json, as_mail, as_slack, as_teams, notice_id
from zt_agents.cli.connections import (
    LONGEST,
    TIMEOUT,
    HttpPoster,
    no_longer_than,
    own_name,
    split_address,
    stays_here,
)
from zt_agents.errors import ConfigurationError

_SECRET_SIZES = range(24, 65)
"""Bytes of a secret, as Standard Webhooks has them."""
_LONGEST_WAIT = 3600.0
"""Seconds for which a server is left alone at most, whatever it asks for."""
_UNFOLDED = SMTP.clone(max_line_length=998)
"""No header here is longer, and one that is folded may come back with other spaces."""
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_MAILBOX = re.compile(rf"{_ATOM}(\.{_ATOM})*@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*")


class Delivery(NamedTuple):
    """What came of one attempt."""

    delivered: bool
    final: bool
    """Whether there is no use in trying again."""
    why: str = ""
    wait: float = 0.0
    """Seconds for which the destination wants to be left alone."""


DELIVERED = Delivery(True, True)


class Destination(Protocol):
    """Takes notices."""

    @property
    def name(self) -> str:
        """By which it is known in the store of notices, and in their ids."""

    @property
    def label(self) -> str:
        """By which people know it."""

    def deliver(self, told: Notice, *, now: float) -> Delivery: ...


class WebhookFormat(StrEnum):
    JSON = "json"
    SLACK = "slack"
    TEAMS = "teams"


_BODIES: dict[WebhookFormat, Callable[[Notice], bytes]] = {
    WebhookFormat.JSON: as_json,
    WebhookFormat.SLACK: as_slack,
    WebhookFormat.TEAMS: as_teams,
}


class Webhook:
    """Posts a notice to a URL."""

    def __init__(
        self,
        url: str,
        form: WebhookFormat,
        *,
        secrets: Sequence[bytes] = (),
        ca: Path | None = None,
        unencrypted: bool = False,
    ) -> None:
        """Post to *url*.

        Args:
            url: where to; it is shown to nobody.
            form: what is posted.
            secrets: each signs; while a secret is replaced, receivers know the one or the other.
            ca: the certificates to trust, instead of the system's.
            unencrypted: whether plain HTTP may leave the machine.

        Raises:
            ConfigurationError: the URL cannot be used.
        """
        parts = split_address(url, {"http", "https"}, "--webhook")
        if re.search(r"[^\x21-\x7e]", url) or parts.username or parts.password or parts.fragment:
            raise ConfigurationError("--webhook cannot use this address.", hint="Write https://host:port/path.")
        host = parts.hostname or ""
        if parts.scheme == "http" and not unencrypted and not stays_here(host):
            raise ConfigurationError(
                f"Notices would be sent to {host} unencrypted.", hint="Use https, or say --allow-unencrypted."
            )
        if form is WebhookFormat.JSON and not secrets:
            raise ConfigurationError(f"Nothing would tell {host} who sent a notice.", hint="Name a --secret-file.")
        self.name = _name("webhook", form, url)
        self.label = f"{host} ({form})"
        self._body = _BODIES[form]
        self._secrets = Hidden(tuple(secrets))
        self._poster = HttpPoster(parts, ca=ca)

    def deliver(self, told: Notice, *, now: float) -> Delivery:
        body, named, sent = self._body(told), notice_id(told.request_id, told.event, self.name), str(int(now))
        headers = {"Content-Type": "application/json", "webhook-id": named, "webhook-timestamp": sent}
        if self._secrets:
            signed = f"{named}.{sent}.".encode() + body
            headers["webhook-signature"] = " ".join(_signature(secret, signed) for secret in self._secrets.reveal())
        try:
            reply = self._poster.post(body, headers)
        except OSError as error:
            return Delivery(False, False, f"cannot be reached: {error}")
        finally:
            self._poster.close()  # the next notice may be an hour away
        if reply.taken:
            return DELIVERED
        why = f"answered {reply.status}"
        return Delivery(False, not reply.temporary, why, _wait(reply.retry_after, now) if reply.temporary else 0.0)


class _Smtp(smtplib.SMTP):
    """No reply in it takes for ever: that of :mod:`smtplib` goes on for as long as lines come."""

    def getreply(self) -> tuple[int, bytes]:
        assert self.sock is not None
        try:
            with no_longer_than(LONGEST, self.sock):
                return super().getreply()
        except OSError:
            self.close()
            raise


class _SmtpOverTls(_Smtp, smtplib.SMTP_SSL):
    """The same where TLS comes first."""


class MailServer(NamedTuple):
    """Which server takes mail, and how it is spoken to."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    starttls: bool = False
    """Whether the connection begins unencrypted and becomes a TLS one before anything is said."""
    user: str = ""
    password: Hidden[str] = Hidden("")

    @contextlib.contextmanager
    def connected(self) -> Iterator[smtplib.SMTP]:
        """Connect and log in. What goes wrong is an OSError, as all of :mod:`smtplib` is."""
        name = own_name() or "[127.0.0.1]"
        if self.tls is not None and not self.starttls:
            server: _Smtp = _SmtpOverTls(self.host, self.port, name, timeout=TIMEOUT, context=self.tls)
        else:
            server = _Smtp(self.host, self.port, name, timeout=TIMEOUT)
        try:
            if self.starttls:
                server.starttls(context=self.tls)
            assert server.sock is not None
            with no_longer_than(LONGEST, server.sock):
                if self.user:
                    server.login(self.user, self.password.reveal())
                yield server
            # The mail has been taken by now, however they part.
            with contextlib.suppress(OSError), no_longer_than(TIMEOUT, server.sock):
                server.quit()
        finally:
            server.close()


class Mailbox:
    """Mails a notice to one address. What becomes of a request goes into the thread of the notice that asked."""

    def __init__(self, server: MailServer, *, sender: str, to: str) -> None:
        """Mail to the address *to*.

        Raises:
            ConfigurationError: an address is none.
        """
        for address in (sender, to):
            if not _MAILBOX.fullmatch(address):
                raise ConfigurationError(f"This is no address for mail: {address!r}.", hint="Write name@host.")
        self.name = _name("mail", to)
        self.label = to
        self._server, self._sender, self._to = server, sender, to

    def deliver(self, told: Notice, *, now: float) -> Delivery:
        message = self.message(told, now=now)
        try:
            with self._server.connected() as server:
                server.send_message(message, self._sender, [self._to])
        except smtplib.SMTPRecipientsRefused as error:
            return _refused(error.recipients[self._to][0])
        except smtplib.SMTPResponseException as error:
            return _refused(error.smtp_code)
        except OSError as error:
            return Delivery(False, False, f"{self._server.host} cannot be reached: {error or type(error).__name__}")
        except ValueError:  # of smtplib: where a challenge is no base64
            return Delivery(False, False, f"{self._server.host} has answered what cannot be read")
        return DELIVERED

    def message(self, told: Notice, *, now: float) -> EmailMessage:
        """Return what is mailed."""
        subject, text = as_mail(told)
        message = EmailMessage(policy=_UNFOLDED)
        message["From"], message["To"], message["Subject"] = self._sender, self._to, subject
        message["Date"] = format_datetime(as_datetime(now))
        message["Message-ID"] = self._message_id(told, told.event)
        if told.event is not NoticeEvent.REQUESTED:
            for header in ("In-Reply-To", "References"):
                message[header] = self._message_id(told, NoticeEvent.REQUESTED)
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(text, cte="quoted-printable")
        return message

    def _message_id(self, told: Notice, event: NoticeEvent) -> str:
        return f"<{notice_id(told.request_id, event, self.name)}@{self._sender.rpartition('@')[2]}>"


def read_secrets(path: Path) -> tuple[bytes, ...]:
    """Return the secrets in *path*, one a line, each ``whsec_`` and its bytes in base64.

    Raises:
        ConfigurationError: the file is unreadable, readable by others, or holds anything else.
    """
    secrets = []
    for line in read_private(path).splitlines():
        try:
            secret = base64.b64decode(line.strip().removeprefix("whsec_"), validate=True)
        except ValueError:
            secret = b""
        if not line.startswith("whsec_") or len(secret) not in _SECRET_SIZES:
            raise ConfigurationError(
                f"{path} holds no secret of a webhook.", hint="A line is whsec_ and 24 to 64 random bytes in base64."
            )
        secrets.append(secret)
    if not secrets:
        raise ConfigurationError(f"{path} is empty.")
    return tuple(secrets)


def read_private(path: Path) -> str:
    """Return the text in a file that only its owner may read.

    Raises:
        ConfigurationError: it is unreadable, or readable by others.
    """
    try:
        if os.name == "posix" and path.stat().st_mode & 0o077:
            raise ConfigurationError(f"The file {path} can be read by other users.", hint=f"Run: chmod 600 {path}")
        return path.read_text("utf-8").strip()
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"The file {path} cannot be read.") from error


def _name(*parts: str) -> str:
    return f"{parts[0]}-{hashlib.sha256(repr(parts).encode()).hexdigest()[:32]}"


def _signature(secret: bytes, signed: bytes) -> str:
    return f"v1,{base64.b64encode(hmac.digest(secret, signed, 'sha256')).decode()}"


def _refused(code: int) -> Delivery:
    return Delivery(False, 500 <= code < 600, f"the server answered {code}")


def _wait(retry_after: str, now: float) -> float:
    """Return the seconds that a header ``Retry-After`` asks for: it has a number of them, or a date."""
    try:
        if re.fullmatch(r"[0-9]{1,9}", retry_after.strip()):
            seconds = float(retry_after)
        else:
            seconds = parsedate_to_datetime(retry_after).timestamp() - now
    except (ValueError, OverflowError):
        return 0.0
    return min(max(0.0, seconds), _LONGEST_WAIT)
