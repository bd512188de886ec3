"""The gateway's client: what each answer means to whoever sends a signal."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from kubernaut_ray.clients.gateway import EVENT_PATH, Gateway
from kubernaut_ray.errors import InvalidInput, Retryable
from tests.serving import serving


def answering(status: int, body: bytes, **headers: str) -> Starlette:
    async def take(_: Request) -> Response:
        return Response(body, status, headers)

    return Starlette(routes=[Route(EVENT_PATH, take, methods=["POST"])])


@pytest.mark.parametrize("status", [200, 201, 202, 207])
async def test_taken(status: int) -> None:
    """Every 2xx is an acknowledgement."""
    async with serving(answering(status, b"{}")) as url, Gateway(url, lambda: "t") as gateway:
        await gateway.send_event(b"{}")


@pytest.mark.parametrize("status", [400, 413, 415, 422])
async def test_refused_for_good(status: int) -> None:
    """The event itself is wrong; the problem's detail is told."""
    async with serving(answering(status, b'{"detail": "no kind"}')) as url, Gateway(url, lambda: "t") as gateway:
        with pytest.raises(InvalidInput, match=f"{status} no kind"):
            await gateway.send_event(b"{}")


@pytest.mark.parametrize(
    ("status", "header", "after"),
    [
        (503, "7", 7.0),
        (503, "100000", 300.0),
        (503, "Wed, 21 Oct 2026 07:28:00 GMT", None),
        (503, "", None),
        (429, "1", 1.0),
        (500, "", None),
        (401, "", None),
        (403, "", None),
        (404, "", None),
        (302, "", None),
    ],
)
async def test_to_be_tried_again(status: int, header: str, after: float | None) -> None:
    """Not the event's fault: the gateway says when, if it says so in seconds; no token goes elsewhere by redirect."""
    headers = {"retry-after": header} if header else {}
    app = answering(status, b"<html>", **headers, location="http://127.0.0.1:9/")
    async with serving(app) as url, Gateway(url, lambda: "s3cret") as gateway:
        with pytest.raises(Retryable) as caught:
            await gateway.send_event(b"{}")
    assert caught.value.after == after
    assert "s3cret" not in str(caught.value)


async def test_nobody_there() -> None:
    """A refused connection is as passing as a 503."""
    async with Gateway("http://127.0.0.1:9", lambda: "t") as gateway:
        with pytest.raises(Retryable, match="no answer"):
            await gateway.send_event(b"{}")
