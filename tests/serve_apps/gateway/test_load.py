"""Load: so many at work, so many waiting, the rest told to come back with 503."""

from __future__ import annotations

import asyncio

import pytest

from serve_apps.gateway.load import Load
from serve_apps.problem import Problem


async def hold(load: Load, release: asyncio.Event) -> None:
    async with load.slot():
        await release.wait()


async def test_the_queue_is_bounded() -> None:
    """Two work, one waits, the fourth is turned away; when there is room the waiting one goes on."""
    load, release = Load(concurrent=2, queued=1), asyncio.Event()
    held = [asyncio.create_task(hold(load, release)) for _ in range(3)]
    await asyncio.sleep(0)
    assert (load.working, load.waiting) == (2, 1)

    with pytest.raises(Problem) as refused:
        await hold(load, release)
    assert refused.value.status == 503
    assert refused.value.headers is not None
    assert int(refused.value.headers["Retry-After"]) >= 1
    release.set()
    await asyncio.gather(*held)
    assert (load.working, load.waiting) == (0, 0)


async def test_nobody_waits_for_ever() -> None:
    """A wait that takes too long ends with 503, and the place in the queue is free again."""
    load, release = Load(concurrent=1, queued=5, wait_seconds=0.02), asyncio.Event()
    held = asyncio.create_task(hold(load, release))
    await asyncio.sleep(0)
    with pytest.raises(Problem):
        await hold(load, release)
    assert load.waiting == 0
    release.set()
    await held


async def test_draining() -> None:
    """While draining nothing new is taken, and what is at work is waited for."""
    load, release = Load(concurrent=1, queued=1), asyncio.Event()
    held = asyncio.create_task(hold(load, release))
    await asyncio.sleep(0)
    draining = asyncio.create_task(load.drained(5))
    await asyncio.sleep(0.03)
    assert not draining.done()
    with pytest.raises(Problem, match="shutting down"):
        await hold(load, release)
    release.set()
    await asyncio.gather(held, draining)
