"""The proof that no acknowledged signal is lost and none doubled, while parts of the system are ``kill -9``ed at random.

Each round sends a storm of Alertmanager webhooks from processes of their own, on a schedule that waits for no answer, and
repeats what fails as Alertmanager does. Meanwhile gateway replicas, controllers, the catalog owner and the embedded API server
are killed, and finished incidents reviewed, so that their next alert opens another. Then every alert that was acknowledged
must exist: as a RemediationRequest of its target, or among the members of the one that it was folded into. The exit code
is 1 when one is lost, or doubled: two RemediationRequests of one target open at the same time. Run from the
repository's root:

    python benchmarks/zero_loss.py [--quick] [--json FILE] [--seed N]

Against any other tool, with the same storms:

    python benchmarks/zero_loss.py --webhook URL --count COMMAND [--token-file FILE] [--kill COMMAND]

COMMAND runs in a shell after each round and prints what the tool holds, a line of JSON for each thing: the value of the alert label
``zero_loss_id`` as a string, or an object {"id": …, "created": …, "ended": …} with times in RFC 3339. The label is equal in all
alerts about one thing, so an id on two lines is doubled, unless the one thing ended before the other was created. For a
tool that keeps every alert apart, --unique gives each an id of its own. An answer that is 2xx acknowledges all of its
request's alerts, or those that it lists as taken: {"results": [{"status": "created", "reason": …}, …]}.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import _report
from benchmarks._alerts import Shape
from benchmarks._load import Patience, Target, percentile
from benchmarks._proof import Proof, Round, Trial
from benchmarks._subjects import OtherTool, OwnSystem
from benchmarks._system import System

QUICK = Trial(
    rounds=2,
    kills=3,
    fold_every=1,
    patience=Patience(attempt_timeout=5.0, give_up=6.0),
    shape=Shape(seconds=3.0, rate=20.0, incidents=40),
    seed=0,
)
"""No more than this with ``--quick``."""


def figures(trial: Trial, rounds: Sequence[Round]) -> dict[str, Any]:
    """Sum the rounds up."""
    told = [one.to_json() for one in rounds]
    waits = [sent.milliseconds for one in rounds for sent in one.sent if sent.acknowledged]
    kills = Counter(kill.part for one in rounds for kill in one.kills)
    sums = {
        key: sum(one[key] for one in told)
        for key in (
            "requests", "sent", "acknowledged", "lost", "doubled", "twice", "uncounted", "uncounted_unexplained", "folded", "reopened", "retried",
        )
    }  # fmt: skip
    return {
        "rounds": len(rounds),
        **sums,
        "unacknowledged": sums["sent"] - sums["acknowledged"],
        "fingerprints": sum(len(one.ids) for one in rounds),
        "failed_attempts": dict(sum((Counter(one["failed_attempts"]) for one in told), Counter())),
        "kills": dict(sorted(kills.items())),
        "p50_ms": percentile(waits, 50),
        "p99_ms": percentile(waits, 99),
        "max_ms": max(waits, default=0.0),
        "seed": trial.seed,
        "lost_ids": sorted({claim.id for one in rounds for claim in one.verdict.lost}),
        "doubled_ids": sorted({i for one in rounds for i in one.verdict.doubled}),
        "evidence": [one.evidence() for one in rounds],
        "by_round": told,
    }


def draw(file: Path, rounds: Sequence[Round]) -> None:
    """Draw sent, acknowledged and lost of each round, and how long each request took, with the kills."""
    colours = ("tab:red", "black", "tab:orange", "tab:green")
    with _report.picture(file, 2) as (counts, waits):
        numbers = [one.number for one in rounds]
        counts.bar([n - 0.3 for n in numbers], [one.alerts for one in rounds], 0.3, label="sent", color="tab:gray")
        counts.bar(numbers, [len(one.claims) for one in rounds], 0.3, label="acknowledged", color="tab:blue")
        counts.bar(
            [n + 0.3 for n in numbers], [len(one.verdict.lost) for one in rounds], 0.3, label="lost", color="tab:red"
        )
        lost = sum(len(one.verdict.lost) for one in rounds)
        doubled = sum(len(one.verdict.doubled) for one in rounds)
        counts.set(title=f"Alerts by round: {lost} lost, {doubled} doubled", xlabel="round", ylabel="alerts")
        counts.set_xticks(numbers)
        counts.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize="small")
        taken = [(one.began + s.scheduled, s.milliseconds) for one in rounds for s in one.sent if s.acknowledged]
        waits.scatter(*zip(*taken, strict=True), s=3, alpha=0.4, color="tab:blue") if taken else None
        kills = [kill for one in rounds for kill in one.kills]
        for part, colour in zip(sorted({kill.part for kill in kills}), colours, strict=False):
            for n, kill in enumerate(k for k in kills if k.part == part):
                waits.axvline(kill.at, color=colour, alpha=0.5, lw=0.8, label=f"kill -9 {part}" if n == 0 else None)
        waits.set(title="From due to acknowledged, retries included", xlabel="seconds", ylabel="ms", yscale="log")
        if kills:
            waits.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize="small")


@contextlib.asynccontextmanager
async def own_system(folder: Path, console: Console, *, quick: bool) -> AsyncIterator[OwnSystem]:
    """Bring a system up, and down again."""
    console.print("[dim]bringing a system up[/]")
    system, ready = await asyncio.to_thread(System.started, folder / "data")
    try:
        console.print(f"[dim]ready after {ready:.0f} s[/]", highlight=False)
        subject = await OwnSystem.of(system)
        try:
            yield subject
        finally:
            await subject.close()
    finally:
        await asyncio.to_thread(system.running.kill if quick else system.running.stop)


async def prove(trial: Trial, other: OtherTool | None, console: Console, *, quick: bool) -> list[Round]:
    """Run the rounds against the other tool, or against a system of our own."""
    with tempfile.TemporaryDirectory(prefix="kubernaut-zero-loss-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        if other is not None:
            return await Proof(other, trial, folder, console).run()
        async with own_system(folder, console, quick=quick) as subject:
            return await Proof(subject, trial, folder, console).run()


def options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two short rounds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here, and a PNG beside it")
    parser.add_argument("--rounds", type=int, default=20, help="how many storms (%(default)s)")
    parser.add_argument("--seconds", type=float, default=12.0, help="how long each storm is (%(default)s)")
    parser.add_argument("--rate", type=float, default=25.0, help="webhooks a second, of 1 to 20 alerts (%(default)s)")
    parser.add_argument(
        "--fingerprints", type=int, default=100, help="what a storm is about: so many things (%(default)s)"
    )
    parser.add_argument("--kills", type=int, default=5, help="processes killed in each storm (%(default)s)")
    parser.add_argument(
        "--fold-every",
        type=int,
        default=4,
        metavar="N",
        help="all alerts of every N-th storm have one name (%(default)s)",
    )
    parser.add_argument("--seed", type=int, help="repeat the storms and the kills of an earlier run")
    other = parser.add_argument_group("against another tool")
    other.add_argument("--webhook", metavar="URL", default="", help="send here instead of to a system of our own")
    other.add_argument("--count", metavar="COMMAND", default="", help="prints what arrived, see above")
    other.add_argument("--kill", metavar="COMMAND", default="", help="kills something; run at random moments")
    other.add_argument("--token-file", type=Path, metavar="FILE", help="holds the webhook's bearer token")
    other.add_argument(
        "--settle", type=float, default=5.0, help="seconds for what was acknowledged to show (%(default)s)"
    )
    other.add_argument("--unique", action="store_true", help="no two alerts are about one thing")
    chosen = parser.parse_args(arguments)
    if bool(chosen.webhook) != bool(chosen.count):
        parser.error("--webhook and --count go together")
    if not chosen.webhook and (chosen.token_file or chosen.kill or chosen.unique):
        parser.error("--token-file, --kill and --unique are for --webhook; a system of our own needs none of them")
    if min(chosen.rounds, chosen.seconds, chosen.rate, chosen.fingerprints, chosen.fold_every) <= 0 or chosen.kills < 0:
        parser.error("--rounds, --seconds, --rate, --fingerprints and --fold-every must be above 0, --kills not below")
    return chosen


def main() -> None:
    chosen = options()
    shape = Shape(chosen.seconds, chosen.rate, chosen.fingerprints)
    rounds, kills, patience = chosen.rounds, chosen.kills, Patience()
    if chosen.quick:
        most = QUICK.shape
        shape = Shape(
            min(shape.seconds, most.seconds), min(shape.rate, most.rate), min(shape.incidents, most.incidents)
        )
        rounds, kills, patience = min(rounds, QUICK.rounds), min(kills, QUICK.kills), QUICK.patience
    if chosen.unique:
        shape = replace(shape, incidents=0)
    seed = random.SystemRandom().randrange(2**31) if chosen.seed is None else chosen.seed
    trial = Trial(rounds, kills, chosen.fold_every, patience, shape, seed)
    console = Console()
    console.print(f"seed {trial.seed}", highlight=False)
    other = None
    if chosen.webhook:
        target = Target(chosen.webhook, chosen.token_file)
        other = OtherTool(target, count=chosen.count, kill=chosen.kill, settle=chosen.settle)
    done = asyncio.run(prove(trial, other, console, quick=chosen.quick))
    found = figures(trial, done)
    _report.write_json(chosen.json, found)
    if chosen.json is not None:
        draw(chosen.json.with_suffix(".png"), done)
    console.print(_report.table("Acknowledged against existing", found))
    if not found["acknowledged"]:
        raise SystemExit("nothing was acknowledged, which proves nothing; is the URL right?")
    if found["lost"] or found["doubled"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
