"""The demo as a new user runs it."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.flow, pytest.mark.rayed, pytest.mark.timeout(300)]


async def test_the_demo_repairs_the_deployment_and_shows_it(tmp_path: Path) -> None:
    """One command, no input, no network: exit 0, the Deployment before and after, the cause, the messages, the trail."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "kubernaut_ray.cli", "demo",
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "TMPDIR": str(tmp_path), "COLUMNS": "120"},
    )  # fmt: skip
    text = (await process.communicate())[0].decode()
    assert process.returncode == 0, text
    for shown in (
        "128Mi",
        "256Mi",
        "Root cause",
        "evidence",
        "Notifications",
        "Audit trail",
        "Remediated",
        "kubernaut-admin",
    ):
        assert shown in text, f"{shown!r} is not in:\n{text}"
    assert not list(tmp_path.glob("kubernaut-demo-*"))
