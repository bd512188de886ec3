"""What a failed remediation usually means, by its Kubernetes reason, and the rules of a second attempt.

Told to language models in the recovery prompt, and used by the evidence model to judge whether the same workflow may be
tried again with other parameters.
"""

from __future__ import annotations

_MEMORY = (
    "the step or the workload hit its memory limit; the new limit may be too low, or memory leaks. Check actual use."
)
_CAPACITY = "the cluster lacks free capacity for what was asked; ask for less, or add capacity first."
_IMAGE = "an image could not be pulled: wrong reference, missing credentials, or the registry is away."
_RIGHTS = "the workflow lacks rights for what it did; no parameters repair that. Choose another workflow or hand over."
_VOLUME = "a volume could not be attached or mounted; look at the claim, the storage class and the node."
_NODE = "a node or its network is not ready; the target may have to move to another node first."

_BY_REASON = {
    "OOMKilled": _MEMORY,
    "ResourceExhausted": _CAPACITY,
    "InsufficientCPU": _CAPACITY,
    "InsufficientMemory": _CAPACITY,
    "FailedScheduling": _CAPACITY,
    "Unschedulable": "no node takes the pod: capacity, taints, affinity or node selectors. Read the scheduler's event.",
    "ImagePullBackOff": _IMAGE,
    "ErrImagePull": _IMAGE,
    "DeadlineExceeded": "it took longer than allowed; the target may not have become ready. Look at its state now.",
    "BackoffLimitExceeded": "it failed on every retry; the cause is steady, not a passing one. Read the logs.",
    "Error": "a step ended with an error; its message and exit code say more than this word.",
    "TaskFailed": "a step ended with an error; its message and exit code say more than this word.",
    "Unauthorized": _RIGHTS,
    "Forbidden": _RIGHTS,
    "ConfigurationError": "the workflow or its parameters are wrong; the target was probably not changed.",
    "FailedMount": _VOLUME,
    "FailedAttachVolume": _VOLUME,
    "NetworkNotReady": _NODE,
    "NodeNotReady": _NODE,
    "Evicted": "the node was short of a resource and evicted the pod; look at node pressure and at the pod's requests.",
}
_GENERIC = "no general advice; work from the message, the exit code and the state of the target now."

HOPELESS = frozenset({"Forbidden", "Unauthorized", "ConfigurationError", "ImagePullBackOff", "ErrImagePull"})
"""Reasons after which the same workflow fails again whatever its parameters."""

RECOVERY_RULES = """## Rules of a recovery
1. Do not choose the same workflow with the same parameters again.
2. Investigate the state now, starting from the point of failure: the failed attempt may have changed the target.
3. Decide whether the signal type has changed since.
4. Consider alternatives that avoid the reason of the failure.
5. Search with '<CURRENT_SIGNAL_TYPE> <CURRENT_SEVERITY> recovery'."""


def failure_guidance(reason: str) -> str:
    """Return a sentence on what this failure reason usually means."""
    return _BY_REASON.get(reason, _GENERIC)
