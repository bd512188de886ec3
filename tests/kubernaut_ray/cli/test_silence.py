"""``kubernaut-ray silence`` as people run it, against silences served over HTTP."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from fastapi import FastAPI

from kubernaut_ray.cli.connection import CommandError, Exit
from kubernaut_ray.cli.silence import period, windows
from kubernaut_ray.clock import utcnow
from kubernaut_ray.errors import InvalidInput
from serve_apps.gateway.silences import api
from serve_apps.gateway.silences.store import Silences
from serve_apps.http import install
from tests.build import NOW, later
from tests.serve_apps.gateway.silences.test_api import NAMESPACE, Watchdog
from tests.serve_apps.gateway.world import Facts, World
from tests.serving import serving


@dataclass
class Terminal:
    url: str
    data_dir: Path
    silences: Silences

    async def __call__(self, *arguments: str, code: int = Exit.DONE, token: str = "operator") -> str:
        """Run ``kubernaut-ray silence``; returns what it prints on both channels."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "kubernaut_ray.cli", "silence", *arguments,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={
                **os.environ, "COLUMNS": "200", "KUBERNAUT_TOKEN": token, "KUBERNAUT_GATEWAY_URL": self.url,
                "KUBERNAUT_DATA_DIR": str(self.data_dir),
            },
        )  # fmt: skip
        out, _ = await process.communicate()
        assert process.returncode == code, out.decode()
        return out.decode()

    async def json(self, *arguments: str) -> Any:
        return orjson.loads(await self(*arguments, "-o", "json"))


@pytest.fixture
async def terminal(tmp_path: Path) -> AsyncIterator[Terminal]:
    (tmp_path / "endpoints.json").write_text("{}")
    world, app = World(), FastAPI()
    world.time = utcnow()
    silences = Silences(world, NAMESPACE, interval=0.01)
    api.add_routes(app, silences, Facts())
    install(app, service="gateway", gate=Watchdog(), rules=api.RULES, max_body_bytes=10_000)
    await silences.start()
    async with serving(app) as url:
        yield Terminal(url, tmp_path, silences)
    await silences.stop()


async def test_a_silence_on_the_terminal(terminal: Terminal) -> None:
    """Added, listed, shown with its count, ended."""
    added = await terminal(
        "add", "alertname=Foo", 'severity=~"warning|info"', "namespace!=prod", "--for", "2h", "--comment", "rollout of 4.2",
        "--author", "ada",
    )  # fmt: skip
    name = added.strip()
    labels = {"alertname": "Foo", "severity": "info"}
    assert terminal.silences.match(labels, utcnow()) == (name,)
    terminal.silences.count(name, 3, utcnow())

    listed = await terminal("list", "alertname=Foo")
    for words in (
        name,
        "active",
        'alertname="Foo" severity=~"warning|info" namespace!="prod"',
        "ada",
        "rollout of 4.2",
    ):
        assert words in listed
    shown = await terminal("show", name)
    assert "Authenticated" in shown
    assert "operator" in shown
    (one,) = await terminal.json("list")
    assert (one["id"], one["silencedCount"]) == (name, 3)

    assert "expired" in await terminal("expire", name)
    assert "No silences" in await terminal("list")
    assert name in await terminal("list", "--expired")
    assert terminal.silences.match(labels, utcnow()) == ()


async def test_a_recurring_window(terminal: Terminal) -> None:
    """Its windows come back as they were given."""
    made = await terminal.json(
        "add", "namespace=shop", "--for", "90d", "--weekdays", "Saturday,Sunday", "--times", "22:00-24:00", "--times",
        "00:00-04:00", "--location", "Europe/Berlin", "--comment", "weekly maintenance",
    )  # fmt: skip
    (window,) = made["timeIntervals"]
    assert window["weekdays"] == ["saturday", "sunday"]
    assert [times["startTime"] for times in window["times"]] == ["22:00", "00:00"]
    shown = await terminal("show", made["id"])
    assert "saturday, sunday, 22:00-24:00, 00:00-04:00 (Europe/Berlin)" in shown


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        pytest.param(("add", "alertname=~.*", "--for", "1h", "-c", "x"), Exit.REFUSED, "must not match the empty", id="everything"),
        pytest.param(("add", "alertname", "--for", "1h", "-c", "x"), Exit.REFUSED, "expected =, !=", id="no matcher"),
        pytest.param(("add", "a=b", "-c", "x"), Exit.USAGE, "say for how long", id="for ever"),
        pytest.param(("add", "a=b", "--for", "1h"), Exit.USAGE, "--comment", id="no reason"),
        pytest.param(
            ("add", "a=b", "--for", "9d", "-c", "x", "--weekdays", "friday:monday"), Exit.REFUSED, "wrap around", id="no window"
        ),
        pytest.param(("show", "nobody"), Exit.NOT_FOUND, "not found", id="unknown"),
        pytest.param(("expire", "nobody"), Exit.NOT_FOUND, "not found", id="unknown to end"),
    ],
)  # fmt: skip
async def test_what_is_refused(terminal: Terminal, arguments: tuple[str, ...], code: Exit, words: str) -> None:
    """One line that says why, and a code of its own."""
    told = await terminal(*arguments, code=code)
    assert words in told
    assert "Traceback" not in told


async def test_a_person_without_the_right(terminal: Terminal) -> None:
    """The gateway's words reach the terminal."""
    told = await terminal("add", "a=b", "--for", "1h", "-c", "x", code=Exit.FAILED, token="viewer")
    assert "user viewer may not create silences" in told


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (("2h", "", ""), (NOW, later(minutes=120))),
        (
            ("7d", "2026-03-05T00:00:00+01:00", ""),
            (later(84 * 3600 - 3600), later(84 * 3600 - 3600) + timedelta(days=7)),
        ),
        (("", "", "2026-03-01T13:00:00Z"), (NOW, later(minutes=60))),
    ],
)
def test_periods(given: tuple[str, str, str], expected: tuple[Any, Any]) -> None:
    """From now or from a start, for a while or to an end."""
    assert period(*given, NOW) == expected


@pytest.mark.parametrize(
    "given",
    [("", "", ""), ("2h", "", "2026-03-01T13:00:00Z"), ("soon", "", ""), ("", "", "tomorrow"), ("2h", "noon", "")],
)
def test_no_period(given: tuple[str, str, str]) -> None:
    """Neither, both, or nonsense."""
    with pytest.raises(CommandError):
        period(*given, NOW)


@pytest.mark.parametrize(
    "given",
    [
        pytest.param((["22:00"], None, None, None, ""), id="no end"),
        pytest.param((["22-24"], None, None, None, ""), id="no minutes"),
        pytest.param((None, ["caturday"], None, None, ""), id="no weekday"),
        pytest.param((None, None, ["32"], None, ""), id="no date"),
        pytest.param((None, None, None, ["smarch"], ""), id="no month"),
        pytest.param((None, None, None, None, "Europe/Berlin"), id="a place without a time"),
    ],
)
def test_no_window(given: Any) -> None:
    """Said before anything is sent."""
    with pytest.raises(InvalidInput):
        windows(*given)
