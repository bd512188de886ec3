"""One HTTP request, understood: its path, verb, parameters, accepted representation and body.

Knows HTTP and the Kubernetes URL scheme and nothing of objects.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote

import orjson
import yaml

from kubernaut_ray.kube.embedded import protobuf, status
from kubernaut_ray.kube.embedded.http1 import BodyTooLarge, Exchange
from kubernaut_ray.kube.embedded.objects import Options
from kubernaut_ray.kube.embedded.status import Obj

BODY_LIMIT = 3 * 1024 * 1024
PROTOBUF = "application/vnd.kubernetes.protobuf"
_JSON = ("application/json", "application/yaml")
_PATCHES = {
    "application/json-patch+json": "json",
    "application/merge-patch+json": "merge",
    "application/strategic-merge-patch+json": "strategic",
    "application/apply-patch+yaml": "apply",
}
_VERBS = {"GET": "get", "HEAD": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


@dataclass(frozen=True, slots=True)
class Target:
    """What a resource path names."""

    group: str
    version: str
    resource: str
    namespace: str = ""
    name: str = ""
    subresource: str = ""


@dataclass(frozen=True, slots=True)
class Impersonation:
    """Who the client wants to be taken for (``Impersonate-*`` headers)."""

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()


@dataclass(slots=True)
class Request:
    """A request. ``target`` is ``None`` for non-resource paths."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[bytes, bytes]
    exchange: Exchange
    target: Target | None = None
    warnings: list[str] = field(default_factory=list)
    impersonated: Impersonation | None = None

    def parameter(self, name: str, default: str = "") -> str:
        values = self.query.get(name)
        return values[0] if values else default

    def flag(self, name: str) -> bool:
        return self.parameter(name).lower() in ("true", "1")

    def number(self, name: str) -> int | None:
        text = self.parameter(name)
        if not text:
            return None
        try:
            return int(text)
        except ValueError:
            raise status.bad_request(f"query parameter {name}={text!r} is no number") from None

    @property
    def watching(self) -> bool:
        return self.method == "GET" and self.flag("watch")

    @property
    def verb(self) -> str:
        """The request's verb as authorization names it."""
        target = self.target
        if target is None:
            return self.method.lower()
        if self.method in ("GET", "HEAD"):
            if self.watching:
                return "watch"
            return "get" if target.name else "list"
        if self.method == "DELETE" and not target.name:
            return "deletecollection"
        return _VERBS.get(self.method, self.method.lower())

    @property
    def token(self) -> str:
        scheme, _, value = self.headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        return value.strip() if scheme.lower() == "bearer" else ""

    def options(self) -> Options:
        dry_run = self.query.get("dryRun", [])
        if any(d not in ("", "All") for d in dry_run):
            raise status.bad_request(f'invalid dryRun {dry_run}: the only supported value is "All"')
        validation = self.parameter("fieldValidation", "Warn")
        if validation not in ("Ignore", "Warn", "Strict"):
            raise status.bad_request(f"fieldValidation {validation!r} is not one of Ignore, Warn, Strict")
        agent = self.headers.get(b"user-agent", b"").decode("latin-1").split("/", 1)[0]
        return Options(
            dry_run="All" in dry_run,
            manager=self.parameter("fieldManager") or agent or "unknown",
            field_validation=validation,
            force=self.flag("force"),
            warnings=self.warnings,
        )

    async def body(self) -> bytes:
        """Read the body, refusing more than the limit while it arrives."""
        try:
            return await self.exchange.read(BODY_LIMIT)
        except BodyTooLarge:
            raise status.too_large(BODY_LIMIT) from None

    @property
    def content_type(self) -> str:
        return self.headers.get(b"content-type", b"").decode("latin-1").split(";", 1)[0].strip().lower()

    async def object(self) -> Obj:
        """Read the body as one object. Raises 415 and 400."""
        return self._read(await self.body())

    async def optional_object(self) -> Obj:
        """Read a body that may be empty (DELETE)."""
        data = await self.body()
        return self._read(data) if data.strip() else {}

    def _read(self, data: bytes) -> Obj:
        kind = self.content_type or "application/json"
        if kind == PROTOBUF:
            try:
                return protobuf.decode(data)
            except protobuf.ProtobufError as error:
                refusal = status.unsupported_media_type(kind, _JSON)
                refusal.message += f": {error}"
                raise refusal from None
        if kind not in _JSON:
            raise status.unsupported_media_type(kind, _JSON)
        return _object(data, kind)

    async def patch(self) -> tuple[str, Any]:
        """Read the body as a patch. Returns its type (json, merge, strategic, apply) and value."""
        kind = _PATCHES.get(self.content_type)
        if kind is None:
            await self.body()
            raise status.unsupported_media_type(self.content_type, tuple(_PATCHES))
        data = await self.body()
        return kind, _parsed(data, "application/yaml" if kind == "apply" else "application/json")

    def accepts(self) -> Accepted:
        """Choose the representation: the first one we can make. Raises 406."""
        accepted = _accepted(self.headers.get(b"accept", b"").decode("latin-1"))
        if accepted is None:
            raise status.not_acceptable(("application/json", "application/yaml"))
        return accepted


