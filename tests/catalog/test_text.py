"""Text to terms."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.text import stem, terms


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("CrashLoopBackOff", {"crashloopbackoff", "crash", "loop", "back"}),
        ("the OOMKilled containers", {stem("oomkilled"), "oom", stem("killed"), stem("containers")}),
        ("worker-5ccfd4c787-2knkh0 at 14:38:20Z", {stem("worker")}),
        ("rr-6372c283dab9", {"rr"}),
        ("PodDisruptionBudget minAvailable", {"pod", "disrupt", "budget", "min", stem("available")}),
        ("", set()),
        ("-- && ; 137", set()),
    ],
    ids=[
        "an identifier is itself and its parts",
        "endings and stop words go",
        "generated names and clock times go",
        "generated suffixes go",
        "camel case is taken apart",
        "nothing gives nothing",
        "punctuation and numbers give nothing",
    ],
)
def test_terms(text, expected):
    """Documents and queries are read the same way."""
    assert expected <= set(terms(text))
    assert bool(expected) == bool(terms(text))


@pytest.mark.parametrize("forms", [("increase", "increases", "increased", "increasing"), ("scheduling", "scheduled")])
def test_forms_of_a_word_meet(forms):
    """Inflected forms share a stem."""
    assert len({stem(form) for form in forms}) == 1


@given(st.text())
def test_terms_never_fail(text):
    """Any text is read; terms are lower case and never empty."""
    assert all(term and term == term.lower() for term in terms(text))
