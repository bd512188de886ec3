"""The writing side of the audit trail: facts go to a local spool first, and from there to Data Storage in batches.

Every service that states facts holds one ``AuditWriter``. The spool is the queue: ``record`` returns once the event's line
is in the spool file, which survives a ``kill -9`` of this process, and memory holds only offsets, so a Data Storage that
is away for hours costs disk and nothing else. What is delivered twice (a crash between the answer and the truncation) is
stored once, because Data Storage knows an event by its id.

Spool files are locked by their owner. A file whose lock is free belongs to a dead process: whoever finds it adopts and
delivers it. Events that Data Storage refuses for good go to ``rejected/`` and are counted; they never block the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import aiohttp
import orjson
import structlog

from kubernaut_ray.clients.spool import SUFFIX, Segment
from kubernaut_ray.contracts.audit import AuditBatchResult, AuditEvent
from kubernaut_ray.errors import KubernautError, Permanent, Retryable

BATCH_PATH = "/api/v1/audit/events/batch"
MAX_BATCH_BYTES = 1 << 20
"""A batch is at most this big, so that it fits the server's body limit whatever the events hold."""
SEGMENT_BYTES = 16 << 20
"""A spool file beyond this is closed for writing, so that disk is freed while a backlog drains."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class AuditCounts:
    """What became of the events. ``adopted`` counts spool files of dead processes, the others count events."""

    recorded: int = 0
    delivered: int = 0
    duplicates: int = 0
    rejected: int = 0
    adopted: int = 0
    failed_deliveries: int = 0
    pending_bytes: int = 0


@dataclass(slots=True)
class AuditWriter:
    """Writes audit events for one component of one process. ``base_url`` is Data Storage's, with its prefix.

    ``token`` gives the bearer token anew at each delivery. Use as an async context manager, or ``start`` and ``close``.
    """

    base_url: str
    token: Callable[[], str]
    spool_dir: Path
    component: str
    batch_size: int = 1000
    flush_interval: float = 0.25
    """Seconds that an event may wait for company."""
    adopt_interval: float = 10.0
    request_timeout: float = 30.0
    close_timeout: float = 30.0
    retry_max: float = 5.0
    _segments: deque[Segment] = field(default_factory=deque, init=False)
    _current: Segment | None = field(default=None, init=False)
    _counts: AuditCounts = field(default=AuditCounts(), init=False)
    """But for what was recorded."""
    _recorded: int = field(default=0, init=False)
    _flushing: int = field(default=0, init=False)
    """How many wait in ``flush``."""
    _session: aiohttp.ClientSession | None = field(default=None, init=False)
    _sender: asyncio.Task[None] | None = field(default=None, init=False)
    _wake: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _idle: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _closing: bool = field(default=False, init=False)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def counts(self) -> AuditCounts:
        return replace(
            self._counts, recorded=self._recorded, pending_bytes=sum(s.size - s.sent for s in self._segments)
        )

    async def start(self) -> None:
        """Open the spool, take over what dead processes left, and begin delivering."""
        self.spool_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._adopt()
        self._open_segment()
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=self.request_timeout))
        self._sender = asyncio.create_task(self._deliver_forever(), name=f"audit-writer-{self.component}")

    async def record(self, event: AuditEvent) -> None:
        """Put the event into the spool. Raises ``Retryable`` when the spool cannot be written (disk full)."""
        if self._current is None or self._closing:
            raise Permanent(f"audit writer of {self.component} is not running", reason="AuditWriterClosed")
        try:
            if self._current.size >= SEGMENT_BYTES:
                self._open_segment()
            self._current.append(event.model_dump_json(exclude_none=True).encode() + b"\n")
        except OSError as error:
            raise Retryable(f"audit spool {self.spool_dir} cannot be written: {error.strerror}") from error
        self._recorded += 1
        self._idle.clear()
        self._wake.set()

    async def flush(self, timeout: float | None = None) -> bool:
        """Wait until everything recorded is stored; ``False`` when ``timeout`` seconds passed before."""
        self._wake.set()
        self._flushing += 1
        try:
            async with asyncio.timeout(timeout):
                await self._idle.wait()
        except TimeoutError:
            return False
        finally:
            self._flushing -= 1
        return True

    async def close(self) -> None:
        """Deliver what is left (within ``close_timeout``), then let go of the spool; what remains is replayed later."""
        if self._sender is None or self._session is None:
            return
        self._closing = True
        if not await self.flush(self.close_timeout):
            log.warning("audit_left_in_spool", component=self.component, pending_bytes=self.counts.pending_bytes)
        self._sender.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._sender
        await self._session.close()
        for segment in self._segments:
            if segment.sent >= segment.size:
                segment.remove()
            else:
                segment.release()
        self._segments.clear()
        self._current = self._sender = self._session = None

    def _open_segment(self) -> None:
        self._current = Segment.create(self.spool_dir, self.component)
        self._segments.append(self._current)

    def _adopt(self) -> None:
        mine = {segment.path for segment in self._segments}
        for path in sorted(self.spool_dir.glob(f"*{SUFFIX}")):
            segment = None if path in mine else Segment.adopt(path)
            if segment is not None:
                self._segments.appendleft(segment)
                self._counts = replace(self._counts, adopted=self._counts.adopted + 1)
                self._idle.clear()
                log.info("audit_spool_adopted", component=self.component, spool=path.name, bytes=segment.size)

    async def _deliver_forever(self) -> None:
        loop = asyncio.get_running_loop()
        next_adoption = loop.time() + self.adopt_interval
        failures = 0
        while True:
            try:
                if loop.time() >= next_adoption:
                    next_adoption = loop.time() + self.adopt_interval
                    self._adopt()
                await self._deliver_all()
                failures = 0
            except (Retryable, OSError) as error:
                # A full or unreadable disk passes too; a sender that died of it would deliver nothing ever after.
                failures += 1
                self._counts = replace(self._counts, failed_deliveries=self._counts.failed_deliveries + 1)
                if failures in {1, 10} or failures % 100 == 0:
                    log.warning("audit_delivery_failed", component=self.component, attempt=failures, error=str(error))
                delay = min(self.retry_max, self.flush_interval * 2 ** min(failures, 10))
                after = error.after if isinstance(error, Retryable) else None
                await asyncio.sleep(after or delay * random.uniform(0.9, 1.1))  # noqa: S311 - jitter
            else:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(next_adoption):
                        await self._wake.wait()
                if not self._closing and self._wake.is_set():
                    await asyncio.sleep(self.flush_interval)
                self._wake.clear()

    async def _deliver_all(self) -> None:
        """Deliver what there is; what comes meanwhile waits for company again, unless somebody waits for it."""
        current, there = self._current, self._current.size if self._current is not None else 0
        while self._segments:
            segment = self._segments[0]
            lines = segment.read_lines(self.batch_size, MAX_BATCH_BYTES)
            if lines and segment is current and segment.sent >= there and not self._flushing:
                return
            if lines:
                await self._deliver(segment, lines)
            elif segment is self._current:
                segment.clear()
                break
            else:
                if segment.sent < segment.size:
                    self._reject(segment.rest(), "torn line")
                self._segments.popleft()
                segment.remove()
        self._idle.set()

    async def _deliver(self, segment: Segment, lines: Sequence[bytes]) -> None:
        """Send these lines; when they are refused, halve until the refused event stands alone and set it aside."""
        try:
            result = await self._post(lines)
        except Permanent as error:
            if len(lines) > 1:
                middle = len(lines) // 2
                await self._deliver(segment, lines[:middle])
                await self._deliver(segment, lines[middle:])
                return
            self._reject(lines[0], str(error))
        else:
            self._counts = replace(
                self._counts,
                delivered=self._counts.delivered + result.stored,
                duplicates=self._counts.duplicates + result.duplicates,
            )
        segment.sent += sum(map(len, lines))

    async def _post(self, lines: Sequence[bytes]) -> AuditBatchResult:
        if self._session is None:
            raise Retryable("the audit writer has no session")
        body = b'{"events":[' + b",".join(line.rstrip(b"\n") for line in lines) + b"]}"
        headers = {"Authorization": f"Bearer {self.token()}", "Content-Type": "application/json"}
        try:
            async with self._session.post(self.base_url + BATCH_PATH, data=body, headers=headers) as answer:
                text = await answer.read()
                if answer.status == 201:
                    return AuditBatchResult.model_validate_json(text)
                raise _refusal(answer.status, text)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise Retryable(f"Data Storage at {self.base_url} did not answer: {type(error).__name__}") from error

    def _reject(self, line: bytes, why: str) -> None:
        folder = self.spool_dir / "rejected"
        folder.mkdir(exist_ok=True, mode=0o700)
        with (folder / f"{self.component}{SUFFIX}").open("ab") as file:
            file.write(line.rstrip(b"\n") + b"\n")
        self._counts = replace(self._counts, rejected=self._counts.rejected + 1)
        log.error("audit_event_rejected", component=self.component, reason=why, kept_in=str(folder))


def _refusal(status: int, body: bytes) -> KubernautError:
    """Only what is wrong with the events themselves is permanent: a wrong token or a missing route is repaired later."""
    try:
        problem = orjson.loads(body)
        detail = str(problem.get("detail") or problem.get("title") or "") if isinstance(problem, dict) else ""
    except orjson.JSONDecodeError:
        detail = ""
    message = f"Data Storage answered {status}: {detail[:500] or 'no detail'}"
    return Permanent(message, reason="AuditEventRefused") if status in {400, 413, 422} else Retryable(message)
