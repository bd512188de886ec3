"""``kubernaut-ray timeline`` against a Data Storage on a real socket."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from kubernaut_ray.cli import app
from kubernaut_ray.cli.connection import Exit
from kubernaut_ray.clients.data_storage import DataStorage
from kubernaut_ray.clock import utcnow
from kubernaut_ray.contracts.audit import AuditBatch
from kubernaut_ray.contracts.timeline import Timeline
from tests.catalog.account import told as stories
from tests.serve_apps.data_storage.test_real_http import free_port, running


async def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture, the same as JSON and YAML, and a word and an exit code for a name that nothing is known of."""
    port = free_port()
    monkeypatch.setenv("KUBERNAUT_DATA_STORAGE_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("KUBERNAUT_TOKEN", "t")

    async def command(*arguments: str) -> tuple[int, str]:
        line = ["timeline", *arguments, "--kubeconfig", str(tmp_path)]
        result = await asyncio.to_thread(CliRunner().invoke, app, line)
        return result.exit_code, result.output

    told = stories.Told(start=utcnow() - timedelta(minutes=10))
    told.opened().processed().analysed(approval=True).asked().decided().executed().ended()
    async with running(tmp_path, port), DataStorage(f"http://127.0.0.1:{port}", lambda: "t") as storage:
        await storage.store_audit_events(AuditBatch(events=tuple(told.events)))
        code, text = await command("rr-1")
        assert (code, "The trail is complete" in text, "Approved by ann" in text) == (0, True, True), text
        code, text = await command("rr-1", "-o", "json")
        found = Timeline.model_validate(json.loads(text))
        assert found == await storage.timeline("rr-1")
        assert found.incident is not None
        assert found.incident.complete
        code, text = await command("rr-1", "-o", "yaml")
        assert Timeline.model_validate(yaml.safe_load(text)) == found
        code, text = await command("rr-2")
        assert (code, "nothing is on record about rr-2" in text) == (Exit.NOT_FOUND, True), text
