from __future__ import annotations

import pytest

from kubernaut_ray.errors import InvalidInput
from kubernaut_ray.kube.pipelines.graph import dependencies, validate
from kubernaut_ray.kube.pipelines.spec import read_pipeline

STEP = {"steps": [{"name": "s", "script": "true"}]}


def pipeline(*tasks, final=()):
    full = [{"taskSpec": STEP, **t} for t in tasks]
    return read_pipeline({"tasks": full, "finally": [{"taskSpec": STEP, **t} for t in final]})


def test_dependencies_come_from_order_results_and_conditions():
    """All three make a task wait."""
    spec = pipeline(
        {"name": "a"},
        {
            "name": "b",
            "runAfter": ["a"],
            "params": [{"name": "p", "value": "$(tasks.c.results.x)"}],
            "when": [{"input": "$(tasks.d.results.y)", "operator": "in", "values": ["1"]}],
        },
    )
    assert {"a", "c", "d"} == dependencies(spec.tasks[1]).tasks


@pytest.mark.parametrize(
    ("tasks", "final", "says"),
    [
        pytest.param([{"name": "a"}, {"name": "a"}], [], "two tasks are named a", id="one name twice"),
        pytest.param([{"name": "a"}], [{"name": "a"}], "two tasks are named a", id="a finally task of the same name"),
        pytest.param([{"name": "a", "runAfter": ["z"]}], [], "z, which is no task", id="an unknown task"),
        pytest.param(
            [{"name": "a", "runAfter": ["b"]}, {"name": "b", "runAfter": ["a"]}],
            [],
            "wait for one another",
            id="a cycle",
        ),
        pytest.param([{"name": "a", "runAfter": ["a"]}], [], "wait for one another", id="itself"),
        pytest.param(
            [{"name": "a"}], [{"name": "f", "runAfter": ["a"]}], "must not have runAfter", id="ordered finally"
        ),
        pytest.param([{"name": "a", "taskRef": {"name": "t"}}], [], "exactly one", id="both ref and spec"),
        pytest.param([{"name": "a", "taskSpec": None}], [], "exactly one", id="neither ref nor spec"),
    ],
)
def test_a_wrong_graph_is_refused(tasks, final, says):
    """With Tekton's reason."""
    with pytest.raises(InvalidInput, match=says) as caught:
        validate(pipeline(*tasks, final=final))
    assert caught.value.reason == "PipelineInvalidGraph"


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        pytest.param({}, "tasks", id="no tasks"),
        pytest.param({"tasks": [{"name": "A", "taskSpec": STEP}]}, "pattern", id="an upper case name"),
        pytest.param({"tasks": [{"name": "a", "taskSpec": STEP, "matrix": {"params": []}}]}, "matrix", id="matrix"),
        pytest.param({"tasks": [{"name": "a", "taskSpec": STEP, "timeout": "soon"}]}, "duration", id="bad timeout"),
        pytest.param("text", "dictionary", id="not a mapping"),
    ],
)
def test_what_the_runner_does_not_do_is_refused_by_name(spec, says):
    """Nothing is silently ignored."""
    with pytest.raises(InvalidInput, match=says):
        read_pipeline(spec)
