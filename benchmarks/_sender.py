"""An open-loop sender, a process of its own: each request leaves at its time, whether or not earlier ones were answered.

``_load.py`` starts it and talks to it: it reads a plan, says ``ready``, gets the moment to begin on standard input, prints its
counts as a line of JSON every half second, and writes what became of each request at the end. It retries as Alertmanager
does: on 5xx and on connection errors, never on 4xx. It knows nothing of Kubernaut, and no more of HTTP than a webhook needs.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import random
import ssl
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import httptools
import orjson
import uvloop

FIRST_WAIT = 0.5
GROWTH = 1.5
SPREAD = 0.5
LONGEST_WAIT = 60.0
PROGRESS_SECONDS = 0.5
REFUSAL_BYTES = 1000

Answer = tuple[int, bytes]
NO_ANSWER: Answer = (0, b"")


def backoff(failed: int, draw: float) -> float:
    """Return the seconds from the start of the ``failed``-th attempt, the first being 1, to the start of the next one.

    As Alertmanager: 0.5 s growing by 1.5 up to a minute, each spread by half (``draw`` is uniform in 0 to 1). Without the
    spread, retries fall 0.5, 1.25, 2.4, 4.1 and 6.6 s after the first attempt.
    """
    wait = min(FIRST_WAIT * GROWTH ** (failed - 1), LONGEST_WAIT)
    return wait * (1 - SPREAD + 2 * SPREAD * draw)


def repeats(status: int) -> bool:
    """Tell whether Alertmanager sends again after this status; 0 stands for no answer at all."""
    return status == 0 or status >= 500


@dataclass(frozen=True, slots=True)
class Door:
    """Where requests go, taken apart once."""

    host: str
    port: int
    tls: ssl.SSLContext | None
    head: bytes
    """The request head up to the length of the body."""

    @classmethod
    def of(cls, url: str, token: str) -> Door:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or parts.hostname is None:
            raise SystemExit(f"{url!r} is no http or https URL")
        secure = parts.scheme == "https"
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        lines = [
            f"POST {path} HTTP/1.1",
            f"Host: {parts.netloc.rpartition('@')[2]}",
            "User-Agent: zero-loss",
            "Content-Type: application/json",
            *([f"Authorization: Bearer {token}"] if token else []),
            "Content-Length: ",
        ]
        tls = ssl.create_default_context() if secure else None
        return cls(parts.hostname, parts.port or (443 if secure else 80), tls, "\r\n".join(lines).encode())

    def request(self, body: bytes) -> bytes:
        return b"%b%d\r\n\r\n%b" % (self.head, len(body), body)


class Channel(asyncio.Protocol):
    """One keep-alive connection that carries one request at a time."""

    def __init__(self) -> None:
        self.open = False
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[Answer] | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._body: list[bytes] = []
        self._until_end = True
        """No header said where the answer ends, so the end of the connection does."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport, self.open = cast("asyncio.Transport", transport), True

    def send(self, request: bytes) -> asyncio.Future[Answer]:
        """Write a request; the future ends with its answer, or with ``ConnectionError``."""
        assert self._transport is not None
        self._waiting = asyncio.get_running_loop().create_future()
        self._parser, self._body, self._until_end = httptools.HttpResponseParser(self), [], True
        self._transport.write(request)
        return self._waiting

    def close(self) -> None:
        self.open = False
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._parser is None:
            self.close()  # Nobody asked.
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(f"not HTTP: {error}")

    def on_header(self, name: bytes, _: bytes) -> None:
        if name.lower() in {b"content-length", b"transfer-encoding"}:
            self._until_end = False

    def on_body(self, part: bytes) -> None:
        self._body.append(part)

    def on_message_complete(self) -> None:
        assert self._parser is not None
        status, keep = self._parser.get_status_code(), self._parser.should_keep_alive()
        self._parser = None
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result((status, b"".join(self._body)))
        if not keep:
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        if exc is None and self._parser is not None and self._until_end and self._parser.get_status_code():
            self.on_message_complete()
        self._fail("the connection was lost")

    def _fail(self, why: str) -> None:
        self._parser = None
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(ConnectionError(why))
        self.close()


@dataclass(slots=True)
class Counts:
    sent: int = 0
    answered: int = 0
    acknowledged: int = 0


