"""The HTTP shell that every service wears: authentication, body limit, request ids, security headers, RFC 7807 errors.

``install`` puts it around a FastAPI app. It is one plain ASGI layer, because the gateway's hot path pays for each. Order:
headers and request id, then who is calling (before a byte of the body is read), then the body limit while reading. A route
that exists but has no ``Rule`` is refused, so that a forgotten rule is noticed and never an open door.
"""

from __future__ import annotations

import base64
import re
import uuid
from collections.abc import Sequence
from http.cookies import CookieError, SimpleCookie

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kubernaut_ray.errors import KubernautError
from kubernaut_ray.kube.client import UserInfo
from serve_apps import problem
from serve_apps.access import Gate, KubeGate, Rule
from serve_apps.problem import Problem

__all__ = ["Gate", "KubeGate", "Problem", "Rule", "install", "user_of"]

METHODS = ("DELETE", "GET", "PATCH", "POST", "PUT")
OPEN_PATHS = frozenset({"/health", "/healthz", "/ready", "/metrics"})
TRUSTED_TRANSPORT = UserInfo("system:unauthenticated")
"""The user of every request when an app was installed without a gate (in-process callers only)."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
SECURITY_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "x-xss-protection": "1; mode=block",
    "strict-transport-security": "max-age=31536000; includeSubDomains",
    "referrer-policy": "no-referrer",
}

log = structlog.get_logger(__name__)


def install(
    app: FastAPI,
    *,
    service: str,
    gate: Gate | None,
    rules: Sequence[Rule],
    max_body_bytes: int,
    cookie: str = "",
    open_paths: Sequence[str] = (),
    login_path: str = "",
    content_security_policy: str = "default-src 'none'",
    basic: bool = False,
    cache_control: str = "",
) -> None:
    """Wear the shell.

    ``rules`` are tried in order, the first match decides. ``open_paths`` adds to the paths that need no token (a path ending
    in ``/`` opens everything below it). ``cookie`` names a cookie that may carry the token instead of the header; with
    ``login_path`` a browser without a token is sent there instead of being told 401. ``basic`` takes the token also as the
    password of HTTP basic authentication, whatever the user name, for senders that know only a URL. Not where browsers go:
    they keep such a password and send it unasked. ``cache_control`` is the Cache-Control of answers that have none of their own.
    """
    for kind in (HTTPException, RequestValidationError, KubernautError):
        app.add_exception_handler(kind, _answer)
    app.add_middleware(
        _Shell,
        router=app,
        service=service,
        gate=gate,
        rules=tuple(rules),
        max_body_bytes=max_body_bytes,
        cookie=cookie,
        open_paths=OPEN_PATHS | frozenset(open_paths),
        login_path=login_path,
        content_security_policy=content_security_policy,
        basic=basic,
        cache_control=cache_control,
    )


def user_of(request: Request) -> UserInfo:
    """Return who makes this request, as the gate established it."""
    user: UserInfo = request.state.user
    return user


async def _answer(request: Request, error: Exception) -> Response:
    answer = problem.of(error)
    if answer is None:
        raise error
    if answer.status == 405:
        answer.headers = {"Allow": _allowed(request)}
    return answer.response(instance=request.url.path, request_id=request.state.request_id)


def _allowed(request: Request) -> str:
    """Return every method of this path: the router tells only those of the first route that it finds."""
    return ", ".join(
        method
        for method in METHODS
        if any(r.matches({**request.scope, "method": method})[0] is Match.FULL for r in request.app.routes)
    )


class _Shell:
    def __init__(
        self,
        app: ASGIApp,
        *,
        router: FastAPI,
        service: str,
        gate: Gate | None,
        rules: tuple[Rule, ...],
        max_body_bytes: int,
        cookie: str,
        open_paths: frozenset[str],
        login_path: str,
        content_security_policy: str,
        basic: bool,
        cache_control: str,
    ) -> None:
        self.app, self._router, self._service = app, router, service
        self._gate, self._rules, self._limit = gate, rules, max_body_bytes
        self._cookie, self._login_path, self._basic = cookie, login_path, basic
        self._open = frozenset(p for p in open_paths if not p.endswith("/"))
        self._open_below = tuple(p for p in open_paths if p.endswith("/"))
        headers = {**SECURITY_HEADERS, "content-security-policy": content_security_policy}
        if cache_control:
            headers["cache-control"] = cache_control
        self._headers = [(k.encode(), v.encode()) for k, v in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})  # No service has one, and none gets in by accident.
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        sent = headers.get("x-request-id", "")
        request_id = sent if _REQUEST_ID.fullmatch(sent) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        answering = False

        async def dress(message: Message) -> None:
            nonlocal answering
            if message["type"] == "http.response.start":
                answering = True
                out = MutableHeaders(raw=message.setdefault("headers", []))
                message["headers"] = [
                    *out.raw,
                    *((k, v) for k, v in self._headers if k.decode() not in out),
                    (b"x-request-id", request_id.encode()),
                ]
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id, service=self._service):
            try:
                redirect = await self._admit(scope, headers)
                if redirect is not None:
                    await redirect(scope, receive, dress)
                    return
                await self.app(scope, self._limited(headers, receive), dress)
            except Exception as error:
                answer = problem.of(error)
                if answer is None:
                    log.exception("http.internal_error", method=scope["method"], path=scope["path"])
                    answer = Problem(500, detail=f"{self._service} failed; its log has the cause under this request_id")
                if answering:
                    raise
                await answer.response(instance=scope["path"], request_id=request_id)(scope, receive, dress)

    async def _admit(self, scope: Scope, headers: Headers) -> Response | None:
        """Set the request's user or raise 401/403. Returns a redirect for a browser that has to log in."""
        path = path_below_root(scope)
        scope["state"]["user"] = TRUSTED_TRANSPORT
        if path in self._open or path.startswith(self._open_below) or self._gate is None:
            return None
        token = bearer(headers, basic=self._basic) or self._from_cookie(headers)
        user = await self._gate.authenticate(token) if token else None
        if user is None:
            if self._login_path and "text/html" in headers.get("accept", ""):
                return Response(status_code=303, headers={"location": scope.get("root_path", "") + self._login_path})
            raise problem.unauthenticated(token, basic=self._basic)
        scope["state"]["user"] = user
        rule = next((r for r in self._rules if r.matches(scope["method"], path)), None)
        if rule is None:
            if any(route.matches(scope)[0] is Match.FULL for route in self._router.routes):
                raise Problem(403, detail=f"{scope['method']} {path} is not open to anybody")
            return None  # The router says 404 or 405.
        if not await self._gate.authorize(user, rule.verb, rule.resource):
            raise problem.forbidden(user.username, rule.verb, rule.resource)
        return None

    def _from_cookie(self, headers: Headers) -> str:
        if not self._cookie or "cookie" not in headers:
            return ""
        try:
            morsel = SimpleCookie(headers["cookie"]).get(self._cookie)
        except CookieError:
            return ""
        return morsel.value if morsel else ""

    def _limited(self, headers: Headers, receive: Receive) -> Receive:
        declared = headers.get("content-length", "0")
        if declared.isdecimal() and int(declared) > self._limit:
            raise problem.too_large(self._limit)
        taken = 0

        async def limited() -> Message:
            nonlocal taken
            message = await receive()
            if message["type"] == "http.request":
                taken += len(message.get("body", b""))
                if taken > self._limit:
                    raise problem.too_large(self._limit)
            return message

        return limited


def bearer(headers: Headers, *, basic: bool) -> str:
    """Return the token that a request carries, empty when there is none."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    match scheme.lower():
        case "bearer":
            return token.strip()
        case "basic" if basic:
            try:
                _, _, password = base64.b64decode(token.strip(), validate=True).decode().partition(":")
            except ValueError:
                return ""
            return password
        case _:
            return ""


def path_below_root(scope: Scope) -> str:
    """Return the path as the app's routes see it; servers put the mount point into ``root_path`` and ``path`` alike."""
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    if root and path.startswith(root) and (len(path) == len(root) or path[len(root)] == "/"):
        return path[len(root) :] or "/"
    return path
