"""Child processes that live and die with us: started, watched, started again when they fall, stopped by their id.

The kernel kills them when this process dies (``PR_SET_PDEATHSIG``), so a ``kill -9`` of ``up`` leaves nobody behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from kubernaut_ray.errors import Permanent

_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1
_log = structlog.get_logger()


def die_with_parent() -> None:
    """Ask the kernel for SIGKILL when the parent dies. Runs in the child, between fork and exec."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@dataclass(slots=True)
class Child:
    """One supervised child. ``probe`` returns once the child serves; a child that ends first fails the start."""

    name: str
    command: Sequence[str]
    log_file: Path
    probe: Callable[[], Awaitable[None]]
    start_timeout: float = 30.0
    restarts: int = 0
    _process: asyncio.subprocess.Process | None = None
    _watcher: asyncio.Task[None] | None = None
    _stopping: bool = field(default=False)

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def start(self) -> None:
        """Start and wait until it serves. Raises ``Permanent`` with the end of its log when it does not."""
        await self._spawn()
        self._watcher = asyncio.create_task(self._watch(), name=f"watch {self.name}")

    async def stop(self, grace: float = 10.0) -> None:
        """SIGTERM, then SIGKILL after ``grace`` seconds."""
        self._stopping = True
        if self._watcher is not None:
            self._watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watcher
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), grace)
        except TimeoutError:
            process.kill()
            await process.wait()

    async def _spawn(self) -> None:
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        with self.log_file.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,
            )
        ended = asyncio.create_task(self._process.wait())
        probe = asyncio.create_task(self._probe())
        done, pending = await asyncio.wait(
            {ended, probe}, timeout=self.start_timeout, return_when=asyncio.FIRST_COMPLETED
        )
        for task in pending:
            task.cancel()
        if probe in done:
            probe.result()
            return
        how = (
            f"ended with code {self._process.returncode}"
            if ended in done
            else f"was not ready in {self.start_timeout:.0f} s"
        )
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        raise Permanent(f"{self.name} {how}; the end of {self.log_file}:\n{self._tail()}", reason="StartFailed")

    async def _probe(self) -> None:
        await self.probe()

    async def _watch(self) -> None:
        delay = 0.2
        while not self._stopping:
            if self._process is None:
                return
            code = await self._process.wait()
            _log.warning("child.ended", child=self.name, code=code, restart_in=delay)
            await asyncio.sleep(delay)
            delay = min(delay * 2, 10.0)
            self.restarts += 1
            try:
                await self._spawn()
                delay = 0.2
            except Permanent as error:
                _log.error("child.restart_failed", child=self.name, error=str(error))

    def _tail(self, lines: int = 15) -> str:
        try:
            return "\n".join(self.log_file.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return "(no log)"
