"""Execution statistics (contract of Data Storage): how workflow executions ended, fed back from the orchestrator."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from kubernaut_ray.contracts.base import Contract
from kubernaut_ray.crds.base import Timestamp


class ExecutionRecord(Contract):
    """One finished execution. A record with an ``execution_id`` told twice counts once."""

    execution_id: Annotated[str, Field(max_length=253)] = ""
    """The WorkflowExecution's UID; empty when the teller has none."""
    workflow_id: Annotated[str, Field(min_length=1, max_length=253)]
    success: bool
    target: Annotated[str, Field(max_length=1024)] = ""
    """Canonical ``namespace/kind/name``."""
    remediation_id: Annotated[str, Field(max_length=253)] = ""
    finished_at: Timestamp | None = None
    """The server's clock when left out."""
    duration_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None


class ExecutionRecorded(Contract):
    """``recorded`` is false when this execution's end was told before."""

    recorded: bool


class WorkflowStatistics(Contract):
    workflow_id: str
    total: int
    successful: int


class ExecutionStatistics(Contract):
    """Counts since an instant. A rate of nothing is not a number: look at ``total`` first."""

    since: Timestamp
    total: int
    successful: int
    workflows: tuple[WorkflowStatistics, ...] = ()

    @property
    def failed(self) -> int:
        return self.total - self.successful

    @property
    def failure_rate(self) -> float:
        """Failed over total, 0.0 when nothing was executed."""
        return self.failed / self.total if self.total else 0.0
