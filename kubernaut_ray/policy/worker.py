"""A thread that owns one compiled bundle, and deadlines for what it evaluates.

rego-cpp cannot be interrupted, so a deadline means: stop waiting, let the thread end by itself, never use it again. The
deadline counts the thread's own CPU time, because on a busy machine wall time would call a good policy slow; a ceiling
in wall time holds in any case.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future

from kubernaut_ray.policy.bundle import Bundle
from kubernaut_ray.policy.interpreter import Compiled
from kubernaut_ray.policy.verdict import Evaluation

WALL_FACTOR = 20.0
WALL_MINIMUM = 2.0
"""Seconds. An evaluation may take ``max(WALL_MINIMUM, WALL_FACTOR × timeout)`` of wall time."""

_Job = tuple[str, str, "Future[Evaluation]"]
_Jobs = queue.SimpleQueue["_Job | None"]


class Worker:
    """Evaluates one thing after another. ``close`` lets the thread end after what it is doing."""

    def __init__(self, bundle: Bundle, entrypoints: Sequence[str]) -> None:
        self._jobs: _Jobs = queue.SimpleQueue()
        self._compiled: Future[None] = Future()
        self._thread = threading.Thread(
            target=_run,
            args=(bundle, tuple(entrypoints), self._jobs, self._compiled),
            name=f"policy-{bundle.sha256[:8]}",
            daemon=True,
        )
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def close(self) -> None:
        self._jobs.put(None)

    async def evaluate(self, entrypoint: str, term: str, timeout: float) -> Evaluation | None:
        """Evaluate, or return ``None`` after ``timeout`` CPU seconds; this worker must then be dropped.

        Compiling does not count. Raises ``DoesNotCompile``.
        """
        await asyncio.shield(asyncio.wrap_future(self._compiled))
        job: Future[Evaluation] = Future()
        used = self._cpu_seconds()
        ceiling = time.monotonic() + max(WALL_MINIMUM, WALL_FACTOR * timeout)
        self._jobs.put((entrypoint, term, job))
        answer = asyncio.wrap_future(job)
        left = timeout
        while not answer.done():
            await asyncio.wait({answer}, timeout=max(left, 0.001))
            if job.done():
                break
            left = timeout - (self._cpu_seconds() - used)
            if left <= 0 or time.monotonic() >= ceiling:
                answer.cancel()
                return None
        return await answer

    def _cpu_seconds(self) -> float:
        """Return the CPU time of the thread, which waits for jobs or works on one; wall time where none is told."""
        identity = self._thread.ident
        if identity is not None and self.alive and hasattr(time, "pthread_getcpuclockid"):
            with contextlib.suppress(OSError):
                return time.clock_gettime(time.pthread_getcpuclockid(identity))
        return time.monotonic()


def _run(bundle: Bundle, entrypoints: tuple[str, ...], jobs: _Jobs, ready: Future[None]) -> None:
    try:
        compiled = Compiled(bundle.modules, entrypoints)
    except Exception as error:  # noqa: BLE001 - it belongs to whoever asks, not to this thread
        ready.set_exception(error)
        return
    ready.set_result(None)
    while (job := jobs.get()) is not None:
        entrypoint, term, answer = job
        if not answer.set_running_or_notify_cancel():
            continue
        try:
            answer.set_result(compiled.evaluate(entrypoint, term))
        except Exception as error:  # noqa: BLE001 - as above
            answer.set_exception(error)
