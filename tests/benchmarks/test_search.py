"""The search benchmark's parts: its synthetic catalogs, and that pgvector is asked what Data Storage is asked."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import _pgvector
from benchmarks._search_server import Numbered
from benchmarks._synthetic import (
    COMPONENTS,
    ENVIRONMENTS,
    PRIORITIES,
    SEVERITIES,
    SIGNALS,
    questions,
    real_incidents,
    real_workflows,
    workflows,
)
from catalog import match
from catalog.embed import Lexicon
from catalog.search import document_text
from kubernaut_ray.contracts.catalog import SearchFilters
from tests import build

REAL = real_workflows()


def test_workflows_are_the_same_each_time_and_all_different() -> None:
    """A number gives one workflow, wherever a catalog begins; no two have one id or one vector."""
    made = list(workflows(300, REAL))
    assert made[120:123] == list(workflows(3, REAL, first=120))
    assert len({w.workflow_id for w in made}) == 300
    assert len(np.unique(Lexicon().embed([document_text(w) for w in made]), axis=0)) == 300
    assert made[7] == Numbered().workflow("registry.invalid/number:7")[0]


def test_questions_leave_from_all_to_next_to_nothing() -> None:
    """Every text is another; each share of the catalog comes in its turn and is about what it says."""
    asked = questions(120, real_incidents())
    assert asked == questions(120, real_incidents())
    assert len({q.request.query for q in asked}) == 120
    made = list(workflows(1500, REAL))
    for share in sorted({q.share for q in asked}):
        facts = [q.request.filters for q in asked if q.share == share]
        left = sum(not match.refusal(w.labels, f) for f in facts for w in made) / len(facts) / len(made)
        assert share / 3 <= left <= share * 1.1


label = st.one_of(
    st.just("*"), st.just(""), st.sampled_from(["Critical", "prod", "apps/v1/Deployment", "P0", "medium"]),
    st.lists(st.sampled_from([*SEVERITIES, *ENVIRONMENTS, *COMPONENTS[:3], *PRIORITIES, *SIGNALS[:2], "*"]), max_size=3),
)  # fmt: skip
fact = st.sampled_from(["", "unknown", "critical", "Medium", "prod", "Deployment", "p0", SIGNALS[0]])


@given(
    st.fixed_dictionaries(dict.fromkeys(match.LABELS, label)), st.fixed_dictionaries(dict.fromkeys(match.LABELS, fact))
)
@settings(max_examples=200, deadline=None)
def test_pgvector_filters_as_the_matcher_does(labels: dict[str, Any], facts: dict[str, str]) -> None:
    """The row's label arrays overlap the statement's values exactly where the one matcher admits."""
    workflow = build.workflow(labels=labels)
    row = dict(zip(_pgvector.COLUMNS, _pgvector.row(workflow, np.zeros(512, dtype=np.float32)), strict=True))
    filters = SearchFilters(**facts)
    sql, values = _pgvector.statement(filters)
    tested = [name for name in match.LABELS if f"{name} && $" in sql]
    assert [sql.index(f"{name} && ${n}") > 0 for n, name in enumerate(tested, start=2)] == [True] * len(values)
    admitted = all(set(row[name]) & set(value) for name, value in zip(tested, values, strict=True))
    assert admitted == (not match.refusal(workflow.labels, filters))


def test_vectors_are_sent_as_pgvector_has_them() -> None:
    """Dimensions, two bytes unused, then the numbers, the most significant byte first."""
    assert _pgvector._encoded(np.asarray([1.0, -2.0], dtype=np.float32)).hex() == "000200003f800000c0000000"


@pytest.mark.parametrize("first", [0, 5])
def test_numbers_go_on(first: int) -> None:
    """Registrations during a run take the numbers after the catalog's."""
    assert [w.workflow_name.rpartition("-")[2] for w in islice(workflows(9, REAL, first=first), 2)] == [
        str(first),
        str(first + 1),
    ]
