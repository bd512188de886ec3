"""``kubernaut-ray audit`` as people run it, against a trail served over HTTP, and against bundles with nothing running."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import orjson
import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from catalog.bundles import Bundles
from catalog.client import Catalog, InProcess
from catalog.embed import Lexicon
from catalog.ledger.bundle import line, read, sink
from catalog.ledger.finding import Account, Finding, Kind
from catalog.ledger.record import Entry
from catalog.ledger.signing import SigningKey
from catalog.owner import Owner
from kubernaut_ray.cli import app, connection
from kubernaut_ray.cli import audit_view as view
from kubernaut_ray.cli import trail as reading
from kubernaut_ray.cli.connection import CommandError, Exit, out
from kubernaut_ray.errors import Retryable
from serve_apps.data_storage.app import create_app
from serve_apps.data_storage.deps import Deps
from tests import build
from tests.catalog.ledger.owner import TrailOwner
from tests.catalog.ledger.test_verify import edited, rewritten_chain
from tests.catalog.ledger.trail import KEY, Trail, rehashed
from tests.serve_apps.data_storage.test_ledger import Said, Watchdog
from tests.serving import serving

RUN = CliRunner()


@dataclass
class Terminal:
    url: str
    data_dir: Path
    owner: TrailOwner

    async def __call__(self, *arguments: str, code: int = Exit.DONE, token: str = "officer") -> str:
        """Run ``kubernaut-ray audit`` in a thread; returns what it prints on both channels."""
        env = {
            "COLUMNS": "240", "KUBERNAUT_TOKEN": token, "KUBERNAUT_DATA_DIR": str(self.data_dir),
            "KUBERNAUT_DATA_STORAGE_URL": self.url or None,
        }  # fmt: skip
        result = await asyncio.to_thread(RUN.invoke, app, ["audit", *arguments], env=env)
        assert result.exit_code == code, result.output
        return result.output

    async def json(self, *arguments: str, code: int = Exit.DONE) -> Any:
        return orjson.loads(await self(*arguments, "-o", "json", code=code))


def a_trail() -> Trail:
    trail = Trail()
    for number in range(30):
        trail.write(
            f"rr-{number % 3}",
            now=build.NOW + timedelta(minutes=number),
            event_type="gateway.signal.received" if number % 2 else "workflow.run.started",
        )
        if number % 12 == 11:
            trail.seal()
    return trail


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal on which no word is folded, whatever was the width when the console was made."""
    for console in (connection.out, connection.err):
        monkeypatch.setattr(console, "_width", 240)


@pytest.fixture
async def terminal(tmp_path: Path) -> AsyncIterator[Terminal]:
    home = tmp_path / "home"
    home.mkdir()
    (home / "endpoints.json").write_text("{}")
    owner = TrailOwner(a_trail())
    catalog = Catalog(InProcess(owner), Lexicon())
    async with serving(create_app(Deps(catalog, Watchdog(), Said(), now=lambda: build.NOW))) as url:
        yield Terminal(url, home, owner)


async def test_the_trail_on_a_terminal(terminal: Terminal) -> None:
    """Listed with filters, shown as a chain and as one event, in words and as objects."""
    listed = await terminal("list", "--limit", "4")
    assert [listed.index(f"12:{minute}:00.000") for minute in (26, 27, 28, 29)] == sorted(
        listed.index(f"12:{minute}:00.000") for minute in (26, 27, 28, 29)
    )
    assert "The newest 4 of 30" in listed
    page = await terminal.json("list", "--correlation", "rr-1", "--type", "gateway.signal.received")
    assert {"rr-1"} == {event["correlation_id"] for event in page["data"]}
    assert len(page["data"]) == 5
    assert "No events" in await terminal("list", "--correlation", "nobody")

    shown = await terminal("show", "rr-2")
    for words in ("gateway.signal.received", "checkpoint 1", "checkpoint 2", "not yet"):
        assert words in shown
    chain = yaml.safe_load(await terminal("show", "rr-2", "-o", "yaml"))
    assert list(range(1, 11)) == [one["position"] for one in chain["records"]]
    first = chain["records"][0]
    one = await terminal("show", first["event"]["event_id"])
    for words in (first["hash"], "sequence 3, position 1 of its chain", "by checkpoint 1", KEY.key_id, '"number": 3'):
        assert words in one
    assert first == await terminal.json("show", first["event"]["event_id"].upper())


