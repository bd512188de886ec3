"""Data Storage in a process of its own, over real HTTP: the client's errors, and exactly-once audit through ``kill -9``."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest

from kubernaut_ray.clients.audit_writer import AuditWriter
from kubernaut_ray.clients.data_storage import Conflict, DataStorage, NotFound
from kubernaut_ray.clock import utcnow
from kubernaut_ray.contracts.audit import AuditBatch
from kubernaut_ray.contracts.catalog import RegisterWorkflow, SearchRequest, WorkflowPatch
from kubernaut_ray.contracts.investigation import IncidentRequest, InvestigationSession, SessionState
from kubernaut_ray.crds.enums import WorkflowStatus
from kubernaut_ray.crds.shared import TargetResource
from kubernaut_ray.errors import InvalidInput, Retryable
from tests import build

ROOT = Path(__file__).parents[3]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def running(directory: Path, port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.serve_apps.data_storage.server", str(directory), str(port), cwd=ROOT
    )
    try:
        async with asyncio.timeout(30), aiohttp.ClientSession() as session:
            while True:
                try:
                    async with session.get(f"http://127.0.0.1:{port}/ready") as answer:
                        if answer.status == 200:
                            break
                except aiohttp.ClientError:
                    await asyncio.sleep(0.05)
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def test_client_over_real_http(tmp_path):
    """Every method of the client against the real thing; each refusal arrives as the right kind of error."""
    port = free_port()
    async with running(tmp_path, port), DataStorage(f"http://127.0.0.1:{port}", lambda: "t") as storage:
        assert not (await storage.search(SearchRequest(query="OOMKilled"))).hits
        assert (await storage.workflows()).pagination.total == 0
        assert await storage.workflow("nope") is None
        with pytest.raises(NotFound):
            await storage.patch_workflow("nope", WorkflowPatch(status=WorkflowStatus.ACTIVE))
        with pytest.raises(InvalidInput):
            await storage.register(RegisterWorkflow(container_image="bundles.kubernaut.local/none:1.0.0"))
        with pytest.raises(InvalidInput) as told:
            await storage.store_audit_events(AuditBatch(events=(build.audit_event(now=utcnow() + timedelta(hours=1)),)))
        assert told.value.problems[0][0] == "events[0].event_timestamp"

        request = IncidentRequest(
            incident_id="i", remediation_id="rr-a", signal_name="n", signal_type="t", severity="high",
            target=TargetResource(kind="Pod", name="p"),
        )  # fmt: skip
        session = InvestigationSession(
            session_id="s/1", state=SessionState.PENDING, request=request, created_at=utcnow()
        )
        assert await storage.get_session("s-2") is None
        session = session.model_copy(update={"session_id": "s-1"})
        assert session == await storage.put_session(session)
        with pytest.raises(Conflict):
            await storage.put_session(session)
        assert session == await storage.get_session("s-1")

        await storage.record_execution("w", True, execution_id="a")
        await storage.record_execution("w", False)
        statistics = await storage.execution_statistics(timedelta(hours=1))
        assert (statistics.total, statistics.failed, statistics.failure_rate) == (2, 1, 0.5)
        searches = await storage.audit_events(event_type="workflow.catalog.search_completed", since=timedelta(hours=1))
        assert searches.pagination.total == 1
        assert searches.data == (await storage.timeline("workflow-search")).events


async def test_server_away_is_retryable():
    """Nobody listening is a passing fault."""
    async with DataStorage(f"http://127.0.0.1:{free_port()}", lambda: "t") as storage:
        with pytest.raises(Retryable, match="did not answer"):
            await storage.workflows()


async def test_burst_with_the_server_killed_in_between(tmp_path):
    """Events recorded while Data Storage is killed with ``kill -9`` and comes back are stored once each, in the end."""
    total, port, now = 6_000, free_port(), utcnow()
    url = f"http://127.0.0.1:{port}"
    async with AuditWriter(
        url, lambda: "t", tmp_path / "spool", "test", batch_size=250, flush_interval=0.01, retry_max=0.2
    ) as writer:

        async def record(numbers: range) -> None:
            for n in numbers:
                await writer.record(build.audit_event(n, now=now))
                if n % 50 == 0:
                    await asyncio.sleep(0.001)

        async with running(tmp_path / "data", port) as server:
            telling = asyncio.create_task(record(range(total // 2)))
            async with asyncio.timeout(20):
                while writer.counts.delivered < 500:
                    await asyncio.sleep(0.005)
            server.kill()
            await server.wait()
            await telling
        await record(range(total // 2, total))
        async with running(tmp_path / "data", port):
            assert await writer.flush(60)
            async with DataStorage(url, lambda: "t") as storage:
                page = await storage.audit_events(correlation_id="rr-a", limit=1)
                trail = await storage.audit_state()
    counts = writer.counts
    assert total == page.pagination.total
    assert total == trail.last_sequence
    assert (total, 0, 0) == (counts.recorded, counts.rejected, counts.pending_bytes)
    assert counts.delivered + counts.duplicates >= total
    assert not list((tmp_path / "spool").glob("*.jsonl"))