@dataclass(frozen=True, slots=True)
class Accepted:
    """How the client wants objects: plain JSON, YAML, or a view (``Table``, ``PartialObjectMetadata…``, discovery)."""

    view: str = ""
    yaml: bool = False


PLAIN = Accepted()


@functools.lru_cache(maxsize=64)
def _accepted(header: str) -> Accepted | None:
    if not header or header == "*/*":
        return PLAIN
    for part in header.split(","):
        media, *parameters = (p.strip() for p in part.split(";"))
        given = dict(p.split("=", 1) for p in parameters if "=" in p)
        if media in ("*/*", "application/*", "application/json"):
            as_, group = given.get("as", ""), given.get("g", "")
            if not as_:
                return PLAIN
            if (group, given.get("v")) in (
                ("meta.k8s.io", "v1"),
                ("meta.k8s.io", "v1beta1"),
                ("apidiscovery.k8s.io", "v2"),
            ):
                return Accepted(as_)
        elif media == "application/yaml" and "as" not in given:
            return Accepted(yaml=True)
    return PLAIN if "text/" in header else None


def _parsed(data: bytes, content_type: str) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        if content_type != "application/yaml":
            raise status.bad_request(f"couldn't decode the body as JSON: {error}") from None
    try:
        return yaml.load(data, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 (a safe loader)
    except yaml.YAMLError as error:
        raise status.bad_request(f"couldn't decode the body as YAML: {error}") from None


def _object(data: bytes, content_type: str) -> Obj:
    value = _parsed(data, content_type)
    if not isinstance(value, dict):
        raise status.bad_request("the body must be one object")
    return value


@functools.lru_cache(maxsize=1024)
def parse_target(path: str) -> Target | None:
    """Read a resource path. ``None`` when it names no resource."""
    parts = [unquote(p) for p in path.strip("/").split("/")]
    if parts[0] == "api" and len(parts) > 2:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[0] == "apis" and len(parts) > 3:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return None
    if rest[0] == "watch":
        return None
    if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in ("status", "finalize"):
        namespace, rest = rest[1], rest[2:]
    else:
        namespace = ""
    if len(rest) > 3 or not all(rest):
        return None
    return Target(group, version, rest[0], namespace, *rest[1:])


def parse(exchange: Exchange) -> Request:
    """Understand a request as it came over the wire."""
    url = exchange.url.decode("latin-1")
    if not url.startswith("/"):  # as it is sent to a proxy
        url = "/" + url.partition("://")[2].partition("/")[2]
    path, _, query = url.partition("#")[0].partition("?")
    headers = dict(exchange.headers)
    request = Request(exchange.method, path, _query(query), headers, exchange, parse_target(path))
    if any(k.startswith(b"impersonate-") for k in headers):
        request.impersonated = _impersonation(exchange.headers)
    return request


@functools.lru_cache(maxsize=256)
def _query(text: str) -> Mapping[str, list[str]]:
    return parse_qs(text, keep_blank_values=True) if text else {}


def _impersonation(headers: Iterable[tuple[bytes, bytes]]) -> Impersonation:
    """Read the ``Impersonate-*`` headers; the keys of extra fields are percent-encoded and lower case."""
    name = uid = ""
    groups: list[str] = []
    extra: dict[str, list[str]] = {}
    for key, raw in headers:
        value = raw.decode("latin-1")
        if key == b"impersonate-user":
            name = value
        elif key == b"impersonate-uid":
            uid = value
        elif key == b"impersonate-group":
            groups.append(value)
        elif key.startswith(b"impersonate-extra-"):
            extra.setdefault(unquote(key[len(b"impersonate-extra-") :].decode("latin-1")).lower(), []).append(value)
    return Impersonation(name, uid, tuple(groups), tuple((k, tuple(v)) for k, v in sorted(extra.items())))
