"""What executions become is what is written here, and is what the API servers of a cluster admit, whatever the execution."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from actors.workflow_execution import engines, marks
from kubernaut_ray import names
from kubernaut_ray.clock import parse_duration
from kubernaut_ray.kube.client import KubeClient
from kubernaut_ray.kube.resources import BY_KIND
from kubernaut_ray.settings import ExecutionSettings
from tests import build
from tests.build import NOW, later
from tests.cluster import install_accounts
from tests.golden import objects as golden
from tests.tekton import job_problems, pipeline_run_problems

PROBLEMS = {"PipelineRun": pipeline_run_problems, "Job": job_problems}


def test_the_committed_objects_are_what_the_code_makes() -> None:
    """They are generated; run ``python -m tests.golden`` after a change, and read the difference."""
    assert golden.stale() == ()


@pytest.mark.parametrize(("name", "obj"), list(golden.objects()), ids=[name for name, _ in golden.objects()])
def test_they_are_admitted(name: str, obj: dict[str, Any]) -> None:
    """By Tekton's webhook and by Kubernetes."""
    assert list(PROBLEMS[obj["kind"]](obj)) == [], name


@pytest.mark.integration
@pytest.mark.parametrize(("name", "obj"), list(golden.objects()), ids=[name for name, _ in golden.objects()])
async def test_an_api_server_takes_them(kube: KubeClient, name: str, obj: dict[str, Any]) -> None:
    """No field is unknown or of another type: what comes back holds all that was sent."""
    await install_accounts(kube)
    made = await kube.create(BY_KIND[obj["kind"]], obj, obj["metadata"]["namespace"], dry_run=True)
    assert holds(made, obj) == [], name


def holds(whole: Any, part: Any, path: str = "") -> list[str]:
    """List where ``whole`` lacks something of ``part``."""
    if isinstance(part, dict):
        return [
            p
            for k, v in part.items()
            for p in holds(whole.get(k) if isinstance(whole, dict) else None, v, f"{path}.{k}")
        ]
    if isinstance(part, list):
        same = isinstance(whole, list) and len(whole) == len(part)
        return [p for i, v in enumerate(part) for p in holds(whole[i], v, f"{path}[{i}]")] if same else [path]
    return [] if whole == part else [path]


WORD = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"], exclude_characters="/"), min_size=1, max_size=253
)
NAME = st.from_regex(r"[a-z0-9]([-a-z0-9.]{0,200}[a-z0-9])?", fullmatch=True)
VALUES = st.dictionaries(st.from_regex(r"[A-Z][A-Z0-9_]{0,62}", fullmatch=True), st.text(max_size=300), max_size=6)


@example("tekton", "a/b", "w", "n", {}, 2, 1.5)
@given(
    engine=st.sampled_from(list(engines.ALL)),
    target=st.lists(WORD, min_size=2, max_size=3).map("/".join),
    workflow_id=WORD,
    name=NAME,
    values=VALUES,
    seconds=st.integers(1, 86_400),
    left=st.none() | st.floats(-10, 90_000),
)
def test_whatever_the_execution_the_object_is_admitted(
    engine: str, target: str, workflow_id: str, name: str, values: dict[str, str], seconds: int, left: float | None
) -> None:
    """Names, labels, parameters and times come from people, models and other systems."""
    made = build.workflow_execution(build.remediation_request(name[:200]))
    assume(not any("\x00" in v for v in values.values()))
    made = made.replace(
        spec=made.spec.replace(
            workflow_ref=made.spec.workflow_ref.replace(engine=engine, workflow_id=workflow_id),
            target_resource=target[:1024],
            parameters=values,
            execution_config=made.spec.execution_config.replace(timeout=f"{seconds}s"),
            deadline=None if left is None else later(left),
        )
    )
    workflow = build.registered(made)
    chosen = engines.ALL[engine]
    assume(not list(marks.problems(made)) and not list(chosen.problems(made, workflow)))
    obj = chosen.build(made, workflow, ExecutionSettings(), NOW)
    assert list(PROBLEMS[obj["kind"]](obj)) == []
    assert names.pipeline_run(made.spec.target_resource) == obj["metadata"]["name"]
    spec = obj["spec"]
    allowed = (
        spec["activeDeadlineSeconds"]
        if engine == "job"
        else parse_duration(spec["timeouts"]["pipeline"]).total_seconds()
    )
    wanted = seconds if left is None else min(seconds, left)
    assert allowed <= max(1.0, wanted) + 1e-6
    assert timedelta(0) < timedelta(seconds=allowed)


@pytest.mark.parametrize("value", ["$(tasks.a.results.b)", "x$(finally.a.results.b)y"])
def test_a_value_that_tekton_refuses_is_refused_before(value: str) -> None:
    """As something that never ran, not as a PipelineRun that cannot be created."""
    made = golden.execution("tekton", parameters={"A": value})
    assert list(engines.ALL["tekton"].problems(made, build.registered(made)))
    obj = engines.ALL["tekton"].build(made, build.registered(made), ExecutionSettings(), NOW)
    assert list(pipeline_run_problems(obj))
