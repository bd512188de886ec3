"""The rounds of the proof: send a storm, kill meanwhile, reconcile; and once more with everything at the end.

``zero_loss.py`` says what is sent and to whom, and shows what came of it. Nothing here knows what is put to the proof.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import _alerts, _reconcile
from benchmarks._load import Patience, Senders, Sent, percentile
from benchmarks._reconcile import Claim, Thing, Uncounted, Verdict
from benchmarks._subjects import Arrived, Subject
from kubernaut_ray import clock

REVIEW_SECONDS = 1.0
COUNT_SECONDS = 4.0
"""So long the counts may take to be written, before what they lack is called uncounted."""
FLUSH_SECONDS = 1.5
"""So long after it was acknowledged an occurrence is counted, when nothing is killed; the gateway's interval is 0.5 s."""
NAMED = 20
"""So many ids of a round are written down with all that is known of them."""
OUTAGE_SECONDS = 10.0
"""So long after its death the API server may still keep the gateway from writing counts down."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What is done in all. ``kills`` and ``shape`` are of one round; in every ``fold_every``-th all alerts have one name."""

    rounds: int
    kills: int
    fold_every: int
    patience: Patience
    shape: _alerts.Shape
    seed: int


@dataclass(frozen=True, slots=True)
class Kill:
    at: float
    part: str


@dataclass(slots=True)
class Round:
    """One round: what was sent, killed, claimed and found. Times are seconds since ``zero``, but for the claims' Unix times."""

    number: int
    zero: float
    """When the first round began, in Unix seconds."""
    began: float
    one_name: bool
    ids: frozenset[str]
    contents: Sequence[Sequence[str]]
    sent: Sequence[Sent]
    kills: Sequence[Kill]
    reopened: int
    refusals: Mapping[int, str]
    claims: Sequence[Claim]
    verdict: Verdict = field(default_factory=Verdict)
    uncounted: Uncounted = field(default_factory=Uncounted)
    folded: int = 0
    things: Sequence[Thing] = ()

    def judge(self, arrived: Arrived) -> None:
        """Look for this round's claims; what was once missed stays missed."""
        self.things = mine = [thing for thing in arrived.things if thing.id in self.ids]
        found = _reconcile.reconcile(self.claims, mine)
        self.verdict = Verdict(
            max(self.verdict.lost, found.lost, key=len),
            tuple(sorted({*self.verdict.doubled, *found.doubled})),
            tuple(sorted({*self.verdict.twice, *found.twice})),
        )
        self.uncounted = _reconcile.uncounted(self.claims, arrived.counts, memory_lost(self.kills, self.zero))
        self.folded = sum(thing.member for thing in mine)

    @property
    def alerts(self) -> int:
        return sum(len(self.contents[sent.body]) for sent in self.sent)

    def evidence(self) -> dict[str, dict[str, Any]]:
        """For each id that something is wrong with: what was claimed and not found, and all that exists, in Unix seconds."""
        wrong = {claim.id for claim in self.verdict.lost} | {*self.verdict.doubled, *self.verdict.twice}
        return {
            one: {
                "lost": [asdict(claim) for claim in self.verdict.lost if claim.id == one],
                "exists": [asdict(thing) for thing in self.things if thing.id == one],
            }
            for one in sorted(wrong)[:NAMED]
        }

    def to_json(self) -> dict[str, Any]:
        waits = [sent.milliseconds for sent in self.sent if sent.acknowledged]
        return {
            "round": self.number,
            "one_name": self.one_name,
            "requests": len(self.sent),
            "sent": self.alerts,
            "acknowledged": len(self.claims),
            "lost": len(self.verdict.lost),
            "doubled": len(self.verdict.doubled),
            "twice": len(self.verdict.twice),
            "uncounted": self.uncounted.missing,
            "uncounted_unexplained": self.uncounted.unexplained,
            "folded": self.folded,
            "reopened": self.reopened,
            "retried": sum(sent.retried for sent in self.sent),
            "failed_attempts": dict(
                Counter(f"{status or 'no answer'}" for sent in self.sent for status in sent.statuses[:-1])
            ),
            "refusals": {str(status): text for status, text in self.refusals.items() if text},
            "p50_ms": percentile(waits, 50),
            "p99_ms": percentile(waits, 99),
            "kills": [asdict(kill) for kill in self.kills],
        }


