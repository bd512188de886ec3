"""The audit writer against a small HTTP server that knows events by id, as Data Storage does."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web

from kubernaut_ray.clients.audit_writer import AuditWriter
from kubernaut_ray.contracts.audit import AuditEvent
from kubernaut_ray.crds.enums import AuditCategory
from kubernaut_ray.errors import Permanent

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


def event(number: int, **rest: Any) -> AuditEvent:
    return AuditEvent.fact(
        "gateway.signal.received",
        correlation_id="rr-a",
        category=AuditCategory.GATEWAY,
        now=NOW,
        actor="gateway",
        key=(str(number),),
        event_data={"number": number, **rest},
    )


@dataclass
class Server:
    """Stores by event id; ``answers`` are statuses to give before telling the truth; ``lose`` stores and then fails."""

    stored: dict[str, Any] = field(default_factory=dict)
    order: list[int] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    lose: int = 0
    requests: int = 0
    url: str = ""

    async def batch(self, request: web.Request) -> web.Response:
        self.requests += 1
        self.tokens.append(request.headers["Authorization"])
        events = orjson.loads(await request.read())["events"]
        if self.answers:
            return web.json_response({"detail": "later"}, status=self.answers.pop(0))
        if any(e["event_data"].get("poison") for e in events):
            return web.json_response({"detail": "event_timestamp is too old"}, status=400)
        new = [e for e in events if e["event_id"] not in self.stored]
        self.stored |= {e["event_id"]: e for e in new}
        self.order += [e["event_data"]["number"] for e in new]
        if self.lose:
            self.lose -= 1
            return web.json_response({"detail": "died after commit"}, status=500)
        return web.json_response({"stored": len(new), "duplicates": len(events) - len(new)}, status=201)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    app = web.Application(client_max_size=8 << 20)
    app.router.add_post("/storage/api/v1/audit/events/batch", server.batch)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
    server.url = f"http://127.0.0.1:{port}/storage"
    yield server
    await runner.cleanup()


@pytest.fixture
def writer(server: Server, tmp_path: Path) -> Callable[..., AuditWriter]:
    def make(**rest: Any) -> AuditWriter:
        defaults = {"flush_interval": 0.01, "close_timeout": 5.0, "retry_max": 0.05, "adopt_interval": 0.05}
        return AuditWriter(server.url, lambda: "secret", tmp_path / "spool", "gateway", **{**defaults, **rest})

    return make


async def poll(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


def spooled(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "spool").glob("*.jsonl"))


async def test_delivers_in_order_and_leaves_no_spool(server, writer, tmp_path):
    """Recorded events arrive once, in order, with the token, and nothing stays on disk."""
    async with writer(batch_size=7) as audit:
        for number in range(50):
            await audit.record(event(number))
    assert list(range(50)) == server.order
    assert {"Bearer secret"} == set(server.tokens)
    assert spooled(tmp_path) == []
    assert (audit.counts.recorded, audit.counts.delivered, audit.counts.pending_bytes) == (50, 50, 0)


@pytest.mark.parametrize("status", [500, 503, 429, 401, 404])
async def test_retries_what_may_pass(server, writer, status):
    """A server that is away, busy, or not yet set up costs time and no event."""
    server.answers = [status, status]
    async with writer() as audit:
        await audit.record(event(1))
    assert server.order == [1]
    assert audit.counts.failed_deliveries == 2


async def test_answer_lost_after_commit(server, writer):
    """Events that were stored although the answer got lost are sent again and stored once."""
    server.lose = 1
    async with writer() as audit:
        for number in range(10):
            await audit.record(event(number))
    assert list(range(10)) == server.order
    assert audit.counts.delivered + audit.counts.duplicates >= 10


async def test_poison_is_set_aside(server, writer, tmp_path):
    """One event that the server refuses does not hold up the others and is kept for people."""
    async with writer() as audit:
        for number in range(9):
            await audit.record(event(number, poison=number == 4))
    assert server.order == [0, 1, 2, 3, 5, 6, 7, 8]
    assert audit.counts.rejected == 1
    kept = (tmp_path / "spool" / "rejected" / "gateway.jsonl").read_bytes()
    assert orjson.loads(kept)["event_data"]["number"] == 4


async def test_a_full_disk_does_not_end_the_delivery(server, writer, tmp_path):
    """Where a refused event cannot be set aside, the sender waits and goes on; it does not die with the others unsent."""
    blocked = tmp_path / "spool" / "rejected"
    async with writer() as audit:
        blocked.write_text("no folder can be made here")
        await audit.record(event(0, poison=True))
        async with asyncio.timeout(5):
            await poll(lambda: audit.counts.failed_deliveries > 0)
        blocked.unlink()
        await audit.record(event(1))
        assert await audit.flush(5)
    assert (server.order, audit.counts.rejected) == ([1], 1)


async def test_unreachable_server_leaves_the_spool_to_the_next(server, writer, tmp_path):
    """Closing while Data Storage is away keeps the events; the next writer on the directory delivers them."""
    good, server.url = server.url, "http://127.0.0.1:9/storage"
    async with writer(close_timeout=0.1) as audit:
        await audit.record(event(1))
        await audit.record(event(2))
    assert len(spooled(tmp_path)) == 1
    server.url = good
    async with writer() as heir:
        assert await heir.flush(5)
    assert server.order == [1, 2]
    assert heir.counts.adopted == 1
    assert spooled(tmp_path) == []


async def test_living_owner_keeps_its_spool(server, writer):
    """Two writers on one directory never deliver each other's events while both live."""
    async with writer() as one, writer() as two:
        await one.record(event(1))
        await two.record(event(2))
        assert await one.flush(5)
        assert await two.flush(5)
        await asyncio.sleep(0.15)
        assert (one.counts.adopted, two.counts.adopted) == (0, 0)
    assert {1, 2} == set(server.order)


