"""The search answers as a plain implementation does that looks at every record, whatever way it takes there."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog import cells, index, lexical, match, outline, thesaurus
from catalog.draft import Draft
from catalog.embed import Lexicon, Remembering
from catalog.lexical import K1, MAX_QUERY_WEIGHT, B, Lexical
from catalog.search import (
    CUSTOM,
    DETECTED,
    DIGITS,
    LABELS,
    LEXICAL,
    PENALTY,
    SEMANTIC,
    document_terms,
    document_text,
)
from catalog.snapshot import Snapshot, load, pack
from catalog.text import terms
from kubernaut_ray.contracts.catalog import (
    SearchFilters,
    SearchRequest,
    SearchResponse,
    Workflow,
    WorkflowDescription,
    WorkflowLabels,
)
from kubernaut_ray.crds.enums import WorkflowStatus
from tests import build

EMBEDDER = Lexicon()
WORDS = (
    "OOMKilled",
    "memory",
    "limit",
    "rollback",
    "deployment",
    "node",
    "drain",
    "certificate",
    "expired",
    "pvc",
    "full",
)

values = {
    "severity": ("critical", "high", "warning", "info", "*"),
    "environment": ("production", "staging", "*"),
    "component": ("deployment", "pod", "apps/v1/Deployment", "*"),
    "priority": ("P0", "P1", "*"),
    "signal_type": ("OOMKilled", "KubeNodeNotReady", "*"),
}


def label(field: str) -> st.SearchStrategy[Any]:
    one = st.sampled_from(values[field])
    return one | st.lists(one, max_size=2).map(tuple)


labels = st.builds(
    WorkflowLabels,
    **{field: label(field) for field in values},
    detected=st.dictionaries(
        st.sampled_from(["gitOpsManaged", "stateful"]), st.sampled_from(["true", "*"]), max_size=2
    ),
    custom=st.dictionaries(st.just("team"), st.tuples(st.sampled_from(["a", "b", "*"])), max_size=1),
)
facts = st.builds(
    SearchFilters,
    **{field: st.sampled_from(("", "unknown", *values[field][:2])) for field in values},
    detected_labels=st.dictionaries(st.sampled_from(["gitOpsManaged", "stateful"]), st.booleans(), max_size=2),
    custom_labels=st.dictionaries(st.just("team"), st.tuples(st.sampled_from(["a", "b"])), max_size=1),
)
text = st.lists(st.sampled_from(WORDS), min_size=1, max_size=8).map(" ".join)


@st.composite
def catalogs(draw: st.DrawFn) -> tuple[Workflow, ...]:
    count = draw(st.integers(0, 40))
    return tuple(
        build.workflow(
            f"w{number}",
            description=WorkflowDescription(what=draw(text), when_to_use=draw(text)),
            labels=draw(labels),
            status=draw(st.sampled_from([WorkflowStatus.ACTIVE, WorkflowStatus.ACTIVE, WorkflowStatus.DISABLED])),
            is_latest_version=draw(st.sampled_from([True, True, False])),
        )
        for number in range(count)
    )


requests = st.builds(
    SearchRequest,
    query=text,
    filters=facts,
    top_k=st.sampled_from([1, 3, 10, 100]),
    min_score=st.sampled_from([0.0, 0.2]),
    include_disabled=st.booleans(),
)


def snapshot(workflows: tuple[Workflow, ...]) -> Snapshot:
    vectors = EMBEDDER.embed([document_text(w) for w in workflows])
    return load(pack(1, EMBEDDER.fingerprint, workflows, vectors), EMBEDDER)


def plain(workflows: tuple[Workflow, ...], request: SearchRequest) -> list[tuple[str, float]]:
    """Return ids and scores by looking at everything, in plain Python."""
    records = sorted(workflows, key=lambda w: w.workflow_id)
    bags = [document_terms(w) for w in records]
    words = plain_bm25(bags, terms(request.query))
    query = EMBEDDER.embed([request.query])[0]
    filters = request.filters
    found = []
    for record, word, vector in zip(records, words, EMBEDDER.embed([document_text(w) for w in records]), strict=True):
        if match.refusal(record.labels, filters):
            continue
        offered = record.status is WorkflowStatus.ACTIVE and record.is_latest_version
        if not (offered or request.include_disabled):
            continue
        known = [f for f in match.LABELS if match.canonical(f, getattr(filters, f))]
        strengths = [match.label(f, getattr(record.labels, f), getattr(filters, f)).strength for f in known]
        score = (
            SEMANTIC * max(0.0, float(vector @ query))
            + LEXICAL * word
            + LABELS * (sum(strengths) / len(known) if known else 0.0)
            + DETECTED * match.detected(record.labels.detected, filters.detected_labels).strength
            + CUSTOM * match.custom(record.labels.custom, filters.custom_labels).strength
            - PENALTY * match.penalty(record.labels.detected, filters.detected_labels)
        )
        found.append((record.workflow_id, min(1.0, max(0.0, score))))
    return found


def plain_bm25(bags: list[dict[str, float]], query: list[str]) -> list[float]:
    if not bags:
        return []
    lengths = [sum(bag.values()) for bag in bags]
    mean = sum(lengths) / len(bags) or 1.0
    holding = Counter(term for bag in bags for term in bag)
    asked = {t: min(MAX_QUERY_WEIGHT, math.sqrt(n)) for t, n in Counter(query).items() if t in holding}
    idf = {t: math.log(1 + (len(bags) - holding[t] + 0.5) / (holding[t] + 0.5)) for t in asked}
    most = sum(weight * idf[t] * (K1 + 1) for t, weight in asked.items()) or 1.0
    return [
        sum(
            weight * idf[t] * bag[t] * (K1 + 1) / (bag[t] + K1 * (1 - B + B * length / mean))
            for t, weight in asked.items()
            if t in bag
        )
        / most
        for bag, length in zip(bags, lengths, strict=True)
    ]


@given(catalogs(), requests)
@settings(max_examples=60, deadline=None)
def test_answers_are_those_of_a_plain_implementation(workflows: tuple[Workflow, ...], request: SearchRequest) -> None:
    """Same workflows, same scores to the rounding, ordered by score and then by id."""
    answer = snapshot(workflows).search(request)
    everything = dict(plain(workflows, request))
    assert len(everything) == answer.total_matched
    got = [(hit.workflow.workflow_id, hit.score) for hit in answer.hits]
    assert sorted(got, key=lambda one: (-one[1], one[0])) == got
    assert [everything[i] for i, _ in got] == pytest.approx([score for _, score in got], abs=4 * 10**-DIGITS)
    admitted = sorted((s for s in everything.values() if s >= request.min_score + 1e-5), reverse=True)[: request.top_k]
    assert [score for _, score in got][: len(admitted)] == pytest.approx(admitted, abs=4 * 10**-DIGITS)


@given(catalogs(), requests, st.booleans())
@settings(max_examples=40, deadline=None)
def test_rendered_as_the_model_would_be(workflows: tuple[Workflow, ...], request: SearchRequest, explain: bool) -> None:
    """The JSON that is put together from the records' is that of the response model; records survive the journey."""
    asked = request.model_copy(update={"explain": explain})
    found = snapshot(workflows).find(asked)
    assert found.response().model_dump(mode="json", exclude_none=True) == orjson.loads(found.to_json())
    assert found.response() == SearchResponse.model_validate_json(found.to_json())
    originals = {w.workflow_id: w.model_copy(update={"content": ""}) for w in workflows}
    assert all(originals[hit.workflow.workflow_id] == hit.workflow for hit in found.response().hits)


