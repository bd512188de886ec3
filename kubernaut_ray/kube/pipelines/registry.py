"""OCI registries over HTTP(S) through ``oras``: a thin wrapper with time limits, our errors, and byte-exact manifests.

``oras`` retries a refused connection for more than two minutes and re-encodes manifests (which changes their digest);
both are kept out here. Credentials come from a docker ``config.json`` and never appear in an error. Calls block: asyncio
callers use a thread.
"""

from __future__ import annotations

import base64
import binascii
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import oras.container
import oras.provider
import orjson
import requests
from requests.adapters import HTTPAdapter

from kubernaut_ray.errors import InvalidInput, Permanent, Retryable
from kubernaut_ray.kube.pipelines.reference import Reference, digest_of, verify

ACCEPT = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"
MAX_MANIFEST = 4 * 1024 * 1024
MAX_BLOB = 16 * 1024 * 1024
_TIMEOUT = (5.0, 30.0)


class Registries:
    """All registries that references name. ``insecure`` speaks plain HTTP to every one of them."""

    def __init__(self, *, insecure: bool = False, config: Path | None = None) -> None:
        self._insecure = insecure
        self._config = config
        self._backends: dict[str, str] = {}

    def manifest(self, reference: Reference) -> bytes:
        """Return the manifest's bytes. Raises ``InvalidInput`` (reason ``NotFound``) when the registry has none."""
        with self._connected(reference) as (registry, container):
            url = f"{registry.prefix}://{container.manifest_url(reference.digest or reference.tag or 'latest')}"
            response = self._ask(registry, reference, url, "GET", headers={"Accept": ACCEPT})
            return _limited(response, MAX_MANIFEST, reference)

    def blob(self, reference: Reference, digest: str) -> bytes:
        """Return a blob's bytes, verified."""
        with self._connected(reference) as (registry, container):
            url = f"{registry.prefix}://{container.get_blob_url(digest)}"
            response = self._ask(registry, reference, url, "GET", headers={})
            return verify(_limited(response, MAX_BLOB, reference), digest, f"bundle {reference}")

    def put(self, reference: Reference, blobs: tuple[bytes, ...], manifest: bytes, media_type: str) -> str:
        """Push blobs and manifest under the reference's tag; returns the manifest's digest."""
        with self._connected(reference) as (registry, container), tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "blob"
            for content in blobs:
                path.write_bytes(content)
                layer = {"digest": digest_of(content), "size": len(content)}
                self._checked(reference, partial(registry.upload_blob, str(path), container, layer))
            url = f"{registry.prefix}://{container.manifest_url(reference.tag or 'latest')}"
            self._ask(registry, reference, url, "PUT", headers={"Content-Type": media_type}, data=manifest)
        return digest_of(manifest)

    @contextmanager
    def _connected(self, reference: Reference) -> Iterator[tuple[_Registry, Any]]:
        container = oras.container.Container(str(reference))
        if reference.registry not in self._backends:
            self._backends[reference.registry] = self._backend(reference)
        registry = _Registry(
            hostname=reference.registry, insecure=self._insecure, auth_backend=self._backends[reference.registry]
        )
        with registry.session:
            for scheme in ("http://", "https://"):
                registry.session.mount(scheme, _TimedAdapter())
            if self._config is None:
                registry.auth.load_configs(container)
            elif credentials := _credentials(self._config, reference.registry):
                registry.auth.set_basic_auth(*credentials)
            yield registry, container

    def _backend(self, reference: Reference) -> str:
        """Ask which authentication the registry wants; ``oras`` has to be told."""
        scheme = "http" if self._insecure else "https"
        try:
            response = requests.get(f"{scheme}://{reference.registry}/v2/", timeout=_TIMEOUT)
        except requests.RequestException as error:
            raise _unreachable(reference, error, insecure=self._insecure) from error
        return "basic" if response.headers.get("WWW-Authenticate", "").lower().startswith("basic") else "token"

    def _ask(self, registry: _Registry, reference: Reference, url: str, method: str, **arguments: Any) -> Any:
        return self._checked(reference, partial(registry.do_request, url, method, **arguments))

    def _checked(self, reference: Reference, call: Callable[[], Any]) -> Any:
        try:
            response = call()
        except requests.RequestException as error:
            raise _unreachable(reference, error, insecure=self._insecure) from error
        except (ValueError, AttributeError) as error:
            # What oras raises when it has no credentials to answer a 401 with.
            raise _denied(reference) from error
        status = response.status_code
        if status in (401, 403):
            raise _denied(reference)
        if status == 404:
            raise InvalidInput(
                f"bundle {reference}: the registry {reference.registry} has no such image", reason="NotFound"
            )
        if status == 429 or status >= 500:
            raise Retryable(f"registry {reference.registry} answered {status}", reason="RegistryUnavailable")
        if status >= 400:
            raise Permanent(
                f"bundle {reference}: the registry {reference.registry} answered {status}: {response.text[:200]}",
                reason="RegistryRefused",
            )
        return response


class _Registry(oras.provider.Registry):  # type: ignore[misc]
    """Without the retries that would hold a caller for minutes."""

    def do_request(self, *args: Any, **kwargs: Any) -> Any:
        return oras.provider.Registry.do_request.__wrapped__(self, *args, **kwargs)


class _TimedAdapter(HTTPAdapter):
    def send(self, *args: Any, **kwargs: Any) -> requests.Response:
        kwargs["timeout"] = _TIMEOUT
        return super().send(*args, **kwargs)


def _limited(response: requests.Response, limit: int, reference: Reference) -> bytes:
    if len(response.content) > limit:
        raise InvalidInput(f"bundle {reference}: {len(response.content)} bytes in one piece, at most {limit} are taken")
    return response.content


def _unreachable(reference: Reference, error: Exception, *, insecure: bool) -> Retryable:
    """Say what happened without the URL, which may carry a token."""
    kind = type(error).__name__
    hint = "" if insecure else "; a registry that speaks plain HTTP needs registry_insecure"
    return Retryable(f"registry {reference.registry} cannot be reached ({kind}){hint}", reason="RegistryUnavailable")


def _denied(reference: Reference) -> Permanent:
    return Permanent(
        f"bundle {reference}: the registry {reference.registry} wants other credentials; put them into a docker config.json",
        reason="RegistryDenied",
    )


def _credentials(config: Path, registry: str) -> tuple[str, str] | None:
    """Read ``auths`` of a docker ``config.json``. Raises ``InvalidInput`` when the file cannot be read."""
    try:
        document = orjson.loads(config.read_bytes())
        auths = document.get("auths", {})
        entry = next((e for host, e in auths.items() if _host(host) == registry), None)
        if entry is None:
            return None
        if "username" in entry and "password" in entry:
            return str(entry["username"]), str(entry["password"])
        user, _, password = base64.b64decode(entry["auth"], validate=True).decode().partition(":")
    except (
        OSError,
        orjson.JSONDecodeError,
        AttributeError,
        KeyError,
        TypeError,
        binascii.Error,
        UnicodeDecodeError,
    ) as error:
        raise InvalidInput(
            f"registry credentials {config}: not a docker config.json with auths ({type(error).__name__})"
        ) from None
    return user, password


def _host(text: str) -> str:
    return urlsplit(text).netloc if "://" in text else text.split("/", maxsplit=1)[0]
