"""Why one workflow is, or is not, in the answer of a search."""

from __future__ import annotations

from typing import Any

import pytest

from catalog.embed import Lexicon
from catalog.search import document_text
from catalog.snapshot import Snapshot, load, pack
from kubernaut_ray.contracts.catalog import SearchRequest, Workflow, WorkflowDescription, WorkflowLabels
from kubernaut_ray.crds.enums import WorkflowStatus
from tests import build

MEMORY = build.workflow(
    labels=WorkflowLabels(signal_type="OOMKilled", severity=("critical", "high"), environment="staging")
)
QUERY = "OOMKilled critical increase memory limit"


def shelf(*workflows: Workflow) -> Snapshot:
    embedder = Lexicon()
    vectors = embedder.embed([document_text(w) for w in workflows])
    return load(pack(1, embedder.fingerprint, workflows, vectors), embedder)


def other(name: str, what: str = "Restarts something", **fields: Any) -> Workflow:
    return build.workflow(name, action_type="Restart", description=WorkflowDescription(what=what), **fields)


def ask(snapshot: Snapshot, wanted: str, **request: Any):
    return snapshot.search(SearchRequest(query=QUERY, explain_workflow=wanted, **request))


@pytest.mark.parametrize("wanted", [MEMORY.workflow_name, MEMORY.workflow_id, f" {MEMORY.workflow_name} "])
def test_one_in_the_answer(wanted):
    """By name or id: its rank, score and breakdown are those of its hit, and there is no reason against it."""
    answer = ask(shelf(MEMORY, other("restart")), wanted)
    told, hit = answer.explanation, answer.hits[0]
    assert (told.offered, told.reasons) == (True, ())
    assert (told.workflow_id, told.rank, told.score, told.score_breakdown) == (
        MEMORY.workflow_id, hit.rank, hit.score, hit.score_breakdown,
    )  # fmt: skip


def test_every_label_that_rules_it_out_is_told():
    """Not the first reason alone: who mends one label should not find the next one after it."""
    filters = {"signal_type": "CrashLoopBackOff", "severity": "low", "environment": "prod", "component": "pod"}
    told = ask(shelf(MEMORY), MEMORY.workflow_name, filters=filters).explanation
    assert not told.offered
    assert told.rank is None
    assert told.score > 0
    assert [reason.split()[0] for reason in told.reasons] == ["signal_type", "severity", "environment"]


def test_status_comes_first():
    """A disabled workflow says who is to blame, and what else would rule it out; include_disabled lifts the first."""
    off = MEMORY.model_copy(update={"status": WorkflowStatus.DISABLED, "disabled_reason": "broke prod"})
    snapshot = shelf(off)
    told = ask(snapshot, off.workflow_name, filters={"environment": "production"}).explanation
    assert told.reasons == ("it is disabled: broke prod", "environment is production; the workflow is for staging")
    assert told.status is WorkflowStatus.DISABLED
    assert ask(snapshot, off.workflow_name, include_disabled=True).explanation.offered


def test_old_version():
    """A name is its newest version; an older one is asked about by its id."""
    old = MEMORY.model_copy(update={"is_latest_version": False})
    new = build.workflow(version="2.0.0")
    assert ask(shelf(old, new), MEMORY.workflow_name).explanation.version == "2.0.0"
    assert ask(shelf(old, new), old.workflow_id).explanation.reasons == ("a newer version of it is registered",)


def test_below_the_others():
    """Its place and score are told, and where the answer ended."""
    snapshot = shelf(MEMORY, other("restart-a", "Memory limit increase"), other("restart-b"))
    answer = ask(snapshot, "restart-b", top_k=1)
    told = answer.explanation
    assert (told.offered, told.rank) == (False, 3)
    assert f"top_k 1 ended at score {answer.hits[0].score:.3f}" in told.reasons[0]
    low = ask(snapshot, "restart-b", min_score=0.99).explanation
    assert "below min_score 0.99" in low.reasons[0]


def test_not_among_the_nearest():
    """Of many, one that is neither near nor shares a word was never scored against the others; its score is told all the same."""
    near = [other(f"memory-{n}", "OOMKilled memory limit increase") for n in range(300)]
    told = ask(shelf(other("far", "zzz qqq"), *near), "far").explanation
    assert (told.offered, told.rank) == (False, None)
    assert "neither among the nearest" in told.reasons[0]
    assert told.score < 0.5


def test_unknown_name():
    """A misspelt name is told with those that are like it; nothing is made up."""
    told = ask(shelf(MEMORY), "increase-memory-limit").explanation
    assert (told.workflow_id, told.offered, told.score) == ("", False, None)
    assert MEMORY.workflow_name in told.reasons[0]
    assert "list the catalog" in ask(shelf(MEMORY), "zzz").explanation.reasons[0]


def test_not_asked():
    """Without the question there is no explanation."""
    assert shelf(MEMORY).search(SearchRequest(query=QUERY)).explanation is None
