"""What a MutatingWebhookConfiguration or ValidatingWebhookConfiguration asks for: which webhook is called about what.

A ``Hook`` is one entry of a stored configuration, compiled once. It decides alone whether it wants to be asked about a
request; who asks, and what the answer does, is ``admission.py``'s. Validation refuses what could not be compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from kubernaut_ray.kube.embedded import cel
from kubernaut_ray.kube.embedded.kinds import Kind, Registry
from kubernaut_ray.kube.embedded.selectors import from_label_selector, labels_match
from kubernaut_ray.kube.embedded.status import Obj
from kubernaut_ray.kube.embedded.store import Store

GROUP = "admissionregistration.k8s.io"
MUTATING = f"mutatingwebhookconfigurations.{GROUP}"
VALIDATING = f"validatingwebhookconfigurations.{GROUP}"
TABLES = frozenset({MUTATING, VALIDATING})
CONDITION_NAMES: dict[str, cel.Schema | None] = {"object": None, "oldObject": None, "request": None}
"""What the expressions of ``matchConditions`` may speak of; ``authorizer`` is not supported."""

Labels = Callable[[Mapping[str, str]], bool]


class Operation(StrEnum):
    CREATE = "CREATE"
    UPDATE = "UPDATE"
    DELETE = "DELETE"


@dataclass(frozen=True, slots=True)
class Rule:
    """One ``rules`` entry: operations on resources."""

    operations: frozenset[str]
    groups: frozenset[str]
    versions: frozenset[str]
    resources: tuple[tuple[str, str], ...]
    scope: str

    @classmethod
    def of(cls, rule: Mapping[str, Any]) -> Self:
        resources = tuple((r.partition("/")[0], r.partition("/")[2]) for r in rule.get("resources") or ())
        return cls(
            frozenset(rule.get("operations") or ()),
            frozenset(rule.get("apiGroups") or ()),
            frozenset(rule.get("apiVersions") or ()),
            resources,
            rule.get("scope") or "*",
        )

    def covers(self, kind: Kind, subresource: str, operation: Operation) -> bool:
        """Whether the rule names this version of the resource; ``*`` names resources without their subresources."""
        clustered = not kind.namespaced
        return (
            bool({"*", operation} & self.operations)
            and bool({"*", kind.group} & self.groups)
            and bool({"*", kind.version} & self.versions)
            and (self.scope == "*" or (self.scope == "Cluster") == clustered)
            and any(r in ("*", kind.plural) and s in ("*", subresource) for r, s in self.resources)
        )


@dataclass(frozen=True, slots=True, eq=False)
class Hook:
    """One webhook. ``fails``: a call that does not come off refuses the request (``failurePolicy: Fail``)."""

    name: str
    mutating: bool
    url: str
    service: Mapping[str, Any] | None
    ca_bundle: str
    rules: tuple[Rule, ...]
    fails: bool
    equivalent: bool
    timeout: float
    again: bool
    """Whether it is asked again when a later webhook changed the object."""
    namespaces: Labels | None
    objects: Labels | None
    conditions: tuple[tuple[str, cel.Thunk], ...]

    @classmethod
    def of(cls, webhook: Mapping[str, Any], *, mutating: bool) -> Self:
        """Compile one webhook of a stored, and so valid, configuration."""
        client = webhook["clientConfig"]
        return cls(
            name=webhook["name"],
            mutating=mutating,
            url=client.get("url") or "",
            service=client.get("service"),
            ca_bundle=client.get("caBundle") or "",
            rules=tuple(Rule.of(r) for r in webhook.get("rules") or ()),
            fails=webhook["failurePolicy"] == "Fail",
            equivalent=webhook["matchPolicy"] == "Equivalent",
            timeout=float(webhook["timeoutSeconds"]),
            again=webhook.get("reinvocationPolicy") == "IfNeeded",
            namespaces=labels_match(from_label_selector(webhook.get("namespaceSelector") or {})),
            objects=labels_match(from_label_selector(webhook.get("objectSelector") or {})),
            conditions=tuple(
                (c["name"], cel.expression(c["expression"], CONDITION_NAMES))
                for c in webhook.get("matchConditions") or ()
            ),
        )

    def shown_as(self, kind: Kind, subresource: str, operation: Operation, registry: Registry) -> Kind | None:
        """Return the version of the kind under which this webhook wants to see the request; ``None``: it does not."""
        if any(rule.covers(kind, subresource, operation) for rule in self.rules):
            return kind
        if not self.equivalent:
            return None
        for version in registry.versions(kind.group):
            other = registry.find(kind.group, version, kind.plural)
            if other is not None and any(rule.covers(other, subresource, operation) for rule in self.rules):
                return other
        return None

    def selects(self, namespace: Mapping[str, str] | None, objects: Iterable[Obj | None]) -> bool:
        """Whether the selectors hold: for the namespace's labels (``None``: it is in none), and for any of the objects."""
        if self.namespaces is not None and namespace is not None and not self.namespaces(namespace):
            return False
        if self.objects is None:
            return True
        return any(self.objects(o["metadata"].get("labels") or {}) for o in objects if o is not None)

    def conditions_hold(self, request: Obj) -> bool:
        """Whether every match condition holds. Raises ``cel.Unevaluable`` where that is unknown and none is false."""
        scope = {"object": request["object"], "oldObject": request["oldObject"], "request": request}
        unknown: cel.Unevaluable | None = None
        for name, holds in self.conditions:
            try:
                if holds(scope) is not True:
                    return False
            except cel.Unevaluable as error:
                unknown = cel.Unevaluable(f"{name}: {error}")
        if unknown is not None:
            raise unknown
        return True


class Hooks:
    """Every webhook of the stored configurations, in the order in which they are asked; compiled anew after a change."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._mutating: tuple[Hook, ...] | None = None
        self._validating: tuple[Hook, ...] | None = None
        store.listeners.append(lambda event: self._forget() if event.resource in TABLES else None)

    def _forget(self) -> None:
        self._mutating = self._validating = None

    @property
    def mutating(self) -> tuple[Hook, ...]:
        if self._mutating is None:
            self._mutating = self._read(MUTATING)
        return self._mutating

    @property
    def validating(self) -> tuple[Hook, ...]:
        if self._validating is None:
            self._validating = self._read(VALIDATING)
        return self._validating

    def _read(self, table: str) -> tuple[Hook, ...]:
        entries = sorted(self._store.scan(table), key=lambda e: str(e.obj["metadata"]["name"]))
        return tuple(
            Hook.of(webhook, mutating=table == MUTATING)
            for entry in entries
            for webhook in entry.obj.get("webhooks") or ()
        )