@given(catalogs(), st.data())
@settings(max_examples=30, deadline=None)
def test_a_draft_that_grew_answers_as_one_made_at_once(workflows: tuple[Workflow, ...], data: st.DataObject) -> None:
    """However the records came in, in how many snapshots, and whatever they were before."""
    draft = Draft()
    left = list(data.draw(st.permutations(workflows)))
    while left:
        part = [left.pop() for _ in range(data.draw(st.integers(1, len(left))))]
        before = [w.model_copy(update={"status": WorkflowStatus.DISABLED, "total_executions": 3}) for w in part]
        for once in (before, part):
            draft.put(zip(once, EMBEDDER.embed([document_text(w) for w in once]), strict=True))
            draft.render(1, EMBEDDER.fingerprint, EMBEDDER.dimension)
    grown = load(draft.render(1, EMBEDDER.fingerprint, EMBEDDER.dimension), EMBEDDER)
    request = data.draw(requests)
    assert snapshot(workflows).find(request).hits == grown.find(request).hits


bags = st.lists(
    st.dictionaries(st.sampled_from("abcdefghij"), st.sampled_from([1.0, 2.0, 3.0]), max_size=6),
    min_size=1,
    max_size=30,
)


@given(bags, st.lists(st.sampled_from("abcdefghijk"), max_size=12), st.data())
@settings(max_examples=60, deadline=None)
def test_words_looked_up_either_way_score_the_same(
    made: list[dict[str, float]], query: list[str], data: st.DataObject
) -> None:
    """By postings, by rows of common words, or in the bags of the documents asked about: to the last bit."""
    lists = Lexical.build(made)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lexical, "COMMON_FROM", 0)
        rows = Lexical.build(made)
    asked = np.asarray(sorted(data.draw(st.sets(st.integers(0, len(made) - 1)))), dtype=np.int64)
    scores = lists.scores(query)
    assert scores.tolist() == rows.scores(query).tolist()
    assert scores[asked].tolist() == lists.scores_of(lists.asked(query), asked).tolist()
    assert plain_bm25(made, query) == pytest.approx(scores.tolist(), abs=1e-6)