class Proof:
    """Runs the rounds against one subject."""

    def __init__(self, subject: Subject, trial: Trial, folder: Path, console: Console) -> None:
        self._subject, self._trial, self._folder, self._console = subject, trial, folder, console
        self._deck_dice = random.Random(trial.seed)
        self._tag = uuid.uuid4().hex[:6]  # Not of the seed: a tool may still hold what an earlier run sent.
        self._zero, self._unix_zero = time.monotonic(), time.time()
        self._deck: list[str] = []

    async def run(self) -> list[Round]:
        rounds = []
        for number in range(1, self._trial.rounds + 1):
            done = await self._round(number)
            rounds.append(done)
            self._tell(done)
        # What one round wrote, the kills of later ones must not have taken. Counts get the time to be written.
        until = time.monotonic() + COUNT_SECONDS
        while True:
            arrived = await self._subject.arrived()
            for done in rounds:
                done.judge(arrived)
            if time.monotonic() > until or not any(done.uncounted.missing for done in rounds):
                break
            await asyncio.sleep(1)
        return rounds

    async def _round(self, number: int) -> Round:
        one_name = number % self._trial.fold_every == 0
        shape = replace(self._trial.shape, one_name=one_name, started=clock.rfc3339(clock.utcnow()))
        storm = _alerts.storm(f"zl{self._tag}-{number}", shape, self._dice(number, "storm"))
        await self._subject.recovered()
        async with Senders(
            storm.plans,
            self._subject.doors(),
            self._folder,
            patience=self._trial.patience,
            seed=self._trial.seed + number,
        ) as senders:
            start = senders.begin()
            sending = asyncio.create_task(senders.end())
            killing = asyncio.create_task(self._kill(start, shape.seconds, self._dice(number, "kills")))
            reviewing = asyncio.create_task(self._review(sorted(storm.ids), sending, self._dice(number, "reviews")))
            with self._console.status("") as status:
                while not sending.done():
                    now = senders.progress
                    status.update(
                        f"round {number}/{self._trial.rounds}: {now.sent} sent, {now.acknowledged} acknowledged, "
                        f"{now.sent - now.answered} waiting"
                    )
                    await asyncio.wait({sending}, timeout=0.25)
            sent = [one for plan in sending.result() for one in plan]
            kills, reopened = await killing, await reviewing
        began = start - self._zero
        claims = [
            claim
            for one in sent
            for claim in _reconcile.claims(
                storm.contents[one.body], one.status, one.answer, round(self._unix_zero + began + one.answered, 3)
            )
        ]
        done = Round(
            number,
            self._unix_zero,
            began,
            one_name,
            storm.ids,
            storm.contents,
            sent,
            kills,
            reopened,
            senders.refusals,
            claims,
        )
        await self._judge(done)
        return done

    async def _judge(self, done: Round) -> None:
        """Reconcile as soon as what was acknowledged must be there."""
        ended = time.monotonic()
        while True:
            arrived = await self._subject.arrived()
            late = time.monotonic() - ended
            if late >= self._subject.settle or not _reconcile.reconcile(done.claims, arrived.things).lost:
                break
            await asyncio.sleep(0.3)
        done.judge(arrived)

    def _dice(self, number: int, what: str) -> random.Random:
        """Dice of their own for each purpose, so that one that is cast oftener this time does not change the others."""
        return random.Random(f"{self._trial.seed}/{number}/{what}")

    async def _kill(self, start: float, seconds: float, dice: random.Random) -> list[Kill]:
        kills = []
        count = self._trial.kills if self._subject.parts else 0
        for at in sorted(dice.uniform(0, seconds) for _ in range(count)):
            await asyncio.sleep(start + at - time.monotonic())
            part = self._draw()
            while not (what := await self._subject.kill(part, dice)):
                await asyncio.sleep(0.05)  # It was killed a moment ago and is not back yet.
            kills.append(Kill(time.monotonic() - self._zero, part))
            self._console.print(f"  [dim]+{time.monotonic() - start:4.1f} s  kill -9 {what}[/]", highlight=False)
        return kills

    def _draw(self) -> str:
        if not self._deck:
            self._deck = list(self._subject.parts)
            self._deck_dice.shuffle(self._deck)
        return self._deck.pop()

    async def _review(self, ids: Sequence[str], sending: asyncio.Task[Any], dice: random.Random) -> int:
        reopened = 0
        while not sending.done():
            await asyncio.wait({sending}, timeout=REVIEW_SECONDS)
            reopened += await self._subject.reopen(ids, dice)
        return reopened

    def _tell(self, done: Round) -> None:
        told = done.to_json()
        self._console.print(
            f"round {done.number}/{self._trial.rounds}: {told['sent']:,} alerts in {told['requests']:,} requests, "
            f"{told['acknowledged']:,} acknowledged, {told['retried']:,} requests retried, p99 {told['p99_ms']:,.0f} ms, "
            f"lost {told['lost']}, doubled {told['doubled']}",
            highlight=False,
            soft_wrap=True,
        )


def memory_lost(kills: Sequence[Kill], zero: float = 0.0) -> list[tuple[float, float]]:
    """Return the spans of time whose occurrences a gateway may have had in memory only when it was killed.

    The kills are counted from ``zero``.
    """
    spans = []
    for gateway in (kill.at for kill in kills if kill.part == "gateway"):
        unwritten = [
            kill.at for kill in kills if kill.part == "API server" and 0 <= gateway - kill.at <= OUTAGE_SECONDS
        ]
        spans.append((zero + min([gateway, *unwritten]) - FLUSH_SECONDS, zero + gateway + FLUSH_SECONDS))
    return spans
