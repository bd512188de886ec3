"""An admission webhook for tests: real HTTPS under a certificate authority of its own, answering as the test says.

A cluster has to reach it: ``KUBERNAUT_TEST_WEBHOOK_HOST`` is the address under which the API server finds this machine.
"""

from __future__ import annotations

import asyncio
import base64
import inspect
import os
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from kubernaut_ray.kube.embedded import pki

HOST = os.environ.get("KUBERNAUT_TEST_WEBHOOK_HOST", "127.0.0.1")
Review = dict[str, Any]
Answer = Callable[[Review], Any]


def allow(**more: Any) -> Answer:
    return lambda _: {"allowed": True, **more}


def deny(message: str = "", **status: Any) -> Answer:
    told = {**({"message": message} if message else {}), **status}
    return lambda _: {"allowed": False, **({"status": told} if told else {})}


def patch(*operations: dict[str, Any]) -> Answer:
    text = base64.b64encode(orjson.dumps(list(operations))).decode()
    return allow(patchType="JSONPatch", patch=text)


class Webhook:
    """``answers`` maps a path to what is answered there; ``asked`` holds every request that came, with its path."""

    def __init__(self, port: int, ca: bytes) -> None:
        self.port = port
        self.ca_bundle = base64.b64encode(ca).decode()
        self.answers: dict[str, Answer] = {}
        self.asked: list[tuple[str, Review]] = []
        self.headers: list[dict[str, str]] = []

    def url(self, path: str) -> str:
        return f"https://{HOST}:{self.port}{path}"

    def client(self, path: str) -> dict[str, Any]:
        return {"url": self.url(path), "caBundle": self.ca_bundle}

    def about(self, path: str) -> list[Review]:
        return [review for at, review in self.asked if at == path]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        review = (await request.json())["request"]
        self.asked.append((request.path, review))
        self.headers.append(dict(request.headers))
        answer = self.answers[request.path](review)
        if inspect.isawaitable(answer):
            answer = await answer
        if isinstance(answer, web.Response):
            return answer
        body = {
            "apiVersion": "admission.k8s.io/v1",
            "kind": "AdmissionReview",
            "response": {"uid": review["uid"], **answer},
        }
        response = web.json_response(body)
        response.force_close()  # an idle TLS connection would outlive the test
        return response


async def slow(_: Review) -> Review:
    """Answer far too late."""
    await asyncio.sleep(20)
    return {"allowed": True}


@asynccontextmanager
async def webhook(folder: Path) -> AsyncIterator[Webhook]:
    """Serve one on a free port."""
    issuer = pki.Issuer(authority="test-webhook-ca", subject="test-webhook", names=("localhost",))
    identity = pki.identity(folder, [HOST], issuer)
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trust.load_cert_chain(identity.certificate, identity.key)
    it = Webhook(0, identity.ca.read_bytes())
    app = web.Application()
    app.router.add_post("/{tail:.*}", it.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "0.0.0.0" if HOST != "127.0.0.1" else HOST, 0, ssl_context=trust)
        await site.start()
        it.port = runner.addresses[0][1]
        yield it
    finally:
        await runner.cleanup()
        await asyncio.sleep(0.05)  # what was closed says goodbye first