async def test_record_after_close_is_refused(writer):
    """A closed writer says so instead of dropping the event."""
    async with writer() as audit:
        pass
    with pytest.raises(Permanent, match="not running"):
        await audit.record(event(1))


async def test_large_backlog_rolls_over_to_new_files(server, writer, tmp_path, monkeypatch):
    """A backlog larger than a segment is spread over files, delivered in order, and removed."""
    monkeypatch.setattr("kubernaut_ray.clients.audit_writer.SEGMENT_BYTES", 4096)
    server.answers = [503] * 3
    async with writer(batch_size=10) as audit:
        for number in range(100):
            await audit.record(event(number))
        assert len(spooled(tmp_path)) > 5
    assert list(range(100)) == server.order
    assert spooled(tmp_path) == []


CHILD = """
import asyncio, sys
from datetime import UTC, datetime
from pathlib import Path
from kubernaut_ray.clients.audit_writer import AuditWriter
from kubernaut_ray.contracts.audit import AuditEvent
from kubernaut_ray.crds.enums import AuditCategory

async def main():
    writer = AuditWriter(sys.argv[1], lambda: "t", Path(sys.argv[2]), "child", flush_interval=0.005)
    await writer.start()
    for number in range(1_000_000):
        await writer.record(AuditEvent.fact("gateway.signal.received", correlation_id="rr-a",
            category=AuditCategory.GATEWAY, now=datetime.now(UTC), actor="c", key=(str(number),),
            event_data={"number": number}))
        print(number, flush=True)
        if number % 20 == 0:
            await asyncio.sleep(0.001)

asyncio.run(main())
"""


async def test_kill_nine_loses_nothing_recorded(server, writer, tmp_path):
    """Whatever ``record`` returned for before ``kill -9`` reaches the server exactly once, through an heir that runs."""
    async with writer() as heir:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", CHILD, server.url, str(tmp_path / "spool"), stdout=asyncio.subprocess.PIPE
        )
        assert child.stdout is not None
        said = -1
        while said < 400:
            said = int(await child.stdout.readline())
        child.kill()
        rest, _ = await child.communicate()
        said = max([said, *(int(line) for line in rest.split(b"\n")[:-1])])
        async with asyncio.timeout(10):
            await poll(lambda: heir.counts.adopted == 1)
            assert await heir.flush(5)
    assert set(range(said + 1)) <= set(server.order)
    assert len(server.order) == len(set(server.order))
