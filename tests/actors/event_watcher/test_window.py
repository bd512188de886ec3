"""The window: the position moves over acknowledged events only, in any order of acknowledgement."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from actors.event_watcher.position import Point
from actors.event_watcher.window import Window
from tests.build import NOW


def point(version: int) -> Point:
    return Point(str(version), NOW)


@given(st.lists(st.booleans(), max_size=12), st.randoms(use_true_random=False))
async def test_the_position_never_passes_an_event_under_way(forwarded: list[bool], random) -> None:
    """Whatever the order of acknowledgements: reached is the last point before the first one that is missing."""
    window = Window(100, point(0))
    tickets = {}
    for version, real in enumerate(forwarded, 1):
        if real:
            tickets[version] = await window.take(point(version))
        else:
            window.skip(point(version))
    seen = [int(window.reached.version)]
    order = list(tickets)
    random.shuffle(order)
    for version in order:
        assert int(window.reached.version) == min(tickets) - 1
        window.close(tickets.pop(version))
        seen.append(int(window.reached.version))
        assert len(window) == len(tickets)
    assert seen == sorted(seen)
    assert seen[-1] == len(forwarded)


async def test_who_reads_waits_while_it_is_full() -> None:
    """Room comes from the front only: an event that is stuck stops the reading in the end."""
    window = Window(2, point(0))
    first, second = await window.take(point(1)), await window.take(point(2))
    third = asyncio.ensure_future(window.take(point(3)))
    window.close(second)
    await asyncio.sleep(0.01)
    assert not third.done()
    window.close(first)
    await asyncio.wait_for(third, 1)
    assert window.reached == point(2)


async def test_stretches_without_events_take_no_room() -> None:
    """A thousand bookmarks behind a stuck event are one."""
    window = Window(2, point(0))
    stuck = await window.take(point(1))
    for version in range(2, 1000):
        window.skip(point(version))
    assert len(window._tickets) == 2
    window.close(stuck)
    assert window.reached == point(999)


async def test_an_event_without_a_point_moves_nothing() -> None:
    """Events of a list are in no order; only the end of the list is a position."""
    moves = []
    window = Window(9, point(0), lambda: moves.append(1))
    ticket = await window.take(None)
    window.skip(point(7))
    assert window.reached == point(0)
    window.close(ticket)
    assert window.reached == point(7)
    assert moves == [1]
