"""Execution statistics (contract of Data Storage): how workflow executions ended, fed back from the orchestrator."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from kubernaut_ray.contracts.base import Contract
from kubernaut_ray.crds.base import Timestamp
from kubernaut_ray.crds.enums import TrustLevel


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


class EffectivenessRecord(Contract):
    """What an assessment of one execution's effect came to. One with an ``execution_id`` told twice counts once."""

    execution_id: Annotated[str, Field(min_length=1, max_length=253)]
    """The WorkflowExecution's UID."""
    workflow_id: Annotated[str, Field(min_length=1, max_length=253)]
    environment: Annotated[str, Field(max_length=63)] = "unknown"
    target: Annotated[str, Field(max_length=1024)] = ""
    """Canonical ``namespace/kind/name``."""
    remediation_id: Annotated[str, Field(max_length=253)] = ""
    effective: bool
    score: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
    reason: Annotated[str, Field(max_length=63)] = ""
    assessed_at: Timestamp | None = None
    """The server's clock when left out."""


class EffectivenessRecorded(Contract):
    """``recorded`` is false when this assessment was told before."""

    recorded: bool


class Trust(Contract):
    """What is to be expected of one workflow in one environment, by the assessments on record."""

    environment: str
    level: TrustLevel
    assessed: int = 0
    effective: int = 0
    failures_in_a_row: int = 0
    """The newest ones."""
    mean: float = 0.5
    """Of Beta(1 + effective, 1 + the others): the chance that it helps."""
    lower: float = 0.0
    """Its lower quantile: with what is known, the chance is hardly less."""
    mean_score: float | None = None
    last_assessed_at: Timestamp | None = None


class WorkflowEffectiveness(Contract):
    """How often a workflow helped, by environment; nothing where nothing was assessed."""

    workflow_id: str
    environments: tuple[Trust, ...] = ()
