"""Search quality: does the right workflow come first for what an investigation found. Labels are ignored on purpose.

``--queries FILE`` and ``--catalog FILE`` are JSON as in ``benchmarks/data`` (the default): incidents with ``signal_name``, ``rca_summary`` and
``expected_workflows``; workflows with ``name``, ``action_type`` and a structured ``description``. Each ranking answers with the
query that an investigator sends (the signal's name and the root-cause summary). An incident counts for recall@k when
any workflow that was right for it is among the first k.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from catalog.embed import Embedder, Lexicon
from catalog.lexical import Lexical
from catalog.search import document_terms, document_text
from catalog.snapshot import load, pack
from catalog.text import terms
from kubernaut_ray import names
from kubernaut_ray.contracts.catalog import SearchRequest, Workflow, WorkflowDescription, WorkflowLabels

DATA = Path(__file__).with_name("data")
Ranking = Callable[[str], Sequence[str]]


def main(
    queries: Annotated[Path, typer.Option(help="Incidents with the workflows that were right.")] = DATA
    / "retrieval-dev.json",
    catalog: Annotated[Path, typer.Option(help="The workflows.")] = DATA / "workflow-catalog.json",
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
    quick: Annotated[bool, typer.Option(help="Accepted for all benchmarks; this one takes seconds anyway.")] = False,
    misses: Annotated[bool, typer.Option(help="List the incidents whose first answer was wrong.")] = False,
) -> None:
    """Measure recall@1, recall@3 and MRR per ranking."""
    del quick
    workflows = [_workflow(raw) for raw in json.loads(catalog.read_text())]
    incidents = json.loads(queries.read_text())
    embedder = Lexicon()
    rankings = {
        "hybrid-lexicon": _hybrid(workflows, embedder),
        "lexicon": _vectors(workflows, embedder),
        "bm25": _bm25(workflows),
    }
    console = Console()
    figures: dict[str, Any] = {}
    for name, ranking in rankings.items():
        ranks, took = [], []
        for incident in incidents:
            started = time.perf_counter()
            order = list(ranking(_query(incident)))
            took.append((time.perf_counter() - started) * 1000)
            rank = 1 + min(order.index(expected) for expected in incident["expected_workflows"])
            ranks.append(rank)
            if misses and rank > 1:
                console.print(
                    f"{name}: {incident['scenario']}: {order[0]} before {incident['expected_workflows']} ({rank})"
                )
        figures[name] = {
            "recall_at_1": float(np.mean([r == 1 for r in ranks])),
            "recall_at_3": float(np.mean([r <= 3 for r in ranks])),
            "mrr": float(np.mean([1 / r for r in ranks])),
            "p50_ms": float(np.median(took)),
        }
    # The hybrid is what Data Storage answers with by default, so its figures are the headline.
    summary = {**figures["hybrid-lexicon"], "queries": len(incidents)}
    if json_file is not None:
        json_file.write_text(json.dumps({**summary, "embedders": figures}, indent=2) + "\n")
    table = Table(
        "ranking",
        "recall@1",
        "recall@3",
        "MRR",
        "p50 ms",
        title=f"{len(incidents)} incidents, {len(workflows)} workflows",
    )
    for name, row in figures.items():
        table.add_row(name, *(f"{row[key]:.2f}" for key in ("recall_at_1", "recall_at_3", "mrr", "p50_ms")))
    console.print(table)


def _query(incident: dict[str, Any]) -> str:
    return f"{incident.get('signal_name') or ''} {incident['rca_summary']}".strip()


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

    def rank(query: str) -> Sequence[str]:
        answer = snapshot.search(SearchRequest(query=query[:8192], top_k=100))
        found = [hit.workflow.workflow_name for hit in answer.hits]
        return [*found, *(w.workflow_name for w in workflows if w.workflow_name not in found)]

    return rank


def _vectors(workflows: Sequence[Workflow], embedder: Embedder) -> Ranking:
    vectors = embedder.embed([document_text(w) for w in workflows])
    return lambda query: _sorted(workflows, vectors @ embedder.embed([query])[0])


def _bm25(workflows: Sequence[Workflow]) -> Ranking:
    lexical = Lexical.build([document_terms(w) for w in workflows])
    return lambda query: _sorted(workflows, lexical.scores(terms(query)))


def _sorted(workflows: Sequence[Workflow], scores: Any) -> Sequence[str]:
    return [workflows[i].workflow_name for i in np.argsort(-scores, kind="stable")]


if __name__ == "__main__":
    typer.run(main)
