"""``kubernaut-ray workflow list | show | disable | enable`` as people run them, against Data Storage over HTTP."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from catalog.bundles import Bundles
from catalog.client import Catalog, InProcess
from catalog.embed import Lexicon
from catalog.owner import Owner
from kubernaut_ray import shipped
from kubernaut_ray.cli.connection import Exit
from kubernaut_ray.contracts.catalog import RegisterWorkflow, Workflow
from kubernaut_ray.contracts.statistics import EffectivenessRecord, ExecutionRecord
from serve_apps.data_storage.app import create_app
from serve_apps.data_storage.deps import Deps
from tests import build
from tests.serve_apps.data_storage.test_app import Said
from tests.serving import serving

FOLDER = shipped.directory() / "workflows" / "restart-rollout"


@dataclass
class Terminal:
    url: str
    data_dir: Path
    catalog: Catalog
    bundles: Bundles

    async def __call__(self, *arguments: str, code: int = Exit.DONE) -> str:
        """Run ``kubernaut-ray workflow``; returns what it prints on both channels."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "kubernaut_ray.cli", "workflow", *arguments,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={
                **os.environ, "COLUMNS": "200", "KUBERNAUT_TOKEN": "t", "KUBERNAUT_DATA_STORAGE_URL": self.url,
                "KUBERNAUT_DATA_DIR": str(self.data_dir),
            },
        )  # fmt: skip
        out, _ = await process.communicate()
        assert process.returncode == code, out.decode()
        return out.decode()

    async def json(self, *arguments: str) -> Any:
        return orjson.loads(await self(*arguments, "-o", "json"))

    async def register(self, version: str = "") -> Workflow:
        """Register the shipped workflow, under another version if one is named."""
        folder = self.data_dir / f"folder-{version}"
        folder.mkdir()
        for file in FOLDER.iterdir():
            text = file.read_text()
            if version and file.name == "workflow-schema.yaml":
                text = text.replace("version: 1.0.0", f"version: {version}")
            (folder / file.name).write_text(text)
        pinned = await asyncio.to_thread(self.bundles.push, folder)
        asked = RegisterWorkflow(container_image=pinned.image, container_digest=pinned.digest, source="a test")
        return (await self.catalog.register(asked))[0]


@pytest.fixture
async def terminal(tmp_path: Path) -> AsyncIterator[Terminal]:
    (tmp_path / "endpoints.json").write_text("{}")
    bundles = Bundles(tmp_path / "bundles")
    owner = Owner(tmp_path / "catalog", embedder=Lexicon(), source=bundles, now=lambda: build.NOW)
    catalog = Catalog(InProcess(owner), Lexicon())
    async with serving(create_app(Deps(catalog, None, Said(), now=lambda: build.NOW))) as url:
        yield Terminal(url, tmp_path, catalog, bundles)
    await asyncio.to_thread(owner.close)


async def test_the_list_marks_what_is_offered_and_how_it_fared(terminal: Terminal) -> None:
    """Newest first, the latest with a star, executions with rate and average."""
    await terminal.register("1.10.0")
    old = await terminal.register("1.9.0")
    for uid, success in (("a", True), ("b", False)):
        record = ExecutionRecord(execution_id=uid, workflow_id=old.workflow_id, success=success, duration_seconds=90)
        await terminal.catalog.record_execution(record)
    rows = [line.split() for line in (await terminal("list")).splitlines() if "restart-rollout" in line]
    assert [row[:5] for row in rows] == [
        ["restart-rollout", "1.10.0", "*", "active", "-"],
        ["restart-rollout", "1.9.0", "active", "2", "50%"],
    ]
    assert rows[1][5] == "1m30s"
    assert [one["version"] for one in await terminal.json("list", "--name", "restart-rollout")] == ["1.10.0", "1.9.0"]
    assert "catalog is empty" in await terminal("list", "--status", "archived")


async def test_one_workflow_in_full(terminal: Terminal) -> None:
    """By name, by version, by id; for people and for programs."""
    await terminal.register("1.10.0")
    old = await terminal.register("1.9.0")
    shown = await terminal("show", "restart-rollout")
    for words in ("1.10.0 (latest)", "TARGET_RESOURCE_NAME", "a test", "sha256:"):
        assert words in shown
    assert (await terminal.json("show", "restart-rollout", "--version", "1.9.0"))["workflow_id"] == old.workflow_id
    document = yaml.safe_load(await terminal("show", old.workflow_id, "-o", "yaml"))
    assert (document["version"], document["is_latest_version"]) == ("1.9.0", False)


async def test_how_far_a_workflow_is_trusted_is_shown_by_environment(terminal: Terminal) -> None:
    """With the counts that it follows from, for people and for programs."""
    known = await terminal.register()
    for number, (environment, effective) in enumerate(
        (("staging", True), ("production", False), ("production", False))
    ):
        record = EffectivenessRecord(
            execution_id=f"run-{number}",
            workflow_id=known.workflow_id,
            environment=environment,
            effective=effective,
            score=float(effective),
        )
        await terminal.catalog.record_effectiveness(record)
    shown = await terminal("show", "restart-rollout")
    assert "production: suggest, helped in 0 of 2, 2 in a row did not" in shown
    assert "staging: approve, helped in 1 of 1" in shown
    levels = (await terminal.json("show", "restart-rollout"))["trust"]
    assert [(one["environment"], one["level"]) for one in levels] == [("production", "suggest"), ("staging", "approve")]


async def test_disabling_and_enabling_say_who_and_why(terminal: Terminal) -> None:
    """A reason is asked for; it is on record, and enabling leaves one too."""
    await terminal.register("1.10.0")
    await terminal.register("1.9.0")
    assert "--reason" in await terminal("disable", "restart-rollout", code=Exit.USAGE)
    assert "say why" in await terminal("disable", "restart-rollout", "--reason", " ", code=Exit.USAGE)
    assert "disabled restart-rollout 1.10.0" in await terminal("disable", "restart-rollout", "-r", "it hurt")
    shown = await terminal.json("show", "restart-rollout")
    assert (shown["status"], shown["disabled_reason"]) == ("disabled", "it hurt")
    assert "it hurt" in await terminal("show", "restart-rollout")
    assert "enabled restart-rollout 1.10.0" in await terminal("enable", "restart-rollout", "-r", "better now")
    shown = await terminal.json("show", "restart-rollout")
    assert (shown["status"], shown["status_changed_reason"], shown["disabled_reason"]) == ("active", "better now", "")
    told = await terminal("enable", "restart-rollout", "--version", "1.9.0", "-r", "go back")
    assert "still not offered" in told


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("show", "restart-rolout"), "did you mean restart-rollout"),
        (("show", "something-else"), "workflow list shows what there is"),
        (("show", "restart-rollout", "--version", "3.0.0"), "has no version 3.0.0; there are 1.10.0"),
        (("disable", "5d2b8a4e-0000-5000-8000-000000000000", "-r", "x"), "no workflow has the id"),
    ],
)
async def test_what_is_not_there(terminal: Terminal, arguments: tuple[str, ...], words: str) -> None:
    """Exit code 3, and what there is instead."""
    await terminal.register("1.10.0")
    assert words in (await terminal(*arguments, code=Exit.NOT_FOUND)).replace("\n", " ")
