"""The e-mail channel against a real SMTP server."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

from actors.notification import render
from actors.notification.channels.base import Surroundings
from actors.notification.channels.email import EmailChannel
from actors.notification.config import EmailConfig
from actors.notification.credentials import Credentials
from kubernaut_ray.errors import Permanent, Retryable
from tests import build

SECRET = "s3cr3t-Pa55phrase"


@dataclass
class Mailbox:
    """Takes mail, or refuses it with the answers it is told to give."""

    mail: list[EmailMessage] = field(default_factory=list)
    to: list[list[str]] = field(default_factory=list)
    rcpt: str = "250 OK"
    data: str = "250 OK"
    port: int = 0

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        envelope.rcpt_tos.append(address)
        return self.rcpt

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        if self.data.startswith("250"):
            assert isinstance(envelope.content, bytes)
            self.mail.append(message_from_bytes(envelope.content, policy=policy.default))  # type: ignore[arg-type]
            self.to.append(envelope.rcpt_tos)
        return self.data


def _authenticate(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
    return AuthResult(success=data.password == SECRET.encode(), handled=False)


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    box = Mailbox()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        box.port = free.getsockname()[1]
    controller = Controller(
        box,
        hostname="127.0.0.1",
        port=box.port,
        authenticator=_authenticate,
        auth_require_tls=False,
        auth_exclude_mechanism=["LOGIN"],
    )
    controller.start()
    yield box
    controller.stop()


@pytest.fixture
async def surroundings(tmp_path: Path) -> Any:
    (tmp_path / "smtp").write_text(SECRET)
    async with aiohttp.ClientSession() as session:
        yield Surroundings(session, Credentials(tmp_path), tmp_path, timeout=5)


def channel(box: Mailbox, around: Surroundings, **fields: Any) -> EmailChannel:
    defaults = {
        "to": "ops@example.org, Ann <ann@example.org>",
        "from": "kubernaut <kubernaut@example.org>",
        "smarthost": f"127.0.0.1:{box.port}",
        "require_tls": False,
    }
    return EmailChannel(EmailConfig.model_validate({**defaults, **fields}), around)


def message(**fields: Any) -> render.Message:
    notice = build.notification_request(
        owner=build.remediation_request(),
        spec={"subject": "Fixed: web\nBcc: evil@example.org", "body": "## Why\n**It** was <small>.\n- one\n- two\n"},
    )
    return render.message(notice, "ops/email", 1, **fields)


async def test_a_mail_arrives_in_text_and_html(mailbox: Mailbox, surroundings: Surroundings) -> None:
    """Both forms, identity for de-duplication, and no header smuggled in through the subject."""
    mail = channel(mailbox, surroundings)
    await mail.send(message())
    await mail.send(message(possible_duplicate=True))
    first, second = mailbox.mail
    assert mailbox.to[0] == ["ops@example.org", "ann@example.org"]
    assert first["Subject"] == "[medium] Fixed: web Bcc: evil@example.org"
    assert first["Message-ID"] == second["Message-ID"]
    assert (first["X-Kubernaut-Possible-Duplicate"], second["X-Kubernaut-Possible-Duplicate"]) == ("false", "true")
    text, markup = first.get_body(("plain",)), first.get_body(("html",))
    assert text is not None
    assert markup is not None
    assert "Why\r\n---" in text.get_content()
    assert "<ul>\n<li>one</li>\n<li>two</li>\n</ul>" in markup.get_content().replace("\r", "")
    assert "&lt;small&gt;" in markup.get_content()


async def test_it_logs_in(mailbox: Mailbox, surroundings: Surroundings) -> None:
    """With a password from a file; a wrong one is permanent and does not appear in the error."""
    await channel(mailbox, surroundings, auth_username="u", auth_password_file="smtp").send(message())
    assert len(mailbox.mail) == 1
    with pytest.raises(Permanent) as caught:
        await channel(mailbox, surroundings, auth_username="u", auth_password="wrong-one").send(message())
    assert "wrong-one" not in str(caught.value)


@pytest.mark.parametrize(
    ("field_", "answer", "kind"),
    [
        ("rcpt", "550 no such user", Permanent),
        ("rcpt", "451 try later", Retryable),
        ("data", "554 not this", Permanent),
        ("data", "452 disk full", Retryable),
    ],
)
async def test_what_the_server_answers_decides(
    field_: str, answer: str, kind: type[Exception], mailbox: Mailbox, surroundings: Surroundings
) -> None:
    """4xx passes, 5xx lasts."""
    setattr(mailbox, field_, answer)
    with pytest.raises(kind) as caught:
        await channel(mailbox, surroundings).send(message())
    assert answer[:3] in str(caught.value)


async def test_tls_is_insisted_on(mailbox: Mailbox, surroundings: Surroundings) -> None:
    """Unless told otherwise, a relay without STARTTLS gets nothing."""
    with pytest.raises(Permanent):
        await channel(mailbox, surroundings, require_tls=True).send(message())
    assert mailbox.mail == []


async def test_nobody_there_is_retryable(surroundings: Surroundings) -> None:
    """A relay that is down passes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        gone = Mailbox(port=free.getsockname()[1])
    with pytest.raises(Retryable):
        await channel(gone, surroundings).send(message())


@pytest.mark.parametrize(
    "fields", [{"to": "nobody"}, {"from": "@"}, {"smarthost": "mail"}], ids=["recipient", "sender", "relay"]
)
async def test_unusable_addresses_are_permanent(
    fields: dict[str, str], mailbox: Mailbox, surroundings: Surroundings
) -> None:
    """Trying again would not help."""
    with pytest.raises(Permanent):
        await channel(mailbox, surroundings, **fields).send(message())
