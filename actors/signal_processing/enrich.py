"""The cluster around a signal: target, signal's own resource, owners, pods, node, events, and how it is run.

A target that is gone is degraded mode and goes on; what may not be read is a named reason and goes on; a passing fault
ends in ``NotEnriched`` and is tried again later; a failed side query (budgets, autoscalers, network policies) is a failed
detection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from actors.signal_processing import facts
from actors.signal_processing.detect import detect, scales, selects
from actors.signal_processing.events import recent
from actors.signal_processing.reads import PAGE, Gaps, Owner, Reads
from kubernaut_ray.crds.enums import EnrichmentReason as Reason
from kubernaut_ray.crds.enums import TargetType
from kubernaut_ray.crds.shared import DetectedLabels, KubernetesContext, OwnerEntry, RelatedObject, TargetResource
from kubernaut_ray.crds.signal_processing import SignalProcessingSpec
from kubernaut_ray.errors import Retryable
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import KubeClient, Object
from kubernaut_ray.kube.errors import ApiError

_SLOTS = {
    "Pod": "pod",
    "Deployment": "deployment",
    "StatefulSet": "stateful_set",
    "DaemonSet": "daemon_set",
    "ReplicaSet": "replica_set",
    "Service": "service",
    "Node": "node",
}
_WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet", "Job", "ReplicaSet")
_SELECTING = {"Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "Service", "PodDisruptionBudget"}
"""Kinds whose ``spec.selector`` selects pods."""


@dataclass(frozen=True, slots=True)
class Enriched:
    """The context is as good as it gets; ``reason`` says how good."""

    context: KubernetesContext
    reason: Reason
    message: str = ""


@dataclass(frozen=True, slots=True)
class NotEnriched:
    """A fault that may pass: nothing is known, try again later."""

    reason: Reason
    message: str


@dataclass(slots=True)
class _Scene:
    """What has been read so far. ``around`` is kind → object, where the target and its owners come first."""

    target_ref: TargetResource
    source_ref: TargetResource | None
    namespace: Object | None = None
    target: Object | None = None
    pod: Object | None = None
    chain: list[Owner] = field(default_factory=list)
    around: dict[str, Object] = field(default_factory=dict)
    gaps: Gaps = field(default_factory=Gaps)

    @property
    def home(self) -> str:
        return self.target_ref.namespace

    @property
    def workload(self) -> Object | None:
        return next((self.around[kind] for kind in _WORKLOADS if kind in self.around), None)


@dataclass(frozen=True, slots=True)
class _Side:
    """Answers of the side queries; ``None`` where one failed."""

    replica_sets: Sequence[Object] | None
    budgets: Sequence[Object] | None
    autoscalers: Sequence[Object] | None
    isolations: Sequence[Object] | None
    events: Sequence[Object]


class Enricher:
    """One per controller; it keeps nothing of what it read."""

    def __init__(self, client: KubeClient) -> None:
        self._reads = Reads(client)

    async def enrich(self, spec: SignalProcessingSpec, timeout: float) -> Enriched | NotEnriched:
        """Read everything within ``timeout`` seconds."""
        signal = spec.signal
        if signal.target_type is not TargetType.KUBERNETES or not spec.enrichment_config.enable_cluster_state:
            context = KubernetesContext(degraded_mode=True)
            return Enriched(context, Reason.DEGRADED_MODE, "the cluster's state was not asked for")
        source = signal.signal_resource
        if source is not None and str(source) == str(signal.target_resource):
            source = None
        try:
            async with asyncio.timeout(timeout):
                return await self._read(_Scene(signal.target_resource, source))
        except (TimeoutError, Retryable) as error:
            detail = str(error) or f"not done within {timeout:g} s"
            return NotEnriched(Reason.API_TIMEOUT, f"the Kubernetes API did not answer: {detail}")
        except ApiError as error:
            return NotEnriched(Reason.ENRICHMENT_FAILED, str(error))

    async def _read(self, scene: _Scene) -> Enriched:
        reads, target, source = self._reads, scene.target_ref, scene.source_ref
        scene.namespace, scene.target, named = await asyncio.gather(
            reads.get(resources.NAMESPACE, scene.home, None, scene.gaps) if scene.home else _nothing(),
            reads.object(target, scene.gaps),
            reads.object(source, scene.gaps),
        )
        if scene.target is not None:
            scene.around[target.kind] = scene.target
        anchor = scene.target if named is None else named
        scene.chain = await reads.owners(anchor, scene.gaps)
        _add(scene, scene.chain)
        if source is not None and named is not None:
            scene.around.setdefault(source.kind, named)
        scene.pod = scene.around.get("Pod") or await self._selected_pod(scene, anchor)
        side = await self._side(scene)
        context = KubernetesContext(
            namespace=facts.related("Namespace", scene.namespace) if scene.namespace else None,
            owner_chain=tuple(entry for entry, _ in scene.chain),
            detected_labels=_detected(scene, side) if scene.target is not None else None,
            recent_events=recent(side.events),
            degraded_mode=scene.target is None,
            **_slots(scene, side),
        )
        return _verdict(context, scene)

    async def _selected_pod(self, scene: _Scene, anchor: Object | None) -> Object | None:
        """Return the worst of the pods that the target selects; its owners join the scene, but not the owner chain."""
        base = scene.target or anchor
        if scene.target_ref.kind == "HorizontalPodAutoscaler" and scene.target is not None:
            base = await self._scaled(scene, scene.target)
        selector = _selector(base)
        if not selector or base is None or base.get("kind") not in _SELECTING:
            return None
        pods = await self._reads.list(resources.POD, scene.home, scene.gaps, labels=selector, limit=PAGE)
        pod = facts.worst_pod(pods or ())
        if pod is not None:
            scene.around["Pod"] = pod
            _add(scene, await self._reads.owners(pod, scene.gaps))
        return pod

    async def _scaled(self, scene: _Scene, autoscaler: Object) -> Object | None:
        wanted = (autoscaler.get("spec") or {}).get("scaleTargetRef") or {}
        ref = TargetResource(
            api_version=wanted.get("apiVersion", ""),
            kind=wanted.get("kind", ""),
            name=wanted.get("name", ""),
            namespace=scene.home,
        )
        workload = await self._reads.object(ref, scene.gaps)
        if workload is not None:
            scene.around.setdefault(ref.kind, workload)
        return workload

    async def _side(self, scene: _Scene) -> _Side:
        """Ask everything that is not needed to ask on, at once."""
        reads, home = self._reads, scene.home
        node = str(((scene.pod or {}).get("spec") or {}).get("nodeName") or "")
        about = [(ref.kind, ref.name) for ref in (scene.target_ref, scene.source_ref) if ref is not None]
        about += [
            (kind, scene.around[kind]["metadata"]["name"]) for kind in ("Pod", "ReplicaSet") if kind in scene.around
        ]
        found, replica_sets, budgets, autoscalers, isolations, events = await asyncio.gather(
            reads.get(resources.NODE, node, None, scene.gaps) if node else _nothing(),
            reads.list(resources.REPLICA_SET, home, scene.gaps, labels=_selector(scene.around.get("Deployment")))
            if "Deployment" in scene.around
            else _none_there(),
            reads.list(resources.PDB, home, scene.gaps) if home else _none_there(),
            reads.list(resources.HPA, home, scene.gaps) if home else _none_there(),
            reads.list(resources.NETWORK_POLICY, home, scene.gaps) if home else _none_there(),
            reads.events(home, dict.fromkeys(about), scene.gaps),
        )
        if found is not None:
            scene.around.setdefault("Node", found)
        return _Side(replica_sets, budgets, autoscalers, isolations, events)


async def _nothing() -> Object | None:
    return None


async def _none_there() -> Sequence[Object] | None:
    return ()


def _add(scene: _Scene, owners: Sequence[Owner]) -> None:
    for entry, owner in owners:
        if owner is not None:
            scene.around.setdefault(entry.kind, owner)


def _relatives(scene: _Scene) -> list[OwnerEntry]:
    """Everything that is the target, owns it, or is owned by it, as far as it has been read."""
    entries = [entry for entry, _ in scene.chain]
    entries.append(OwnerEntry(kind=scene.target_ref.kind, name=scene.target_ref.name, namespace=scene.home))
    entries += [
        OwnerEntry(kind=kind, name=obj["metadata"]["name"], namespace=scene.home) for kind, obj in scene.around.items()
    ]
    return entries


def _detected(scene: _Scene, side: _Side) -> DetectedLabels:
    proven = [scene.target, scene.pod, scene.workload, *(owner for _, owner in scene.chain)]
    known = [obj for obj in proven if obj is not None]
    labels = facts.pod_labels(scene.pod or scene.workload or {})
    return detect(
        owners=_relatives(scene),
        target_kind=scene.target_ref.kind,
        labels=[_metadata(obj, "labels") for obj in known] + [labels],
        annotations=[_metadata(obj, "annotations") for obj in known] + [facts.pod_annotations(obj) for obj in known],
        namespace=scene.namespace,
        pod_labels=labels,
        budgets=side.budgets,
        autoscalers=side.autoscalers,
        isolations=side.isolations,
    )


def _slots(scene: _Scene, side: _Side) -> dict[str, RelatedObject]:
    """Describe what was read, by slot. ``other`` is a target of another kind, or the budget or autoscaler that matters."""
    worst = facts.worst_container(scene.pod) if scene.pod else ""
    filled: dict[str, RelatedObject] = {}
    for kind, obj in scene.around.items():
        if kind not in _SLOTS:
            continue
        more = facts.container_facts(obj, worst) if worst and kind not in {"Pod", "Node", "Service"} else {}
        image = facts.previous_image(obj, side.replica_sets or (), worst) if kind == "Deployment" else ""
        filled[_SLOTS[kind]] = facts.related(kind, obj, **more, previousImage=image)
    other = _other(scene, side)
    if other is not None:
        filled["other"] = facts.related(*other)
    return filled


def _other(scene: _Scene, side: _Side) -> tuple[str, Object] | None:
    if scene.target_ref.kind not in _SLOTS and scene.target is not None:
        return scene.target_ref.kind, scene.target
    labels = facts.pod_labels(scene.pod or scene.workload or {})
    budget = next((obj for obj in side.budgets or () if selects(obj, labels)), None)
    autoscaler = next((obj for obj in side.autoscalers or () if scales(obj, _relatives(scene))), None)
    if budget is not None and (autoscaler is None or not (budget.get("status") or {}).get("disruptionsAllowed")):
        return "PodDisruptionBudget", budget
    return ("HorizontalPodAutoscaler", autoscaler) if autoscaler is not None else None


def _verdict(context: KubernetesContext, scene: _Scene) -> Enriched:
    failed = "; ".join(dict.fromkeys(scene.gaps.failed))
    if scene.gaps.denied:
        denied = (
            f"not allowed: {', '.join(dict.fromkeys(scene.gaps.denied))}; grant it to the platform's ServiceAccount"
        )
        return Enriched(context, Reason.RBAC_DENIED, "; ".join(part for part in (denied, failed) if part))
    if context.degraded_mode:
        gone = f"{scene.target_ref} was not found; going on with what is known"
        return Enriched(context, Reason.DEGRADED_MODE, "; ".join(part for part in (gone, failed) if part))
    return Enriched(context, Reason.ENRICHMENT_SUCCEEDED, failed and f"gone without: {failed}")


def _selector(obj: Object | None) -> str:
    """Return ``spec.selector`` as a label selector for a list; empty when there is none or a list cannot say it."""
    selector = ((obj or {}).get("spec") or {}).get("selector") or {}
    pairs = selector.get("matchLabels", {}) if {"matchLabels", "matchExpressions"} & set(selector) else selector
    return ",".join(f"{key}={value}" for key, value in sorted((pairs or {}).items()) if isinstance(value, str))


def _metadata(obj: Object, key: str) -> Mapping[str, str]:
    return obj["metadata"].get(key) or {}
