"""Supervised child processes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from kubernaut_ray.errors import Permanent
from kubernaut_ray.runtime.processes import Child

SERVES = "import pathlib,sys,time; pathlib.Path(sys.argv[1]).write_text('up'); time.sleep(60)"


def child(tmp_path: Path, code: str = SERVES, **rest: float) -> Child:
    marker = tmp_path / "marker"

    async def probe() -> None:
        while not marker.exists():
            await asyncio.sleep(0.02)

    return Child("part", [sys.executable, "-c", code, str(marker)], tmp_path / "logs" / "part.log", probe, **rest)


async def test_a_fallen_child_is_started_again(tmp_path: Path) -> None:
    """After ``kill -9`` another process takes over; stop ends it for good."""
    part = child(tmp_path)
    await part.start()
    first = part.pid
    assert first is not None
    (tmp_path / "marker").unlink()
    os.kill(first, signal.SIGKILL)
    async with asyncio.timeout(10):
        while part.pid in (None, first) or not (tmp_path / "marker").exists():
            await asyncio.sleep(0.02)
    assert part.restarts == 1
    await part.stop()
    assert part.pid is None


async def test_a_child_that_ends_at_once_says_why(tmp_path: Path) -> None:
    """The error carries the exit code and the end of the log."""
    part = child(tmp_path, "raise SystemExit('no such port')")
    with pytest.raises(Permanent, match=r"(?s)part ended with code 1.*no such port"):
        await part.start()


async def test_a_child_that_never_serves_is_ended(tmp_path: Path) -> None:
    """A start has a deadline, and nothing is left behind."""
    part = child(tmp_path, "import time; time.sleep(60)", start_timeout=0.3)
    with pytest.raises(Permanent, match="was not ready in 0 s"):
        await part.start()
    assert part.pid is None
