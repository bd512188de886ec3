"""Reads an incident with all its children from the API server; shared by ``status`` and ``demo``."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from kubernaut_ray import names
from kubernaut_ray.cli.render import Incident
from kubernaut_ray.crds import (
    AIAnalysis,
    CustomResource,
    EffectivenessAssessment,
    NotificationRequest,
    RemediationApprovalRequest,
    RemediationRequest,
    SignalProcessing,
    WorkflowExecution,
)
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import KubeClient

M = TypeVar("M", bound=CustomResource)


async def remediations(client: KubeClient, namespace: str) -> list[RemediationRequest]:
    listed = await client.list(resources.REMEDIATION_REQUEST, namespace)
    return [RemediationRequest.from_object(o) for o in listed.items]


async def incident(client: KubeClient, namespace: str, name: str) -> Incident:
    """Read a RemediationRequest and its children, oldest first. Raises ``NotFound``."""
    remediation = RemediationRequest.from_object(await client.get(resources.REMEDIATION_REQUEST, name, namespace))

    async def children(model: type[M]) -> tuple[M, ...]:
        listed = await client.list(resources.of(model), namespace, labels=f"{names.LABEL_REMEDIATION}={name}")
        return tuple(sorted((model.from_object(o) for o in listed.items), key=lambda c: (c.created, c.name)))

    processing, analyses, approvals, executions, notes, assessed = await asyncio.gather(
        children(SignalProcessing),
        children(AIAnalysis),
        children(RemediationApprovalRequest),
        children(WorkflowExecution),
        children(NotificationRequest),
        children(EffectivenessAssessment),
    )
    return Incident(
        remediation,
        processing[-1] if processing else None,
        analyses,
        approvals,
        executions,
        notes,
        assessed[-1] if assessed else None,
    )
