"""The proof against other tools: real servers in processes of their own, some of which lose or double on purpose."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks import zero_loss
from benchmarks._proof import Kill, memory_lost

REPOSITORY = Path(__file__).parent.parent.parent
SHORT = ("--rounds", "1", "--seconds", "1.5", "--rate", "30", "--fingerprints", "60", "--kills", "2", "--seed", "14")
KILL = "until kill -9 $(cat {pid}) 2>/dev/null; do sleep 0.05; done"
"""Two kills may be closer together than the child's second start."""


@contextmanager
def receiver(ledger: Path, fault: str, token: str = "") -> Iterator[str]:
    """Start the careless receiver; yields the URL of its webhook."""
    script = Path(__file__).with_name("careless.py")
    process = subprocess.Popen(
        [sys.executable, str(script), str(ledger), fault, token], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/hook"
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(10)
        process.stdout.close()


def prove(tmp_path: Path, url: str, ledger: Path, *options: str) -> tuple[int, dict[str, Any], str]:
    """Run the benchmark as a person would; returns its exit code, its figures and what it printed."""
    figures = tmp_path / "figures.json"
    command = [
        sys.executable, "benchmarks/zero_loss.py", "--webhook", url, "--count", f"cat {shlex.quote(str(ledger))}",
        "--settle", "2", "--json", str(figures), *SHORT, *options,
    ]  # fmt: skip
    ran = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False)
    return ran.returncode, json.loads(figures.read_text()) if figures.exists() else {}, ran.stdout + ran.stderr


@pytest.mark.parametrize(
    ("fault", "killed", "lost", "doubled"),
    [
        ("none", True, False, False),
        ("loses", False, True, False),
        ("doubles", False, False, True),
        ("acknowledges-first", True, True, False),
        ("refuses", False, False, False),
    ],
)
def test_what_a_tool_does_wrong_is_seen(tmp_path: Path, fault: str, killed: bool, lost: bool, doubled: bool) -> None:
    """One that does nothing wrong passes, through kills and 503s; every other one is found out by what it does."""
    ledger = tmp_path / "ledger"
    with receiver(ledger, fault) as url:
        kill = ("--kill", KILL.format(pid=shlex.quote(f"{ledger}.pid"))) if killed else ()
        code, figures, text = prove(tmp_path, url, ledger, *kill)
    assert figures, text
    assert (figures["lost"] > 0, figures["doubled"] > 0, code) == (lost, doubled, int(lost or doubled)), text
    assert figures["retried"] > 0
    assert (figures["kills"] == {"command": 2}) == killed
    if not killed:
        assert all(one.endswith("7") for one in figures["lost_ids"] + figures["doubled_ids"])
    assert (figures["unacknowledged"] > 0) == (fault == "refuses")
    assert (tmp_path / "figures.png").stat().st_size > 10_000


def test_a_token_is_sent_and_every_alert_can_have_its_own_id(tmp_path: Path) -> None:
    """With --unique there are as many things as alerts."""
    ledger, token = tmp_path / "ledger", tmp_path / "token"
    token.write_text("s3cret\n")
    with receiver(ledger, "none", "s3cret") as url:
        code, figures, text = prove(tmp_path, url, ledger, "--token-file", str(token), "--unique")
    assert code == 0, text
    assert figures["acknowledged"] == figures["fingerprints"] == len(ledger.read_text().splitlines())
    assert "s3cret" not in text


def test_nothing_acknowledged_is_no_proof(tmp_path: Path) -> None:
    """A wrong token must not look like a success."""
    ledger = tmp_path / "ledger"
    with receiver(ledger, "none", "s3cret") as url:
        code, _, text = prove(tmp_path, url, ledger)
    assert code == 1
    assert "proves nothing" in text


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--webhook", "http://127.0.0.1:1/"), "--webhook and --count go together"),
        (("--count", "true"), "--webhook and --count go together"),
        (("--kill", "true"), "are for --webhook"),
        (("--rounds", "0"), "must be above 0"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    options: tuple[str, ...], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is started."""
    with pytest.raises(SystemExit, match="2"):
        zero_loss.options(options)
    assert why in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kills", "spans"),
    [
        ([], []),
        ([("controller", 5.0), ("API server", 6.0)], []),
        ([("gateway", 5.0)], [(3.5, 6.5)]),
        ([("API server", 4.0), ("gateway", 9.0)], [(2.5, 10.5)]),
        ([("gateway", 9.0), ("API server", 9.5)], [(7.5, 10.5)]),
        ([("API server", 4.0), ("gateway", 40.0)], [(38.5, 41.5)]),
    ],
)
def test_only_the_death_of_a_gateway_takes_counts(
    kills: list[tuple[str, float]], spans: list[tuple[float, float]]
) -> None:
    """Those of the last flush interval, and those that a dead API server kept it from writing."""
    assert memory_lost([Kill(at, part) for part, at in kills]) == spans
