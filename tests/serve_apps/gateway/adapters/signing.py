"""SNS on this machine: a key, its certificate, signed messages, and what would be fetched over HTTP."""

from __future__ import annotations

import base64
import json
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

from kubernaut_ray.errors import Retryable
from serve_apps.gateway.adapters.sns import Fetched
from tests.build import NOW

TOPIC = "arn:aws:sns:eu-central-1:123456789012:alarms"
CERTIFICATE_URL = (
    "https://sns.eu-central-1.amazonaws.com/SimpleNotificationService-9c6465fa7f48f5cacd23014631ec1136.pem"
)
SUBSCRIBE_URL = (
    "https://sns.eu-central-1.amazonaws.com/?Action=ConfirmSubscription"
    "&TopicArn=arn:aws:sns:eu-central-1:123456789012:alarms&Token=2336412f37"
)
KEY = rsa.generate_private_key(65537, 2048)
_ALGORITHMS: dict[str, hashes.HashAlgorithm] = {"1": hashes.SHA1(), "2": hashes.SHA256()}


def certificate(begins: datetime = NOW - timedelta(days=30), ends: datetime = NOW + timedelta(days=300)) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(KEY.public_key())
        .serial_number(1)
        .not_valid_before(begins)
        .not_valid_after(ends)
        .sign(KEY, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)


def notification(message: Any, version: str = "1", **fields: Any) -> dict[str, Any]:
    """Return a signed notification; ``fields`` replace before the signing, ``None`` takes away."""
    body = {
        "Type": "Notification",
        "MessageId": "da41e39f-ea4d-435a-b922-c6aae3915ebe",
        "TopicArn": TOPIC,
        "Subject": 'ALARM: "web-cpu" in EU (Frankfurt)',
        "Message": message if isinstance(message, str) else json.dumps(message),
        "Timestamp": "2026-03-01T12:00:00.000Z",
        "UnsubscribeURL": "https://sns.eu-central-1.amazonaws.com/?Action=Unsubscribe&SubscriptionArn=x",
    }
    return signed({k: v for k, v in (body | fields).items() if v is not None}, version)


def confirmation(kind: str = "SubscriptionConfirmation", version: str = "1", **fields: Any) -> dict[str, Any]:
    body = {
        "Type": kind,
        "MessageId": "165545c9-2a5c-472c-8df2-7ff2be2b3b1b",
        "Token": "2336412f37",
        "TopicArn": TOPIC,
        "Message": "You have chosen to subscribe to the topic.\nTo confirm, visit the SubscribeURL included in this message.",
        "SubscribeURL": SUBSCRIBE_URL,
        "Timestamp": "2026-03-01T12:00:00.000Z",
    }
    return signed(body | fields, version)


def signed(body: dict[str, Any], version: str) -> dict[str, Any]:
    """Sign by the names that the developer guide lists, in byte order."""
    names = {"Message", "MessageId", "Subject", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"}
    text = "".join(f"{name}\n{body[name]}\n" for name in sorted(names & body.keys()))
    signature = KEY.sign(text.encode(), padding.PKCS1v15(), _ALGORITHMS[version])
    return {
        "SignatureVersion": version,
        "Signature": base64.b64encode(signature).decode(),
        "SigningCertURL": CERTIFICATE_URL,
    } | body


class Web:
    """What the adapter may fetch. ``fetched`` are the URLs it asked for."""

    def __init__(self, pem: bytes | None = None, status: int = 200) -> None:
        self.pages: dict[str, Fetched] = {
            CERTIFICATE_URL: Fetched(status, certificate() if pem is None else pem),
            SUBSCRIBE_URL: Fetched(status, b"<ConfirmSubscriptionResponse/>"),
        }
        self.fetched: list[str] = []

    async def __call__(self, url: str) -> Fetched:
        self.fetched.append(url)
        if url not in self.pages:
            raise Retryable("nothing answers")
        return self.pages[url]
