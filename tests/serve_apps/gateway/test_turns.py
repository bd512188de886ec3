"""Turns: one at a time for a key, in the order of asking, and nothing kept of a key that nobody wants."""

from __future__ import annotations

import asyncio

import pytest

from serve_apps.gateway.turns import Turns


async def test_one_at_a_time_also_between_two_turns() -> None:
    """Who comes just when one leaves and the next has not begun yet waits behind that next one."""
    turns = Turns[str, int]()
    inside = 0
    most = 0
    order: list[int] = []

    async def one(number: int) -> None:
        nonlocal inside, most
        async with turns.turn("A"):
            inside += 1
            most = max(most, inside)
            order.append(number)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            inside -= 1

    tasks = []
    for number in range(40):
        tasks.append(asyncio.create_task(one(number)))
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    assert most == 1
    assert order == list(range(40))
    assert len(turns) == 0


async def test_keys_do_not_wait_for_each_other() -> None:
    """Somebody at one key holds up nobody at another."""
    turns = Turns[str, int]()
    async with turns.turn("A"), asyncio.timeout(1), turns.turn("B"):
        assert len(turns) == 2


async def test_what_is_left_reaches_those_who_waited_and_no_later_one() -> None:
    """A waiter sees what the one before it left; a newcomer at a forgotten key does not."""
    turns = Turns[str, int]()

    async def read() -> int | None:
        async with turns.turn("A") as turn:
            return turn.left

    async with turns.turn("A") as turn:
        waiting = asyncio.create_task(read())
        await asyncio.sleep(0)
        turn.left = 7
    assert await waiting == 7
    assert await read() is None


async def test_a_waiter_that_gives_up_leaves_nothing_behind() -> None:
    """Cancelled while waiting, or raising while at it: the key is free and forgotten."""
    turns = Turns[str, int]()
    async with turns.turn("A"):
        waiting = asyncio.create_task(turns.turn("A").__aenter__())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert len(turns) == 1
    with pytest.raises(ValueError, match="on purpose"):
        async with turns.turn("A"):
            raise ValueError("on purpose")
    assert len(turns) == 0