async def test_verify_a_running_system(terminal: Terminal) -> None:
    """Sound: exit code 0 and what was checked."""
    told = await terminal("verify")
    for words in (
        "the whole trail: 30 records in 3 chains, up to sequence 30",
        "Sealed up to sequence 24 by 2 signed checkpoints; 6 records after that",
        f"{KEY.key_id} (3 signatures)",
        "--public-key",
        "Sound",
    ):
        assert words in told
    assert "the chain of rr-1 (10 records)" in await terminal("verify", "--correlation", "rr-1")
    report = await terminal.json("verify")
    assert (
        report["sound"], report["checked"]["records"], report["checked"]["unsealed"], report["findings"]
    ) == (True, 30, 6, [])  # fmt: skip


@pytest.mark.parametrize("scope", [(), ("--correlation", "rr-1")], ids=["the whole trail", "a correlation"])
@pytest.mark.parametrize("deed", ["edited", "removed", "rewritten"])
async def test_tampering_is_named(terminal: Terminal, scope: tuple[str, ...], deed: str) -> None:
    """Exit code 1, and the event that it was done to."""
    trail = terminal.owner.trail
    victim = trail.records[4]
    trail.records[4:5] = {
        "edited": [edited(victim, event_outcome="failure")],
        "removed": [],
        "rewritten": [rehashed(edited(victim, event_outcome="failure"))],
    }[deed]
    told = await terminal("verify", *scope, code=Exit.FAILED)
    assert "Tampered with: 1 finding(s)." in told
    report = await terminal.json("verify", *scope, code=Exit.FAILED)
    assert not report["sound"]
    (found,) = report["findings"]
    assert (found["correlation_id"], found["position"]) == ("rr-1", 2)
    event_id = orjson.loads(bytes(victim.event))["event_id"]
    assert deed == "removed" or event_id == found["event_id"]


async def test_the_end_of_a_chain_is_missed(terminal: Terminal) -> None:
    """One correlation is verified within the whole: its last record is missing, though nothing hangs on it."""
    del terminal.owner.trail.records[28]
    report = await terminal.json("verify", "--correlation", "rr-1", code=Exit.FAILED)
    assert [(found["kind"], found["sequence"]) for found in report["findings"]] == [("removed", 29)]


async def test_what_is_wrong_elsewhere_is_mentioned(terminal: Terminal) -> None:
    """Another incident's tampered event is no finding about this one, and not kept quiet."""
    records = terminal.owner.trail.records
    records[4] = edited(records[4], event_outcome="failure")
    assert "1 finding(s) are about other correlations" in await terminal("verify", "--correlation", "rr-2")
    assert "no event of nobody" in await terminal("verify", "--correlation", "nobody", code=Exit.NOT_FOUND)


@pytest.mark.parametrize("form", ["jsonl", "jsonl.gz", "parquet"])
@pytest.mark.parametrize("scope", [(), ("--correlation", "rr-2"), ("--since", "2026-03-01T12:10:00Z")], ids=str)
async def test_a_bundle_is_verified_with_nothing_running(
    terminal: Terminal, tmp_path: Path, form: str, scope: tuple[str, ...]
) -> None:
    """Exported here, verified there, with the keys that were kept apart; tampered with, it is found out."""
    file, pinned = tmp_path / f"trail.{form}", tmp_path / "pinned.txt"
    told = await terminal("export", str(file), *scope)
    assert f"records to {file}" in told.replace("\n", "")
    pinned.write_text(await terminal("keys"))
    away = Terminal("", tmp_path / "nowhere", terminal.owner)
    sound = await away("verify", str(file), "--public-key", str(pinned))
    assert "Sound" in sound
    assert "among the 2 that you gave" in sound
    assert {home.name for home in tmp_path.iterdir()} == {"home", file.name, "pinned.txt"}

    header, items = read(file)
    bent = list(items)
    index = next(at for at, item in enumerate(bent) if isinstance(item, Entry) and item.record.sequence == 15)
    entry = bent[index]
    assert isinstance(entry, Entry)
    bent[index] = Entry(edited(entry.record, event_action="nothing"), entry.proof)
    opened = sink(file, header)
    for item in bent:
        opened.put(item)
    opened.close()
    report = await away.json("verify", str(file), code=Exit.FAILED)
    assert [(found["kind"], found["sequence"]) for found in report["findings"]] == [("edited", 15)]


