"""OCI registries over HTTP(S) through ``oras``: a thin wrapper with time limits, our errors, and byte-exact manifests.

``oras`` knows the URLs and the upload; its retries (minutes for a refused connection), its authentication (one token for
all scopes, no identity tokens) and its manifests (encoded anew, which changes their digest) are replaced here. Each
registry has its own ``RegistryAccess``: plain HTTP or an unverified certificate for one says nothing about another. Errors
name the registry and what to set, never a URL or an answer that may hold a secret. Calls block: asyncio callers use a thread.
"""

from __future__ import annotations

import re
import ssl
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import oras.container
import oras.provider
import orjson
import requests
from requests.adapters import HTTPAdapter

from kubernaut_ray.errors import InvalidInput, KubernautError, Permanent, Retryable
from kubernaut_ray.kube.pipelines import docker_config
from kubernaut_ray.kube.pipelines.docker_config import DOCKER_HUB, Login
from kubernaut_ray.kube.pipelines.reference import Reference, digest_of, verify
from kubernaut_ray.kube.pipelines.registry_auth import Authorizer
from kubernaut_ray.settings import RegistryAccess

ACCEPT = (
    "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json, "
    "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json"
)
MAX_MANIFEST = 4 * 1024 * 1024
MAX_BLOB = 16 * 1024 * 1024
ATTEMPTS = 3
"""For 429, 5xx and connections that broke; a refused connection is told at once."""
LONGEST_WAIT = 5.0
"""Seconds that a ``Retry-After`` is obeyed here; a longer one is the caller's to wait for."""
_FIRST_WAIT = 0.2
_TIMEOUT = (5.0, 30.0)
_BUSY = frozenset({408, 429, 500, 502, 503, 504})
_PULL, _PUSH = "pull", "pull,push"
_CODE = re.compile(r"[A-Z_]{3,40}")


