"""Synthetic catalogs and questions of any size, the same on every machine: real texts recombined, with varied words and labels.

A workflow takes its action and first sentence from one real workflow and its conditions from another, says which system it
is for and what it watches (words made of syllables, so that word stems and character trigrams differ), and carries labels
drawn independently: scalars, arrays and ``*``. No two texts are equal, and so no two vectors of the embedder are.

A question is a real root-cause summary with the names of its system exchanged, a few words of it dropped, and the facts of
one incident. The facts are drawn by what they leave of the catalog: everything, or a share down to a tenth of a per cent.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubernaut_ray import names
from kubernaut_ray.contracts.catalog import (
    ANY,
    LabelValue,
    SearchFilters,
    SearchRequest,
    Workflow,
    WorkflowDescription,
    WorkflowLabels,
    WorkflowParameter,
)
from kubernaut_ray.crds.enums import ParameterType

DATA = Path(__file__).with_name("data")
SEED = 20260101

SEVERITIES = ("critical", "high", "warning", "info")
ENVIRONMENTS = ("production", "staging", "development", "test")
PRIORITIES = ("P0", "P1", "P2", "P3")
COMPONENTS = (
    "deployment", "statefulset", "pod", "node", "daemonset", "job", "cronjob", "persistentvolumeclaim", "configmap",
    "secret", "service", "ingress", "horizontalpodautoscaler", "poddisruptionbudget", "networkpolicy", "certificate",
)  # fmt: skip
SIGNALS = (
    "KubePodCrashLooping", "KubePodNotReady", "OOMKilled", "KubeDeploymentRolloutStuck", "KubeNodeNotReady",
    "KubePersistentVolumeFillingUp", "KubeHpaMaxedOut", "CertManagerCertNotReady", "IstioHighDeniedRate",
    "KubeStatefulSetReplicasMismatch", "KubeJobFailed", "KubeQuotaExceeded", "ImagePullBackOff", "FailedScheduling",
    "PodDisruptionBudgetAtLimit", "EtcdDatabaseFragmented", "HighErrorRate", "LatencyBudgetBurn", "CPUThrottlingHigh",
    "ConfigMapInvalid", "SecretExpired", "NetworkPolicyDenied", "DnsLookupFailing", "NodeDiskPressure",
)  # fmt: skip
_SYLLABLES = (
    "ar", "bel", "cor", "dan", "el", "fin", "gal", "hor", "il", "jun", "kal", "lor", "mer", "nal", "or", "pel", "quin", "ros",
    "sil", "tor", "ul", "ver", "wal", "xan", "yor", "zel", "bra", "cre", "dri", "flo",
)  # fmt: skip
_ROLES = (
    "gateway",
    "ledger",
    "worker",
    "cache",
    "index",
    "billing",
    "broker",
    "scheduler",
    "portal",
    "router",
    "store",
)
_WATCHED = ("throughput", "latency", "backlog", "saturation", "checkout", "ingestion", "replication", "compaction")


@dataclass(frozen=True, slots=True)
class Question:
    """``share`` says which share of the catalog its facts were drawn to leave, 1 for no facts."""

    request: SearchRequest
    share: float


def real_workflows(file: Path = DATA / "workflow-catalog.json") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(file.read_text())
    return found


def real_incidents(file: Path = DATA / "retrieval-dev.json") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(file.read_text())
    return found


def workflows(count: int, real: Sequence[dict[str, Any]], *, first: int = 0) -> Iterator[Workflow]:
    """Yield workflows number ``first`` to ``first + count``; a number always gives the same workflow."""
    for number in range(first, first + count):
        dice = random.Random(f"{SEED}-workflow-{number}")
        one, other = dice.choice(real), dice.choice(real)
        system = f"{_word(dice)}-{dice.choice(_ROLES)}"
        said = one["description"]
        conditions = _sentences(other["description"].get("whenToUse") or said["what"])
        dice.shuffle(conditions)
        name = f"{one['action_type'].lower()}-{system}-{number}"
        content = f"{name}: {one['action_type']} for {system}"
        digest = hashlib.sha256(content.encode()).hexdigest()
        yield Workflow(
            workflow_id=names.workflow_id(name, "1.0.0"),
            workflow_name=name,
            version="1.0.0",
            title=f"{one['action_type']} for {system}",
            action_type=one["action_type"],
            description=WorkflowDescription(
                what=f"{said['what']} of the {system} system",
                when_to_use=f"{said.get('whenToUse') or said['what']} {' '.join(conditions[:2])} "
                f"Watches {_word(dice)} {dice.choice(_WATCHED)} of {_word(dice)}.",
                when_not_to_use=said.get("whenNotToUse") or "",
                preconditions=said.get("preconditions") or "",
            ),
            labels=_labels(dice),
            parameters=tuple(
                WorkflowParameter(
                    name=p["name"],
                    type=ParameterType(p["type"]),
                    required=bool(p.get("required")),
                    description=p.get("description") or "",
                )
                for p in one["parameters"]
            ),
            container_image=f"registry.invalid/workflows/{name}:1.0.0",
            container_digest=f"sha256:{digest}",
            content=content,
            content_hash=digest,
        )


def questions(count: int, incidents: Sequence[dict[str, Any]], *, seed: int = 0, top_k: int = 10) -> list[Question]:
    """Return ``count`` questions, no two of the same text; shares of the catalog in turn."""
    made = []
    for number in range(count):
        dice = random.Random(f"{SEED}-question-{seed}-{number}")
        incident = incidents[number % len(incidents)]
        words = [w for w in incident["rca_summary"].split() if dice.random() > 0.05]
        system = f"{_word(dice)}-{dice.choice(_ROLES)}"
        query = f"{incident.get('signal_name') or ''} {system}: {' '.join(words)}".strip()
        facts, share = _facts(dice, number)
        made.append(Question(SearchRequest(query=query[:8192], filters=facts, top_k=top_k), share))
    return made


# Which facts are known, by the share of the catalog that they leave (about: labels are drawn below).
_KNOWN: tuple[tuple[float, tuple[str, ...]], ...] = (
    (1.0, ()),
    (0.5, ("severity",)),
    (0.2, ("severity", "environment")),
    (0.05, ("severity", "environment", "component")),
    (0.02, ("severity", "environment", "component", "priority")),
    (0.002, ("severity", "environment", "component", "priority", "signal_type")),
)


def _facts(dice: random.Random, number: int) -> tuple[SearchFilters, float]:
    share, known = _KNOWN[number % len(_KNOWN)]
    drawn = {
        "severity": dice.choice(SEVERITIES),
        "environment": dice.choice(ENVIRONMENTS),
        "component": dice.choice(COMPONENTS),
        "priority": dice.choice(PRIORITIES),
        "signal_type": dice.choice(SIGNALS),
    }
    return SearchFilters(**{field: drawn[field] for field in known}), share


def _labels(dice: random.Random) -> WorkflowLabels:
    return WorkflowLabels(
        signal_type=_label(dice, SIGNALS, several=0.2, anything=0.05),
        severity=_label(dice, SEVERITIES, several=0.5, anything=0.1),
        component=_label(dice, COMPONENTS, several=0.1, anything=0.1),
        environment=_label(dice, ENVIRONMENTS, several=0.3, anything=0.15),
        priority=_label(dice, PRIORITIES, several=0.2, anything=0.2),
        detected={"gitOpsManaged": "true"} if dice.random() < 0.1 else {},
    )


def _label(dice: random.Random, values: Sequence[str], *, several: float, anything: float) -> LabelValue:
    drawn = dice.random()
    if drawn < anything:
        return ANY
    if drawn < anything + several:
        return tuple(sorted(dice.sample(values, 2)))
    return dice.choice(values)


def _word(dice: random.Random) -> str:
    return "".join(dice.choice(_SYLLABLES) for _ in range(dice.randint(2, 3)))


def _sentences(text: str) -> list[str]:
    return [part.strip().rstrip(".") + "." for part in text.split(". ") if part.strip()]
