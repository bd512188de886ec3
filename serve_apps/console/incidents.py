"""Reads remediations and their children for the pages. An object that cannot be read is shown as such, never an error page."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TypeVar

from pydantic import ValidationError

from kubernaut_ray import names
from kubernaut_ray.crds import (
    AIAnalysis,
    CustomResource,
    NotificationRequest,
    RemediationApprovalRequest,
    RemediationRequest,
    SignalProcessing,
    WorkflowExecution,
)
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import KubeClient, Object

M = TypeVar("M", bound=CustomResource)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An object that somebody edited into something our models do not take."""

    kind: str
    name: str
    why: str


@dataclass(frozen=True, slots=True)
class Incident:
    """A RemediationRequest with its children, each list oldest first."""

    remediation: RemediationRequest
    processings: tuple[SignalProcessing, ...] = ()
    analyses: tuple[AIAnalysis, ...] = ()
    approvals: tuple[RemediationApprovalRequest, ...] = ()
    executions: tuple[WorkflowExecution, ...] = ()
    notifications: tuple[NotificationRequest, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()


async def everything(
    client: KubeClient, namespace: str
) -> tuple[tuple[RemediationRequest, ...], tuple[Unreadable, ...]]:
    """Return all remediations, newest first, and those that cannot be read."""
    listed = await client.list(resources.REMEDIATION_REQUEST, namespace)
    read, unreadable = _read_all(RemediationRequest, listed.items)
    return read[::-1], unreadable


async def incident(client: KubeClient, namespace: str, name: str) -> Incident:
    """Read one remediation and its children. Raises ``NotFound``, and ``ValidationError`` when it cannot be read itself."""
    remediation = RemediationRequest.from_object(await client.get(resources.REMEDIATION_REQUEST, name, namespace))
    unreadable: list[Unreadable] = []

    async def children(model: type[M]) -> tuple[M, ...]:
        labels = f"{names.LABEL_REMEDIATION}={name}"
        listed = await client.list(resources.of(model), namespace, labels=labels)
        read, rest = _read_all(model, listed.items)
        unreadable.extend(rest)
        return read

    processings, analyses, approvals, executions, notifications = await asyncio.gather(
        children(SignalProcessing),
        children(AIAnalysis),
        children(RemediationApprovalRequest),
        children(WorkflowExecution),
        children(NotificationRequest),
    )
    return Incident(remediation, processings, analyses, approvals, executions, notifications, tuple(unreadable))


def _read_all(model: type[M], objects: tuple[Object, ...]) -> tuple[tuple[M, ...], tuple[Unreadable, ...]]:
    read: list[M] = []
    unreadable: list[Unreadable] = []
    for obj in objects:
        try:
            read.append(model.from_object(obj))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            unreadable.append(Unreadable(model.kind(), obj["metadata"]["name"], f"{where}: {first['msg']}"))
    return tuple(sorted(read, key=lambda one: (one.created, one.name))), tuple(unreadable)
