"""The catalog as a model's tool: which signal types are tried, and what a model is told of a workflow."""

from __future__ import annotations

import pytest

from kubernaut_ray.contracts.catalog import ScoreBreakdown, SearchHit
from kubernaut_ray.contracts.catalog_tools import CatalogQuery, hit_brief, signal_types
from tests import build


@pytest.mark.parametrize(
    ("asked", "tried"),
    [
        ("OOMKilled", ("OOMKilled", "")),
        ("KubePodCrashLooping", ("CrashLoopBackOff", "KubePodCrashLooping", "")),
        (" MyOwnAlert ", ("MyOwnAlert", "")),
        ("", ("",)),
    ],
    ids=["canonical", "an alert's name", "nobody's word", "nothing"],
)
def test_signal_types(asked, tried):
    """The canonical word, then the word as given, then none; nothing twice."""
    assert signal_types(asked) == tried


def test_brief_tells_what_a_model_may_choose():
    """The target is not the model's to choose, and a score is a relevance."""
    parameters = [{"name": "TARGET_RESOURCE_NAME"}, {"name": "MEMORY_LIMIT", "required": True}]
    parts = ScoreBreakdown(semantic=0.3, lexical=0.2, labels=0, detected=0, custom=0, penalty=0)
    told = hit_brief(
        SearchHit(rank=1, score=0.51234, score_breakdown=parts, workflow=build.workflow(parameters=parameters))
    )
    assert (told["rank"], told["relevance"]) == (1, 0.512)
    assert [p["name"] for p in told["parameters"]] == ["MEMORY_LIMIT"]
    assert not {"confidence", "score", "content"} & told.keys()


def test_descriptions_reach_the_schema():
    """What stands beside a field in the code is what a model reads of it."""
    schema = CatalogQuery.model_json_schema()
    assert "signal_type" in schema["properties"]["query"]["description"]
    assert schema["required"] == ["query", "rca_resource"]
    assert schema["additionalProperties"] is False
