"""What a signal is about: from its labels to candidates for the target, best first. Pure; nothing is looked up.

A scraped series carries labels of two things: of the target, and of the exporter that was scraped. Prometheus writes the
series' own labels as ``exported_*`` where both have one (``honor_labels: false``), so an ``exported_`` label beats its plain
twin, and once there is any, the plain scrape labels describe the exporter. ``job``, ``instance``, ``endpoint`` and
``container`` never name a target. An exporter that names its own pod is not asking for its own remediation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from kubernaut_ray.kube.resources import Resource
from serve_apps.gateway.kinds import GUESS, POD, WORKLOAD, Kinds
from serve_apps.gateway.signal import Signal

DEFAULT_NAMESPACE = "default"
MAX_CANDIDATES = 6

_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_EXPORTED = "exported_"
_SCRAPE = frozenset({"namespace", "pod", "service", "container", "node", "endpoint", "instance", "job"})
_SCRAPE_MARKS = ("endpoint", "instance", "job")
_NAMESPACES = ("exported_namespace", "namespace", "kubernetes_namespace", "namespace_name")
_PAIRS = (("workload_type", "workload"), ("owner_kind", "owner_name"), ("created_by_kind", "created_by_name"))
"""Recording rules and kube-state-metrics name a kind and a name in two labels."""
_STATE_METRICS = "kube-state-metrics"
_EXPORTER = re.compile(r"exporter|blackbox|pushgateway|cadvisor", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A thing that the signal may be about. ``label`` named it."""

    resource: Resource
    name: str
    namespace: str
    label: str
    tier: int

    @property
    def certain(self) -> bool:
        """Tell whether it is believed even when no such object is found."""
        return self.tier != GUESS

    def __str__(self) -> str:
        where = f"{self.namespace}/" if self.namespace else ""
        return f"{where}{self.resource.kind.lower()}/{self.name}"


def candidates(signal: Signal, kinds: Kinds) -> tuple[Candidate, ...]:
    """Return what the signal may be about, best first; empty when it names nothing."""
    if (involved := signal.involved) is not None:
        resource = kinds.of_kind(involved.kind, involved.api_version) or kinds.of_kind(involved.kind)
        if resource is None or not _NAME.fullmatch(involved.name):
            return ()
        where = (involved.namespace or DEFAULT_NAMESPACE) if resource.namespaced else ""
        return (Candidate(resource, involved.name, where, "involvedObject", POD),)
    labels = signal.labels
    where = namespace(labels) or DEFAULT_NAMESPACE
    found: dict[tuple[str, str], Candidate] = {}
    for tier, label, resource, name in _named(labels, kinds):
        home = where if resource.namespaced else ""
        found.setdefault((resource.kind, name), Candidate(resource, name, home, label, tier))
    return tuple(sorted(found.values(), key=lambda c: (c.tier, c.label)))[:MAX_CANDIDATES]


def namespace(labels: Mapping[str, str]) -> str:
    """Return the target's namespace as the labels say it, empty when they do not."""
    exporter = _exporter(labels)
    for label in _NAMESPACES:
        value = labels.get(label, "")
        if not _NAME.fullmatch(value):
            continue
        if label == "namespace" and exporter and _own(exporter, labels.get("pod", "")):
            continue
        return value
    return ""


def _named(labels: Mapping[str, str], kinds: Kinds) -> Iterator[tuple[int, str, Resource, str]]:
    """Yield (tier, label, resource, name) for every label that names an object."""
    relabelled = any(f"{_EXPORTED}{word}" in labels for word in ("namespace", "pod", "service", "node"))
    scraped = any(mark in labels for mark in _SCRAPE_MARKS)
    exporter = _exporter(labels)
    for label, name in labels.items():
        exported = label.startswith(_EXPORTED)
        word = label.removeprefix(_EXPORTED)
        known = kinds.of_word(word)
        if known is None or not _NAME.fullmatch(name):
            continue
        tier, resource = known
        if not exported and word in _SCRAPE:
            if relabelled or (word == "service" and scraped):
                continue
            if word == "pod" and exporter and _own(exporter, name):
                continue
            if word == "pod" and _STATE_METRICS in labels.get("job", "") and _STATE_METRICS in name:
                tier = GUESS  # its own pod, unless nothing else is named: then it is really the one in trouble
        yield tier, label, resource, name
    for kind_label, name_label in _PAIRS:
        resource_of_pair = kinds.of_kind(labels.get(kind_label, "")) if labels.get(kind_label) else None
        name = labels.get(name_label, "")
        if resource_of_pair is not None and _NAME.fullmatch(name):
            tier = POD if resource_of_pair.kind == "Pod" else WORKLOAD
            yield tier, name_label, resource_of_pair, name


def _exporter(labels: Mapping[str, str]) -> str:
    """Return the scrape job when it is an exporter that measures other things than itself; kube-state-metrics apart."""
    job = labels.get("job", "")
    return job if _EXPORTER.search(job) and _STATE_METRICS not in job else ""


def _own(exporter: str, pod: str) -> bool:
    """Tell whether the pod is the exporter's own; an exporter beside its subject in one pod is not."""
    return bool(exporter) and exporter.rpartition("/")[2] in pod
