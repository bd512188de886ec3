"""The last look at digest and parameters, against what the catalog holds."""

from __future__ import annotations

from typing import Any

import pytest

from actors.workflow_execution import controller
from actors.workflow_execution.decide import decide
from actors.workflow_execution.observe import Observed
from actors.workflow_execution.registered import WITHDRAWN, Away, look_up
from kubernaut_ray.contracts.catalog import Workflow, WorkflowParameter
from kubernaut_ray.contracts.endpoints import Endpoints
from kubernaut_ray.control.controller import Deps
from kubernaut_ray.control.decision import Create, Key
from kubernaut_ray.crds.enums import ExecutionEngine, ParameterType, WorkflowStatus
from kubernaut_ray.crds.enums import ExecutionFailureReason as Reason
from kubernaut_ray.crds.enums import WorkflowExecutionPhase as Phase
from kubernaut_ray.crds.workflow_execution import WorkflowExecution
from kubernaut_ray.kube.client import KubeClient
from kubernaut_ray.kube.resources import PIPELINE_RUN, WORKFLOW_EXECUTION
from kubernaut_ray.settings import Settings
from tests import build
from tests.build import NOW, later
from tests.crash import crash_everywhere
from tests.shelf import Shelf

SETTINGS = Settings()


def parameter(name: str, **fields: Any) -> WorkflowParameter:
    return WorkflowParameter(name=name, type=fields.pop("type", ParameterType.STRING), **fields)


DECLARED = (
    parameter("MEMORY_LIMIT", pattern="[0-9]+(Mi|Gi)"),
    parameter("MODE", enum=("soft", "hard")),
    parameter("WAIT", type=ParameterType.INTEGER, minimum=0, depends_on=("MODE",)),
)


def pending(**spec: Any) -> WorkflowExecution:
    made = build.workflow_execution(build.remediation_request(), Phase.PENDING, admitted_at=NOW)
    return made.replace(spec=made.spec.replace(**spec)) if spec else made


def refused(execution: WorkflowExecution, workflow: Workflow | None) -> str:
    """Return why it does not run; nothing may be created."""
    decision = decide(Observed(execution, workflow=workflow), NOW, SETTINGS)
    assert not any(isinstance(e, Create) for e in decision.effects)
    assert decision.status is not None
    details = decision.status.failure_details
    assert details is not None
    assert (details.reason, details.was_execution_failure) == (Reason.CONFIGURATION_ERROR, False)
    return details.message


@pytest.mark.parametrize(
    ("given", "says"),
    [
        pytest.param({"MEMORY_LIMT": "1Gi"}, "MEMORY_LIMT: the workflow has no such parameter", id="unknown"),
        pytest.param({"MEMORY_LIMIT": "1Gi; rm -rf /"}, "MEMORY_LIMIT: must match", id="pattern"),
        pytest.param({"MEMORY_LIMIT": "1Gi", "MODE": "harder"}, "MODE: must be one of soft, hard", id="enum"),
        pytest.param({"MEMORY_LIMIT": "1Gi", "WAIT": "1"}, "WAIT: needs MODE", id="dependsOn"),
        pytest.param({"MEMORY_LIMIT": "1Gi", "MODE": "soft", "WAIT": "-1"}, "WAIT: must be at least 0", id="minimum"),
        pytest.param({}, "NEEDED: required", id="missing"),
    ],
)
def test_parameters_that_do_not_fit_the_schema_are_refused(given: dict[str, str], says: str) -> None:
    """Before anything is created, with what would be right."""
    declared = (*DECLARED, parameter("NEEDED", required=True)) if not given else DECLARED
    execution = pending(parameters=given)
    assert says in refused(execution, build.registered(execution, parameters=declared))


def test_what_is_registered_must_be_what_is_pinned() -> None:
    """Another digest, no digest, another engine, no such workflow: none of them runs."""
    execution = pending()
    other = "sha256:" + "2" * 64
    assert other in refused(execution, build.registered(execution, container_digest=other))
    loose = pending(workflow_ref=execution.spec.workflow_ref.replace(container_digest=""))
    assert "pinned to no digest" in refused(loose, build.registered(execution))
    job = build.registered(execution, execution_engine=ExecutionEngine.JOB)
    assert "engine 'tekton'" in refused(execution, job)
    assert "has no workflow wf-memory" in refused(execution, None)


