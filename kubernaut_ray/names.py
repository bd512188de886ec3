"""Every name the system gives: deterministic, so that creating twice is creating once.

A crash between creating a child and recording it is repaired by creating it again under the same name; two gateway
replicas that see one alert collide on the RemediationRequest's name. Nothing here reads the clock or random numbers.
"""

from __future__ import annotations

import hashlib
import re
import uuid

GROUP = "kubernaut.ai"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

SYSTEM_NAMESPACE = "kubernaut-system"
WORKFLOW_NAMESPACE = "kubernaut-workflows"
SERVICE_ACCOUNT = "kubernaut"
"""The platform's own account, in ``SYSTEM_NAMESPACE``."""
PLATFORM_USER = f"system:serviceaccount:{SYSTEM_NAMESPACE}:{SERVICE_ACCOUNT}"
"""How the API server names it."""
WORKFLOW_SERVICE_ACCOUNT = "kubernaut-workflow-runner"

LABEL_SHARD = f"{GROUP}/shard"
LABEL_REMEDIATION = f"{GROUP}/remediation-request"
LABEL_FINGERPRINT = f"{GROUP}/signal-fingerprint"
LABEL_SIGNAL_NAME = f"{GROUP}/signal-name"
LABEL_SIGNAL_TYPE = f"{GROUP}/signal-type"
LABEL_SEVERITY = f"{GROUP}/severity"
LABEL_MANAGED = f"{GROUP}/managed"
LABEL_ENVIRONMENT = f"{GROUP}/environment"
LABEL_WORKFLOW_EXECUTION = f"{GROUP}/workflow-execution"
LABEL_WORKFLOW_ID = f"{GROUP}/workflow-id"
LABEL_TARGET_RESOURCE = f"{GROUP}/target-resource"
LABEL_SOURCE_NAMESPACE = f"{GROUP}/source-namespace"
LABEL_NOTIFICATION_TYPE = f"{GROUP}/notification-type"
LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
LABEL_COMPONENT = "app.kubernetes.io/component"
ANNOTATION_CREATED_AT = f"{GROUP}/created-at"
ANNOTATION_TARGET_RESOURCE = f"{GROUP}/target-resource"
ANNOTATION_CANCEL = f"{GROUP}/cancel"
"""On a RemediationRequest: a person calls it off; the value is the reason."""
ANNOTATION_STOPPED_EXECUTION = f"{GROUP}/stopped-execution"
"""On a RemediationRequest: the execution that was deleted while it was under way, and is not made again."""
ANNOTATION_CANCELLED_BY = f"{GROUP}/cancelled-by"
"""On a RemediationRequest that a person called off: who, as the API server authenticated them."""
ANNOTATION_REVIEWED = f"{GROUP}/reviewed"
"""On a finished RemediationRequest that asks for a person: ``true`` says that one has looked; its signal may open a new one."""
ANNOTATION_AUTHENTICATED_USER = f"{GROUP}/authenticated-user"
"""On an object made through our HTTP API: who asked for it last, as the token says, whatever the object itself claims."""
ANNOTATION_REQUESTED_BY = f"{GROUP}/requested-by"
"""On a RemediationRequest that a person made: who, as the API server authenticated them."""
ANNOTATION_SPEC_HASH = f"{GROUP}/pre-remediation-spec-hash"
"""On a WorkflowExecution: what the target's spec was when the execution was created."""
ANNOTATION_UPDATED_AT = f"{GROUP}/updated-at"
ANNOTATION_FENCING_LEASE = f"{GROUP}/fencing-lease"
ANNOTATION_FENCING_TOKEN = f"{GROUP}/fencing-token"
ANNOTATION_FENCING_HOLDER = f"{GROUP}/fencing-holder"
"""On what a controller creates: the Lease under which it did, that Lease's ``leaseTransitions`` and ``holderIdentity``."""
LABEL_SHARDS_OF = f"{GROUP}/shards-of"
"""On the Leases of shards: the kind (by plural) that they are about."""
FINALIZER_REMEDIATION_WORKFLOW = "remediationworkflow.kubernaut.ai/catalog-cleanup"
FINALIZER_WORKFLOW_EXECUTION = "workflowexecution.kubernaut.ai/workflowexecution-cleanup"

RAY_NAMESPACE = "kubernaut"
CATALOG_OWNER_ACTOR = "catalog-owner"
"""The detached actor that owns the catalog's file, in ``RAY_NAMESPACE``."""
EVENT_WATCHER = "kubernaut-event-watcher"
"""The Lease of the event watcher and the ConfigMap of its position, in ``SYSTEM_NAMESPACE``."""
LINEAGE = "kubernaut-lineage"
"""The ConfigMaps of ``contracts/lineage.py``, with a digit after it."""
BUNDLE_KEYS = "kubernaut-cosign"
"""The Secret in which the public keys are looked for that bundles are signed with."""

