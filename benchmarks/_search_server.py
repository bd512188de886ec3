"""The processes that ``search.py`` measures: the catalog owner, Data Storage's replicas, and the same HTTP layer on pgvector.

    python benchmarks/_search_server.py owner  FOLDER SOCKET
    python benchmarks/_search_server.py ours   FOLDER FD TOKEN SOCKET
    python benchmarks/_search_server.py theirs FOLDER FD TOKEN DSN [NARROW,WIDE] AUDIT_PORT

Data Storage is the product's app, gate and audit writer as they are; only its transport to the owner is a socket instead of
Ray's. The other app wears the same shell, takes the same requests, embeds with the same embedder, spools the same audit
event and answers in the same shape. Both spools are delivered to Data Storage, which keeps what they hold.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import uvicorn
from fastapi import FastAPI
from starlette.responses import Response

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import _pgvector
from benchmarks._synthetic import real_workflows, workflows
from catalog.client import Catalog
from catalog.embed import Lexicon, Remembering
from catalog.owner import Owner
from catalog.search import document_text
from kubernaut_ray.clients.audit_writer import AuditWriter
from kubernaut_ray.clock import utcnow
from kubernaut_ray.contracts.audit import AuditEvent
from kubernaut_ray.contracts.catalog import RegisterWorkflow, SearchRequest, SearchResponse, Workflow, WorkflowPatch
from kubernaut_ray.crds.enums import AuditCategory
from kubernaut_ray.kube.client import UserInfo
from kubernaut_ray.runtime.processes import die_with_parent
from serve_apps.data_storage.app import MAX_BODY_BYTES, RULES, create_app
from serve_apps.data_storage.deps import Deps
from serve_apps.data_storage.metrics import Metrics
from serve_apps.http import KubeGate, install

SEARCH = "/api/v1/workflows/search"
WORKFLOWS = "/api/v1/workflows"
CONNECTIONS = 4


class Numbered:
    """The owner's bundles: ``registry.invalid/number:N`` is the N-th synthetic workflow, with no registry to be asked."""

    def __init__(self) -> None:
        self._real = real_workflows()

    def workflow(self, ref: str) -> tuple[Workflow, Any]:
        return next(workflows(1, self._real, first=int(ref.rpartition(":")[2]))), None


