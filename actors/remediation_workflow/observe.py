"""What a RemediationWorkflow is judged by: itself, what the catalog answered, and the other objects that declare workflows.

The object is read from the API server. The answer is this process's memory of an errand that was run for exactly this state
of the object; after a crash there is none, and the errand is run again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import structlog
from pydantic import ValidationError

from actors.remediation_workflow.desk import NOT_ASKED, Answer, Desk, NotAsked
from kubernaut_ray import clock
from kubernaut_ray.control.decision import Key
from kubernaut_ray.crds.remediation_workflow import RemediationWorkflow
from kubernaut_ray.kube.client import KubeClient, Object
from kubernaut_ray.kube.errors import NotFound
from kubernaut_ray.kube.resources import REMEDIATION_WORKFLOW

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Observed:
    workflow: RemediationWorkflow
    answer: Answer = NOT_ASKED
    others: tuple[RemediationWorkflow, ...] = ()
    """The other objects of the namespace that are not being deleted; read where no errand is known of, and one may be due."""


def ticket(workflow: RemediationWorkflow) -> str:
    """Name the errand that this state of the object calls for: another for each edit, each look, and for the deletion.

    Writing an answer down always changes it, so that an answer is taken up once.
    """
    going = "deleted" if workflow.metadata.deletion_timestamp is not None else str(workflow.metadata.generation)
    status = workflow.status
    turn = clock.rfc3339(status.next_check_at) if status.next_check_at else "first"
    return f"{workflow.uid}/{going}/{status.observed_generation}/{status.failures}/{turn}"


class Reader:
    def __init__(self, client: KubeClient, desk: Desk) -> None:
        self._client, self._desk = client, desk

    async def observe(self, key: Key) -> Observed | None:
        """Read one object and its surroundings; ``None`` when it is gone."""
        try:
            found = await self._client.get(REMEDIATION_WORKFLOW, key.name, key.namespace)
        except NotFound:
            self._desk.forget(key)
            return None
        workflow = RemediationWorkflow.from_object(found)
        answer = self._desk.answer(key, ticket(workflow))
        return Observed(workflow, answer, await self._others(workflow) if isinstance(answer, NotAsked) else ())

    async def _others(self, workflow: RemediationWorkflow) -> tuple[RemediationWorkflow, ...]:
        listed = await self._client.list(REMEDIATION_WORKFLOW, workflow.namespace)
        return tuple(
            other
            for other in _readable(listed.items)
            if other.uid != workflow.uid and other.metadata.deletion_timestamp is None
        )


def _readable(items: Iterable[Object]) -> Iterable[RemediationWorkflow]:
    """Read what can be read: somebody else's broken object must not stop this one."""
    for item in items:
        try:
            yield RemediationWorkflow.from_object(item)
        except ValidationError as error:
            _log.warning("object.unreadable", name=item["metadata"]["name"], problems=error.error_count())
