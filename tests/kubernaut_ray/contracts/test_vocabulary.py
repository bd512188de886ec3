"""The vocabulary against the source of every emitter, and what it says of an event."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from kubernaut_ray.contracts.vocabulary import EVENT_TYPES, check, rank, undeclared
from kubernaut_ray.crds.enums import AuditCategory, AuditOutcome
from tests import build

ROOT = Path(__file__).parents[3]
EMITTERS = (
    "actors",
    "serve_apps",
    "catalog/keeper.py",
    "kubernaut_ray/contracts/approvals.py",
    "kubernaut_ray/contracts/catalog.py",
)
TELLERS = {"fact", "_fact", "_tell", "_record", "_event", "_changed", "_state_fact"}
PREFIXES = ("", "orchestrator.", "aianalysis.")
"""What the controllers' own ``fact`` functions put before the name."""


def modules() -> Iterator[tuple[Path, ast.Module]]:
    for place in EMITTERS:
        path = ROOT / place
        for file in sorted(path.rglob("*.py")) if path.is_dir() else (path,):
            yield file.relative_to(ROOT), ast.parse(file.read_text())


def told() -> Iterator[tuple[str, str]]:
    """Every event type, or the beginning of one with ``*``, that a call tells; with where."""
    for file, tree in modules():
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
            if name not in TELLERS:
                continue
            for argument in call.args[:2]:
                for node in ast.walk(argument):
                    match node:
                        case ast.Constant(value=str(text)) if "." in text and " " not in text:
                            yield text, f"{file}:{node.lineno}"
                        case ast.JoinedStr(values=[ast.Constant(value=str(text)), *_]):
                            yield f"{text}*", f"{file}:{node.lineno}"


def test_every_type_that_is_told_is_declared() -> None:
    """A name that an emitter writes is in the vocabulary, so that readers know it."""
    unknown = [
        (text, where)
        for text, where in told()
        if not text.endswith((".", "*")) and not any(prefix + text in EVENT_TYPES for prefix in PREFIXES)
    ]
    assert unknown == []


def test_every_declared_type_is_told_by_somebody() -> None:
    """The vocabulary holds no word that nobody says."""
    words = {node.value for _, tree in modules() for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    begun = {text[:-1] for text, _ in told() if text.endswith("*")} - set(PREFIXES)
    silent = [
        name
        for name in EVENT_TYPES
        if not any(name.startswith(prefix) and name.removeprefix(prefix) in words for prefix in PREFIXES)
        and not any(name.startswith(text) for text in begun)
    ]
    assert silent == []


@pytest.mark.parametrize("known", EVENT_TYPES.values(), ids=EVENT_TYPES)
def test_a_declaration_is_whole(known):
    """Names fit the contract, no key is both required and optional, and every type says what it is."""
    event = build.audit_event(event_type=known.name, category=known.category)
    assert event.event_type == known.name
    assert not known.holds & known.may
    assert known.tells
    assert known.outcomes


def test_an_event_that_fits_has_no_problems() -> None:
    """Category, outcome and what it holds."""
    known = EVENT_TYPES["gateway.signal.resolved"]
    event = build.audit_event(event_type=known.name, category=known.category, event_data={"symptoms": []})
    assert check(event) == ()
    assert rank(event) == known.rank


def test_everything_that_is_wrong_is_said() -> None:
    """A wrong category, a wrong outcome, what is missing, and an unknown type."""
    event = build.audit_event(
        event_type="gateway.signal.resolved",
        category=AuditCategory.ANALYSIS,
        outcome=AuditOutcome.PENDING,
        event_data={"symptom": []},
    )
    assert check(event) == (
        "gateway.signal.resolved: its category is analysis, not gateway",
        "gateway.signal.resolved: its outcome is pending",
        "gateway.signal.resolved: its event_data lacks symptoms",
    )
    assert undeclared(event.event_type, event.event_data) == {"symptom"}
    assert check(build.audit_event(event_type="some.other.thing")) == ("some.other.thing is no event type",)