def test_a_digest_inside_the_image_is_a_pin_too() -> None:
    """As hand-made executions have it."""
    ref = pending().spec.workflow_ref
    made = pending(
        workflow_ref=ref.replace(container_image=f"{ref.container_image}@{ref.container_digest}", container_digest="")
    )
    workflow = build.registered(pending())
    assert decide(Observed(made, workflow=workflow), NOW, SETTINGS).reason == "PipelineRunRequested"


def test_unchecked_it_does_not_run() -> None:
    """While the catalog is away it waits, and says for what; at the deadline it fails before anything ran."""
    execution = pending(deadline=later(15))
    seen = Observed(execution, workflow=Away("Data Storage is away"))
    first = decide(seen, NOW, SETTINGS)
    assert ("CatalogAway", (), later(10)) == (first.reason, first.effects, first.wake_at)
    assert first.status is not None
    assert "Data Storage is away" in first.status.message
    second = decide(seen, later(10), SETTINGS)
    assert later(15) == second.wake_at
    waiting = Observed(execution.replace(status=first.status), workflow=Away("Data Storage is away"))
    last = decide(waiting, later(15), SETTINGS).status
    assert last is not None
    assert last.failure_details is not None
    assert (last.failure_details.reason, last.failure_details.was_execution_failure) == (
        Reason.DEADLINE_EXCEEDED,
        False,
    )
    assert "Data Storage is away" in last.failure_details.message


async def test_what_was_withdrawn_since_does_not_run() -> None:
    """Disabled after it was chosen: the refusal says by whom and why, and nothing remembered stands in for a look."""
    execution = pending()
    workflow = build.registered(execution)
    shelf = Shelf(workflow)
    assert await look_up(shelf, execution) == workflow
    told = {"status_changed_by": "ann", "status_changed_reason": "it deletes volumes"}
    shelf.workflows[workflow.workflow_id] = build.registered(execution, status=WorkflowStatus.DISABLED, **told)
    withdrawn = await look_up(shelf, execution)
    assert isinstance(withdrawn, Workflow)
    assert "was disabled by ann: it deletes volumes" in refused(execution, withdrawn)
    assert "was archived" in refused(execution, build.registered(execution, status=WorkflowStatus.ARCHIVED))


@pytest.mark.parametrize("status", sorted(set(WorkflowStatus) - WITHDRAWN))
def test_a_newer_version_takes_nothing_back(status: WorkflowStatus) -> None:
    """What was chosen and approved runs as it was, also when another version is offered now."""
    execution = pending()
    seen = Observed(execution, workflow=build.registered(execution, status=status))
    assert decide(seen, NOW, SETTINGS).reason == "PipelineRunRequested"


async def test_an_outage_of_the_catalog_only_delays() -> None:
    """Through any crash: no run while it is away, one when it is back."""
    execution = pending().replace(status=build.workflow_execution(build.remediation_request(), None).status)
    key = Key(execution.namespace, execution.name)
    shelf = Shelf(build.registered(execution))

    async def world(client: KubeClient) -> None:
        shelf.away, shelf.asked = True, 0
        await client.create(WORKFLOW_EXECUTION, execution.to_object(), key.namespace)

    async def advance(client: KubeClient) -> None:
        shelf.away = shelf.asked < 3
        assert not shelf.away or not (await client.list(PIPELINE_RUN, SETTINGS.execution.namespace)).items

    deps = SETTINGS, Endpoints(), lambda: "token", lambda *_: None
    report = await crash_everywhere(
        lambda client: controller.WorkflowExecutionController(Deps(client, *deps), shelf), world, key, advance=advance
    )
    assert {"CatalogAway", "PipelineRunRequested", "PipelineRunAdopted"} <= set(report.outcomes)
