"""A model's answer is read whatever its clothes, and never read as something it does not say."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubernaut_ray.crds.enums import RcaSeverity
from serve_apps.holmesgpt.parse import InvestigationOutcome, Unparseable, parse_answer

ANSWER = {
    "root_cause_analysis": {"summary": "out of memory", "severity": "high", "contributing_factors": ["leak"], "signal_type": "OOMKilled"},
    "selected_workflow": {"workflow_id": "wf-1", "confidence": 0.9, "parameters": {"MEMORY_LIMIT": "256Mi"}, "rationale": "fits"},
}  # fmt: skip
BODY = json.dumps(ANSWER)


@pytest.mark.parametrize(
    "text",
    [
        f"It ran out of memory.\n\n```json\n{BODY}\n```\n",
        f"```\n{BODY}\n```",
        f"```json\n{BODY}",
        BODY,
        f"Here it is: {BODY} I hope this helps.",
        f"I first thought of {{this}}.\n```json\n{BODY}\n```",
        f'A draft:\n```json\n{{"root_cause_analysis": {{"summary": "first guess"}}}}\n```\nFinal:\n```json\n{BODY}\n```',
        BODY.replace('"fits"}', '"fits",}'),
        json.dumps({"rca_summary": "out of memory", "severity": "high", "signal_name": "OOMKilled", "contributing_factors": ["leak"],
                    "workflow_id": "wf-1", "confidence": "90%", "parameters": {"MEMORY_LIMIT": "256Mi"}, "rationale": "fits"}),
        json.dumps({**ANSWER, "selected_workflow": "wf-1", "confidence": 90, "parameters": [{"name": "MEMORY_LIMIT", "value": "256Mi"}], "rationale": "fits"}),
    ],
    ids=["prose and a fence", "a fence without a language", "a fence never closed", "bare JSON", "JSON inside prose",
         "braces in the prose", "a draft before the answer", "a trailing comma", "the flat form", "a bare workflow id"],
)  # fmt: skip
def test_reads_all_forms(text: str) -> None:
    """One meaning in ten forms."""
    answer = parse_answer(text)

    assert answer.root_cause.summary == "out of memory"
    assert answer.root_cause.severity is RcaSeverity.HIGH
    assert answer.root_cause.signal_type == "OOMKilled"
    assert answer.root_cause.contributing_factors == ("leak",)
    assert answer.selection is not None
    assert (answer.selection.workflow_id, answer.selection.confidence) == ("wf-1", 0.9)
    assert answer.selection.parameters == {"MEMORY_LIMIT": "256Mi"}
    assert answer.selection.rationale == "fits"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "The pod is out of memory, raise the limit.",
        "```json\n{not json at all\n```",
        '{"answer": 42}',
        BODY[:-20],
        '{"selected_workflow": {"workflow_id": "wf-1", "confidence": 0.9}}',
        '{"root_cause_analysis": {"severity": "high"}}',
        "[" * 5000,
    ],
    ids=[
        "nothing",
        "prose only",
        "broken JSON",
        "another object",
        "cut off",
        "no root cause",
        "no summary",
        "deep nesting",
    ],
)
def test_refuses_what_is_no_answer(text: str) -> None:
    """Unparseable is told as such, with a problem that a model can act on; it is never "no workflow"."""
    with pytest.raises(Unparseable) as caught:
        parse_answer(text)

    assert caught.value.problems


@pytest.mark.parametrize(
    ("given", "read"),
    [(0.5, 0.5), ("0.85", 0.85), ("85 %", 0.85), (85, 0.85), (1, 1.0), ("high", 0.85), (None, None), (True, None), (-1, None),
     (1000, None), ("maybe", None), ([], None)],
)  # fmt: skip
def test_reads_confidences(given: object, read: float | None) -> None:
    """Confidences come as numbers, percents and words."""
    answer = parse_answer(json.dumps({"root_cause_analysis": {"summary": "x"}, "confidence": given}))

    assert answer.confidence == read


@pytest.mark.parametrize(
    ("word", "severity"),
    [("critical", "critical"), ("WARNING", "medium"), ("info", "low"), ("unknown", "unknown"), ("odd", "unknown"), (None, "unknown")],
)  # fmt: skip
def test_reads_severities(word: str | None, severity: str) -> None:
    """Other vocabularies are mapped; what is not known is unknown, never an error."""
    answer = parse_answer(json.dumps({"root_cause_analysis": {"summary": "x", "severity": word}}))

    assert answer.root_cause.severity == severity


@pytest.mark.parametrize(
    ("word", "outcome"),
    [("resolved", InvestigationOutcome.RESOLVED), ("Inconclusive", InvestigationOutcome.INCONCLUSIVE), ("", InvestigationOutcome.NONE),
     ("actionable", InvestigationOutcome.NONE), (None, InvestigationOutcome.NONE)],
)  # fmt: skip
def test_reads_outcomes(word: str | None, outcome: InvestigationOutcome) -> None:
    """The special outcomes are recognised; other words mean that there is a workflow or none."""
    assert parse_answer(json.dumps({"rca_summary": "x", "investigation_outcome": word})).outcome is outcome


@pytest.mark.parametrize("chosen", [None, {}, "", {"workflow_id": "null"}, {"workflow_id": None}])
def test_no_workflow_is_no_selection(chosen: object) -> None:
    """A null workflow in any spelling selects nothing."""
    assert parse_answer(json.dumps({**ANSWER, "selected_workflow": chosen})).selection is None


def test_parameters_become_text() -> None:
    """Tekton takes text: numbers, booleans and lists are written as it wants them, null is not given."""
    given = {"A": 3, "B": True, "C": ["x", 1], "D": 2.0, "E": None, "F": 0.5}

    answer = parse_answer(json.dumps({**ANSWER, "selected_workflow": {"workflow_id": "w", "parameters": given}}))

    assert answer.selection is not None
    assert answer.selection.parameters == {"A": "3", "B": "true", "C": '["x", "1"]', "D": "2", "F": "0.5"}


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=10), lambda c: st.lists(c, max_size=3) | st.dictionaries(
    st.sampled_from(["root_cause_analysis", "summary", "severity", "selected_workflow", "workflow_id", "confidence", "parameters",
                     "alternative_workflows", "contributing_factors", "recovery_analysis", "affected_resource", "evidence"]), c, max_size=5)))  # fmt: skip
def test_any_json_is_read_or_refused(value: object) -> None:
    """Whatever JSON comes, the answer is a value or ``Unparseable``."""
    try:
        answer = parse_answer(json.dumps(value))
    except Unparseable:
        return

    assert answer.selection is None or 0 <= answer.selection.confidence <= 1
