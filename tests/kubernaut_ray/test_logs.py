"""Logs: one JSON object a line, fields bound once, traces without local variables."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import structlog

from kubernaut_ray import logs


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def test_json_lines_carry_bound_fields(capsys: pytest.CaptureFixture[str]) -> None:
    """The event, its level and time, and what was bound around it."""
    logs.configure("json", "info")
    with structlog.contextvars.bound_contextvars(correlation_id="rr-1"):
        structlog.get_logger().info("phase", old="Pending")
    structlog.get_logger().debug("hidden")
    (line,) = capsys.readouterr().err.splitlines()
    entry = json.loads(line)
    assert entry.pop("timestamp").endswith("Z")
    assert entry == {"event": "phase", "level": "info", "old": "Pending", "correlation_id": "rr-1"}


def fail(token: str) -> None:
    raise ValueError(len(token))


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_traces_show_no_local_variables(capsys: pytest.CaptureFixture[str], log_format: str) -> None:
    """Local variables may hold tokens."""
    logs.configure("json" if log_format == "json" else "console")
    try:
        fail("".join(reversed("terces")))
    except ValueError:
        structlog.get_logger().exception("broke")
    shown = capsys.readouterr().err
    assert "ValueError" in shown
    assert "secret" not in shown
