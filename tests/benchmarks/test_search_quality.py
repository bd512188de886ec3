"""The search benchmark: its goals hold for the embedded default, and it takes other data of the same shape."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from benchmarks import search_quality

DATA = Path(search_quality.__file__).with_name("data")
APP = search_quality.typer.Typer()
APP.command()(search_quality.main)


def measured(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    file = tmp_path / "figures.json"
    done = CliRunner().invoke(APP, ["--quick", "--json", str(file), *arguments])
    assert done.exit_code == 0, done.output
    figures: dict[str, Any] = json.loads(file.read_text())
    return figures


def test_the_default_reaches_its_goals(tmp_path):
    """On incidents that others wrote and on our own, and in the form an agent is told to search in."""
    figures = measured(tmp_path)
    assert figures["queries"] == 25
    assert figures["recall_at_1"] >= 0.80
    assert figures["embedders"].keys() == {"hybrid-lexicon", "lexicon", "bm25"}
    for name in ("retrieval-dev", "retrieval-own"):
        default = figures["sets"][name]["embedders"]["hybrid-lexicon"]
        assert default["recall_at_3"] >= 0.95
        assert default["short_recall_at_3"] >= 0.95
        assert default["mrr"] > figures["sets"][name]["embedders"]["bm25"]["mrr"]


def test_other_data_of_the_same_shape(tmp_path):
    """Fields that an incident may lack are not needed."""
    catalog = json.loads((DATA / "workflow-catalog.json").read_text())
    wanted = next(w for w in catalog if w["action_type"] == "RelaxPDB")["name"]
    incident = {"scenario": "x", "rca_summary": "minAvailable leaves no disruption.", "expected_workflows": [wanted]}
    (tmp_path / "queries.json").write_text(json.dumps([incident]))
    figures = measured(
        tmp_path, "--queries", str(tmp_path / "queries.json"), "--catalog", str(DATA / "workflow-catalog.json")
    )
    assert (figures["queries"], figures["recall_at_1"]) == (1, 1.0)


@pytest.mark.parametrize("name", search_quality.SETS, ids=lambda file: file.stem)
def test_summaries_may_be_shuffled_and_misspelt(name):
    """The first three answers stay for the most part."""
    workflows = [search_quality._workflow(raw) for raw in json.loads((DATA / "workflow-catalog.json").read_text())]
    ranking = search_quality._rankings(workflows, quick=True)["hybrid-lexicon"]
    incidents = [i for i in json.loads(name.read_text()) if i["expected_workflows"]]
    stable = [search_quality._stability(ranking, incident) for incident in incidents]
    assert sum(stable) / len(stable) > 0.85
    assert min(stable) >= 1 / 3


def test_every_workflow_is_asked_for():
    """Our own incidents name workflows that are there, and leave out none of the kinds of repair."""
    catalog = {w["name"]: w["action_type"] for w in json.loads((DATA / "workflow-catalog.json").read_text())}
    incidents = json.loads((DATA / "retrieval-own.json").read_text())
    asked = {name for incident in incidents for name in incident["expected_workflows"]}
    assert asked <= catalog.keys()
    assert {catalog[name] for name in asked} == set(catalog.values())
    assert len({incident["scenario"] for incident in incidents}) == len(incidents)
