"""Load for a benchmark: plans of HTTP requests, the processes that send them, and the figures of what came back.

A plan says which request leaves when; ``Senders`` has it sent by processes of their own (``_sender.py``), so that neither the
load nor its clock is disturbed by what the benchmark does meanwhile. All times are seconds from a common start on the
monotonic clock, which processes of one machine share.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import orjson

from kubernaut_ray.runtime.processes import die_with_parent

START_TIMEOUT = 30.0
LEAD = 0.1
"""Seconds between the word to begin and the first request."""


@dataclass(frozen=True, slots=True)
class Plan:
    """``shots`` are (seconds after the start, index in ``bodies``), earliest first. Bodies are text in UTF-8."""

    bodies: tuple[bytes, ...]
    shots: tuple[tuple[float, int], ...]

    def to_json(self) -> bytes:
        return orjson.dumps({"bodies": [body.decode() for body in self.bodies], "shots": self.shots})


@dataclass(frozen=True, slots=True)
class Target:
    """A webhook; ``token_file`` holds its bearer token and is read anew by each sender."""

    url: str
    token_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a sender waits. With ``give_up`` 0 nothing is sent twice."""

    attempt_timeout: float = 15.0
    give_up: float = 60.0
    """Seconds after the first attempt beyond which there is no further one (Alertmanager: the group's interval)."""
    connections: int = 256


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of one request: the status of each attempt, 0 where there was no answer. ``answer`` is kept of 2xx only."""

    body: int
    scheduled: float
    began: float
    answered: float
    statuses: Sequence[int]
    answer: str

    @property
    def status(self) -> int:
        return self.statuses[-1]

    @property
    def retried(self) -> bool:
        return len(self.statuses) > 1

    @property
    def acknowledged(self) -> bool:
        return 200 <= self.status < 300

    @property
    def milliseconds(self) -> float:
        """From when it was due to its last answer: what a sender that does not wait sees, all retries included."""
        return (self.answered - self.scheduled) * 1000


@dataclass(frozen=True, slots=True)
class Progress:
    sent: int = 0
    answered: int = 0
    acknowledged: int = 0

    def __add__(self, other: Progress) -> Progress:
        return Progress(self.sent + other.sent, self.answered + other.answered, self.acknowledged + other.acknowledged)


class _Process:
    """One sender process."""

    def __init__(self, plan: Plan, target: Target, patience: Patience, folder: Path, number: int, seed: int) -> None:
        self._plan, self._results = folder / f"plan-{number}.json", folder / f"results-{number}.json"
        self._shots = plan.shots
        self._plan.write_bytes(plan.to_json())
        self._command = [
            sys.executable, str(Path(__file__).with_name("_sender.py")),
            "--plan", str(self._plan), "--results", str(self._results), "--url", target.url, "--seed", str(seed),
            "--connections", str(patience.connections), "--attempt-timeout", str(patience.attempt_timeout),
            "--give-up", str(patience.give_up),
            *(("--token-file", str(target.token_file)) if target.token_file else ()),
        ]  # fmt: skip
        self._process: asyncio.subprocess.Process | None = None
        self.progress = Progress()
        self.refusals: dict[int, str] = {}

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            preexec_fn=die_with_parent,
        )
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), START_TIMEOUT)
        if line.strip() != b"ready":
            raise RuntimeError(f"a sender did not start: {line!r}; see its error output")

    def begin(self, start: float) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(f"{start}\n".encode())

    async def end(self) -> list[Sent]:
        assert self._process is not None
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self.progress = Progress(**orjson.loads(line))
        if code := await self._process.wait():
            raise RuntimeError(f"a sender ended with {code}; see its error output")
        told = orjson.loads(self._results.read_bytes())
        self.refusals = {int(status): text for status, text in told["refusals"].items()}
        return [Sent(body, *record) for (_, body), record in zip(self._shots, told["records"], strict=True)]

    async def kill(self) -> None:
        if self._process is None:
            return
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        await self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()


class Senders:
    """Sender processes, one a plan; the n-th plan goes to the n-th target, from the first again when there are fewer.

    ::

        async with Senders(plans, targets, folder) as senders:   # they are ready
            start = senders.begin()
            sent = await senders.end()                           # a list a plan
    """

    def __init__(
        self,
        plans: Sequence[Plan],
        targets: Sequence[Target],
        folder: Path,
        *,
        patience: Patience | None = None,
        seed: int = 0,
    ) -> None:
        self._processes = [
            _Process(plan, targets[n % len(targets)], patience or Patience(), folder, n, seed + n)
            for n, plan in enumerate(plans)
        ]

    async def __aenter__(self) -> Self:
        try:
            await asyncio.gather(*(process.start() for process in self._processes))
        except BaseException:
            await self._kill()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._kill()

    @property
    def progress(self) -> Progress:
        return sum((process.progress for process in self._processes), Progress())

    @property
    def refusals(self) -> dict[int, str]:
        """After the end: what an answer said, for each status that is not 2xx; 0, no answer, said nothing."""
        return {status: text for process in self._processes for status, text in process.refusals.items()}

    def begin(self) -> float:
        """Let them send; returns the start on the monotonic clock."""
        start = time.monotonic() + LEAD
        for process in self._processes:
            process.begin(start)
        return start

    async def end(self) -> list[list[Sent]]:
        """Wait until every request is answered or given up."""
        return list(await asyncio.gather(*(process.end() for process in self._processes)))

    async def _kill(self) -> None:
        await asyncio.gather(*(process.kill() for process in self._processes))


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the nearest-rank percentile, 0 when there are no values."""
    if not values:
        return 0.0
    ranked = sorted(values)
    return ranked[max(0, math.ceil(len(ranked) * percent / 100) - 1)]
