"""Approvals in the whole system: a person's token decides whose decision it is, once, and what runs is what was approved."""

from __future__ import annotations

import asyncio

import pytest

from kubernaut_ray import names
from kubernaut_ray.crds import RemediationApprovalRequest, RemediationRequest, WorkflowExecution
from kubernaut_ray.crds.enums import Outcome, RemediationPhase
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import KubeClient
from tests.conftest import kubectl
from tests.flow.laptop.conftest import ANN, BOB
from tests.flow.running import Running, alert, broken, deployment, eventually, post, webhook

pytestmark = [pytest.mark.flow, pytest.mark.rayed, pytest.mark.timeout(600)]

PRODUCTION = "flow-approvals"


class People:
    """``kubectl`` with a person's token."""

    def __init__(self, running: Running, tokens: dict[str, str]) -> None:
        self._running, self._tokens = running, tokens

    async def patch(self, person: str, name: str, status: str) -> tuple[int, str]:
        def run() -> tuple[int, str]:
            done = kubectl(
                self._running.kubeconfig, f"--token={self._tokens[person]}", "-n", names.SYSTEM_NAMESPACE, "patch", "rar",
                name, "--subresource=status", "--type=merge", "-p", f'{{"status":{status}}}',
            )  # fmt: skip
            return done.returncode, done.stdout + done.stderr

        return await asyncio.to_thread(run)


@pytest.fixture
def people(running: Running, tokens: dict[str, str]) -> People:
    return People(running, tokens)


async def waiting(running: Running, client: KubeClient, name: str) -> str:
    """Break a Deployment in production, and return its remediation once it waits for a person."""
    await broken(client, name, PRODUCTION)
    code, answer = await post(running, webhook(alert(name, PRODUCTION)))
    assert code == 201, answer
    [result] = answer.get("results") or [answer]
    remediation = str(result["remediationRequestName"])
    await eventually(client, remediation, lambda r: r.status.overall_phase is RemediationPhase.AWAITING_APPROVAL)
    return remediation


def over(remediation: RemediationRequest) -> bool:
    return remediation.status.overall_phase is not None and remediation.status.overall_phase.terminal


async def found(client: KubeClient, name: str) -> RemediationApprovalRequest:
    return RemediationApprovalRequest.from_object(
        await client.get(resources.APPROVAL_REQUEST, name, names.SYSTEM_NAMESPACE)
    )


async def test_a_decision_by_kubectl_is_the_persons_and_final(
    running: Running, client: KubeClient, people: People
) -> None:
    """A forged name is overwritten, a second decision refused, and the run carries the used-up leave."""
    remediation = await waiting(running, client, "real")
    asked = names.approval_request(remediation)
    code, told = await people.patch(ANN, asked, '{"decision":"Approved","decidedBy":"mallory","decisionMessage":"go"}')
    assert code == 0, told
    code, told = await people.patch(BOB, asked, '{"decision":"Rejected"}')
    assert code != 0
    assert f"denied the request: already decided: Approved by {ANN}" in told
    done = await eventually(client, remediation, over)
    assert done.status.outcome is Outcome.REMEDIATED, done.status
    status = (await found(client, asked)).status
    assert (status.decided_by, status.decided_via, status.authenticated) == (ANN, "kubectl", True)
    assert status.grant is not None
    execution = WorkflowExecution.from_object(
        await client.get(resources.WORKFLOW_EXECUTION, names.workflow_execution(remediation), names.SYSTEM_NAMESPACE)
    )
    assert (execution.spec.approval, status.used_by) == (status.grant, execution.uid)
    target = await client.get(resources.DEPLOYMENT, "real", PRODUCTION)
    assert status.target_uid == target["metadata"]["uid"]


async def test_what_the_approver_puts_in_its_place_is_what_runs(
    running: Running, client: KubeClient, people: People
) -> None:
    """Other parameters of the recommended workflow; a value that does not fit is refused first."""
    remediation = await waiting(running, client, "override")
    asked = names.approval_request(remediation)
    recommended = (await found(client, asked)).spec.recommended_workflow
    wrong = '{"decision":"Approved","workflowOverride":{"parameters":{"NO_SUCH_PARAMETER":"1"}}}'
    code, told = await people.patch(ANN, asked, wrong)
    assert (code != 0, "no such parameter" in told) == (True, True), told
    unknown = '{"decision":"Approved","workflowOverride":{"workflowName":"no-such-workflow"}}'
    code, told = await people.patch(ANN, asked, unknown)
    assert (code != 0, "no active workflow no-such-workflow" in told) == (True, True), told
    parameters = {**recommended.parameters, "MEMORY_LIMIT": "512Mi"}
    given = ",".join(f'"{k}":"{v}"' for k, v in parameters.items())
    code, told = await people.patch(
        ANN, asked, f'{{"decision":"Approved","workflowOverride":{{"parameters":{{{given}}}}}}}'
    )
    assert code == 0, told
    done = await eventually(client, remediation, over)
    assert done.status.outcome is Outcome.REMEDIATED, done.status
    execution = await client.get(
        resources.WORKFLOW_EXECUTION, names.workflow_execution(remediation), names.SYSTEM_NAMESPACE
    )
    assert execution["spec"]["parameters"] == parameters


async def test_a_target_that_was_replaced_is_not_touched(running: Running, client: KubeClient, people: People) -> None:
    """Another Deployment took the name since: nothing runs, and a person is told."""
    remediation = await waiting(running, client, "replaced")
    await client.delete(resources.DEPLOYMENT, "replaced", PRODUCTION)
    async with asyncio.timeout(20):
        while {"replaced"} & {
            d["metadata"]["name"] for d in (await client.list(resources.DEPLOYMENT, PRODUCTION)).items
        }:
            await asyncio.sleep(0.1)
    await client.create(resources.DEPLOYMENT, deployment("replaced", PRODUCTION))
    code, told = await people.patch(ANN, names.approval_request(remediation), '{"decision":"Approved"}')
    assert code == 0, told
    done = await eventually(client, remediation, over)
    assert done.status.requires_manual_review
    execution = WorkflowExecution.from_object(
        await client.get(resources.WORKFLOW_EXECUTION, names.workflow_execution(remediation), names.SYSTEM_NAMESPACE)
    )
    assert execution.status.failure_details is not None
    assert (execution.status.failure_details.reason, execution.status.pipeline_run_ref) == ("ApprovalInvalid", None)