async def serve_owner(folder: Path, path: Path) -> None:
    """Answer ``method payload`` with bytes, each after its length, on a socket."""
    owner = Owner(folder, embedder=Lexicon(), source=Numbered(), now=utcnow)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                method, _, payload = (await _read(reader)).partition(b" ")
                if method == b"snapshot":
                    answer = await asyncio.to_thread(owner.snapshot, int(payload))
                else:
                    answer = await asyncio.wrap_future(owner.call(method.decode(), payload))
                await _write(writer, answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_unix_server(talk, path)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    server.close()
    await asyncio.to_thread(owner.close)


class SocketTransport:
    """Reaches the owner's process, a connection a call, as many at a time as there are callers."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def call(self, method: str, payload: bytes) -> bytes:
        return await self._ask(method.encode() + b" " + payload)

    async def snapshot(self, have: int) -> bytes:
        return await self._ask(b"snapshot %d" % have)

    async def _ask(self, message: bytes) -> bytes:
        reader, writer = self._idle.pop() if self._idle else await asyncio.open_unix_connection(self._path)
        await _write(writer, message)
        answer = await _read(reader)
        self._idle.append((reader, writer))
        return answer


@dataclass(frozen=True, slots=True)
class OneToken:
    """What ``KubeGate`` asks of the Kubernetes client, for one user who may do everything."""

    token: str

    async def review_token(self, token: str) -> UserInfo | None:
        return UserInfo("bench") if token == self.token else None

    async def may(self, user: UserInfo, **_: object) -> bool:
        return user.username == "bench"


def audit_writer(folder: Path, port: int, token: str) -> AuditWriter:
    return AuditWriter(f"http://127.0.0.1:{port}", lambda: token, folder / f"spool-{os.getpid()}", "data-storage")


def ours(folder: Path, port: int, token: str, socket: Path) -> FastAPI:
    audit = audit_writer(folder, port, token)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with audit:
            yield

    gate = KubeGate(OneToken(token))  # type: ignore[arg-type]
    metrics = Metrics()
    catalog = Catalog(metrics.measured(SocketTransport(socket)), metrics.timed(Lexicon()))
    return create_app(Deps(catalog, gate, audit, lifespan=lifespan, metrics=metrics))


def theirs(folder: Path, token: str, dsn: str, settings: Sequence[dict[str, str]], audit_port: int) -> FastAPI:
    import asyncpg

    audit = audit_writer(folder, audit_port, token)
    embedder = Remembering(Lexicon())
    real = real_workflows()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async def as_it_is(_: Any) -> None:
            """Nothing is set on a connection that would have to be set back."""

        app.state.pools = [
            await asyncpg.create_pool(
                dsn, min_size=CONNECTIONS, max_size=CONNECTIONS, init=_pgvector.speak_vectors, reset=as_it_is,
                server_settings=one,
            )
            for one in settings
        ]  # fmt: skip
        async with audit:
            yield
        for pool in app.state.pools:
            await pool.close()

    app = FastAPI(docs_url=None, redoc_url=None, lifespan=lifespan)

    @app.post(SEARCH, response_model=SearchResponse)
    async def search(asked: SearchRequest) -> Response:
        vector = embedder.embed([asked.query])[0]
        sql, values = _pgvector.statement(asked.filters)
        pool = app.state.pools[_pgvector.is_wide(asked.filters)]
        rows = await pool.fetch(sql.format(limit=asked.top_k), vector, *values)
        hits = [
            {"rank": rank, "score": one["score"], "workflow": orjson.Fragment(one["record"])}
            for rank, one in enumerate(rows, start=1)
        ]
        await audit.record(
            AuditEvent.fact(
                "workflow.catalog.search_completed",
                correlation_id=asked.remediation_id[:255] or "workflow-search",
                category=AuditCategory.WORKFLOW,
                now=utcnow(),
                actor="data-storage",
                key=(uuid.uuid4().hex,),
                event_data={
                    "query": asked.query,
                    "filters": asked.filters.to_json(),
                    "results": [
                        {
                            "workflow_id": one["workflow_id"],
                            "workflow_name": one["workflow_name"],
                            "score": one["score"],
                        }
                        for one in rows
                    ],
                },
            )
        )
        return Response(orjson.dumps({"hits": hits, "embedder": embedder.fingerprint}), media_type="application/json")

    @app.post(WORKFLOWS, status_code=201)
    async def register(asked: RegisterWorkflow) -> Response:
        workflow = next(workflows(1, real, first=int(asked.container_image.rpartition(":")[2])))
        row = _pgvector.row(workflow, embedder.embed([document_text(workflow)])[0])
        places = ", ".join(f"${n + 1}" for n in range(len(row)))
        await app.state.pools[0].execute(f"INSERT INTO workflows VALUES ({places}) ON CONFLICT DO NOTHING", *row)
        return Response(orjson.dumps({"workflow_id": workflow.workflow_id}), 201, media_type="application/json")

    @app.patch(WORKFLOWS + "/{workflow_id}")
    async def patch(workflow_id: str, change: WorkflowPatch) -> Response:
        await app.state.pools[0].execute(
            "UPDATE workflows SET offered = $2 WHERE workflow_id = $1", workflow_id, change.status.value == "active"
        )
        return Response(b"{}", media_type="application/json")

    @app.get("/ready")
    async def ready() -> dict[str, str]:
        return {"status": "ready"}

    gate = KubeGate(OneToken(token))  # type: ignore[arg-type]
    install(app, service="pgvector", gate=gate, rules=RULES, max_body_bytes=MAX_BODY_BYTES)
    return app


async def _read(reader: asyncio.StreamReader) -> bytes:
    return await reader.readexactly(int.from_bytes(await reader.readexactly(8), "big"))


async def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(len(data).to_bytes(8, "big"))
    writer.write(data)
    await writer.drain()


def main(kind: str, folder: Path, *arguments: str) -> None:
    die_with_parent()
    if kind == "owner":
        asyncio.run(serve_owner(folder, Path(arguments[0])))
        return
    import socket

    fd, token, *rest = arguments
    # As a socket, not by its number: uvicorn takes a number for a Unix socket and leaves Nagle's algorithm on, 40 ms an answer.
    listening = socket.socket(fileno=int(fd))
    port = listening.getsockname()[1]
    app = (
        ours(folder, port, token, Path(rest[0]))
        if kind == "ours"
        else theirs(folder, token, rest[0], json.loads(rest[1]), int(rest[2]))
    )
    config = uvicorn.Config(app, log_level="warning", access_log=False, loop="uvloop", http="httptools")
    uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
