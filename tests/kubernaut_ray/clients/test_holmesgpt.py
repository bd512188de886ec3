"""What the HolmesGPT-API answers, as errors that say what to do. The service itself is tested with this client elsewhere."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from kubernaut_ray.clients.holmesgpt import HolmesGpt
from kubernaut_ray.errors import InvalidInput, KubernautError, Permanent, Retryable


@asynccontextmanager
async def answering(answer: Callable[[], web.Response]) -> AsyncIterator[HolmesGpt]:
    """A server that answers everything alike, and a client of it."""

    async def handle(_: web.Request) -> web.Response:
        return answer()

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with HolmesGpt(f"http://127.0.0.1:{runner.addresses[0][1]}/holmesgpt/", lambda: "secret-token") as client:
            yield client
    finally:
        await runner.cleanup()


def problem(status: int, **headers: str) -> Callable[[], web.Response]:
    return lambda: web.json_response({"title": "no", "detail": "the reason"}, status=status, headers=headers)


CASES: list[tuple[str, Callable[[], web.Response], type[KubernautError], str]] = [
    ("overloaded", problem(429, **{"Retry-After": "7"}), Retryable, "the reason"),
    ("broken", problem(500), Retryable, "500"),
    ("away", problem(503), Retryable, "503"),
    ("bad request", problem(400), InvalidInput, "the reason"),
    ("unprocessable", problem(422), InvalidInput, "the reason"),
    ("unauthorised", problem(401), Permanent, "401"),
    ("forbidden", problem(403), Permanent, "403"),
    ("no JSON", lambda: web.Response(text="<html>"), Retryable, "not JSON"),
    ("another contract", lambda: web.json_response({"id": 1}), Permanent, "one version"),
]


@pytest.mark.parametrize(("answer", "kind", "told"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
async def test_refusals(answer, kind, told):
    """Each status becomes the error whose handling it asks for, with the server's reason and without the token."""
    async with answering(answer) as client:
        with pytest.raises(kind, match=told) as caught:
            await client.get("s/1?x")

    assert type(caught.value) is kind
    assert "secret-token" not in str(caught.value)


async def test_retry_after_is_honoured():
    """The server says when."""
    async with answering(problem(429, **{"Retry-After": "7"})) as client:
        with pytest.raises(Retryable) as caught:
            await client.get("s")

    assert caught.value.after == 7


async def test_an_unknown_session_is_none():
    async with answering(problem(404)) as client:
        assert await client.get("s") is None
