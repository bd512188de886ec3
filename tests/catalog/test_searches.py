"""Folding searches into questions and questions into groups, on rows as the store gives them."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from catalog import searches
from catalog.events import columns
from catalog.ledger.signing import SigningKey
from catalog.store import Store
from catalog.trail import Trail
from kubernaut_ray.contracts.catalog import SEARCH_COMPLETED, WITHOUT_REMEDIATION
from kubernaut_ray.crds.enums import AuditCategory
from tests import build


@pytest.fixture
def store(tmp_path: Path):
    with Store(tmp_path / "catalog.duckdb") as store:
        yield store


def told(store: Store, *events, min_relevance: float = 0.18, limit: int = 20):
    made = [
        build.audit_event(
            n,
            event_type=SEARCH_COMPLETED,
            category=AuditCategory.WORKFLOW,
            correlation_id=rr,
            now=build.later(n),
            event_data=data,
        )
        for n, (rr, data) in enumerate(events)
    ]
    key = SigningKey.generate()
    store.write(
        lambda c: Trail(c, key, checkpoint_events=4096, now=build.NOW).append(c, columns(made), build.NOW)
    ).result()
    return orjson.loads(store.read(lambda c: searches.in_vain(c, 0, min_relevance, limit)))


def search(query="q", results=(), **filters):
    return {"query": query, "filters": filters, "results": [{"relevance": r} for r in results]}


def test_rounds_of_one_remediation(store):
    """The facts of the first round are kept, the best of all rounds counts."""
    answer = told(
        store,
        ("rr", search(severity="low", signal_type="A")),
        ("rr", search(severity="low")),
        ("rr", search(results=[0.1])),
        ("other", search(results=[0.05, 0.3])),
    )
    assert (answer["questions"], answer["unanswered"]) == (2, 1)
    (group,) = answer["groups"]
    assert group["filters"] == {"severity": "low", "signal_type": "A"}
    assert (group["weak"], group["best_relevance"], group["questions"]) == (1, 0.1, 1)


def test_searches_of_nobody_are_each_a_question(store):
    """By hand the same words may be asked many times, each in vain."""
    answer = told(store, *((WITHOUT_REMEDIATION, search(severity="low")) for _ in range(3)))
    (group,) = answer["groups"]
    assert (answer["questions"], group["questions"], group["remediation_ids"]) == (3, 3, [])


def test_events_of_another_release(store):
    """An event without what this release writes is read as far as it goes; an answer without relevance counts as good."""
    answer = told(
        store,
        ("a", {}),
        ("b", {"query": "q", "filters": {"severity": "low", "phase": "of the moon"}, "results": []}),
        ("c", {"query": "q", "filters": {}, "results": [{"workflow_id": "w", "score": 0.4}]}),
    )
    assert (answer["questions"], answer["unanswered"]) == (3, 2)
    assert [g["remediation_ids"] for g in answer["groups"]] == [["b"], ["a"]]


def test_remediations_named_are_the_newest(store):
    """Many are counted, a few are named."""
    answer = told(store, *((f"rr-{n}", search(severity="low")) for n in range(15)))
    (group,) = answer["groups"]
    assert group["questions"] == 15
    assert group["remediation_ids"] == [f"rr-{n}" for n in range(14, 4, -1)]


def test_more_than_is_read(store, monkeypatch):
    """Beyond what is read, the newest are reported and the report says so."""
    monkeypatch.setattr(searches, "MAX_SEARCHES", 2)
    answer = told(store, *((f"rr-{n}", search(severity="low")) for n in range(3)))
    assert (answer["truncated"], answer["questions"]) == (True, 2)
    assert answer["groups"][0]["remediation_ids"] == ["rr-2", "rr-1"]
