"""The sender: it never waits for an answer before the next request, and repeats exactly what Alertmanager repeats."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks._sender import LONGEST_WAIT, Door, Sender, backoff, repeats

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BUSY = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize(
    ("status", "again"),
    [(0, True), (500, True), (502, True), (503, True), (200, False), (202, False), (207, False), (301, False),
     (400, False), (401, False), (413, False), (429, False)],
)  # fmt: skip
def test_what_is_sent_again(status: int, again: bool) -> None:
    """5xx and no answer; never a 4xx, 429 included."""
    assert repeats(status) == again


def test_the_retry_schedule_is_alertmanagers() -> None:
    """Without the spread, retries fall where those of Alertmanager were measured: 0.7, 1.3, 2.5, 3.8 and 5.4 s, by half a wait."""
    moments = [sum(backoff(n, 0.5) for n in range(1, last + 1)) for last in range(1, 6)]
    assert [round(moment, 2) for moment in moments] == [0.5, 1.25, 2.38, 4.06, 6.59]
    for failed, measured in enumerate((0.7, 1.3, 2.5, 3.8, 5.4), start=1):
        least = sum(backoff(n, 0.0) for n in range(1, failed + 1))
        most = sum(backoff(n, 1.0) for n in range(1, failed + 1))
        assert least <= measured <= most


@given(st.integers(1, 200), st.floats(0, 1), st.floats(0, 1))
def test_the_wait_grows_with_the_failures_up_to_a_limit(failed: int, low: float, high: float) -> None:
    """Bounded, never negative, and more spread never shortens it."""
    low, high = sorted((low, high))
    assert 0 < backoff(failed, low) <= backoff(failed, high) <= 1.5 * LONGEST_WAIT
    assert backoff(failed, low) <= backoff(failed + 1, low)


@asynccontextmanager
async def answering(answer: Callable[[int], bytes | None]) -> AsyncIterator[tuple[str, list[float]]]:
    """Serve: ``answer`` gives the bytes for the n-th request, ``None`` to close without any. Yields URL and arrival times."""
    arrived: list[float] = []
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                await reader.readexactly(length)
                arrived.append(time.monotonic())
                said = answer(len(arrived) - 1)
                if said is None:
                    break
                if said == b"slow":
                    await asyncio.sleep(0.5)
                    said = OK
                writer.write(said)
                if b"Connection: close" in said:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook", arrived
    finally:
        server.close()
        for writer in writers:
            writer.close()
        await server.wait_closed()


def sender(url: str, *, give_up: float = 10.0, attempt_timeout: float = 5.0) -> Sender:
    return Sender(Door.of(url, "secret"), connections=64, attempt_timeout=attempt_timeout, give_up=give_up, seed=1)


async def test_slow_answers_delay_no_request() -> None:
    """Twenty requests leave on schedule though each answer takes longer than the whole schedule."""
    async with answering(lambda _: b"slow") as (url, arrived):
        one, start = sender(url), time.monotonic()
        await one.run([b"{}"], [(n * 0.01, 0) for n in range(20)], start)
        assert len(arrived) == 20
        assert max(arrived) - start < 0.5
    assert one.counts.acknowledged == 20


@pytest.mark.parametrize(
    ("why", "first", "statuses"),
    [
        ("taken at once", OK, [200]),
        ("busy", BUSY, [503, 200]),
        ("the connection goes without a word", None, [0, 200]),
        ("half an answer", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\nha", [0, 200]),
        ("no HTTP", b"hello\r\nConnection: close\r\n\r\n", [0, 200]),
        ("in chunks", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n", [200]),
        ("ended by the connection", b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nok", [200]),
        ("too many", b"HTTP/1.1 429 Slow Down\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n", [429]),
        ("not allowed", b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n", [401]),
    ],
)
async def test_each_way_of_answering(why: str, first: bytes | None, statuses: list[int]) -> None:
    """What is not an answer of 2xx to 4xx is sent again, and the record tells every attempt."""
    async with answering(lambda n: first if n == 0 else OK) as (url, arrived):
        one = sender(url)
        await one.run([b"{}"], [(0.0, 0)], time.monotonic())
        assert len(arrived) == len(statuses), why
    _, _, _, told, text = one.records[0]
    assert told == statuses, why
    assert text == ("ok" if statuses[-1] == 200 else ""), why


async def test_nobody_there_is_given_up_in_time() -> None:
    """A refused connection counts as no answer; after its time the sender lets go."""
    async with answering(lambda _: OK) as (url, _):
        pass
    one, start = sender(url, give_up=1.0), time.monotonic()
    await one.run([b"{}"], [(0.0, 0)], start)
    assert time.monotonic() - start < 3
    assert set(one.records[0][3]) == {0}  # type: ignore[call-overload]
    assert one.counts.acknowledged == 0


async def test_an_answer_that_does_not_come_is_no_answer() -> None:
    """The attempt's time is limited; the next one may be luckier."""
    async with answering(lambda n: b"slow" if n == 0 else OK) as (url, _):
        one = sender(url, attempt_timeout=0.1)
        await one.run([b"{}"], [(0.0, 0)], time.monotonic())
    assert one.records[0][3] == [0, 200]
