"""The custom resources of group ``kubernaut.ai``, version ``v1alpha1``: pydantic models, and the CRDs generated from them."""

from __future__ import annotations

from kubernaut_ray.crds.ai_analysis import AIAnalysis
from kubernaut_ray.crds.base import CustomResource, Model, ObjectMeta, ObjectReference, Timestamp
from kubernaut_ray.crds.effectiveness_assessment import EffectivenessAssessment
from kubernaut_ray.crds.notification_request import NotificationRequest
from kubernaut_ray.crds.remediation_approval_request import RemediationApprovalRequest
from kubernaut_ray.crds.remediation_request import RemediationRequest
from kubernaut_ray.crds.remediation_workflow import RemediationWorkflow
from kubernaut_ray.crds.signal_processing import SignalProcessing
from kubernaut_ray.crds.silence import Silence
from kubernaut_ray.crds.workflow_execution import WorkflowExecution

KINDS: tuple[type[CustomResource], ...] = (
    RemediationRequest,
    SignalProcessing,
    AIAnalysis,
    RemediationApprovalRequest,
    WorkflowExecution,
    EffectivenessAssessment,
    NotificationRequest,
)
"""In the order in which an incident meets them."""

DECLARED: tuple[type[CustomResource], ...] = (RemediationWorkflow,)
"""What people declare and a controller carries out; no incident makes one."""

CONFIGURATION: tuple[type[CustomResource], ...] = (Silence,)
"""What people set and no controller reconciles."""

SERVED = (*KINDS, *DECLARED, *CONFIGURATION)
"""All kinds that the API server must serve."""

__all__ = [
    "CONFIGURATION",
    "DECLARED",
    "KINDS",
    "SERVED",
    "AIAnalysis",
    "CustomResource",
    "EffectivenessAssessment",
    "Model",
    "NotificationRequest",
    "ObjectMeta",
    "ObjectReference",
    "RemediationApprovalRequest",
    "RemediationRequest",
    "RemediationWorkflow",
    "SignalProcessing",
    "Silence",
    "Timestamp",
    "WorkflowExecution",
]
