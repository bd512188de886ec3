"""What the controller needs of an engine: make a run, let it go, find its parts, judge it, tell its end, stop it.

A run is created held: it exists, which makes the target its own, and nothing of it acts. It is let go only once its UID is
in the execution's status, a write that only one process can win and that is made once. So whatever a process does that was
stopped for any time between reading and creating, at most one run of an execution ever starts; what it created too late
stays held, and the owner of the execution deletes it.

All but ``parts`` is pure. One implementation a file beside this one; tests/actors/workflow_execution/test_engines.py holds
what every one of them must do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from kubernaut_ray.contracts.catalog import Workflow
from kubernaut_ray.control.decision import Patch
from kubernaut_ray.crds.workflow_execution import ExecutionFailureDetails, PipelineRunSummary, WorkflowExecution
from kubernaut_ray.kube.client import KubeClient, Object
from kubernaut_ray.kube.resources import Resource
from kubernaut_ray.settings import ExecutionSettings


class State(StrEnum):
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    """It failed, or it cannot come to anything any more (its image is not to be had): stop it unless it is over."""


class Engine(Protocol):
    @property
    def resource(self) -> Resource:
        """The kind of its runs."""
        ...

    @property
    def word(self) -> str:
        """Begins the reasons of conditions: ``Pipeline`` in ``PipelineCreated``."""
        ...

    def problems(self, execution: WorkflowExecution, workflow: Workflow) -> Iterator[str]:
        """Yield why no run can be built of this execution of this registered workflow."""
        ...

    def build(
        self, execution: WorkflowExecution, workflow: Workflow, settings: ExecutionSettings, now: datetime
    ) -> dict[str, Any]:
        """Build the run under its target's name, held. Only for what has no ``problems``."""
        ...

    def held(self, run: Mapping[str, Any]) -> bool:
        """Whether it was never let go: nothing of it has ever acted."""
        ...

    def let_go(self, run: Mapping[str, Any]) -> Patch:
        """Let it start, on the very version that was seen."""
        ...

    async def parts(self, client: KubeClient, run: Object) -> tuple[Object, ...]:
        """Read what a run is made of (TaskRuns, Pods), its own only."""
        ...

    def state(self, run: Mapping[str, Any], parts: Sequence[Object], now: datetime) -> State: ...

    def is_over(self, run: Mapping[str, Any]) -> bool:
        """Whether nothing of it can act any more: only then the target may be given to another."""
        ...

    def started(self, run: Mapping[str, Any]) -> datetime | None: ...

    def ended(self, run: Mapping[str, Any]) -> datetime | None: ...

    def summary(self, run: Mapping[str, Any], parts: Sequence[Object]) -> PipelineRunSummary: ...

    def results(self, run: Mapping[str, Any], parts: Sequence[Object]) -> dict[str, str]: ...

    def failure(
        self, execution: WorkflowExecution, run: Mapping[str, Any], parts: Sequence[Object], now: datetime
    ) -> ExecutionFailureDetails: ...

    def stop(self, run: Mapping[str, Any]) -> Patch:
        """Make it end as soon as it can, on the very version that was seen."""
        ...