@given(st.lists(st.sampled_from([0.0, 0.1, 0.2, 0.3]), max_size=40), st.integers(1, 10))
def test_best_are_the_first_of_equals(scores: list[float], count: int) -> None:
    """As a stable sort has them, those above 0."""
    given_ = np.asarray(scores, dtype=np.float32)
    order = [n for n in np.argsort(-given_, kind="stable").tolist() if given_[n] > 0][:count]
    assert sorted(order) == lexical.best(given_, count).tolist()
    if len(order) == count:
        assert sorted(order) == lexical.best(given_, count, floor=float(given_[order].min())).tolist()


@given(st.lists(st.integers(0, 2**18)))
def test_radix_order_is_stable(keys: list[int]) -> None:
    """In two passes of sixteen bits, or one."""
    array = np.asarray(keys, dtype=np.int32)
    assert np.argsort(array, kind="stable").tolist() == lexical._stable_order(array).tolist()


PIECES = (
    "oom kill", "exit code 137", "crashloopbackoff", "secret ", "does not exist", "not ", "é", "naïve", "—", " ", "\n", "\x1c",
    "pvc ", "is ", "exhausted", "max replicas", "node", "not ready", "_", "0", "tls", "x509", "10", "Ω", "½", "\u00a0",
)  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), max_size=20).map("".join) | st.text(max_size=60))
@settings(max_examples=300, deadline=None)
def test_one_pass_finds_every_concept(said: str) -> None:
    """The automaton names no concept less than the patterns one by one, in any script."""
    lowered = said.lower()
    spoken = {n for n, concept in enumerate(thesaurus.CONCEPTS) if concept.pattern.search(lowered)}
    assert spoken <= set(thesaurus.spoken_of(lowered))
    each = {
        n: [m.start() for m in concept.pattern.finditer(lowered)]
        for n, concept in enumerate(thesaurus.CONCEPTS)
        if n in spoken
    }
    assert each == {place: starts for place, starts in thesaurus.said_in(lowered) if starts}


