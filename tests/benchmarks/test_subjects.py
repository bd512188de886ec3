"""Reading what a subject holds: RemediationRequests and their members, and the lines of a count command."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks._alerts import NAMESPACE
from benchmarks._load import Target
from benchmarks._reconcile import Thing
from benchmarks._subjects import OtherTool, thing_of_line, things


def remediation(name: str, **status: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "rr-1", "creationTimestamp": "1970-01-01T00:00:10Z"},
        "spec": {"targetResource": {"kind": "Deployment", "name": name, "namespace": NAMESPACE}},
        "status": status,
    }


def member(name: str) -> dict[str, Any]:
    return {"target": f"{NAMESPACE}/deployment/{name}", "firstSeenAt": "1970-01-01T00:00:12Z"}


@pytest.mark.parametrize(
    ("why", "obj", "expected"),
    [
        ("open", remediation("a", overallPhase="Analyzing"), [Thing("a", "rr-1", 10.0)]),
        ("not looked at yet", remediation("a"), [Thing("a", "rr-1", 10.0)]),
        ("ended", remediation("a", overallPhase="Completed", completedAt="1970-01-01T00:00:20.5Z"),
         [Thing("a", "rr-1", 10.0, 20.5)]),
        ("waiting again after an end", remediation("a", overallPhase="Verifying", completedAt="1970-01-01T00:00:20Z"),
         [Thing("a", "rr-1", 10.0)]),
        ("with members, itself among them", remediation("a", members=[member("a"), member("b"), member("b")]),
         [Thing("a", "rr-1", 10.0), Thing("b", "rr-1", 12.0, member=True)]),
    ],
)  # fmt: skip
def test_what_a_remediation_request_holds(why: str, obj: dict[str, Any], expected: list[Thing]) -> None:
    """Its own target, and each member once."""
    assert list(things(obj)) == expected, why


def test_a_remediation_request_of_others_is_none_of_ours() -> None:
    """A cluster may hold other incidents; members of ours may be in them."""
    obj = remediation("a", members=[member("b")])
    obj["spec"]["targetResource"] = {"kind": "Node", "name": "node-1"}
    assert list(things(obj)) == [Thing("b", "rr-1", 12.0, member=True)]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('"x"', Thing("x")),
        ('{"id": "x"}', Thing("x")),
        ('{"id": "x", "created": "1970-01-01T00:00:01Z"}', Thing("x", created=1.0)),
        ('{"id": "x", "created": "1970-01-01T00:00:01Z", "ended": "1970-01-01T00:00:02Z"}', Thing("x", "", 1.0, 2.0)),
    ],
)
def test_lines_of_a_count_command(line: str, expected: Thing) -> None:
    """An id, or an object with times."""
    assert thing_of_line(line) == expected


@pytest.mark.parametrize("line", ["x", "1", "[]", "{}", '{"id": "x", "created": "yesterday"}', "null"])
def test_a_line_that_is_none_is_named(line: str) -> None:
    """Whoever wrote the command is told what to print."""
    with pytest.raises(SystemExit, match="print an id as a JSON string"):
        thing_of_line(line)


async def test_a_count_command_that_fails_ends_the_proof() -> None:
    """Nothing counted is not nothing lost."""
    with pytest.raises(SystemExit, match="ended with 3"):
        await OtherTool(Target("http://127.0.0.1:1/"), count="exit 3").arrived()