async def test_a_stranger_signed_it(terminal: Terminal, tmp_path: Path) -> None:
    """A whole forgery with a key of its own passes, unless the true keys are pinned."""
    forged, file, pinned = Trail(key=SigningKey.generate()), tmp_path / "forged.jsonl", tmp_path / "pinned.txt"
    for _ in range(5):
        forged.write("rr-1")
    forged.seal()
    header, _ = read_header(forged)
    file.write_bytes(b"".join(map(line, [header, *forged.store()])))
    pinned.write_text(await terminal("keys"))
    away = Terminal("", tmp_path, terminal.owner)
    assert "names them itself" in await away("verify", str(file))
    told = await away("verify", str(file), "--public-key", str(pinned), code=Exit.FAILED)
    assert forged.key.key_id in told
    assert "not among the known keys" in told


def read_header(trail: Trail) -> tuple[Any, Any]:
    import base64

    from catalog.ledger.bundle import Header

    keys = {trail.key.key_id: base64.b64encode(trail.key.public_key).decode()}
    return Header(scope="store", public_keys=keys), None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"hello\n", "line 1"),
        (gzip.compress(b"hello")[:12], "cut off"),
        (b"PAR1PAR1", "Parquet"),
    ],
    ids=["empty", "text", "half", "not Parquet"],
)
async def test_what_is_no_bundle(tmp_path: Path, content: bytes, words: str) -> None:
    """One line that says what is wrong, and a code that is neither sound nor tampered."""
    file = tmp_path / "bundle"
    file.write_bytes(content)
    told = await Terminal("", tmp_path, TrailOwner(Trail()))("verify", str(file), code=Exit.REFUSED)
    assert words in told


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        pytest.param(("export", "trail.csv"), Exit.REFUSED, ".jsonl, .jsonl.gz or .parquet", id="no form"),
        pytest.param(("show", "nobody"), Exit.NOT_FOUND, "no event of nobody", id="unknown correlation"),
        pytest.param(("show", "0" * 8 + "-0000-0000-0000-" + "0" * 12), Exit.NOT_FOUND, "no event 0000", id="unknown event"),
        pytest.param(("list", "--since", "soon"), Exit.USAGE, "an age (24h, 7d)", id="no time"),
        pytest.param(("verify", "x.jsonl", "--correlation", "rr-1"), Exit.USAGE, "says itself", id="both"),
        pytest.param(("verify", "--public-key", "nothing.txt"), Exit.REFUSED, "cannot be read", id="no such key file"),
        pytest.param(("hold", "release", "nobody", "-r", "x"), Exit.NOT_FOUND, "no hold", id="no hold"),
        pytest.param(("hold", "add", "rr-1"), Exit.USAGE, "--reason", id="no reason"),
        pytest.param(("archive", "--through", "2026-13"), Exit.REFUSED, "through", id="no month"),
    ],
)  # fmt: skip
async def test_what_is_refused(terminal: Terminal, arguments: tuple[str, ...], code: Exit, words: str) -> None:
    """Said in words, with a code of its own."""
    assert words in await terminal(*arguments, code=code)


async def test_without_a_system(tmp_path: Path) -> None:
    """Each command says how to start one."""
    away = Terminal("", tmp_path, TrailOwner(Trail()))
    for command in (("list",), ("keys",), ("verify",), ("export", "x.jsonl"), ("hold", "list"), ("archive",)):
        assert "kubernaut-ray up" in await away(*command, code=Exit.UNREACHABLE)


async def test_verify_a_database_at_rest(tmp_path: Path) -> None:
    """Nothing runs, or what the data directory names is gone: its database is read, and not changed."""
    owner = await asyncio.to_thread(
        Owner, tmp_path / "catalog", embedder=Lexicon(), source=Bundles(tmp_path / "bundles"), now=lambda: build.NOW
    )
    catalog = Catalog(InProcess(owner), Lexicon())
    await catalog.append_audit([build.audit_event(number, correlation_id="rr-a") for number in range(20)])
    (tmp_path / "endpoints.json").write_text('{"data_storage": "http://127.0.0.1:9"}')
    here = Terminal("", tmp_path, TrailOwner(Trail()))
    assert "did not finish" in await here("verify", code=Exit.UNREACHABLE)
    await asyncio.to_thread(owner.close)
    told = await here("verify")
    assert "20 records in 1 chains" in told
    assert "no signed statement" in told
    (tmp_path / "endpoints.json").unlink()
    assert "the chain of rr-a (20 records)" in await here("verify", "--correlation", "rr-a")
    with duckdb.connect(str(tmp_path / "catalog" / "catalog.duckdb")) as connection:
        connection.execute("UPDATE audit_events SET body = replace(body, 'success', 'failure') WHERE seq = 7")
    report = await here.json("verify", code=Exit.FAILED)
    assert [(found["kind"], found["sequence"]) for found in report["findings"]] == [("edited", 7)]