class Sender:
    """Sends the shots of a plan. ``records`` has, for each, what ``_load.Sent`` holds."""

    def __init__(self, door: Door, *, connections: int, attempt_timeout: float, give_up: float, seed: int) -> None:
        self._door = door
        self._slots = asyncio.Semaphore(connections)
        self._idle: collections.deque[Channel] = collections.deque()
        self._attempt_timeout, self._give_up = attempt_timeout, give_up
        self._random = random.Random(seed)
        self.counts = Counts()
        self.records: dict[int, list[object]] = {}
        self.refusals: dict[int, str] = {}
        """The first answer of each status that is not 2xx."""

    async def run(self, bodies: list[bytes], shots: list[tuple[float, int]], start: float) -> None:
        """Send everything at its time; returns when the last one is answered or given up."""
        requests = [self._door.request(body) for body in bodies]
        async with asyncio.TaskGroup() as tasks:
            for place, (at, body) in enumerate(shots):
                wait = start + at - time.monotonic()
                if wait > 0:
                    await asyncio.sleep(wait)
                elif place % 64 == 0:
                    await asyncio.sleep(0)  # Behind the schedule: let what was started get on.
                tasks.create_task(self._deliver(place, requests[body], start, at))
        for channel in self._idle:
            channel.close()

    async def _deliver(self, place: int, request: bytes, start: float, at: float) -> None:
        self.counts.sent += 1
        first, statuses = time.monotonic(), list[int]()
        while True:
            began = time.monotonic()
            status, answer = await self._attempt(request)
            statuses.append(status)
            if not 200 <= status < 300:
                self.refusals.setdefault(status, answer[:REFUSAL_BYTES].decode(errors="replace"))
            now = time.monotonic()
            again = began + backoff(len(statuses), self._random.random())
            if not repeats(status) or max(again, now) - first > self._give_up:
                break
            await asyncio.sleep(max(0.0, again - now))
        self.counts.answered += 1
        taken = 200 <= status < 300
        self.counts.acknowledged += taken
        text = answer.decode(errors="replace") if taken else ""
        self.records[place] = [at, first - start, now - start, statuses, text]

    async def _attempt(self, request: bytes) -> Answer:
        async with self._slots:
            channel: Channel | None = None
            try:
                async with asyncio.timeout(self._attempt_timeout):
                    channel = await self._channel()
                    answer = await channel.send(request)
            except (OSError, TimeoutError):
                if channel is not None:
                    channel.close()
                return NO_ANSWER
            if channel.open:
                self._idle.append(channel)
            return answer

    async def _channel(self) -> Channel:
        while self._idle:
            channel = self._idle.pop()
            if channel.open:
                return channel
        _, channel = await asyncio.get_running_loop().create_connection(
            Channel, self._door.host, self._door.port, ssl=self._door.tls
        )
        return channel


async def _main(options: argparse.Namespace) -> None:
    plan = orjson.loads(options.plan.read_bytes())
    bodies = [body.encode() for body in plan["bodies"]]
    shots = [(float(at), int(body)) for at, body in plan["shots"]]
    token = options.token_file.read_text().strip() if options.token_file else ""
    sender = Sender(
        Door.of(options.url, token),
        connections=options.connections,
        attempt_timeout=options.attempt_timeout,
        give_up=options.give_up,
        seed=options.seed,
    )
    print("ready", flush=True)
    start = float(await asyncio.to_thread(sys.stdin.readline))
    running = asyncio.create_task(sender.run(bodies, shots, start))
    while not running.done():
        await asyncio.wait({running}, timeout=PROGRESS_SECONDS)
        print(orjson.dumps(sender.counts).decode(), flush=True)
    running.result()
    records = [sender.records[place] for place in range(len(shots))]
    told = {"records": records, "refusals": sender.refusals}
    options.results.write_bytes(orjson.dumps(told, option=orjson.OPT_NON_STR_KEYS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plan", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--url", required=True)
    parser.add_argument("--token-file", type=Path)
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--attempt-timeout", type=float, required=True)
    parser.add_argument("--give-up", type=float, required=True)
    parser.add_argument("--seed", type=int, required=True)
    uvloop.run(_main(parser.parse_args()))


if __name__ == "__main__":
    main()
