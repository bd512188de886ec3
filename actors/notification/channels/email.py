"""E-mail through an SMTP relay: plain text and HTML in one message, STARTTLS unless the configuration says otherwise.

Every attempt of one delivery carries the same Message-ID, so that a mail system which got it twice can tell.
"""

from __future__ import annotations

import hashlib
import ssl
from dataclasses import dataclass
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime, getaddresses

import aiosmtplib

from actors.notification import render
from actors.notification.channels.base import UNANSWERED, Surroundings
from actors.notification.config import EmailConfig
from actors.notification.render import Message
from kubernaut_ray.errors import Permanent, Retryable


@dataclass(frozen=True, slots=True)
class EmailChannel:
    config: EmailConfig
    surroundings: Surroundings
    recipients: tuple[str, ...] = ()
    """Instead of the configured ones."""

    async def send(self, message: Message, /) -> None:
        config = self.config
        host, port = _smarthost(config.smarthost)
        password = self.surroundings.credentials.read(
            "email", config.auth_password, config.auth_password_file, config.credential_ref
        )
        try:
            await aiosmtplib.send(
                self._mail(message),
                hostname=host,
                port=port,
                username=config.auth_username or None,
                password=password or None,
                use_tls=port == 465,
                start_tls=port != 465 and config.require_tls is not False,
                tls_context=self._tls(),
                timeout=self.surroundings.timeout,
            )
        except aiosmtplib.SMTPException as error:
            raise _sorted(f"email through {host}", error) from None
        except ssl.SSLError:
            raise Permanent(f"email through {host}: the TLS certificate was not accepted", reason="TLS") from None
        except (OSError, TimeoutError) as error:
            raise Retryable(f"email through {host}: {type(error).__name__}") from None

    def _mail(self, message: Message) -> EmailMessage:
        mail = EmailMessage()
        mail["From"] = _addresses(self.config.from_)
        mail["To"] = _addresses(", ".join(self.recipients) or self.config.to)
        mail["Subject"] = f"[{message.priority}] {message.subject}"
        mail["Date"] = format_datetime(message.created)
        identity = hashlib.sha256(f"{message.uid}/{message.key}".encode()).hexdigest()[:32]
        mail["Message-ID"] = f"<{identity}@kubernaut.ai>"
        mail["Auto-Submitted"] = "auto-generated"
        mail["X-Kubernaut-Remediation"] = message.remediation or message.name
        mail["X-Kubernaut-Attempt"] = str(message.attempt)
        mail["X-Kubernaut-Possible-Duplicate"] = "true" if message.possible_duplicate else "false"
        mail.set_content(render.plain(message))
        mail.add_alternative(render.as_html(message), subtype="html")
        return mail

    def _tls(self) -> ssl.SSLContext:
        config = self.config.tls_config
        try:
            context = ssl.create_default_context(cafile=str(config.ca_file) if config.ca_file else None)
        except (OSError, ssl.SSLError):
            raise Permanent("email: ca_file cannot be used", reason="TLS") from None
        if config.insecure_skip_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def _smarthost(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit():
        raise Permanent(f"email: smarthost {text!r} must be host:port", reason="InvalidAddress")
    return host.strip("[]"), int(port)


def _addresses(text: str) -> tuple[Address, ...]:
    found: list[Address] = []
    for name, address in getaddresses([text]):
        user, _, domain = address.rpartition("@")
        if not user or not domain:
            raise Permanent(f"email: {address or text!r} is not a mail address", reason="InvalidRecipient")
        try:
            found.append(Address(name, user, domain))
        except ValueError:
            raise Permanent(f"email: {address!r} is not a mail address", reason="InvalidRecipient") from None
    return tuple(found)


def _sorted(where: str, error: aiosmtplib.SMTPException) -> Retryable | Permanent:
    """SMTP says it in the first digit: 4 is passing, 5 is lasting. What the server said may quote anything, so it stays out."""
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused):
        codes = {refused.code for refused in error.recipients}
        told = f"{where}: recipients refused ({', '.join(str(code) for code in sorted(codes))})"
        lasting = all(code >= 500 for code in codes)
        return Permanent(told, reason="InvalidRecipient") if lasting else Retryable(told)
    if isinstance(error, aiosmtplib.SMTPResponseException):
        told = f"{where}: SMTP {error.code} ({type(error).__name__})"
        return Permanent(told, reason="Refused") if error.code >= 500 else Retryable(told)
    if isinstance(error.__cause__, ssl.SSLError):
        return Permanent(f"{where}: the TLS certificate was not accepted", reason="TLS")
    if isinstance(error, aiosmtplib.SMTPReadTimeoutError | aiosmtplib.SMTPServerDisconnected):
        return Retryable(f"{where}: {type(error).__name__}", reason=UNANSWERED)
    if isinstance(error, ConnectionError | TimeoutError):
        return Retryable(f"{where}: {type(error).__name__}")
    return Permanent(f"{where}: the server does not support STARTTLS, or not this login", reason="TLS")