async def test_holds_and_archives(terminal: Terminal) -> None:
    """Held by who the token says, listed, released; rolled off and said what."""
    assert "No holds" in await terminal("hold", "list")
    assert "held rr-1 by operator" in await terminal("hold", "add", "rr-1", "--reason", "case 7", token="operator")
    for words in ("rr-1", "operator", "case 7"):
        assert words in await terminal("hold", "list", token="viewer")
    assert (await terminal.json("hold", "list"))[0]["reason"] == "case 7"
    assert "may not update auditevents" in await terminal(
        "hold", "release", "rr-1", "-r", "x", code=Exit.UNREACHABLE, token="viewer"
    )
    assert "released rr-1" in await terminal("hold", "release", "rr-1", "-r", "closed")
    assert "archived audit-2026-02: records 1 to 2" in await terminal("archive", "--through", "2026-02")
    assert "Nothing is old enough" in await terminal("archive")
    assert "30 records in 3 chains, 2 checkpoints, 6 unsealed" in await terminal("archive", "--list")


async def test_an_export_that_fails_leaves_no_file(terminal: Terminal, tmp_path: Path) -> None:
    """Half a bundle must not lie about as if it were one."""
    terminal.owner.page = 5

    def fail() -> None:
        if terminal.owner.calls.count("audit_records") > 2:
            raise Retryable("the owner died")

    terminal.owner.during = fail
    for form in ("jsonl", "parquet"):
        assert "the owner died" in await terminal("export", str(tmp_path / f"x.{form}"), code=Exit.REFUSED)
    assert {file.name for file in tmp_path.iterdir()} == {"home"}


async def test_parquet_for_analysts(terminal: Terminal, tmp_path: Path) -> None:
    """A row a record."""
    await terminal("export", str(tmp_path / "x.parquet"))
    assert pq.read_table(tmp_path / "x.parquet").num_rows == 30


def test_many_findings_are_counted() -> None:
    """What is not shown is said to be there."""
    header, _ = read_header(Trail())
    found = reading.Outcome(header, Account(), {}, pinned=False)
    found.findings = [Finding(Kind.REMOVED, f"record {n} is missing", n) for n in range(3)]
    found.more = 7
    with out.capture() as told:
        out.print(view.outcome(found))
    assert "Tampered with: 10 finding(s)." in told.get()
    assert "and 7 more" in told.get()
    assert view.report(found)["more_findings"] == 7


async def test_no_more_findings_are_kept_than_anybody_reads() -> None:
    """A store that is all wrong does not fill the memory of who looks at it."""
    trail = Trail()
    for number in range(reading.KEPT + 50):
        trail.write(f"rr-{number}")
    items = [Entry(msgspec.structs.replace(one, hash="ab" * 32)) for one in trail.records]

    async def read_them() -> AsyncIterator[Any]:
        for item in [*items, trail.statement()]:
            yield item

    header, _ = read_header(trail)
    outcome = await reading.verify(header, read_them(), {}, Account())
    assert (len(outcome.findings), outcome.more) == (reading.KEPT, 50)


def test_a_chain_that_was_rewritten_is_told_in_two_lines() -> None:
    """The event, and how many hang on it."""
    trail = a_trail()
    items = rewritten_chain(trail.store(), 3)
    from catalog.ledger.verify import verifier, verify

    first, second = verify(items, verifier("store", {KEY.key_id: KEY.public_key}))
    assert (first.kind, second.kind) == (Kind.REWRITTEN, Kind.RECHAINED)
    assert "and 6 more after it" in second.message


@pytest.mark.parametrize("text", ["soon", "24 hours", "2026-01-31"])
def test_no_instant(text: str) -> None:
    """Neither an instant nor an age."""
    with pytest.raises(CommandError, match="--until"):
        reading.instant(text, "--until", build.NOW)
