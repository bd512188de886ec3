"""One JSON POST with every outcome sorted into delivered, retryable or permanent, and no secret in any error.

Redirects are not followed: a POST that is redirected turns into a GET that delivers nothing.
"""

from __future__ import annotations

import base64
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, urlsplit

import aiohttp
import orjson

from actors.notification.channels.base import UNANSWERED, Surroundings
from actors.notification.config import HttpConfig
from actors.notification.credentials import Credentials
from kubernaut_ray.errors import Permanent, Retryable
from kubernaut_ray.redact import redact

RETRYABLE = frozenset({408, 425, 429, 500, 502, 503, 504})
EXCERPT = 200


@dataclass(frozen=True, slots=True)
class Post:
    """``secrets`` never appear in an error, even if the other side repeats them."""

    what: str
    url: str
    body: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)
    proxy: str | None = None
    tls: ssl.SSLContext | bool = True
    secrets: tuple[str, ...] = ()


async def post(surroundings: Surroundings, request: Post) -> None:
    """Send. Raises ``Retryable`` or ``Permanent``."""
    where = f"{request.what} at {_host(request.url)}"
    try:
        async with surroundings.session.post(
            request.url,
            data=orjson.dumps(request.body),
            headers={"Content-Type": "application/json", **request.headers},
            proxy=request.proxy,
            ssl=request.tls,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=surroundings.timeout),
        ) as response:
            if response.status < 300:
                return
            said = (await response.content.read(2048)).decode(errors="replace")
            raise _refused(where, response.status, response.headers.get("Retry-After", ""), _clean(said, request))
    except aiohttp.ConnectionTimeoutError:
        raise Retryable(f"{where}: no connection within {surroundings.timeout:g} s") from None
    except TimeoutError:
        raise Retryable(f"{where}: no answer within {surroundings.timeout:g} s", reason=UNANSWERED) from None
    except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientSSLError, ssl.SSLError):
        raise Permanent(f"{where}: the TLS certificate or handshake was not accepted", reason="TLS") from None
    except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError):
        raise Permanent(f"{request.what}: the address is not an http(s) URL", reason="InvalidAddress") from None
    except aiohttp.ClientConnectorError as error:
        raise Retryable(f"{where}: {type(error).__name__}") from None
    except (aiohttp.ClientError, OSError) as error:
        raise Retryable(f"{where}: {type(error).__name__}", reason=UNANSWERED) from None


def authorization(what: str, config: HttpConfig, credentials: Credentials) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the header that ``http_config`` asks for, and the secrets in it."""
    if config.basic_auth is not None:
        password = credentials.read(what, config.basic_auth.password, config.basic_auth.password_file)
        encoded = base64.b64encode(f"{config.basic_auth.username}:{password}".encode()).decode()
        return {"Authorization": f"Basic {encoded}"}, (password, encoded)
    scheme, token = "Bearer", credentials.read(what, config.bearer_token, config.bearer_token_file)
    if config.authorization is not None:
        scheme = config.authorization.type
        token = credentials.read(what, config.authorization.credentials, config.authorization.credentials_file)
    return ({"Authorization": f"{scheme} {token}"}, (token,)) if token else ({}, ())


def tls(what: str, config: HttpConfig) -> ssl.SSLContext | bool:
    """Return how certificates are checked. Raises ``Permanent`` for a CA file that cannot be used."""
    if config.tls_config.insecure_skip_verify:
        return False
    if config.tls_config.ca_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=str(config.tls_config.ca_file))
    except (OSError, ssl.SSLError):
        raise Permanent(f"{what}: ca_file {config.tls_config.ca_file.name} cannot be used", reason="TLS") from None


def prepared(
    what: str,
    url: str,
    body: Mapping[str, Any],
    config: HttpConfig,
    credentials: Credentials,
    headers: Mapping[str, str],
) -> Post:
    """Build the request that ``http_config`` describes."""
    authorized, secrets = authorization(what, config, credentials)
    return Post(
        what,
        url,
        body,
        headers={**headers, **authorized},
        proxy=config.proxy_url,
        tls=tls(what, config),
        secrets=tuple(secret for secret in (url, *secrets) if secret),
    )


def with_secret(request: Post, secret: str) -> Post:
    """A secret that travels in the body is kept out of errors too."""
    return replace(request, secrets=(*request.secrets, secret))


def _refused(where: str, status: int, retry_after: str, said: str) -> Retryable | Permanent:
    message = f"{where}: HTTP {status}{f' ({said})' if said else ''}"
    if status in RETRYABLE or status >= 505:
        return Retryable(message, after=_seconds(retry_after))
    if status < 400:
        return Permanent(f"{where}: HTTP {status}, a redirect; configure the final address", reason="InvalidAddress")
    return Permanent(message, reason="Refused")


def _seconds(retry_after: str) -> float | None:
    """``Retry-After`` is seconds or a date."""
    if retry_after.strip().isdigit():
        return float(retry_after)
    try:
        return max(0.0, (parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None


def _clean(said: str, request: Post) -> str:
    """What the other side said, in a line, without any secret that it may have repeated."""
    parts = urlsplit(request.url)
    hidden = [*request.secrets, parts.path if len(parts.path) > 1 else "", parts.query]
    for secret in sorted(
        {s for value in hidden if value for s in (value, quote(value, safe=""))}, key=len, reverse=True
    ):
        said = said.replace(secret, "[REDACTED]")
    return " ".join(redact(said).split())[:EXCERPT]


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or "(no host)"
    except ValueError:
        return "(no host)"
