"""One pool of HTTPS connections to one API server, through the official client's configuration and transport.

``client.py`` is its only caller. The official loaders read kubeconfigs, pod credentials and exec plug-ins and keep tokens
fresh; the raw responses are read here and turned into JSON or into one of ``kubernaut_ray.kube.errors``. Nothing retries.
Whole answers come over ``wire.py``; watches and logs, and everything where a proxy stands between, over the official transport.
"""

from __future__ import annotations

import asyncio
import copy
import functools
import ipaddress
import json
import ssl
import urllib.request
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import aiohttp
import orjson
import yaml

from kubernaut_ray.errors import InvalidInput, KubernautError
from kubernaut_ray.kube import errors
from kubernaut_ray.kube.official import (
    ApiClient,
    ConfigException,
    Configuration,
    kube_config,
    load_incluster_config,
)
from kubernaut_ray.kube.wire import Wire

# The official package marks itself typed but leaves these without annotations.
_in_cluster: Callable[..., None] = load_incluster_config
_from_file: Callable[..., Awaitable[Any]] = kube_config.load_kube_config

USER_AGENT = "kubernaut-ray"
JSON = "application/json"

_BY_STATUS: dict[int, type[errors.ApiError]] = {
    400: errors.Invalid,
    401: errors.Unauthorized,
    403: errors.Forbidden,
    404: errors.NotFound,
    410: errors.Gone,
    422: errors.Invalid,
}


async def configure(kubeconfig: Path | None, context: str | None) -> Configuration:
    """Load credentials from a kubeconfig, or from the pod this runs in. Raises ``InvalidInput`` when neither is usable."""
    configuration = Configuration()
    try:
        if kubeconfig is None:
            _in_cluster(client_configuration=configuration)
        else:
            if not kubeconfig.is_file():
                raise InvalidInput(f"kubeconfig {kubeconfig}: no such file")
            loader = await _from_file(
                config_file=str(kubeconfig), context=context, client_configuration=configuration, persist_config=False
            )
            _keep_fresh(configuration, loader)
    except ConfigException as error:
        where = f"kubeconfig {kubeconfig}" if kubeconfig else "no kubeconfig given and not inside a pod"
        raise InvalidInput(f"{where}: {error}") from error
    except (OSError, yaml.YAMLError, TypeError, KeyError, ValueError) as error:
        raise InvalidInput(f"kubeconfig {kubeconfig}: not readable as a kubeconfig ({type(error).__name__})") from error
    # Proxy variables of the environment are for the outside world, never for a server on this machine.
    configuration.client_session_kwargs = {"trust_env": not _is_loopback(configuration.host)}
    return configuration


def _keep_fresh(configuration: Any, loader: Any) -> None:
    """Let exec plug-ins renew their token when it expires; other credentials of a kubeconfig stay as they are."""
    user = getattr(loader, "_user", None)
    if user is None or "exec" not in user:
        return

    async def refresh(target: Any) -> None:
        await loader.load_from_exec_plugin()
        if token := getattr(loader, "token", None):
            target.api_key["BearerToken"] = token

    configuration.refresh_api_key_hook = refresh


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Connection:
    """Sends requests; ``send`` for a whole answer, ``stream`` for a watch."""

    def __init__(self, configuration: Configuration, *, timeout: float) -> None:
        self._configuration = configuration
        self._token = ""
        self._timeout = aiohttp.ClientTimeout(total=timeout, sock_connect=min(timeout, 5.0))
        try:
            self._api: Any = ApiClient(configuration)
        except (OSError, ssl.SSLError) as error:
            raise InvalidInput(f"TLS material for {configuration.host} cannot be read: {error}") from error
        self._seconds = timeout
        self._wire = None if _proxied(configuration) else _wire(configuration, self._api.rest_client, min(timeout, 5.0))

    @property
    def host(self) -> str:
        return str(self._configuration.host)

    async def close(self) -> None:
        if self._wire is not None:
            await self._wire.close()
        await self._api.close()

    def bearing(self, token: str) -> Connection:
        """Return the same pool of connections with another bearer token; closing it closes the pool."""
        other = copy.copy(self)
        other._token = token  # noqa: SLF001 - of our own class
        return other

    async def send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        content_type: str = JSON,
        accept: str = JSON,
    ) -> dict[str, Any]:
        """Send one request and return the JSON answer. Raises ``kubernaut_ray.kube.errors``."""
        return _parse(await self._whole(method, path, query, body, content_type, accept), method, path)

    async def fetch(self, path: str, *, query: Mapping[str, str], accept: str) -> bytes:
        """GET and return the answer as it came, for a caller that decodes only a part of it."""
        return await self._whole("GET", path, query, None, JSON, accept)

    async def _whole(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None,
        content_type: str,
        accept: str,
    ) -> bytes:
        if self._wire is None:
            async with self._open(method, path, query, body, content_type, accept, self._timeout) as response:
                return await response.read()
        with self._errors(method, path):
            headers = await self._headers(accept, content_type)
            data = None if body is None else _dumped(body)
            answer = await self._wire.exchange(method, _target(path, query), headers, data, timeout=self._seconds)
        if answer.status >= 300:
            raise _refusal(answer.status, answer.body, answer.retry_after, method, path)
        return answer.body

    async def _headers(self, accept: str, content_type: str) -> str:
        headers = f"User-Agent: {USER_AGENT}\r\nAccept: {accept}\r\nContent-Type: {content_type}\r\n"
        if authorization := await self._authorization():
            headers = f"{headers}Authorization: {_one_line(authorization)}\r\n"
        return headers

    async def _authorization(self) -> str | None:
        """Return the header's value; where credentials can expire, the official configuration renews them in time."""
        if self._token:
            return f"Bearer {self._token}"
        value: str | None = await self._configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
        return value

    @contextmanager
    def _errors(self, method: str, path: str) -> Iterator[None]:
        try:
            yield
        except KubernautError:
            raise
        except TimeoutError as error:
            raise errors.Unavailable(f"{method} {path}: {self.host} did not answer in time") from error
        except (aiohttp.ClientError, OSError, asyncio.IncompleteReadError) as error:
            raise errors.Unavailable(f"{method} {path}: {self.host}: {error or type(error).__name__}") from error

    @asynccontextmanager
    async def stream(
        self, path: str, *, query: Mapping[str, str], idle_timeout: float
    ) -> AsyncGenerator[AsyncIterator[bytes]]:
        """Open a streaming GET and return its pieces. Reading raises ``Unavailable`` after ``idle_timeout`` seconds of silence."""
        if self._wire is not None:
            with self._errors("GET", path):
                headers = await self._headers(JSON, JSON)
                async with self._wire.stream(_target(path, query), headers, idle=idle_timeout) as pieces:
                    if pieces.status >= 300:
                        body = b"".join([piece async for piece in pieces])
                        raise _refusal(pieces.status, body, pieces.retry_after, "GET", path)
                    yield pieces
            return
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self._timeout.sock_connect, sock_read=idle_timeout)
        async with self._open("GET", path, query, None, JSON, JSON, timeout) as response:
            yield response.content.iter_any()

    @asynccontextmanager
    async def _open(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None,
        content_type: str,
        accept: str,
        timeout: aiohttp.ClientTimeout,
    ) -> AsyncGenerator[aiohttp.ClientResponse]:
        url = f"{self._configuration.host}{path}"
        if query:
            url = f"{url}?{urlencode(query)}"
        headers = {"User-Agent": USER_AGENT, "Accept": accept, "Content-Type": content_type}
        with self._errors(method, path):
            if authorization := await self._authorization():
                headers["Authorization"] = authorization
            answer = await self._api.rest_client.request(
                method, url, headers=headers, body=body, _request_timeout=timeout
            )
            response: aiohttp.ClientResponse = answer.response
            try:
                if response.status >= 300:
                    raise failure(response.status, await response.read(), response.headers, f"{method} {path}")
                yield response
            finally:
                response.release()


