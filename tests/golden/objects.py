"""What executions become on each engine, for a few executions that differ in what matters. ``python -m tests.golden`` writes it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import yaml

from actors.workflow_execution import engines
from kubernaut_ray.contracts.catalog import Workflow, WorkflowParameter
from kubernaut_ray.crds.enums import ParameterType
from kubernaut_ray.crds.workflow_execution import WorkflowExecution
from kubernaut_ray.settings import ExecutionSettings
from tests import build
from tests.build import NOW, later

FOLDER = Path(__file__).parent
_HEADER = "# Written by `python -m tests.golden` from actors/workflow_execution. Do not edit.\n"


def execution(engine: str, **spec: Any) -> WorkflowExecution:
    made = build.workflow_execution(build.remediation_request("rr-0123456789ab"))
    ref = made.spec.workflow_ref.replace(engine=engine, workflow_id="7d4f3c1e-0000-5000-8000-000000000001")
    return made.replace(spec=made.spec.replace(workflow_ref=ref, **spec))


def job_workflow(made: WorkflowExecution, config: dict[str, Any]) -> Workflow:
    parameters = (
        WorkflowParameter(name="MEMORY_LIMIT", type=ParameterType.STRING),
        WorkflowParameter(name="WAIT_SECONDS", type=ParameterType.INTEGER, default="60"),
    )
    content = orjson.dumps({"execution": {"engine": "job", "engine_config": config}}).decode()
    return build.registered(made, content=content, parameters=parameters)


def objects() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (file name, object)."""
    settings = ExecutionSettings()
    tekton, job = engines.ALL["tekton"], engines.ALL["job"]
    plain = execution("tekton")
    yield "pipelinerun.yaml", tekton.build(plain, build.registered(plain), settings, NOW)
    node = execution("tekton", target_resource="node/n1", deadline=later(90))
    yield "pipelinerun-cluster-scoped-short.yaml", tekton.build(node, build.registered(node), settings, NOW)
    bundle = execution("job")
    yield "job.yaml", job.build(bundle, job_workflow(bundle, {}), settings, NOW)
    config = {
        "image": "registry.example.com/tools/fix:2",
        "command": ["/usr/bin/fix"],
        "args": ["--limit", "$(MEMORY_LIMIT)"],
        "resources": {"requests": {"cpu": "50m"}, "limits": {"memory": "64Mi"}},
    }
    own = execution("job", parameters={"MEMORY_LIMIT": "$HOME $(date)"}, deadline=later(90))
    yield "job-own-image.yaml", job.build(own, job_workflow(own, config), settings, NOW)


def render(obj: dict[str, Any]) -> str:
    return _HEADER + yaml.safe_dump(obj, sort_keys=False, width=120)


def stale() -> tuple[str, ...]:
    """Name the files that are not what the code says, and those that nothing makes any more."""
    wanted = {name: render(obj) for name, obj in objects()}
    there = {path.name: path.read_text() for path in FOLDER.glob("*.yaml")}
    return tuple(sorted(name for name in wanted.keys() | there.keys() if wanted.get(name) != there.get(name)))


def write() -> tuple[str, ...]:
    """Bring the folder up to date; return what changed."""
    changed = stale()
    wanted = {name: render(obj) for name, obj in objects()}
    for name in changed:
        if name in wanted:
            (FOLDER / name).write_text(wanted[name])
        else:
            (FOLDER / name).unlink()
    return changed
