"""Tells audit events in batches as fast as they are taken: a closed loop, and a process of its own.

``audit.py`` starts it, ``python _teller.py --url … --seconds …``. Each connection tells its next batch when the last one is
stored, and tells again what was not answered or refused for a passing reason, as ``AuditWriter`` does. At the end it prints
a line of JSON: how many events were acknowledged (those numbered from 0), within how many seconds, and each batch's wait.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import sys
import time
from pathlib import Path

import orjson
import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks._sender import NO_ANSWER, Answer, Channel, Door
from benchmarks._stories import Stories
from kubernaut_ray.clock import utcnow

ANSWER_TIMEOUT = 30.0
PAUSE = 0.1
GIVE_UP = 60.0


class Teller:
    def __init__(self, door: Door, stories: Stories, batch: int) -> None:
        self._door, self._stories, self._batch = door, stories, batch
        self._numbers = itertools.count()
        self.waits_ms: list[float] = []
        self.retried = 0
        self.last = 0.0
        """The moment of the last acknowledgement."""

    async def run(self, deadline: float) -> None:
        """One connection, until the deadline and the answer to what it was telling then."""
        channel: Channel | None = None
        while time.monotonic() < deadline:
            request = self._door.request(self._stories.batch(next(self._numbers) * self._batch, self._batch, utcnow()))
            began = time.monotonic()
            while True:
                if channel is None or not channel.open:
                    channel = await self._connected()
                status, answer = await self._ask(channel, request)
                if status == 201:
                    break
                if 400 <= status < 500 or time.monotonic() - began > GIVE_UP:
                    raise SystemExit(f"a batch was refused, {status}: {answer[:500].decode(errors='replace')}")
                self.retried += 1
                await asyncio.sleep(PAUSE)
            self.last = time.monotonic()
            self.waits_ms.append(1000 * (self.last - began))

    async def _connected(self) -> Channel | None:
        try:
            loop = asyncio.get_running_loop()
            _, channel = await loop.create_connection(Channel, self._door.host, self._door.port, ssl=self._door.tls)
        except OSError:
            return None
        return channel

    async def _ask(self, channel: Channel | None, request: bytes) -> Answer:
        if channel is None:
            return NO_ANSWER
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                return await channel.send(request)
        except (OSError, TimeoutError):
            channel.close()
            return NO_ANSWER


async def _main(options: argparse.Namespace) -> None:
    token = options.token_file.read_text().strip() if options.token_file else ""
    teller = Teller(Door.of(options.url, token), Stories(options.who), options.batch)
    began, used = time.monotonic(), time.process_time()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(options.connections):
            tasks.create_task(teller.run(began + options.seconds))
    told = {
        "events": len(teller.waits_ms) * options.batch,
        "seconds": teller.last - began,
        "retried": teller.retried,
        "cpu_seconds": time.process_time() - used,
        "waits_ms": teller.waits_ms,
    }
    print(orjson.dumps(told).decode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--token-file", type=Path)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--who", type=int, default=1)
    uvloop.run(_main(parser.parse_args()))


if __name__ == "__main__":
    main()
