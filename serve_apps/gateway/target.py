"""What a signal is about: from its labels to candidates for the target, best first. Pure; nothing is looked up.

A scraped series carries labels of two things: of the target, and of the exporter that was scraped. Prometheus writes the
series' own labels as ``exported_*`` where both have one (``honor_labels: false``), so an ``exported_`` label beats its plain
twin, and once there is any, the plain scrape labels describe the exporter. ``job``, ``instance``, ``endpoint`` and
``container`` never name a target. An exporter that names its own pod is not asking for its own remediation.

Words with dots, as in OpenTelemetry's ``k8s.pod.name``, are read as with underscores. The order is by tier, then by the
label's name, and never by the order in which the labels came.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from kubernaut_ray.crds.shared import TargetResource
from kubernaut_ray.kube.resources import Resource
from serve_apps.gateway.kinds import ANY_WORKLOAD, GUESS, POD, WORKLOAD, Kinds
from serve_apps.gateway.signal import Signal

DEFAULT_NAMESPACE = "default"
MAX_CANDIDATES = 6
MAX_NAME = 253

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
"""RFC 1123 subdomain: what the API server takes as the name of anything that could be a target."""
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_EXPORTED = "exported_"
_SCRAPE = frozenset({"namespace", "pod", "service", "container", "node", "endpoint", "instance", "job"})
_SCRAPE_MARKS = ("endpoint", "instance", "job")
_NAMESPACES = ("exported_namespace", "namespace", "kubernetes_namespace", "namespace_name", "k8s_namespace_name")
_PAIRS = (("workload_type", "workload"), ("owner_kind", "owner_name"), ("created_by_kind", "created_by_name"))
"""Recording rules and kube-state-metrics name a kind and a name in two labels."""
_WORKLOAD = "workload"
"""May come without its kind (CloudWatch); then it is a guess at each kind of workload."""
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
    if (involved := signal.involved) is not None and (named := _involved(involved, kinds)) is not None:
        return (named,)
    labels = _words(signal.labels)
    where = namespace(labels) or DEFAULT_NAMESPACE
    found: dict[tuple[str, str, str], Candidate] = {}
    for tier, label, resource, name in sorted(_named(labels, kinds), key=lambda n: n[:2]):
        home = where if resource.namespaced else ""
        found.setdefault((resource.group, resource.kind, name), Candidate(resource, name, home, label, tier))
    return tuple(found.values())[:MAX_CANDIDATES]


def namespace(labels: Mapping[str, str]) -> str:
    """Return the target's namespace as the labels say it, empty when they do not."""
    labels = _words(labels)
    exporter = _exporter(labels)
    for label in _NAMESPACES:
        value = labels.get(label, "")
        if not _NAMESPACE.fullmatch(value):
            continue
        if label == "namespace" and exporter and _own(exporter, labels.get("pod", "")):
            continue
        return value
    return ""


def _involved(involved: TargetResource, kinds: Kinds) -> Candidate | None:
    """Return the object that the source named outright, unless there can be none of that kind, name or namespace."""
    resource = kinds.of_kind(involved.kind, involved.api_version)
    if resource is None or not _is_name(involved.name):
        return None
    where = (involved.namespace or DEFAULT_NAMESPACE) if resource.namespaced else ""
    if where and not _NAMESPACE.fullmatch(where):
        return None
    return Candidate(resource, involved.name, where, "involvedObject", POD)


def _named(labels: Mapping[str, str], kinds: Kinds) -> Iterator[tuple[int, str, Resource, str]]:
    """Yield (tier, label, resource, name) for every label that names an object."""
    relabelled = any(f"{_EXPORTED}{word}" in labels for word in ("namespace", "pod", "service", "node"))
    scraped = any(mark in labels for mark in _SCRAPE_MARKS)
    exporter = _exporter(labels)
    for label, name in labels.items():
        exported = label.startswith(_EXPORTED)
        word = label.removeprefix(_EXPORTED)
        known = kinds.of_word(word)
        if not known or not _is_name(name) or (not exported and f"{_EXPORTED}{word}" in labels):
            continue
        own_pod = False
        if not exported and word in _SCRAPE:
            if relabelled or (word == "service" and scraped):
                continue
            if word == "pod" and exporter and _own(exporter, name):
                continue
            # kube-state-metrics' own pod, unless nothing else is named: then it is really the one in trouble.
            own_pod = word == "pod" and _STATE_METRICS in labels.get("job", "") and _STATE_METRICS in name
        for tier, resource in known:
            yield GUESS if own_pod else tier, label, resource, name
    yield from _paired(labels, kinds)


def _paired(labels: Mapping[str, str], kinds: Kinds) -> Iterator[tuple[int, str, Resource, str]]:
    for kind_label, name_label in _PAIRS:
        name = labels.get(name_label, "")
        if not _is_name(name):
            continue
        resource = kinds.of_kind(labels.get(kind_label, ""))
        if resource is not None:
            yield POD if resource.kind == "Pod" else WORKLOAD, name_label, resource, name
        elif name_label == _WORKLOAD:
            for possible in ANY_WORKLOAD:
                yield GUESS, name_label, possible, name


def _words(labels: Mapping[str, str]) -> Mapping[str, str]:
    if not any("." in label for label in labels):
        return labels
    return {label.replace(".", "_"): value for label, value in labels.items()} | dict(labels)


def _is_name(text: str) -> bool:
    return len(text) <= MAX_NAME and _NAME.fullmatch(text) is not None


def _exporter(labels: Mapping[str, str]) -> str:
    """Return the scrape job when it is an exporter that measures other things than itself; kube-state-metrics apart."""
    job = labels.get("job", "")
    return job if _EXPORTER.search(job) and _STATE_METRICS not in job else ""


def _own(exporter: str, pod: str) -> bool:
    """Tell whether the pod is the exporter's own; an exporter beside its subject in one pod is not."""
    return bool(exporter) and exporter.rpartition("/")[2] in pod
