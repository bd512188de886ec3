"""Search over a snapshot: filters, order, explanation, and that a snapshot survives its journey as bytes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.embed import Lexicon
from catalog.lexical import Lexical
from catalog.search import document_text
from catalog.snapshot import Snapshot, load, pack
from kubernaut_ray.contracts.catalog import (
    SearchFilters,
    SearchRequest,
    Workflow,
    WorkflowDescription,
    WorkflowLabels,
)
from kubernaut_ray.crds.enums import WorkflowStatus
from kubernaut_ray.errors import Permanent, Retryable
from tests import build

EMBEDDER = Lexicon()


def described(name: str, action: str, what: str, when: str, **fields: object) -> Workflow:
    return build.workflow(
        name, action_type=action, description=WorkflowDescription(what=what, when_to_use=when), **fields
    )


CATALOG = (
    described("grow", "IncreaseMemoryLimits", "Raises container memory limits", "Containers are OOMKilled, exit code 137"),
    described("back", "RollbackDeployment", "Rolls back a Deployment", "A new image or command crashes on start"),
    described("budget", "RelaxPDB", "Lowers minAvailable", "A PodDisruptionBudget allows no disruption and blocks a drain"),
    described("replicas", "ScaleReplicas", "Scales a Deployment out", "Load is higher than the replicas can take"),
    described("volume", "ExpandVolume", "Expands a PersistentVolumeClaim", "A volume is nearly full"),
    described("node", "CordonDrainNode", "Cordons and drains a node", "A node is NotReady for long"),
    described("pull", "RefreshPullSecret", "Recreates an image pull secret", "ImagePullBackOff with expired credentials"),
    described("mesh", "FixAuthorizationPolicy", "Removes an Istio AuthorizationPolicy", "Meshed traffic is denied with 403"),
)  # fmt: skip


def snapshot(workflows: tuple[Workflow, ...] = CATALOG, version: int = 7) -> Snapshot:
    vectors = EMBEDDER.embed([document_text(w) for w in workflows])
    if not workflows:
        vectors = np.zeros((0, EMBEDDER.dimension), dtype=np.float32)
    return load(pack(version, EMBEDDER.fingerprint, workflows, vectors), EMBEDDER)


def names(answer) -> list[str]:
    return [hit.workflow.workflow_name for hit in answer.hits]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("KubePodOOM the process was killed with exit code 137, its limit of 128Mi is too small", "grow"),
        ("pods of the new ReplicaSet abort at once since the entrypoint was overridden by a patch", "back"),
        ("eviction is refused as minAvailable equals the replica count", "budget"),
        ("disk of the database claim will have no space left within the hour", "volume"),
        ("kubelet stopped posting status, the machine is gone", "node"),
        ("ErrImagePull: registry says authentication required", "pull"),
        ("RBAC: access denied by the sidecar proxy between two services in the mesh", "mesh"),
    ],
)
def test_finds_by_meaning_and_words(query, expected):
    """What an investigation writes finds the workflow that fits, though they share few words."""
    assert expected == names(snapshot().search(SearchRequest(query=query)))[0]


def test_breakdown_adds_up():
    """The parts of a score, the penalty subtracted, are the score; hits are ranked by it."""
    filters = SearchFilters(severity="critical", detected_labels={"gitOpsManaged": True})
    answer = snapshot().search(SearchRequest(query="OOMKilled", filters=filters))
    for hit in answer.hits:
        parts = hit.score_breakdown
        total = parts.semantic + parts.lexical + parts.labels + parts.detected + parts.custom - parts.penalty
        assert hit.score == pytest.approx(max(0.0, total), abs=1e-5)
    assert sorted((h.score for h in answer.hits), reverse=True) == [h.score for h in answer.hits]
    assert list(range(1, len(CATALOG) + 1)) == [h.rank for h in answer.hits]
    assert (8, 7, EMBEDDER.fingerprint) == (answer.total_matched, answer.snapshot_version, answer.embedder)


def test_labels_rule_out_and_explain():
    """A contradicted label keeps the best text out of the answer, and ``explain`` says so."""
    narrow = CATALOG[0].model_copy(update={"labels": WorkflowLabels(environment="staging")})
    request = SearchRequest(
        query="OOMKilled memory limit", filters=SearchFilters(environment="Production"), top_k=2, explain=True
    )
    answer = snapshot((narrow, *CATALOG[1:])).search(request)
    assert "grow" not in names(answer)
    assert answer.total_matched == 7
    reasons = {e.workflow_name: e.reason for e in answer.excluded}
    assert reasons["grow"] == "environment is production; the workflow is for staging"
    assert {"admitted by its labels, but scored below the workflows in the answer"} == set(reasons.values()) - {
        reasons["grow"]
    }
    assert len(answer.excluded) == 6


def test_precise_label_wins_between_equals():
    """Of two workflows that read the same, the one that names the fact comes before the one that takes anything."""
    exact = build.workflow("zzz", labels=WorkflowLabels(severity="critical"))
    loose = build.workflow("aaa", labels=WorkflowLabels())
    answer = snapshot((exact, loose)).search(
        SearchRequest(query="OOMKilled", filters=SearchFilters(severity="critical"))
    )
    assert names(answer) == ["zzz", "aaa"]


def test_equal_scores_are_ordered_by_id():
    """Ties do not depend on the order of registration."""
    twins = tuple(build.workflow(name) for name in ("one", "two", "three", "four"))
    expected = [w.workflow_name for w in sorted(twins, key=lambda w: w.workflow_id)]
    assert expected == names(snapshot(twins).search(SearchRequest(query="OOMKilled")))
    assert expected == names(snapshot(twins[::-1]).search(SearchRequest(query="OOMKilled")))


def test_disabled_and_old_versions_are_left_out():
    """Only the newest active version is offered, unless the caller asks for all."""
    old = build.workflow("grow", "1.0.0", is_latest_version=False)
    off = build.workflow("off", status=WorkflowStatus.DISABLED, disabled_reason="it broke prod")
    taken = snapshot((old, off, build.workflow("grow", "1.1.0")))
    answer = taken.search(SearchRequest(query="OOMKilled", explain=True))
    assert [hit.workflow.version for hit in answer.hits] == ["1.1.0"]
    assert {"a newer version of it is registered", "it is disabled: it broke prod"} == {
        e.reason for e in answer.excluded
    }
    assert len(taken.search(SearchRequest(query="OOMKilled", include_disabled=True)).hits) == 3


@pytest.mark.parametrize(
    ("request_", "count"),
    [
        (SearchRequest(query="OOMKilled", min_score=0.99), 0),
        (SearchRequest(query="OOMKilled", top_k=3), 3),
        (SearchRequest(query="zzzz qqqq"), 8),
        (SearchRequest(query="OOMKilled", filters=SearchFilters(component="Deployment")), 8),
    ],
)
def test_how_many(request_, count):
    """``min_score`` and ``top_k`` cut; a query without meaning still answers by labels."""
    assert count == len(snapshot().search(request_).hits)


def test_empty_catalog_answers():
    """Nothing registered is an answer, not a failure."""
    answer = snapshot(()).search(SearchRequest(query="OOMKilled", explain=True))
    assert (answer.hits, answer.total_matched) == ((), 0)


def test_another_embedders_snapshot_is_refused():
    """Vectors of different embedders are never compared."""
    data = pack(1, "some-model-512", CATALOG, EMBEDDER.embed([document_text(w) for w in CATALOG]))
    with pytest.raises(Retryable, match="some-model-512"):
        load(data, EMBEDDER)
    with pytest.raises(Permanent, match="no catalog snapshot"):
        load(b"{}", EMBEDDER)


def test_filter_keeps_recall_exact():
    """Among many, the nearest under a narrow filter are exactly those of a full scan."""
    many = tuple(
        build.workflow(
            f"w{n}",
            description=WorkflowDescription(what=f"{CATALOG[n % 8].description.what} number {n}"),
            labels=WorkflowLabels(priority="P0" if n % 50 == 0 else "P1"),
        )
        for n in range(500)
    )
    index = snapshot(many).index
    query = EMBEDDER.embed(["a volume is full"])[0]
    mask = index.admitted(SearchFilters(priority="P0"), include_disabled=False)
    positions = np.flatnonzero(mask)
    exact = positions[np.argsort(-index.similarity(query, positions), kind="stable")]
    found = index.nearest(query, mask, 5)
    assert len(positions) == 10
    assert index.similarity(query, exact[:5]).tolist() == pytest.approx(index.similarity(query, found).tolist())


class Away:
    """The embedder of the snapshot, which cannot be reached now."""

    fingerprint, dimension = EMBEDDER.fingerprint, EMBEDDER.dimension

    def embed(self, texts):
        raise Retryable("embeddings endpoint http://model did not answer: ConnectError")


def test_without_meaning_words_and_labels_answer():
    """A query that cannot be embedded now is answered by words, at the same scale, and the answer says so."""
    vectors = EMBEDDER.embed([document_text(w) for w in CATALOG])
    taken = load(pack(7, EMBEDDER.fingerprint, CATALOG, vectors), Away())
    answer = taken.search(SearchRequest(query="OOMKilled, exit code 137", min_score=0.2))
    assert names(answer) == ["grow"]
    assert "did not answer" in answer.degraded
    assert answer.hits[0].score_breakdown.semantic == 0
    full = snapshot().search(SearchRequest(query="OOMKilled, exit code 137"))
    assert full.degraded == ""
    assert answer.hits[0].score_breakdown.lexical == pytest.approx(2 * full.hits[0].score_breakdown.lexical, abs=1e-5)


@given(st.text(max_size=200))
@settings(max_examples=50, deadline=None)
def test_vectors_are_unit_and_repeatable(text):
    """Any text gives one finite vector of length 1 or 0, the same each time."""
    first, second = EMBEDDER.embed([text])[0], EMBEDDER.embed([text, "other"])[0]
    assert np.array_equal(first, second)
    assert float(np.linalg.norm(first)) == pytest.approx(1.0, abs=1e-5) or not first.any()


def test_denied_symptoms_do_not_count():
    """Saying that something is not the case does not look like saying that it is."""
    said, denied, other = EMBEDDER.embed(
        ["the container was OOMKilled", "the container was not OOMKilled", "memory limit too low, exit code 137"]
    )
    assert other @ said > other @ denied


def test_lexical_scores_are_shares():
    """Scores lie in 0 to 1 whatever the query's length, and unknown terms change nothing."""
    lexical = Lexical.build([{"memory": 2.0, "limit": 1.0}, {"node": 1.0}])
    assert lexical.scores(["memory", "limit"])[0] > lexical.scores(["node", "limit"])[0]
    assert lexical.scores(["memory"]).tolist() == lexical.scores(["memory", "unheardof"]).tolist()
    assert not lexical.scores([]).any()
    assert 0 <= lexical.scores(["memory"] * 50).max() <= 1