def _proxied(configuration: Any) -> bool:
    """Whether something stands between us and the server that ``wire.py`` cannot talk to."""
    if configuration.proxy:
        return True
    if not configuration.client_session_kwargs["trust_env"]:
        return False
    url = urlsplit(configuration.host)
    return url.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(url.hostname or "")


def _wire(configuration: Any, official: Any, patience: float) -> Wire:
    """Return connections with the official client's TLS settings."""
    return Wire(
        configuration.host,
        tls=official.ssl_context,
        server_name=configuration.tls_server_name or "",
        limit=official.maxsize,
        patience=patience,
    )


def _refusal(status: int, body: bytes, retry_after: str | None, method: str, path: str) -> KubernautError:
    told = {} if retry_after is None else {"Retry-After": retry_after}
    return failure(status, body, told, f"{method} {path}")


def _target(path: str, query: Mapping[str, str] | None) -> str:
    return f"{path}?{_encoded(tuple(query.items()))}" if query else path


@functools.lru_cache(maxsize=1024)
def _encoded(query: tuple[tuple[str, str], ...]) -> str:
    return urlencode(query, safe="(),")


def _one_line(value: str) -> str:
    if not (value.isascii() and value.isprintable()):
        raise InvalidInput(
            "the bearer token holds a line break or what is no ASCII; is the token file what it should be?"
        )
    return value


def _dumped(body: Any) -> bytes:
    try:
        return orjson.dumps(body)
    except TypeError:
        # Half a surrogate pair out of somebody's log, a number beyond 64 bits: slower, and sent all the same.
        return json.dumps(body).encode()


def failure(status: int, data: bytes, headers: Mapping[str, str], what: str) -> KubernautError:
    """Turn a refusal (HTTP status and a ``metav1.Status`` body, or any other body) into the error its caller acts on."""
    body: Any = {}
    try:
        body = orjson.loads(data) if data else {}
    except orjson.JSONDecodeError:
        body = {"message": data[:300].decode(errors="replace").strip()}
    if not isinstance(body, dict):
        body = {}
    reason = str(body.get("reason") or "")
    message = f"{what}: {status} {reason or 'refused'}: {body.get('message') or 'no message'}"
    if status == 409:
        if reason == "AlreadyExists":
            return errors.AlreadyExists(message, status=status, reason=reason)
        return errors.Conflict(message)
    if status in {408, 429} or status >= 500:
        return errors.Unavailable(message, after=_retry_after(body, headers))
    return _BY_STATUS.get(status, errors.ApiError)(message, status=status, reason=reason)


def _retry_after(body: Mapping[str, Any], headers: Mapping[str, str]) -> float | None:
    details = body.get("details")
    told = headers.get("Retry-After") or (details.get("retryAfterSeconds") if isinstance(details, dict) else None)
    try:
        return min(max(float(told), 0.0), 300.0) if told is not None else None
    except (TypeError, ValueError):
        return None


def _parse(data: bytes, method: str, path: str) -> dict[str, Any]:
    try:
        body = orjson.loads(data) if data else {}
    except orjson.JSONDecodeError as error:
        raise errors.Unavailable(f"{method} {path}: the answer is not JSON ({error})") from error
    if not isinstance(body, dict):
        raise errors.Unavailable(f"{method} {path}: the answer is not a JSON object")
    return body
