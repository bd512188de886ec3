"""Transition tables: legal edges pass, everything else raises."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubernaut_ray.control.phases import PhaseTable
from kubernaut_ray.crds.enums import WorkflowExecutionPhase
from kubernaut_ray.errors import IllegalTransition

TABLE = PhaseTable(
    "Door",
    {
        "": {"Open": "it was built open"},
        "Open": {"Closed": "somebody closed it", "Broken": "somebody slammed it"},
        "Closed": {"Open": "somebody opened it"},
        "Broken": {},
    },
)


def test_legal_edges_and_staying_pass() -> None:
    """Every edge of the table is legal, and so is staying."""
    for old, new in (("", "Open"), ("Open", "Closed"), ("Closed", "Open"), ("Open", "Open"), ("", "")):
        TABLE.check(old, new)
    assert TABLE.why("Open", "Broken") == "somebody slammed it"
    assert TABLE.why("Open", "Open") == ""


@given(
    st.sampled_from(["", "Open", "Closed", "Broken", "Gone"]), st.sampled_from(["", "Open", "Closed", "Broken", "Gone"])
)
def test_what_the_table_lacks_raises(old: str, new: str) -> None:
    """check raises exactly for the pairs that are neither an edge nor a stay."""
    legal = new in TABLE.edges.get(old, {}) or (old == new and old in TABLE.phases)
    if legal:
        TABLE.check(old, new)
    else:
        with pytest.raises(IllegalTransition, match="Door: no transition"):
            TABLE.check(old, new)


def test_terminal_phases_are_those_without_a_way_out() -> None:
    """A phase that maps to nothing is terminal; the initial one never is."""
    assert TABLE.terminal == frozenset({"Broken"})


def test_the_diagram_shows_every_edge() -> None:
    """The picture is drawn from the table."""
    diagram = TABLE.diagram()
    assert "Open               → Closed             somebody closed it" in diagram
    assert diagram.endswith("terminal: Broken")


def test_enum_words_are_accepted() -> None:
    """Phases may be written as the enum's members and asked for as text."""
    p = WorkflowExecutionPhase
    table = PhaseTable(
        "WorkflowExecution",
        {
            "": {p.PENDING: "new"},
            p.PENDING: {p.RUNNING: "the run exists", p.FAILED: "it cannot start"},
            p.RUNNING: {p.COMPLETED: "done", p.FAILED: "failed"},
        },
        known=frozenset(p),
    )
    table.check("Pending", p.RUNNING)
    assert table.terminal == {"Completed", "Failed"}


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        pytest.param({"A": {"B": "x"}}, "initial phase", id="no initial phase"),
        pytest.param({"": {"A": "x"}, "B": {"A": "y"}}, "no way leads to B", id="an unreachable phase"),
    ],
)
def test_broken_tables_are_refused(edges: dict[str, dict[str, str]], message: str) -> None:
    """A table that cannot be right is refused when it is made."""
    with pytest.raises(ValueError, match=message):
        PhaseTable("Broken", edges)


def test_a_table_that_forgets_a_word_is_refused() -> None:
    """With the vocabulary given, table and vocabulary must agree."""
    with pytest.raises(ValueError, match="differ in Running"):
        PhaseTable("X", {"": {"Pending": "new"}}, known=frozenset({"Pending", "Running"}))
