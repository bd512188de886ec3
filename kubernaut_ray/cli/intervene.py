"""``kubernaut-ray cancel`` and ``unblock``: a person calls a remediation off, or says that a target may be touched again."""

from __future__ import annotations

import getpass
from typing import Annotated

import typer

from kubernaut_ray import clock, names
from kubernaut_ray.cli import connection
from kubernaut_ray.cli.connection import CommandError, DataDir, Exit, Kubeconfig, Namespace, out
from kubernaut_ray.crds import RemediationRequest, WorkflowExecution
from kubernaut_ray.crds.enums import ClearMethod, WorkflowExecutionPhase
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import KubeClient
from kubernaut_ray.kube.errors import NotFound
from kubernaut_ray.names import SYSTEM_NAMESPACE


def cancel(
    name: Annotated[str, typer.Argument(help="Name of the RemediationRequest.")],
    reason: Annotated[str, typer.Option("--reason", "-r", help="Why; people and the audit trail are told.")],
    data_dir: DataDir = connection.DEFAULT_DATA_DIR,
    kubeconfig: Kubeconfig = None,
    namespace: Namespace = SYSTEM_NAMESPACE,
) -> None:
    """Call a remediation off, in any phase: what waits is withdrawn, a workflow that runs is told to stop.

    Example: kubernaut-ray cancel rr-3f2a91c0d4e5-9a1b2c3d --reason "planned maintenance"
    """
    connection.run(lambda: _cancel(connection.find(data_dir, kubeconfig, namespace), name, reason))


def unblock(
    name: Annotated[str, typer.Argument(help="Name of the failed WorkflowExecution, or of its RemediationRequest.")],
    reason: Annotated[str, typer.Option("--reason", "-r", help="What you found on the target; kept in the trail.")],
    data_dir: DataDir = connection.DEFAULT_DATA_DIR,
    kubeconfig: Kubeconfig = None,
    namespace: Namespace = SYSTEM_NAMESPACE,
) -> None:
    """Allow workflows again on a target where one failed half-way, once you have looked at it.

    Example: kubernaut-ray unblock we-rr-3f2a91c0d4e5-9a1b2c3d --reason "rolled back by hand, pods are ready"
    """
    connection.run(lambda: _unblock(connection.find(data_dir, kubeconfig, namespace), name, reason))


async def _cancel(system: connection.System, name: str, reason: str) -> None:
    reason = _said(reason)
    async with connection.kubernetes(system) as client:
        request = RemediationRequest.from_object(
            await client.get(resources.REMEDIATION_REQUEST, name, system.namespace)
        )
        phase = request.status.overall_phase
        if phase is not None and phase.terminal:
            raise CommandError(f"{name} has ended already: {phase}", Exit.REFUSED)
        await client.patch(
            resources.REMEDIATION_REQUEST,
            name,
            {"metadata": {"annotations": {names.ANNOTATION_CANCEL: reason}}},
            system.namespace,
        )
    out.print(
        f"[yellow]called off[/] {name} (was {phase or 'new'}); kubernaut-ray status {name} shows it end",
        highlight=False,
    )


async def _unblock(system: connection.System, name: str, reason: str) -> None:
    reason = _said(reason)
    async with connection.kubernetes(system) as client:
        execution = await _failed(client, system.namespace, name)
        cleared = execution.status.block_clearance
        if cleared is not None:
            raise CommandError(f"{execution.name} was cleared already, by {cleared.cleared_by}", Exit.REFUSED)
        clearance = {
            "clearedAt": clock.rfc3339(clock.utcnow()),
            "clearedBy": getpass.getuser(),
            "clearReason": reason,
            "clearMethod": ClearMethod.API_ENDPOINT.value,
        }
        await client.patch(
            resources.WORKFLOW_EXECUTION,
            execution.name,
            {
                "metadata": {"resourceVersion": execution.metadata.resource_version},
                "status": {"blockClearance": clearance},
            },
            system.namespace,
            subresource="status",
        )
    out.print(f"[green]cleared[/] {execution.spec.target_resource}: workflows may run there again", highlight=False)


async def _failed(client: KubeClient, namespace: str, name: str) -> WorkflowExecution:
    """Find the failed execution by its own name, or the last one of a RemediationRequest. Raises ``CommandError``."""
    try:
        found = WorkflowExecution.from_object(await client.get(resources.WORKFLOW_EXECUTION, name, namespace))
    except NotFound:
        listed = await client.list(
            resources.WORKFLOW_EXECUTION, namespace, labels=f"{names.LABEL_REMEDIATION}={names.label_value(name)}"
        )
        executions = sorted(map(WorkflowExecution.from_object, listed.items), key=lambda e: (e.created, e.name))
        if not executions:
            raise CommandError(
                f"no WorkflowExecution named {name}, and none of a RemediationRequest named so, in namespace {namespace}",
                Exit.NOT_FOUND,
            ) from None
        found = executions[-1]
    if found.status.phase is not WorkflowExecutionPhase.FAILED:
        raise CommandError(f"{found.name} did not fail (phase {found.status.phase or 'Pending'})", Exit.REFUSED)
    return found


def _said(reason: str) -> str:
    if not reason.strip():
        raise CommandError("--reason must say something", Exit.USAGE)
    return reason.strip()
