"""The work queue: each key once, once more after a change during work, timers, backoff without hot loops."""

from __future__ import annotations

import asyncio

import pytest

from kubernaut_ray.control.decision import Key
from kubernaut_ray.control.queue import EVENT_FLOOR, Closed, WorkQueue

A, B = Key("ns", "a"), Key("ns", "b")


class VirtualTime:
    """Moves the running loop's clock forward by hand, firing what falls due."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop, self.offset, self.real = loop, 0.0, loop.time

    def time(self) -> float:
        return self.real() + self.offset

    async def advance(self, seconds: float) -> None:
        self.offset += seconds
        for _ in range(4):
            await asyncio.sleep(0)


@pytest.fixture
async def time(monkeypatch: pytest.MonkeyPatch) -> VirtualTime:
    virtual = VirtualTime(asyncio.get_running_loop())
    monkeypatch.setattr(virtual.loop, "time", virtual.time)
    return virtual


@pytest.fixture
def queue() -> WorkQueue:
    return WorkQueue(backoff_base=1.0, backoff_max=60.0)


async def test_a_key_added_often_is_worked_on_once(queue: WorkQueue) -> None:
    """Keys are de-duplicated and come in the order of their first addition."""
    for key in (A, B, A, A, B):
        queue.add(key)
    assert [await queue.take(), await queue.take()] == [A, B]
    assert len(queue) == 0


async def test_a_key_added_during_its_work_comes_once_more(queue: WorkQueue) -> None:
    """While a key is worked on nobody else gets it; afterwards it comes once, however often it was added."""
    queue.add(A)
    assert await queue.take() == A
    queue.add(A)
    queue.add(A)
    assert len(queue) == 0
    queue.done(A)
    assert await queue.take() == A
    queue.done(A)
    assert (len(queue), queue.working) == (0, 0)


async def test_takers_wait_and_each_gets_one(queue: WorkQueue) -> None:
    """Waiting workers are woken one a key."""
    takers = [asyncio.create_task(queue.take()) for _ in range(3)]
    await asyncio.sleep(0)
    queue.add(A)
    queue.add(B)
    done, pending = await asyncio.wait(takers, timeout=0.05)
    assert {task.result() for task in done} == {A, B}
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)


async def test_a_cancelled_taker_does_not_swallow_a_key(queue: WorkQueue) -> None:
    """A key that was about to go to a worker that is cancelled goes to the next."""
    first, second = asyncio.create_task(queue.take()), asyncio.create_task(queue.take())
    await asyncio.sleep(0)
    queue.add(A)
    first.cancel()
    assert await asyncio.wait_for(second, 1) == A
    assert first.cancelled()


@pytest.mark.parametrize(
    ("wakes", "expected"),
    [
        pytest.param([10.0, 5.0], 5.0, id="a later call for an earlier time wins"),
        pytest.param([5.0, 10.0], 5.0, id="a later call for a later time is ignored"),
        pytest.param([5.0, 0.0], 0.0, id="at once is earliest"),
    ],
)
async def test_of_two_wakes_the_earlier_wins(
    queue: WorkQueue, time: VirtualTime, wakes: list[float], expected: float
) -> None:
    """One timer a key, the earliest."""
    for delay in wakes:
        queue.wake(A, delay)
    await time.advance(max(0.0, expected - 0.5))
    assert len(queue) == (1 if expected == 0 else 0)
    await time.advance(0.6)
    assert len(queue) == 1


async def test_taking_a_key_clears_its_timer(queue: WorkQueue, time: VirtualTime) -> None:
    """The reconcile says anew when to look again, so an old timer does not fire after it."""
    queue.wake(A, 5.0)
    queue.add(A)
    assert await queue.take() == A
    queue.done(A)
    await time.advance(6.0)
    assert len(queue) == 0


async def test_many_timers_fire_in_order(queue: WorkQueue, time: VirtualTime) -> None:
    """Each key comes at its own time."""
    for index in range(5, 0, -1):
        queue.wake(Key("ns", str(index)), float(index))
    assert queue.waiting == 5
    for index in range(1, 6):
        await time.advance(1.0)
        assert [await queue.take()] == [Key("ns", str(index))]


async def test_backoff_grows_with_jitter_up_to_its_limit(queue: WorkQueue, time: VirtualTime) -> None:
    """1, 2, 4 … seconds, each ±10 %, at most 60; success forgets it."""
    delays = []
    for _ in range(9):
        queue.add(A)
        await time.advance(1000.0)
        await queue.take()
        delays.append(queue.retry(A))
        queue.done(A)
    for delay, expected in zip(delays, [1, 2, 4, 8, 16, 32, 60, 60, 60], strict=True):
        assert expected * 0.9 <= delay <= expected * 1.1
    assert queue.failures(A) == 9
    queue.succeed(A)
    assert 0.9 <= queue.retry(A) <= 1.1


async def test_what_the_failing_side_asks_for_lengthens_the_backoff(queue: WorkQueue) -> None:
    """Retry-After is kept, and a floor too."""
    assert queue.retry(A, after=30.0) >= 27.0
    assert queue.retry(B, floor=60.0, ceiling=900.0) >= 54.0
    assert queue.retry(B, floor=60.0, ceiling=900.0) >= 108.0


async def test_an_event_does_not_shorten_a_backoff_to_nothing(queue: WorkQueue, time: VirtualTime) -> None:
    """A failing object that keeps changing is looked at about once a second, not in a hot loop."""
    queue.add(A)
    await queue.take()
    queue.retry(A, floor=60.0)
    queue.done(A)
    for _ in range(100):
        queue.add(A)
    await time.advance(EVENT_FLOOR / 2)
    assert len(queue) == 0
    await time.advance(EVENT_FLOOR)
    assert await queue.take() == A


async def test_a_forgotten_key_is_gone(queue: WorkQueue, time: VirtualTime) -> None:
    """Neither timer nor failures are left of an object that is gone."""
    queue.retry(A)
    queue.forget(A)
    await time.advance(100.0)
    assert (len(queue), queue.waiting, queue.failures(A)) == (0, 0, 0)


async def test_a_closed_queue_ends_its_takers(queue: WorkQueue) -> None:
    """After close there is no more work, and adding is harmless."""
    taker = asyncio.create_task(queue.take())
    await asyncio.sleep(0)
    queue.wake(A, 0.01)
    queue.close()
    with pytest.raises(Closed):
        await taker
    queue.add(A)
    queue.wake(A, 0.001)
    with pytest.raises(Closed):
        await queue.take()
