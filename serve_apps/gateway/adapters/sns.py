"""Messages of Amazon SNS over HTTP: the envelope, and the proof that SNS signed it. Used by the CloudWatch adapter.

Source: the SNS developer guide, *Parsing message formats* and *Verifying the signatures of Amazon SNS messages*. Signature
version 1 is RSA PKCS #1 v1.5 with SHA-1 (still what topics use unless told otherwise), version 2 the same with SHA-256. The
certificate is taken from an SNS host only, over HTTPS, and must be valid at that time. Nothing else is ever fetched for a
message but its SubscribeURL, under the same restrictions.
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import aiohttp
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from kubernaut_ray.errors import InvalidInput, Retryable
from serve_apps.gateway.adapters.reading import Problems, text
from serve_apps.problem import Problem

MAX_FETCHED = 65_536
MAX_CERTIFICATES = 16

MessageType = Literal["Notification", "SubscriptionConfirmation", "UnsubscribeConfirmation"]

_SIGNED: dict[MessageType, tuple[str, ...]] = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
    "UnsubscribeConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
}
"""The fields that are signed, in this order. A Notification without a subject is signed without one."""

_HASHES: dict[str, type[hashes.HashAlgorithm]] = {
    "1": hashes.SHA1,  # SNS's own choice for version 1; a second preimage is not in reach
    "2": hashes.SHA256,
}

# Whole URLs, so that no two parsers can disagree about which host is meant; neither user nor port fits in.
_HOST = r"https://sns\.[a-z0-9-]{3,}\.amazonaws\.com(?:\.cn)?"
_CERTIFICATE_URL = re.compile(rf"{_HOST}/[A-Za-z0-9._/-]+\.pem")
_SUBSCRIBE_URL = re.compile(rf"{_HOST}/\?[A-Za-z0-9._~%:&=+/-]{{1,2000}}")


@dataclass(frozen=True, slots=True)
class Fetched:
    status: int
    body: bytes


Fetch = Callable[[str], Awaitable[Fetched]]
"""Gets a URL without following redirects. Raises ``Retryable`` when nothing answers, or too much."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """One SNS message as it came; ``fields`` are its strings by name."""

    type: MessageType
    fields: Mapping[str, str]

    @property
    def message(self) -> str:
        return self.fields["Message"]

    @property
    def message_id(self) -> str:
        return self.fields["MessageId"]

    @property
    def topic(self) -> str:
        return self.fields["TopicArn"]

    @property
    def signed(self) -> bytes:
        """The string to sign: a line with the name and a line with the value of each field."""
        parts = (f"{name}\n{self.fields[name]}\n" for name in _SIGNED[self.type] if name in self.fields)
        return "".join(parts).encode()


def is_envelope(body: Mapping[str, Any]) -> bool:
    """Tell an SNS message from what SNS delivers raw, and from other JSON."""
    return "TopicArn" in body and ("Type" in body or "Signature" in body)


def read(body: Mapping[str, Any]) -> Envelope:
    """Read an SNS message. Raises ``InvalidInput`` with everything that is wrong with it."""
    kind = body.get("Type")
    if not isinstance(kind, str) or kind not in _SIGNED:
        known = ", ".join(_SIGNED)
        raise InvalidInput(f"SNS message: Type must be one of {known}", problems=(("Type", f"must be one of {known}"),))
    problems: Problems = []
    names = (*_SIGNED[kind], "Signature", "SignatureVersion", "SigningCertURL")
    fields = {n: text(body, n, n, problems, required=n != "Subject") for n in names}
    if body.get("Subject") is None:
        fields.pop("Subject", None)
    if problems:
        raise InvalidInput("SNS message: " + "; ".join(f"{p}: {w}" for p, w in problems), problems=tuple(problems))
    return Envelope(kind, fields)


class Verifier:
    """Checks signatures; keeps the certificates it has fetched, the ones used least recently dropped."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._known: OrderedDict[str, x509.Certificate] = OrderedDict()
        self._fetching = asyncio.Lock()

    async def verify(self, envelope: Envelope, now: datetime) -> None:
        """Return when SNS signed this. Raises ``Problem`` 403 when not, ``Retryable`` when that cannot be found out."""
        version = envelope.fields["SignatureVersion"]
        if version not in _HASHES:
            raise Problem(403, detail="SNS message: SignatureVersion must be 1 or 2")
        try:
            signature = base64.b64decode(envelope.fields["Signature"], validate=True)
        except ValueError:
            raise Problem(403, detail="SNS message: Signature is not base64") from None
        certificate = await self._certificate(envelope.fields["SigningCertURL"], now)
        key = certificate.public_key()
        if not isinstance(key, rsa.RSAPublicKey):
            raise Problem(403, detail="SNS message: the signing certificate holds no RSA key")
        try:
            key.verify(signature, envelope.signed, padding.PKCS1v15(), _HASHES[version]())
        except InvalidSignature:
            raise Problem(403, detail="SNS message: the signature does not match; it was changed on the way") from None

    async def _certificate(self, url: str, now: datetime) -> x509.Certificate:
        if not _CERTIFICATE_URL.fullmatch(url):
            raise Problem(
                403,
                detail="SNS message: SigningCertURL must be https://sns.REGION.amazonaws.com/….pem, without port or user",
            )
        async with self._fetching:
            certificate = self._known.get(url) or _load(await self._fetch(url))
            if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
                self._known.pop(url, None)
                raise Problem(403, detail="SNS message: the signing certificate is expired, or not valid yet")
            self._known[url] = certificate
            self._known.move_to_end(url)
            while len(self._known) > MAX_CERTIFICATES:
                self._known.popitem(last=False)
            return certificate


