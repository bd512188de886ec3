"""One call of an admission webhook over HTTPS: an AdmissionReview out, its answer back, every other end an error.

``clientConfig.url`` only: there is no network of Services here, and a reference to one says so when it is called. The
webhook authenticates us by a token, if somebody gave us one for it, in the form that kube-apiserver takes from the
``kubeConfigFile`` of its admission configuration: a kubeconfig whose users are named after the webhooks' hosts.
"""

from __future__ import annotations

import base64
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import orjson
import structlog
import yaml

from kubernaut_ray.kube.embedded import patches
from kubernaut_ray.kube.embedded.status import ApiStatus, Obj
from kubernaut_ray.kube.embedded.webhooks import Hook

API_VERSION = "admission.k8s.io/v1"
ANSWER_LIMIT = 3 * 1024 * 1024
_log = structlog.get_logger(__name__)


class CallFailed(Exception):
    """The webhook gave no usable answer; the text is kube-apiserver's."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a webhook said."""

    allowed: bool
    status: Mapping[str, Any]
    patch: Any = None
    """The operations of a JSON patch, or ``None``."""
    warnings: tuple[str, ...] = ()


class Credentials:
    """Tokens for webhooks by host, from a kubeconfig file that may come and change while we run."""

    def __init__(self, file: Path) -> None:
        self._file, self._read_at = file, 0
        self._users: dict[str, Mapping[str, Any]] = {}

    def headers(self, url: str) -> dict[str, str]:
        """Return the headers that authenticate us to this webhook. The narrowest user wins: host and port, host, ``*``."""
        self._refresh()
        parts = urlsplit(url)
        host = parts.hostname or ""
        for name in (f"{host}:{parts.port or 443}", host, "*"):
            user = self._users.get(name)
            if user is None:
                continue
            token = user.get("token") or Path(user["tokenFile"]).read_text().strip()
            return {"Authorization": f"Bearer {token}"}
        return {}

    def _refresh(self) -> None:
        try:
            changed = self._file.stat().st_mtime_ns
        except FileNotFoundError:
            self._users, self._read_at = {}, 0
            return
        if changed == self._read_at:
            return
        self._read_at = changed
        try:
            document = yaml.safe_load(self._file.read_text())
            self._users = {u["name"]: u["user"] for u in document["users"] if {"token", "tokenFile"} & set(u["user"])}
        except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
            # Without credentials the webhook refuses us, and says so to whoever asked.
            _log.warning("admission.credentials_unreadable", file=str(self._file), error=type(error).__name__)
            self._users = {}


class Caller:
    """Calls webhooks; holds their connections."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._session: aiohttp.ClientSession | None = None
        self._trust: dict[str, ssl.SSLContext] = {}

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def call(self, hook: Hook, request: Obj) -> Verdict:
        """Ask one webhook. Raises ``CallFailed``."""
        body = orjson.dumps({"kind": "AdmissionReview", "apiVersion": API_VERSION, "request": request})
        url = f"{_address(hook)}?timeout={hook.timeout:.0f}s"
        if hook.service is not None:
            raise CallFailed(
                f'failed to call webhook: Post "{url}": this API server does not resolve Services; use clientConfig.url'
            )
        try:
            async with self._open().post(
                url,
                data=body,
                headers={"Content-Type": "application/json", **self._credentials.headers(url)},
                ssl=self._trusting(hook.ca_bundle),
                timeout=aiohttp.ClientTimeout(total=hook.timeout),
                allow_redirects=False,
            ) as response:
                answer = await response.content.read(ANSWER_LIMIT)
                code = response.status
        except TimeoutError:
            raise CallFailed(f'failed to call webhook: Post "{url}": context deadline exceeded') from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise CallFailed(f'failed to call webhook: Post "{url}": {error}') from error
        if code == 404:
            raise CallFailed("failed to call webhook: the server could not find the requested resource")
        if code != 200:
            raise CallFailed(f"failed to call webhook: the server responded with status code {code}")
        return _read(answer, request["uid"], mutating=hook.mutating)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            # Proxy variables of the environment are for the outside world.
            self._session = aiohttp.ClientSession(trust_env=False, connector=aiohttp.TCPConnector(limit=0))
        return self._session

    def _trusting(self, ca_bundle: str) -> ssl.SSLContext:
        context = self._trust.get(ca_bundle)
        if context is None:
            if len(self._trust) > 64:
                self._trust.clear()
            authorities = base64.b64decode(ca_bundle).decode() if ca_bundle else None
            context = self._trust[ca_bundle] = ssl.create_default_context(cadata=authorities)
        return context


def _address(hook: Hook) -> str:
    if hook.service is None:
        return hook.url
    service = hook.service
    host = f"{service['name']}.{service['namespace']}.svc:{service.get('port', 443)}"
    return f"https://{host}{service.get('path') or '/'}"


def _read(answer: bytes, uid: str, *, mutating: bool) -> Verdict:
    """Read an AdmissionReview as strictly as kube-apiserver does."""
    try:
        review = orjson.loads(answer)
        response = review.get("response")
        given = (review.get("apiVersion"), review.get("kind"))
    except (orjson.JSONDecodeError, AttributeError) as error:
        raise CallFailed(f"failed to call webhook: the answer is no AdmissionReview: {error}") from None
    if given != (API_VERSION, "AdmissionReview"):
        raise CallFailed(
            f"expected webhook response of {API_VERSION}, Kind=AdmissionReview, got {given[0]}, Kind={given[1]}"
        )
    if not isinstance(response, dict):
        raise CallFailed("webhook response was absent")
    if response.get("uid") != uid:
        raise CallFailed(f'expected response.uid="{uid}", got "{response.get("uid", "")}"')
    patch, patch_type = response.get("patch"), response.get("patchType")
    operations = None
    if patch:
        if not mutating:
            raise CallFailed("validating webhook may not return response.patch")
        if not patch_type:
            raise CallFailed("webhook returned response.patch but not response.patchType")
        if patch_type != "JSONPatch":
            raise CallFailed(f'webhook returned invalid response.patchType of "{patch_type}"')
        try:
            operations = orjson.loads(base64.b64decode(patch, validate=True))
        except ValueError as error:
            raise CallFailed(f"the patch cannot be read: {error}") from None
    elif patch_type:
        raise CallFailed("webhook returned response.patchType but not response.patch")
    status, warnings = response.get("status"), response.get("warnings")
    return Verdict(
        response.get("allowed") is True,
        status if isinstance(status, dict) else {},
        operations,
        tuple(str(w) for w in warnings) if isinstance(warnings, list) else (),
    )


def applied(obj: Obj, operations: Any) -> Obj:
    """Return the object after a webhook's JSON patch. Raises ``CallFailed``."""
    try:
        changed = patches.json_patch(obj, operations)
    except ApiStatus as error:
        raise CallFailed(error.message) from error
    if not isinstance(changed, dict) or not isinstance(changed.get("metadata"), dict):
        raise CallFailed("the patch leaves no object")
    return changed
