"""The application: authenticate, authorize, route, answer. Everything that is refused leaves here as ``v1.Status``."""

from __future__ import annotations

import functools
import re

import orjson
import structlog

from kubernaut_ray.kube.embedded import discovery, requests, status
from kubernaut_ray.kube.embedded.admission import Admission
from kubernaut_ray.kube.embedded.authn import AUTHENTICATED, Account, Authenticator, User
from kubernaut_ray.kube.embedded.handlers import Answer, Handlers
from kubernaut_ray.kube.embedded.http1 import Exchange
from kubernaut_ray.kube.embedded.kinds import Kind, Registry
from kubernaut_ray.kube.embedded.objects import Objects
from kubernaut_ray.kube.embedded.openapi import OpenApi
from kubernaut_ray.kube.embedded.rbac import Access, Authorizer, denial
from kubernaut_ray.kube.embedded.requests import Impersonation, Request
from kubernaut_ray.kube.embedded.reviews import Reviews
from kubernaut_ray.kube.embedded.status import ApiStatus, Obj
from kubernaut_ray.kube.embedded.subresources import Subresources
from kubernaut_ray.kube.embedded.watching import Watch

OPEN_PATHS = frozenset({"/healthz", "/livez", "/readyz", "/version"})
"""Paths that need no token, as the default ``system:public-info-viewer`` role grants in a cluster."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_log = structlog.get_logger(__name__)


class App:
    """One instance serves one store."""

    def __init__(
        self,
        objects: Objects,
        registry: Registry,
        authenticator: Authenticator,
        authorizer: Authorizer,
        admission: Admission,
        *,
        address: str,
    ) -> None:
        self._objects, self._registry, self._address = objects, registry, address
        self._authenticator, self._authorizer = authenticator, authorizer
        self._handlers = Handlers(objects, admission)
        self._reviews = Reviews(authenticator, authorizer)
        self._subresources = Subresources(objects, authenticator)
        self._openapi = OpenApi(registry)

    async def __call__(self, exchange: Exchange) -> None:
        request = requests.parse(exchange)
        try:
            user = self._authenticate(request)
            if request.target is not None and request.watching and not request.target.subresource:
                await self._watch(request, user, exchange)
                return
            answer = await self._answer(request, user)
        except ApiStatus as error:
            answer = await self._refusal(error)
        except ConnectionError:
            return
        except RecursionError:
            answer = await self._refusal(status.bad_request("the object is nested too deeply"))
        _respond(exchange, answer, request)

    async def _refusal(self, error: ApiStatus) -> Answer:
        # A refusal tells of state too (a name is taken, an object is gone), so it waits for the commit as well.
        try:
            await self._objects.store.settled()
        except ApiStatus as failed:
            error = failed
        return Answer(orjson.dumps(error.body()), error.code, headers=error.headers)

    def _authenticate(self, request: Request) -> User | None:
        """Return who asks; ``None`` is anonymous, which only the open paths allow."""
        token = request.token
        if not token:
            if request.path.rstrip("/") in OPEN_PATHS:
                return None
            raise status.unauthorized()
        user = self._authenticator.user(token)
        if user is None:
            raise status.unauthorized()
        return user if request.impersonated is None else self._impersonate(user, request.impersonated)

    def _impersonate(self, user: User, wanted: Impersonation) -> User:
        """Return the identity that the user asks to be taken for, if it may be all of it."""
        name, groups = wanted.name, wanted.groups
        if not name:
            raise status.bad_request("requested groups, a uid or extra fields without impersonating a user")
        implied: tuple[str, ...] = (AUTHENTICATED,)
        account = name.removeprefix("system:serviceaccount:").split(":")
        if name.startswith("system:serviceaccount:") and len(account) == 2:
            self._authorize(
                user, Access("impersonate", resource="serviceaccounts", namespace=account[0], name=account[1])
            )
            implied = Account(account[0], account[1], "").user.groups
            groups = groups or implied
        else:
            self._authorize(user, Access("impersonate", resource="users", name=name))
        for group in groups:
            if group not in implied:
                self._authorize(user, Access("impersonate", resource="groups", name=group))
        group = "authentication.k8s.io"
        if wanted.uid:
            self._authorize(user, Access("impersonate", group, "uids", name=wanted.uid))
        for key, values in wanted.extra:
            for value in values:
                self._authorize(user, Access("impersonate", group, "userextras", key, name=value))
        return User(name, wanted.uid, tuple(dict.fromkeys((*groups, AUTHENTICATED))), wanted.extra)

    def _authorize(self, user: User | None, access: Access) -> None:
        if user is None:
            return
        allowed, _ = self._authorizer.allowed(user, access)
        if not allowed:
            if access.path:
                raise ApiStatus(403, "Forbidden", f"forbidden: {denial(user, access)}", details={})
            raise status.forbidden(access.resource, access.group, access.name, denial(user, access))

    async def _answer(self, request: Request, user: User | None) -> Answer:
        target = request.target
        if target is None:
            self._authorize(user, Access(verb=request.verb, path=request.path))
            return self._path(request)
        kind, user = self._resolve(request, user)
        if self._reviews.answers(kind) and request.method == "POST" and not target.name:
            body = await request.object()
            return Answer(orjson.dumps(self._reviews.answer(kind, body, user, target.namespace)), 201)
        if target.subresource and not (target.subresource == "status" and kind.status):
            return await self._subresources.answer(kind, target, request)
        verb = request.verb
        if verb not in kind.verbs:
            raise status.method_not_allowed(kind.plural, kind.group, request.method)
        match verb:
            case "get":
                return await self._handlers.get(kind, request)
            case "list":
                return await self._handlers.list_(kind, request)
            case "create":
                return await self._handlers.create(kind, request, user)
            case "update" if target.name:
                return await self._handlers.update(kind, request, user)
            case "patch" if target.name:
                return await self._handlers.patch(kind, request, user)
            case "delete" if not target.subresource:
                return await self._handlers.delete(kind, request, user)
            case "deletecollection":
                return await self._handlers.delete_collection(kind, request, user)
            case _:
                raise status.method_not_allowed(kind.plural, kind.group, request.method)

    def _resolve(self, request: Request, user: User | None) -> tuple[Kind, User]:
        """Find the kind and check that the user may."""
        target = request.target
        if target is None or user is None:
            raise status.unauthorized()
        namespace = target.namespace or (target.name if (target.group, target.resource) == ("", "namespaces") else "")
        access = Access(request.verb, target.group, target.resource, target.subresource, namespace, target.name)
        self._authorize(user, access)
        kind = self._registry.find(target.group, target.version, target.resource)
        if kind is None or (target.namespace and not kind.namespaced) or (
            target.name and kind.namespaced and not target.namespace
        ):  # fmt: skip
            raise status.no_such_path()
        return kind, user

    async def _watch(self, request: Request, user: User | None, exchange: Exchange) -> None:
        kind, _ = self._resolve(request, user)
        if "watch" not in kind.verbs:
            raise status.method_not_allowed(kind.plural, kind.group, "WATCH")
        watch = Watch(self._objects.store, kind, request)
        await watch.open()
        exchange.on_gone = watch.end
        try:
            if exchange.gone:
                return
            exchange.begin(200, _head("application/json"))
            async for chunk in watch.lines():
                await exchange.send(chunk)
            exchange.end()
        finally:
            watch.close()

    def _path(self, request: Request) -> Answer:
        """Answer the paths that are no resources."""
        if request.method not in ("GET", "HEAD"):
            raise status.no_such_path()
        path = request.path.rstrip("/") or "/"
        if path in ("/healthz", "/livez", "/readyz"):
            if self._objects.store.fault is not None:
                raise status.internal("the store cannot commit")
            return Answer(b"ok", content_type="text/plain; charset=utf-8")
        document = self._document(path, request)
        if isinstance(document, bytes):
            return Answer(document)
        if document is None:
            raise status.no_such_path()
        if document.get("kind") == "APIGroupDiscoveryList":
            return Answer(
                orjson.dumps(document),
                content_type="application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
            )
        return Answer(orjson.dumps(document))

    def _document(self, path: str, request: Request) -> Obj | bytes | None:
        parts = path.strip("/").split("/")
        match parts:
            case ["version"]:
                return discovery.VERSION
            case ["api" | "apis"] if request.accepts().view == "APIGroupDiscoveryList":
                return discovery.aggregated(self._registry, core=path == "/api")
            case ["api"]:
                return discovery.core_versions(self._address)
            case ["apis"]:
                return discovery.groups(self._registry)
            case ["api", version]:
                return discovery.resources(self._registry, "", version)
            case ["apis", group]:
                return discovery.group(self._registry, group)
            case ["apis", group, version]:
                return discovery.resources(self._registry, group, version)
            case ["openapi", "v3"]:
                return self._openapi.index()
            case ["openapi", "v3", *rest]:
                return self._openapi.document("/".join(rest))
            case [""]:
                return {"paths": ["/api", "/apis", "/healthz", "/livez", "/openapi/v3", "/readyz", "/version"]}
            case _:
                return None


@functools.cache
def _head(content_type: str) -> bytes:
    return f"content-type: {content_type}\r\ncache-control: no-cache, private\r\n".encode()


def _respond(exchange: Exchange, answer: Answer, request: Request) -> None:
    head = _head(answer.content_type)
    for name, value in answer.headers.items():
        head += f"{name.lower()}: {value}\r\n".encode()
    for warning in request.warnings:
        # What it quotes may come from the request, and must not end the line.
        text = _CONTROL.sub(" ", warning).replace("\\", "\\\\").replace('"', '\\"')
        head += b'warning: 299 - "%b"\r\n' % text.encode("ascii", "replace")
    exchange.answer(answer.code, head, answer.body)
