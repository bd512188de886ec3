"""The words for signals: canonical Kubernetes reasons, and the alert names and spellings that mean them."""

from __future__ import annotations

import re

CANONICAL = (
    "OOMKilled", "CrashLoopBackOff", "ImagePullBackOff", "Evicted", "NodeNotReady", "PodPending", "FailedScheduling",
    "BackoffLimitExceeded", "DeadlineExceeded", "FailedMount", "CreateContainerConfigError", "Unhealthy",
    "PodDisruptionBudgetAtLimit", "PodStuckTerminating", "KubeDeploymentReplicasMismatch", "KubeHpaMaxedOut",
    "CPUThrottling", "DiskPressure", "MemoryPressure", "PIDPressure", "ProgressDeadlineExceeded", "NodeUnschedulable",
    "HighErrorRate", "HighLatency",
)  # fmt: skip
"""What an investigation calls the thing it found."""

_ALIASES = {
    "oomkill": "OOMKilled",
    "outofmemory": "OOMKilled",
    "containeroomkilled": "OOMKilled",
    "kubecontaineroomkilled": "OOMKilled",
    "memoryexhaustion": "OOMKilled",
    "containermemorynearlimit": "OOMKilled",
    "kubepodcrashlooping": "CrashLoopBackOff",
    "podcrashlooping": "CrashLoopBackOff",
    "podcrashloop": "CrashLoopBackOff",
    "crashloop": "CrashLoopBackOff",
    "errimagepull": "ImagePullBackOff",
    "imagepullfailure": "ImagePullBackOff",
    "invalidimagename": "ImagePullBackOff",
    "kubenodenotready": "NodeNotReady",
    "nodeunreachable": "NodeNotReady",
    "kubenodeunreachable": "NodeNotReady",
    "pending": "PodPending",
    "podunschedulable": "FailedScheduling",
    "unschedulable": "FailedScheduling",
    "insufficientcpu": "FailedScheduling",
    "insufficientmemory": "FailedScheduling",
    "kubejobfailed": "BackoffLimitExceeded",
    "jobfailed": "BackoffLimitExceeded",
    "kubedeploymentreplicasmismatch": "KubeDeploymentReplicasMismatch",
    "deploymentreplicasmismatch": "KubeDeploymentReplicasMismatch",
    "kubestatefulsetreplicasmismatch": "KubeDeploymentReplicasMismatch",
    "kubedeploymentrolloutstuck": "ProgressDeadlineExceeded",
    "progressdeadlineexceeded": "ProgressDeadlineExceeded",
    "kubehpamaxedout": "KubeHpaMaxedOut",
    "hpamaxed": "KubeHpaMaxedOut",
    "hpaatmax": "KubeHpaMaxedOut",
    "cputhrottlinghigh": "CPUThrottling",
    "highcpu": "CPUThrottling",
    "nodediskpressure": "DiskPressure",
    "nodememorypressure": "MemoryPressure",
    "kubepoddisruptionbudget": "PodDisruptionBudgetAtLimit",
    "kubepdbnotenoughhealthypods": "PodDisruptionBudgetAtLimit",
    "poddisruptionbudgetblocking": "PodDisruptionBudgetAtLimit",
    "poddisruptionbudgetlimit": "PodDisruptionBudgetAtLimit",
    "disruptionbudgetexhausted": "PodDisruptionBudgetAtLimit",
    "evictionblocked": "PodDisruptionBudgetAtLimit",
    "failedeviction": "PodDisruptionBudgetAtLimit",
    "nodedrainblocked": "PodDisruptionBudgetAtLimit",
    "drainblocked": "PodDisruptionBudgetAtLimit",
    "pdbblocking": "PodDisruptionBudgetAtLimit",
    "pdbblocked": "PodDisruptionBudgetAtLimit",
    "nodecordoned": "NodeUnschedulable",
    "kubenodeunschedulable": "NodeUnschedulable",
    "kubenodenotschedulable": "NodeUnschedulable",
    "insufficientreplicas": "KubeDeploymentReplicasMismatch",
    "replicasmismatch": "KubeDeploymentReplicasMismatch",
    "highcpuusage": "CPUThrottling",
    "highmemoryusage": "OOMKilled",
    "memorylimitexceeded": "OOMKilled",
    "failedlivenessprobe": "Unhealthy",
    "failedreadinessprobe": "Unhealthy",
    "stuckterminating": "PodStuckTerminating",
    "terminatingpod": "PodStuckTerminating",
    "podterminatingstuck": "PodStuckTerminating",
    "failedattachvolume": "FailedMount",
    "livenessprobefailed": "Unhealthy",
    "livenessprobefailure": "Unhealthy",
    "readinessprobefailed": "Unhealthy",
    "highlatency": "HighLatency",
    "errorratehigh": "HighErrorRate",
    "http5xx": "HighErrorRate",
}
_BY_WORD = {**{c.lower(): c for c in CANONICAL}, **_ALIASES}
_TELLING = 7
"""Letters that a word must have to count inside another."""
_NOISE = re.compile(r"[^a-z0-9]+")


def canonical(signal: str) -> str:
    """Return the canonical word for a signal type or alert name; what is not known is returned as it is.

    An alert name that holds a known word (``ShopPodOOMKilled``) means the longest one that it holds.
    """
    word = _NOISE.sub("", signal.lower())
    if word in _BY_WORD:
        return _BY_WORD[word]
    held = [known for known in _BY_WORD if len(known) >= _TELLING and known in word]
    return _BY_WORD[max(held, key=len)] if held else signal.strip()


def is_canonical(signal: str) -> bool:
    return signal in CANONICAL


def keywords(signal: str) -> frozenset[str]:
    """Return the lower-case words of a CamelCase, kebab or snake name: ``KubePodCrashLooping`` → kube, pod, crash, looping."""
    return frozenset(w.lower() for w in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", signal))