class Registries:
    """All registries that references name; ``access`` is by ``HOST[:PORT]``, HTTPS and the system's authorities otherwise.

    ``config`` is a docker ``config.json`` that must be there; without it docker's own is used where it exists.
    """

    def __init__(
        self,
        access: Mapping[str, RegistryAccess] | None = None,
        *,
        config: Path | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._access = dict(access or {})
        self._config, self._sleep = config, sleep
        self._authorizers: dict[str, Authorizer] = {}

    def manifest(self, reference: Reference) -> bytes:
        """Return the manifest's bytes. Raises ``InvalidInput`` (reason ``NotFound``) when the registry has none."""
        with self._connected(reference, _PULL) as (registry, container):
            url = f"{registry.prefix}://{container.manifest_url(reference.digest or reference.tag or 'latest')}"
            return _limited(registry.ask(url, "GET", headers={"Accept": ACCEPT}), MAX_MANIFEST, reference)

    def blob(self, reference: Reference, digest: str) -> bytes:
        """Return a blob's bytes, verified."""
        with self._connected(reference, _PULL) as (registry, container):
            url = f"{registry.prefix}://{container.get_blob_url(digest)}"
            content = _limited(registry.ask(url, "GET"), MAX_BLOB, reference)
            return verify(content, digest, f"bundle {reference}")

    def put(self, reference: Reference, blobs: tuple[bytes, ...], manifest: bytes, media_type: str) -> str:
        """Push blobs and manifest under the reference's tag; returns the manifest's digest."""
        with self._connected(reference, _PUSH) as (registry, container), tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "blob"
            for content in blobs:
                path.write_bytes(content)
                layer = {"digest": digest_of(content), "size": len(content)}
                registry.upload(str(path), container, layer)
            url = f"{registry.prefix}://{container.manifest_url(reference.tag or 'latest')}"
            registry.ask(url, "PUT", headers={"Content-Type": media_type}, data=manifest)
        return digest_of(manifest)

    @contextmanager
    def _connected(self, reference: Reference, actions: str) -> Iterator[tuple[_Registry, Any]]:
        access = self._access.get(reference.registry, RegistryAccess())
        for file in filter(None, (access.ca_file, access.client_certificate, access.client_key)):
            if not file.is_file():
                raise InvalidInput(
                    f"registry {reference.registry}: {file} is not there; catalog.registry_access names it"
                )
        host, repository = _endpoint(reference, access)
        container = oras.container.Container(f"{host}/{repository}")
        authorizer = self._authorizers.setdefault(
            reference.registry, Authorizer(reference.registry, plain_http=access.plain_http)
        )
        registry = _Registry(reference, repository, actions, access, authorizer, self._login, self._sleep)
        with registry.session:
            yield registry, container

    def _login(self, reference: Reference) -> Login | None:
        path = self._config or docker_config.default_path()
        return docker_config.login(path, reference.registry, reference.repository, required=self._config is not None)


class _Registry(oras.provider.Registry):  # type: ignore[misc]
    """One registry for one call. ``do_request`` is the seam through which ``oras`` sends everything."""

    def __init__(
        self,
        reference: Reference,
        repository: str,
        actions: str,
        access: RegistryAccess,
        authorizer: Authorizer,
        login: Callable[[Reference], Login | None],
        sleep: Callable[[float], None],
    ) -> None:
        super().__init__(hostname=reference.registry, insecure=access.plain_http, tls_verify=not access.skip_tls_verify)
        self._reference, self._repository, self._actions, self._access = reference, repository, actions, access
        self._authorizer, self._login, self._sleep = authorizer, login, sleep
        self._logged_in = False
        self.session.mount("http://", _TimedAdapter())
        self.session.mount("https://", _TimedAdapter(access))
        # Without an answer of its own, requests would take a login from ~/.netrc in the place of ours.
        self.session.auth = _keep

    def ask(self, url: str, method: str, **arguments: Any) -> requests.Response:
        """Send, authenticate, judge. Raises what ``judge`` raises."""
        response = self.do_request(url, method, stream=method == "GET", **arguments)
        try:
            return self.judge(response)
        except KubernautError:
            response.close()
            raise

    def upload(self, path: str, container: Any, layer: dict[str, Any]) -> None:
        try:
            self.judge(self.upload_blob(path, container, layer))
        except ValueError:
            # What oras raises, with the whole answer, for an upload without a place to put it.
            raise Permanent(
                f"registry {self._reference.registry} began an upload without saying where", reason="RegistryRefused"
            ) from None

    def do_request(
        self,
        url: str,
        method: str = "GET",
        data: Any = None,
        headers: Mapping[str, str] | None = None,
        json: Any = None,
        stream: bool = False,
    ) -> requests.Response:
        arguments = {"data": data, "json": json, "stream": stream}
        known = self._authorizer.known(self._repository, self._actions)
        response = self._send(method, url, headers=_with(headers, known), **arguments)
        if response.status_code == 401:
            response = self._authenticated(response, method, url, headers, arguments)
        # oras asks an upload's first answer for more than a refusal has.
        return self.judge(response) if method == "POST" else response

    def _authenticated(
        self,
        response: requests.Response,
        method: str,
        url: str,
        headers: Mapping[str, str] | None,
        arguments: Mapping[str, Any],
    ) -> requests.Response:
        self._authorizer.forget(self._repository, self._actions)
        try:
            login = self._login(self._reference)
            self._logged_in = login is not None
            header = self._authorizer.answer(response, login, self._repository, self._actions, self._send)
        except KubernautError:
            response.close()
            raise
        if not header:
            return response
        response.close()
        return self._send(method, url, headers=_with(headers, header), **arguments)

    def judge(self, response: requests.Response) -> requests.Response:
        """Return the response if it is a success. Raises our errors otherwise."""
        reference, status = self._reference, response.status_code
        if status < 400:
            return response
        said = _code(response)
        where = f"bundle {reference}: the registry {reference.registry}"
        if status == 401:
            why = (
                "did not accept the credentials" if self._logged_in else "wants credentials, and there are none for it"
            )
            raise _denied(f"{where} {why}; log in with docker login, or set catalog.registry_config")
        if status == 403:
            what = "push to" if self._actions == _PUSH else "pull from"
            raise _denied(f"{where} does not let these credentials {what} {reference.repository}{said}")
        if status == 404:
            raise InvalidInput(f"{where} has no such image{said}", reason="NotFound")
        if status in _BUSY:
            raise Retryable(
                f"registry {reference.registry} answered {status}", after=_after(response), reason="RegistryUnavailable"
            )
        raise Permanent(f"{where} answered {status}{said}", reason="RegistryRefused")

    def _send(self, method: str, url: str, **arguments: Any) -> requests.Response:
        """Send until there is an answer that is not a passing fault, a few times at most."""
        wait = _FIRST_WAIT
        for left in reversed(range(ATTEMPTS)):
            try:
                response: requests.Response = self.session.request(method, url, **arguments)
            except requests.RequestException as error:
                if not left or not isinstance(error, requests.ConnectionError) or not _broke(error):
                    raise _unreachable(self._reference.registry, error) from None
            else:
                after = _after(response)
                if response.status_code not in _BUSY or not left or (after or 0) > LONGEST_WAIT:
                    return response
                wait = max(wait, after or 0)
                response.close()
            self._sleep(wait)
            wait *= 3
        raise AssertionError("the last attempt returns or raises")


class _TimedAdapter(HTTPAdapter):
    """Time limits, and the TLS of one registry, also for where it redirects to and for its token realm."""

    def __init__(self, access: RegistryAccess | None = None) -> None:
        super().__init__()
        self._tls = access

    def send(self, *args: Any, **kwargs: Any) -> requests.Response:
        kwargs["timeout"] = _TIMEOUT
        if self._tls is not None:
            if self._tls.skip_tls_verify or self._tls.ca_file:
                kwargs["verify"] = False if self._tls.skip_tls_verify else str(self._tls.ca_file)
            if self._tls.client_certificate:
                key = self._tls.client_key
                certificate = str(self._tls.client_certificate)
                kwargs["cert"] = (certificate, str(key)) if key else certificate
        response: requests.Response = super().send(*args, **kwargs)
        return response


def _endpoint(reference: Reference, access: RegistryAccess) -> tuple[str, str]:
    """Return the host and repository that are asked for a reference."""
    host, repository = reference.registry, reference.repository
    if host in DOCKER_HUB:
        # It answers under another name than the one its images carry, which leave "library" out.
        return "registry-1.docker.io", repository if "/" in repository else f"library/{repository}"
    if "." not in host and ":" not in host:
        # oras takes a bare word for a part of the repository.
        host += ":80" if access.plain_http else ":443"
    return host, repository


def _keep(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _with(headers: Mapping[str, str] | None, authorization: str) -> dict[str, str]:
    return dict(headers or {}) | ({"Authorization": authorization} if authorization else {})


def _limited(response: requests.Response, limit: int, reference: Reference) -> bytes:
    content = bytearray()
    with response:
        try:
            for piece in response.iter_content(65_536):
                content += piece
                if len(content) > limit:
                    raise InvalidInput(f"bundle {reference}: more than {limit} bytes in one piece, which are not taken")
        except requests.RequestException as error:
            raise _unreachable(reference.registry, error) from None
    return bytes(content)


def _after(response: requests.Response) -> float | None:
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isdigit() else None


def _code(response: requests.Response) -> str:
    """Return the error code of a registry's answer, which is one word of a list, and nothing else that it said."""
    try:
        code = str(orjson.loads(response.content)["errors"][0]["code"])
    except (orjson.JSONDecodeError, LookupError, TypeError, requests.RequestException):
        return ""
    return f" ({code})" if _CODE.fullmatch(code) else ""


def _denied(message: str) -> Permanent:
    return Permanent(message, reason="RegistryDenied")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Walk what an error came from: libraries wrap the telling one several times, also as an argument."""
    waiting, seen = [error], set()
    while waiting:
        one = waiting.pop()
        if isinstance(one, BaseException) and id(one) not in seen:
            seen.add(id(one))
            yield one
            waiting += [one.__cause__, one.__context__, getattr(one, "reason", None), *one.args]


def _broke(error: Exception) -> bool:
    """Say whether a connection stood and then broke."""
    return any(
        isinstance(one, ConnectionResetError | ConnectionAbortedError | BrokenPipeError) for one in _causes(error)
    )


def _unreachable(registry: str, error: Exception) -> KubernautError:
    """Say what happened, and what to set, without the URL, which may carry a token."""
    tls = next((one for one in _causes(error) if isinstance(one, ssl.SSLError)), None)
    if tls is None:
        return Retryable(
            f"registry {registry} cannot be reached ({type(error).__name__})", reason="RegistryUnavailable"
        )
    setting = f"catalog.registry_access for {registry}"
    reason = str(getattr(tls, "reason", "") or "")
    if isinstance(tls, ssl.SSLCertVerificationError):
        why = f"its certificate is not trusted: {tls.verify_message}; set ca_file in {setting}"
    elif "WRONG_VERSION_NUMBER" in reason or "HTTP_REQUEST" in reason or "RECORD_LAYER" in reason:
        why = f"it does not speak TLS; if it speaks plain HTTP, set plain_http in {setting}"
    elif "ALERT" in reason or "CERTIFICATE_REQUIRED" in reason:
        why = f"it refused the TLS handshake ({reason.lower()}); if it wants one, set client_certificate in {setting}"
    else:
        why = f"TLS failed ({reason.lower() or type(tls).__name__}); see {setting}"
    return Permanent(f"registry {registry}: {why}", reason="RegistryTls")
