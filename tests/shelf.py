"""What the controller of executions asks of Data Storage, in memory: registered workflows, and each execution's end once."""

from __future__ import annotations

from kubernaut_ray.contracts.catalog import Workflow
from kubernaut_ray.contracts.statistics import ExecutionRecord
from kubernaut_ray.errors import Retryable


class Shelf:
    """Holds workflows by id; ``away`` makes it not answer. An end may be told again, but only as it was told before."""

    def __init__(self, *workflows: Workflow) -> None:
        self.workflows = {workflow.workflow_id: workflow for workflow in workflows}
        self.told: dict[str, ExecutionRecord] = {}
        self.away = False
        self.asked = 0

    async def workflow(self, workflow_id: str) -> Workflow | None:
        self.asked += 1
        if self.away:
            raise Retryable("Data Storage is away")
        return self.workflows.get(workflow_id)

    async def record(self, execution: ExecutionRecord) -> None:
        assert self.told.setdefault(execution.execution_id, execution) == execution

    async def close(self) -> None:
        """Nothing is open."""
