"""The engines that carry executions out, and which of them an execution or a run belongs to.

``execution.workflowRef.engine`` chooses; what is no engine of this installation is an error, never another engine in its
place. Runs are told apart by their kind.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from actors.workflow_execution.engines.job import JobEngine
from actors.workflow_execution.engines.seam import Engine
from actors.workflow_execution.engines.tekton import TektonEngine
from kubernaut_ray.crds.enums import ExecutionEngine
from kubernaut_ray.crds.workflow_execution import WorkflowExecution

__all__ = ["ALL", "Engine", "chosen", "of", "unsupported"]

ALL: Mapping[str, Engine] = {ExecutionEngine.TEKTON: TektonEngine(), ExecutionEngine.JOB: JobEngine()}


def chosen(execution: WorkflowExecution, enabled: Iterable[str]) -> Engine | None:
    """Return the engine that the workflow asks for; ``None`` when it is not one of those."""
    name = execution.spec.workflow_ref.engine
    return next((ALL[engine] for engine in enabled if engine == name), None)


def unsupported(execution: WorkflowExecution, enabled: Iterable[str]) -> str:
    there = ", ".join(enabled) or "none"
    name = execution.spec.workflow_ref.engine
    return (
        f"workflowRef.engine {name!r} is not supported here (execution.engines has {there}); no other is taken instead"
    )


def of(run: Mapping[str, Any]) -> Engine:
    """Return the engine whose run this is, by its kind."""
    return next(engine for engine in ALL.values() if engine.resource.kind == run["kind"])
