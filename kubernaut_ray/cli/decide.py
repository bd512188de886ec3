"""``kubernaut-ray approve`` and ``reject``: a person's decision on a RemediationApprovalRequest."""

from __future__ import annotations

import getpass
from typing import Annotated, Any

import typer

from kubernaut_ray import clock
from kubernaut_ray.cli import connection
from kubernaut_ray.cli.connection import CommandError, DataDir, Exit, Kubeconfig, Namespace, out
from kubernaut_ray.crds import RemediationApprovalRequest, RemediationRequest
from kubernaut_ray.crds.enums import ApprovalDecision
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import KubeClient
from kubernaut_ray.kube.errors import NotFound
from kubernaut_ray.names import SYSTEM_NAMESPACE

NameArgument = Annotated[
    str, typer.Argument(help="Name of the RemediationRequest or of its RemediationApprovalRequest.")
]


def approve(
    name: NameArgument,
    message: Annotated[str, typer.Option("--message", "-m", help="Why; kept in the audit trail.")] = "",
    data_dir: DataDir = connection.DEFAULT_DATA_DIR,
    kubeconfig: Kubeconfig = None,
    namespace: Namespace = SYSTEM_NAMESPACE,
) -> None:
    """Allow the recommended workflow to run.

    Example: kubernaut-ray approve rr-3f2a91c0d4e5-9a1b2c3d -m "checked with the team"
    """
    connection.run(
        lambda: _decide(connection.find(data_dir, kubeconfig, namespace), name, ApprovalDecision.APPROVED, message)
    )


def reject(
    name: NameArgument,
    reason: Annotated[str, typer.Option("--reason", "-r", help="Why not; kept in the audit trail.")],
    data_dir: DataDir = connection.DEFAULT_DATA_DIR,
    kubeconfig: Kubeconfig = None,
    namespace: Namespace = SYSTEM_NAMESPACE,
) -> None:
    """Refuse the recommended workflow.

    Example: kubernaut-ray reject rr-3f2a91c0d4e5-9a1b2c3d --reason "planned maintenance"
    """
    connection.run(
        lambda: _decide(connection.find(data_dir, kubeconfig, namespace), name, ApprovalDecision.REJECTED, reason)
    )


async def find_request(client: KubeClient, namespace: str, name: str) -> RemediationApprovalRequest:
    """Find the approval request by its own name or by its RemediationRequest's. Raises ``CommandError``."""
    try:
        return RemediationApprovalRequest.from_object(await client.get(resources.APPROVAL_REQUEST, name, namespace))
    except NotFound:
        pass
    try:
        remediation = RemediationRequest.from_object(await client.get(resources.REMEDIATION_REQUEST, name, namespace))
    except NotFound:
        raise CommandError(
            f"no RemediationRequest and no RemediationApprovalRequest named {name} in namespace {namespace}; "
            "kubernaut-ray status lists them",
            Exit.NOT_FOUND,
        ) from None
    reference = remediation.status.approval_request_ref
    if reference is None:
        phase = remediation.status.overall_phase or "Pending"
        raise CommandError(f"{name} asks for no approval now (phase {phase})", Exit.REFUSED)
    return RemediationApprovalRequest.from_object(
        await client.get(resources.APPROVAL_REQUEST, reference.name, namespace)
    )


async def decide(
    client: KubeClient, request: RemediationApprovalRequest, decision: ApprovalDecision, message: str, by: str, via: str
) -> RemediationApprovalRequest:
    """Write a decision, once; return the request as it is then. Raises ``CommandError`` when it was taken or is too late.

    ``by`` counts only where no admission webhook establishes who writes.
    """
    taken = request.status.sealed_decision or request.status.decision
    if taken:
        raise CommandError(
            f"{request.name} was already decided: {taken} by {request.status.decided_by or 'unknown'}", Exit.REFUSED
        )
    if clock.utcnow() >= request.spec.required_by:
        raise CommandError(f"{request.name} expired at {clock.rfc3339(request.spec.required_by)}", Exit.REFUSED)
    status: dict[str, Any] = {
        "decision": decision.value, "decidedBy": by, "decidedVia": via, "decisionMessage": message,
    }  # fmt: skip
    written = await client.patch(
        resources.APPROVAL_REQUEST,
        request.name,
        {"metadata": {"resourceVersion": request.metadata.resource_version}, "status": status},
        request.namespace,
        subresource="status",
    )
    return RemediationApprovalRequest.from_object(written)


async def _decide(system: connection.System, name: str, decision: ApprovalDecision, message: str) -> None:
    async with connection.kubernetes(system) as client:
        request = await find_request(client, system.namespace, name)
        written = await decide(client, request, decision, message, getpass.getuser(), "cli")
    workflow = request.spec.recommended_workflow
    if not written.status.decision:
        have, needed = len(written.status.approvals), written.spec.required_approvals
        out.print(f"your approval is recorded: {have} of {needed} that are needed", highlight=False)
        return
    word = "[green]approved[/]" if decision is ApprovalDecision.APPROVED else "[red]rejected[/]"
    out.print(
        f"{word} {workflow.workflow_name or workflow.workflow_id} {workflow.version} on {request.spec.target_resource}",
        highlight=False,
    )
