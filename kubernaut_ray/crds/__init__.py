"""The custom resources of group ``kubernaut.ai``, version ``v1alpha1``: pydantic models, and the CRDs generated from them."""

from __future__ import annotations

from kubernaut_ray.crds.ai_analysis import AIAnalysis
from kubernaut_ray.crds.base import CustomResource, Model, ObjectMeta, ObjectReference, Timestamp
from kubernaut_ray.crds.notification_request import NotificationRequest
from kubernaut_ray.crds.remediation_approval_request import RemediationApprovalRequest
from kubernaut_ray.crds.remediation_request import RemediationRequest
from kubernaut_ray.crds.signal_processing import SignalProcessing
from kubernaut_ray.crds.workflow_execution import WorkflowExecution

KINDS: tuple[type[CustomResource], ...] = (
    RemediationRequest,
    SignalProcessing,
    AIAnalysis,
    RemediationApprovalRequest,
    WorkflowExecution,
    NotificationRequest,
)
"""In the order in which an incident meets them."""

__all__ = [
    "KINDS",
    "AIAnalysis",
    "CustomResource",
    "Model",
    "NotificationRequest",
    "ObjectMeta",
    "ObjectReference",
    "RemediationApprovalRequest",
    "RemediationRequest",
    "SignalProcessing",
    "Timestamp",
    "WorkflowExecution",
]
