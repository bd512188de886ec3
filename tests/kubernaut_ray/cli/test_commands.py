"""Commands without a running system: help, exit codes, and errors that say what to do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from kubernaut_ray import __version__
from kubernaut_ray.cli import app
from kubernaut_ray.cli.connection import Exit
from tests import registry

run = CliRunner()


def test_version() -> None:
    """The version is the package's."""
    assert run.invoke(app, ["--version"]).output.strip() == f"kubernaut-ray {__version__}"


@pytest.mark.parametrize(
    "command", ["up", "demo", "send", "status", "timeline", "approve", "reject", "cancel", "unblock", "crds", "doctor", "workflow validate", "workflow push", "workflow register", "workflow list", "workflow show", "workflow disable", "workflow enable", "workflow search", "workflow gaps", "silence add", "silence list", "silence show", "silence expire", "policy check", "audit list", "audit show", "audit export", "audit verify", "audit archive", "audit keys", "audit hold add", "audit hold release", "audit hold list"]
)  # fmt: skip
def test_every_command_has_help(command: str) -> None:
    """Each help text says what the command does."""
    result = run.invoke(app, [*command.split(), "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.output


@pytest.mark.parametrize(
    "command",
    [
        "status",
        "timeline rr-1",
        "approve rr-1",
        "reject rr-1 --reason no",
        "cancel rr-1 -r no",
        "unblock we-1 -r ok",
        "workflow list",
    ],
)
def test_without_a_system_commands_say_how_to_start_one(command: str, tmp_path: Path) -> None:
    """The exit code is 4 and the message names the command to run."""
    result = run.invoke(app, [*command.split(), "--data-dir", str(tmp_path)])
    assert result.exit_code == Exit.UNREACHABLE
    assert "kubernaut-ray up" in result.output.replace("\n", " ")


@pytest.mark.parametrize(
    ("content", "code"),
    [(b"{not json", Exit.REFUSED), (b'{"neither": 1}', Exit.UNREACHABLE), (None, Exit.USAGE)],
    ids=["not JSON", "nothing runs", "no such file"],
)
def test_send_says_what_is_wrong_with_a_file(tmp_path: Path, content: bytes | None, code: Exit) -> None:
    """A file that cannot be sent ends with a code of its own."""
    file = tmp_path / "alert.json"
    if content is not None:
        file.write_bytes(content)
    assert run.invoke(app, ["send", str(file), "--data-dir", str(tmp_path)]).exit_code == code


def test_crds_prints_manifests_for_kubectl() -> None:
    """All kinds are printed as one YAML stream."""
    documents = list(yaml.safe_load_all(run.invoke(app, ["crds"]).output))
    assert {d["spec"]["names"]["kind"] for d in documents} >= {"RemediationRequest", "NotificationRequest"}


def test_validate_names_every_problem(tmp_path: Path) -> None:
    """A folder that is no workflow is refused with what is missing."""
    result = run.invoke(app, ["workflow", "validate", str(tmp_path)])
    assert result.exit_code == Exit.REFUSED
    assert "workflow-schema.yaml" in result.output


def test_push_reaches_a_registry_by_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flag, the environment or a settings file say how; the pinned reference is printed."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    folder = Path(__file__).parents[3] / "manifests" / "workflows" / "restart-rollout"
    with registry.running(tmp_path) as host:
        command = ["workflow", "push", str(folder), "--to", f"{host}/w:1", "--data-dir", str(tmp_path)]
        refused = run.invoke(app, command)
        assert refused.exit_code != 0
        assert "plain_http" in refused.output.replace("\n", " ")
        first = run.invoke(app, [*command, "--plain-http"])
        access = {host: {"plain_http": True}}
        settings = tmp_path / "settings.yaml"
        settings.write_text(yaml.safe_dump({"catalog": {"registry_access": access}}))
        second = run.invoke(app, [*command, "--config", str(settings)])
        monkeypatch.setenv("KUBERNAUT_CATALOG__REGISTRY_ACCESS", json.dumps(access))
        third = run.invoke(app, command)
    assert [first.exit_code, second.exit_code, third.exit_code] == [0, 0, 0]
    assert first.output.startswith(f"{host}/w:1@sha256:")
    assert first.output == second.output == third.output
