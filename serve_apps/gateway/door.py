"""The webhooks' door: one plain ASGI layer that takes signals from the socket to the answer.

It stands before the FastAPI app (``Before``), which serves everything else, because the routing, request objects and context
variables of a framework cost more than taking a repeated signal does. The order is that of ``serve_apps.http``: who is
calling, then room, then the body within its limit, then what it says.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import structlog
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from kubernaut_ray.clock import Clock
from kubernaut_ray.crds.enums import SignalOutcome
from kubernaut_ray.settings import GatewaySettings
from serve_apps import problem
from serve_apps.gateway.adapters import PREFIX, Adapter, check_media_type
from serve_apps.gateway.intake import Intake
from serve_apps.gateway.load import Load, Rates
from serve_apps.gateway.located import Located
from serve_apps.gateway.metrics import Metrics
from serve_apps.gateway.outcome import Outcome, http_status, summary
from serve_apps.gateway.repeats import Answer, Repeats
from serve_apps.gateway.signal import Delivery
from serve_apps.http import SECURITY_HEADERS, Gate, Problem, bearer, path_below_root

READ_SECONDS = 30.0
VERB, RESOURCE = "create", "signals"

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_HEADERS = [(k.encode(), v.encode()) for k, v in SECURITY_HEADERS.items()] + [
    (b"content-security-policy", b"default-src 'none'")
]
_JSON = (b"content-type", b"application/json")

log = structlog.get_logger(__name__)


class Before:
    """An ASGI app whose webhooks are taken at the door, and whose other requests go on to ``app``."""

    def __init__(self, app: ASGIApp, *, door: Door) -> None:
        self._app, self._door = app, door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not await self._door.took(scope, receive, send):
            await self._app(scope, receive, send)


class Door:
    def __init__(
        self,
        *,
        intake: Intake,
        adapters: Sequence[Adapter],
        gate: Gate | None,
        load: Load,
        metrics: Metrics,
        settings: GatewaySettings,
        now: Clock,
    ) -> None:
        self._intake, self._gate, self._load = intake, gate, load
        self._metrics, self._settings, self._now = metrics, settings, now
        self._incarnation, self._requests = uuid.uuid4().hex[:16].encode(), itertools.count(1)
        self._routes = {PREFIX + adapter.route: adapter for adapter in adapters}
        self._repeats = {adapter.route: Repeats(intake) for adapter in adapters if adapter.repeats}
        self._rates = Rates(settings.client_requests_per_minute, settings.client_burst)

    async def took(self, scope: Scope, receive: Receive, send: Send) -> bool:
        """Answer the request if it is a webhook's; tells whether it was."""
        if scope["type"] != "http" or scope["method"] != "POST":
            return False
        adapter = self._routes.get(path_below_root(scope))
        if adapter is None:
            return False
        await self._serve(adapter, scope, receive, send)
        return True

    async def _serve(self, adapter: Adapter, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        headers: dict[bytes, bytes] = dict(scope["headers"])
        sent = headers.get(b"x-request-id", b"")
        request_id = (
            sent if sent and _REQUEST_ID.fullmatch(sent) else b"%s-%x" % (self._incarnation, next(self._requests))
        )
        try:
            await self._admit(headers)
            async with self._load.slot():
                status, body = await self._take(adapter, headers, receive, request_id)
        except Exception as error:
            answer = problem.of(error)
            if answer is None:
                log.exception("http.internal_error", path=scope["path"], request_id=request_id.decode())
                answer = Problem(500, detail="gateway failed; its log has the cause under this request_id")
            status = await self._refuse(answer, request_id.decode(), scope, receive, send)
        else:
            extra = [(b"content-length", b"%d" % len(body)), (b"x-request-id", request_id)]
            if status in {400, 503}:
                extra.append((b"content-type", problem.MEDIA_TYPE.encode()))
                if status == 503:
                    extra.append((b"retry-after", b"5"))
            else:
                extra.append(_JSON)
            await send({"type": "http.response.start", "status": status, "headers": [*extra, *_HEADERS]})
            await send({"type": "http.response.body", "body": body})
        self._metrics.answered(adapter.route, status, time.perf_counter() - started)

    async def _refuse(self, answer: Problem, request_id: str, scope: Scope, receive: Receive, send: Send) -> int:
        if answer.status == 503:
            self._metrics.shed()
        response = answer.response(instance=path_below_root(scope), request_id=request_id)
        response.raw_headers += [*_HEADERS, (b"x-request-id", request_id.encode())]
        await response(scope, receive, send)
        return answer.status

    async def _admit(self, headers: Mapping[bytes, bytes]) -> None:
        """Raises 401, 403, or 503 for a client that sends more than its share."""
        if self._gate is None:
            return
        credentials = headers.get(b"authorization", b"")
        token = bearer(Headers({"authorization": credentials.decode("latin-1")}), basic=True) if credentials else ""
        user = await self._gate.authenticate(token) if token else None
        if user is None:
            raise problem.unauthenticated(token, basic=True)
        if not await self._gate.authorize(user, VERB, RESOURCE):
            raise problem.forbidden(user.username, VERB, RESOURCE)
        self._rates.take(user.username)

    async def _take(
        self, adapter: Adapter, headers: Mapping[bytes, bytes], receive: Receive, request_id: bytes
    ) -> Answer:
        check_media_type(adapter, headers.get(b"content-type", b"").decode("latin-1"))
        body = await self._body(headers, receive)
        try:
            # The sender may give up, but what it sent is worked through: it would come again otherwise.
            async with asyncio.timeout(2 * self._settings.kubernetes_timeout):
                repeats = self._repeats.get(adapter.route)
                if repeats is not None and (answer := await repeats.take(body)) is not None:
                    return answer
                with structlog.contextvars.bound_contextvars(request_id=request_id.decode(), service="gateway"):
                    return await self._walk(adapter, headers, body, request_id.decode())
        except TimeoutError:
            raise problem.unavailable("the Kubernetes API is too slow", after=5) from None

    async def _body(self, headers: Mapping[bytes, bytes], receive: Receive) -> bytes:
        limit = self._settings.max_body_bytes
        declared = headers.get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > limit:
            raise problem.too_large(limit)
        parts: list[bytes] = []
        size, more = 0, True
        try:
            # From the first byte on: a client that sends its head only must not keep others out.
            async with asyncio.timeout(READ_SECONDS):
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        gone = "the connection was closed before the body had arrived"
                        raise Problem(400, "client-gone", detail=gone)
                    part: bytes = message.get("body", b"")
                    parts.append(part)
                    size, more = size + len(part), bool(message.get("more_body"))
                    if size > limit:
                        raise problem.too_large(limit)
        except TimeoutError:
            raise Problem(408, "request-timeout", detail=f"the body did not arrive within {READ_SECONDS:g}s") from None
        return b"".join(parts)

    async def _walk(self, adapter: Adapter, headers: Mapping[bytes, bytes], body: bytes, request_id: str) -> Answer:
        names = {k.decode("latin-1"): v.decode("latin-1") for k, v in headers.items()}
        delivery = Delivery(body, names, self._now())
        await adapter.authenticate(delivery)
        parsed = adapter.parse(delivery)
        located: dict[int, Located] = {}
        generation = self._intake.locator.generation
        outcomes = await self._intake.take(parsed, located)
        if (repeats := self._repeats.get(adapter.route)) is not None:
            repeats.learn(body, parsed, located, generation)
        status = http_status(outcomes)
        results = [outcome.to_json() for outcome in outcomes]
        if status in {400, 503}:
            return status, _refusal(status, outcomes, results, PREFIX + adapter.route, request_id)
        answer = results[0] if len(results) == 1 else _listed(results, outcomes)
        return status, orjson.dumps(answer)


def _refusal(
    status: int, outcomes: Sequence[Outcome], results: list[dict[str, Any]], instance: str, request_id: str
) -> bytes:
    """A problem that still lists every outcome: some may have been taken."""
    failed = [o for o in outcomes if o.status is SignalOutcome.FAILED]
    detail = f"{len(failed)} of {len(outcomes)} signals were not taken; the first: {failed[0].message}"
    if status == 503:
        answer = problem.unavailable(detail, after=5)
    else:
        answer = Problem(400, detail=detail, field_errors=[(o.signal or "signal", o.message) for o in failed[:20]])
    body = orjson.loads(answer.response(instance=instance, request_id=request_id).body)
    return orjson.dumps(body | _listed(results, outcomes))


def _listed(results: list[dict[str, Any]], outcomes: Sequence[Outcome]) -> dict[str, Any]:
    return {"results": results, "summary": summary(Counter(outcome.status for outcome in outcomes))}