def many(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return unit vectors in clusters, as texts of a few kinds are, and queries near some."""
    dice = np.random.default_rng(seed)
    centres = dice.normal(size=(30, 64))
    rows = centres[dice.integers(0, 30, count)] + 0.7 * dice.normal(size=(count, 64))
    asked = rows[dice.integers(0, count, 100)] + 0.3 * dice.normal(size=(100, 64))
    return tuple(  # type: ignore[return-value]
        (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32) for x in (rows, asked)
    )


def flat(vectors: np.ndarray, *, celled: bool) -> index.Index:
    """Return an index of nothing but vectors."""
    whole = snapshot(()).index
    numbers = cells.assign(vectors, vectors[: cells.landmarks(len(vectors))]) if celled else np.zeros(0, np.uint16)
    whole.vectors = vectors
    whole._cells = cells.Cells(vectors, numbers) if celled else None
    return whole


@pytest.mark.parametrize("share", [1.0, 0.5, 0.1, 0.01])
def test_cells_lose_next_to_nothing(monkeypatch: pytest.MonkeyPatch, share: float) -> None:
    """Of a large catalog's hundred nearest, 99 in a hundred are found however much a filter leaves; of a few left, all."""
    monkeypatch.setattr(index, "EXACT_UP_TO", 1200)
    vectors, asked = many(9000, 1)
    mask = np.random.default_rng(2).random(9000) < share
    near, exact = flat(vectors, celled=True), flat(vectors, celled=False)
    shares = []
    for query in asked:
        found, wanted = near.nearest(query, mask, 10), exact.nearest(query, mask, 10)
        assert mask[found].all()
        assert len(wanted) == len(found)
        shares.append(len(set(found.tolist()) & set(wanted.tolist())) / len(wanted))
    assert np.mean(shares) >= (0.99 if mask.sum() > 1200 else 1.0)


@given(st.integers(1, 400), st.floats(0.01, 1.0), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_cells_give_what_was_asked_for(wanted: int, share: float, seed: int) -> None:
    """At least so many, or all that are left; only admitted ones, rising."""
    vectors, asked = many(600, seed)
    mask = np.random.default_rng(seed).random(600) < share
    left = int(mask.sum())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cells, "MIN_RECORDS", 100)
        numbers = cells.assign(vectors, vectors[: cells.landmarks(600)])
        found = cells.Cells(vectors, numbers).near(asked[0], mask, max(1, left), wanted)
    assert min(wanted, left) <= len(found) <= left
    assert mask[found].all()
    assert (np.diff(found) > 0).all()


def test_equal_queries_are_embedded_once() -> None:
    """A text asked about again costs nothing; several at a time are passed on."""
    seen: list[str] = []

    class Counting(Lexicon):
        def embed(self, texts: Any) -> Any:
            seen.extend(texts)
            return super().embed(texts)

    remembering = Remembering(Counting(), texts=2)
    first = remembering.embed(["a node"])
    assert np.array_equal(first, remembering.embed(["a node"]))
    assert np.array_equal(first[0], EMBEDDER.embed(["a node"])[0])
    remembering.embed(["a node", "a pod"])
    assert seen == ["a node", "a node", "a pod"]
    assert (EMBEDDER.fingerprint, 512, False) == (remembering.fingerprint, remembering.dimension, remembering.slow)


@pytest.mark.parametrize("share", [1.0, 0.5, 0.2])
def test_outlines_lose_next_to_nothing(share: float) -> None:
    """Of the ten nearest of many, 99 in a hundred are among those that their outlines speak for, and few others are."""
    dice = np.random.default_rng(3)
    vectors, asked = many(9000, 1)
    # As texts have it: a few directions in a space of many.
    turned = np.linalg.qr(dice.normal(size=(256, 256)))[0][:64].astype(np.float32)
    vectors, asked = vectors @ turned, asked @ turned
    axes = outline.directions(vectors[:128])
    assert 0 < axes.shape[1] <= 64
    whole = outline.Outlines(axes, vectors @ axes)
    among = np.flatnonzero(dice.random(9000) < share)
    shares = []
    for query in asked:
        likely = whole.likely(query, among, 10)
        assert outline.SHORTLIST <= len(likely) < outline.SHORTLIST + 8
        assert (np.diff(likely) > 0).all()
        best = among[np.argsort(-(vectors[among] @ query))[:10]]
        shares.append(np.isin(best, likely).mean())
    assert np.mean(shares) >= 0.99


def test_no_outlines_where_they_would_not_pay() -> None:
    """Vectors that differ in every direction have none, a small catalog neither, and few candidates are all compared."""
    vectors, _ = many(1000, 1)
    assert outline.directions(vectors).shape == (64, 0)
    assert outline.directions(vectors[:0]).shape == (64, 0)
    axes = np.eye(64, 16, dtype=np.float32)
    among = np.arange(outline.WORTHWHILE)
    assert among is outline.Outlines(axes, vectors @ axes).likely(vectors[0], among, 10)


@given(st.data())
def test_estimates_are_near_the_scores(data: st.DataObject) -> None:
    """Rough rows are off by half a level a term, and a repeated term by a fiftieth; without rows nothing is."""
    words = st.sampled_from("abcdefgh")
    made = data.draw(st.lists(st.dictionaries(words, st.sampled_from([1.0, 2.0, 5.0])), min_size=1, max_size=12))
    query = data.draw(st.lists(words, max_size=30))
    exact = Lexical.build(made)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lexical, "COMMON_FROM", 0)
        patch.setattr(lexical, "ROWS", 2)
        rough = Lexical.build(made)
        asked = rough.asked(query)
        estimates = rough.estimates(asked)
    scores = exact.scores(query)
    assert scores.tolist() == exact.estimates(exact.asked(query)).tolist()
    off = sum(weight for _, weight in asked.known) * rough.level / (asked.most or 1)
    assert np.abs(estimates - scores).max() <= 0.51 * off + 0.02
