"""``kubernaut-ray workflow gaps`` and ``workflow search --why`` as people run them, against Data Storage over HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from kubernaut_ray.cli.connection import Exit
from tests.serve_apps.data_storage.world import SHELF, Doorman, world
from tests.serving import serving


class Terminal:
    def __init__(self, url: str, data_dir: Path) -> None:
        self._url, self._data_dir = url, data_dir

    async def __call__(self, *arguments: str, code: int = Exit.DONE) -> str:
        """Run ``kubernaut-ray workflow``; returns what it prints on both channels."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "kubernaut_ray.cli", "workflow", *arguments,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={
                **os.environ, "COLUMNS": "220", "KUBERNAUT_TOKEN": "ann", "KUBERNAUT_DATA_STORAGE_URL": self._url,
                "KUBERNAUT_DATA_DIR": str(self._data_dir),
            },
        )  # fmt: skip
        out, _ = await process.communicate()
        assert process.returncode == code, out.decode()
        return out.decode()


@asynccontextmanager
async def terminal(directory: Path) -> AsyncIterator[Terminal]:
    (directory / "endpoints.json").write_text("{}")
    async with world(directory, Doorman(), SHELF) as stored, serving(stored.app) as url:
        yield Terminal(url, directory)


async def test_from_a_question_to_the_gap(tmp_path):
    """A search finds nothing, ``--why`` names every label, the report tells of it, and its JSON is the contract's."""
    search = (
        "search",
        "OOMKilled [bold] memory",
        "--severity",
        "low",
        "--component",
        "Deployment",
        "--signal-type",
        "OOMKilled",
    )
    async with terminal(tmp_path) as workflow:
        assert "0 of 0 questions" in await workflow("gaps")
        assert "--explain" in await workflow(*search, code=Exit.NOT_FOUND)
        why = await workflow(*search, "--why", "increase-memory-limits")
        assert "not offered: increase-memory-limits 1.0.0" in why
        assert "severity is info; the workflow is for critical, high" in why
        assert "score 0." in why
        assert "offered: increase-memory-limits 1.0.0, number 1" in await workflow(
            "search", "OOMKilled", "--why", "increase-memory-limits"
        )
        unknown = await workflow(*search, "--why", "increase-memory-limit", code=Exit.NOT_FOUND)
        assert "similar names: increase-memory-limits" in unknown

        told = await workflow("gaps", "--since", "1000d")
        assert "3 of 4 questions" in told
        assert all(
            word in told for word in ("OOMKilled", "Deployment", "severity 1", "[bold]", "increase-memory-limits")
        )
        report = json.loads(await workflow("gaps", "--since", "2026-01-01T00:00:00Z", "-o", "json"))
        assert (report["gaps"][0]["questions"], report["unanswered"]) == (3, 3)
        assert "neither a duration" in await workflow("gaps", "--since", "soon", code=Exit.USAGE)