VIRTUAL_SHARDS = 64
"""Virtual shards; an actor owns a range of them, so resizing a fleet moves ranges and not objects."""
BLOCK_SHARDS = 4
"""Shards that change hands together, under one Lease: the smallest part of a kind that an actor can own."""
SHARD_BLOCKS = VIRTUAL_SHARDS // BLOCK_SHARDS

_LABEL_VALUE = re.compile(r"[^A-Za-z0-9_.-]+")
_WORKFLOW_NAMESPACE_UUID = uuid.UUID("6b5f5b4e-0f0e-5d3c-9a0a-6b7562756e61")


def shard_of(remediation: str) -> int:
    """Return the virtual shard, 0 to 63, of everything that belongs to this RemediationRequest."""
    return int.from_bytes(hashlib.sha256(remediation.encode()).digest()[:8], "big") % VIRTUAL_SHARDS


def shard_label(remediation: str) -> dict[str, str]:
    """Return the shard label of an object that belongs to this RemediationRequest."""
    return {LABEL_SHARD: str(shard_of(remediation))}


def remediation_request(fingerprint: str, previous_uid: str = "") -> str:
    """Name the RemediationRequest that follows ``previous_uid`` (the newest terminal one's, empty if there was none ever).

    All replicas that see the same state derive the same name, so the API server's name uniqueness is the dedup lock.
    """
    turn = hashlib.sha256(f"{fingerprint}:{previous_uid}".encode()).hexdigest()[:8]
    return f"rr-{fingerprint[:12]}-{turn}"


def _attempt(stem: str, attempt: int) -> str:
    return stem if attempt == 0 else f"{stem}-recovery-{attempt}"


def signal_processing(remediation: str) -> str:
    return f"sp-{remediation}"


def ai_analysis(remediation: str, attempt: int = 0) -> str:
    """Name an AIAnalysis; ``attempt`` 0 is the first analysis, n ≥ 1 the n-th recovery."""
    return _attempt(f"ai-{remediation}", attempt)


def approval_request(remediation: str, attempt: int = 0) -> str:
    return _attempt(f"rar-{remediation}", attempt)


def workflow_execution(remediation: str, attempt: int = 0) -> str:
    return _attempt(f"we-{remediation}", attempt)


def effectiveness_assessment(remediation: str) -> str:
    return f"ea-{remediation}"


def approval_of(execution: str) -> str:
    """Name the approval request of a WorkflowExecution's attempt."""
    return f"rar-{execution.removeprefix('we-')}"


def analysis_of(execution: str) -> str:
    """Name the AIAnalysis of a WorkflowExecution's attempt."""
    return f"ai-{execution.removeprefix('we-')}"


def notification(kind: str, remediation: str, attempt: int = 0) -> str:
    """Name a NotificationRequest; ``kind`` is approval, manual-review, completion, bulk, timeout, …"""
    return _attempt(f"nr-{kind}-{remediation}", attempt)


def attempt_of(child: str, first: str) -> int | None:
    """Return the attempt that a child belongs to, by its name and that of attempt 0; ``None`` for another's child."""
    if child == first:
        return 0
    tail = child.removeprefix(f"{first}-recovery-")
    return int(tail) if tail != child and tail.isascii() and tail.isdigit() and len(tail) < 7 else None


def pipeline_run(target_resource: str) -> str:
    """Name the PipelineRun for a target; its uniqueness is the per-target lock."""
    return f"wfe-{hashlib.sha256(target_resource.encode()).hexdigest()[:16]}"


def target_resource(namespace: str | None, kind: str, name: str) -> str:
    """Return the canonical ``namespace/kind/name`` (``kind/name`` for cluster-scoped), the kind in lower case."""
    return f"{namespace}/{kind.lower()}/{name}" if namespace else f"{kind.lower()}/{name}"


def label_value(text: str) -> str:
    """Make any text a valid label value: at most 63 characters, ``/`` written ``__``, alphanumeric at both ends."""
    return _LABEL_VALUE.sub("-", text.replace("/", "__"))[:63].strip("_.-")


def workflow_id(name: str, version: str) -> str:
    """Return the deterministic UUIDv5 of a catalog workflow, the same on every machine."""
    return str(uuid.uuid5(_WORKFLOW_NAMESPACE_UUID, f"{name}@{version}"))


def audit_event_id(event_type: str, correlation_id: str, *parts: str) -> str:
    """Return the deterministic UUIDv5 of an audit fact, so that a fact told twice is stored once."""
    return str(uuid.uuid5(_WORKFLOW_NAMESPACE_UUID, "\x1f".join((event_type, correlation_id, *parts))))