async def confirm(envelope: Envelope, fetch: Fetch) -> None:
    """Confirm a subscription, whose message must have been verified. Raises ``Problem`` 403 and ``Retryable``."""
    url = envelope.fields["SubscribeURL"]
    if not _SUBSCRIBE_URL.fullmatch(url) or "Action=ConfirmSubscription" not in url:
        raise Problem(
            403,
            detail="SNS message: SubscribeURL must be https://sns.REGION.amazonaws.com/?Action=ConfirmSubscription…",
        )
    answer = await fetch(url)
    if 400 <= answer.status < 500:
        raise Problem(
            403,
            detail=f"SNS refused the confirmation with {answer.status}; its token may have expired: subscribe again",
        )
    if answer.status != 200:
        raise Retryable(f"SNS answered the confirmation with {answer.status}", after=5)


def fetcher(seconds: float) -> Fetch:
    """Return what gets a URL over HTTP, in this time and at most ``MAX_FETCHED`` bytes."""

    async def fetch(url: str) -> Fetched:
        timeout = aiohttp.ClientTimeout(total=seconds)
        body = bytearray()
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout, trust_env=True) as session,
                session.get(url, allow_redirects=False) as response,
            ):
                async for chunk in response.content.iter_chunked(8192):
                    body += chunk
                    if len(body) > MAX_FETCHED:
                        raise Retryable(f"SNS: {response.host} sends more than {MAX_FETCHED} bytes", after=60)
                return Fetched(response.status, bytes(body))
        except (aiohttp.ClientError, TimeoutError) as error:
            # The URL may carry a token, the error's own text the URL.
            raise Retryable(f"SNS could not be reached: {type(error).__name__}", after=5) from None

    return fetch


def _load(answer: Fetched) -> x509.Certificate:
    if 400 <= answer.status < 500:
        raise Problem(403, detail=f"SNS message: there is no certificate at SigningCertURL (HTTP {answer.status})")
    if answer.status != 200:
        raise Retryable(f"SNS answered {answer.status} for its signing certificate", after=5)
    try:
        return x509.load_pem_x509_certificate(answer.body)
    except ValueError:
        raise Problem(403, detail="SNS message: what is at SigningCertURL is no certificate") from None
