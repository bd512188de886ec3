"""Whatever a client sends: an answer, and the stored object untouched by a refusal."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kubernaut_ray.kube.embedded import crd
from kubernaut_ray.kube.embedded.apply import apply
from kubernaut_ray.kube.embedded.builtins import builtin_kinds
from kubernaut_ray.kube.embedded.kinds import ALL_VERBS, Registry
from kubernaut_ray.kube.embedded.log import CommitLog
from kubernaut_ray.kube.embedded.objects import Objects, Options
from kubernaut_ray.kube.embedded.patches import merge_patch, strategic_patch
from kubernaut_ray.kube.embedded.status import ApiStatus
from kubernaut_ray.kube.embedded.store import Store

KINDS = {k.kind: k for k in builtin_kinds() if k.verbs == ALL_VERBS}
TEMPLATE = {
    "metadata": {"labels": {"app": "x"}},
    "spec": {
        "containers": [
            {
                "name": "c",
                "image": "i:1",
                "env": [{"name": "A", "value": "1"}],
                "ports": [{"containerPort": 80}],
                "resources": {"limits": {"cpu": 1, "memory": "1Gi"}, "requests": {"cpu": "500m"}},
                "volumeMounts": [{"name": "v", "mountPath": "/v"}],
                "livenessProbe": {"httpGet": {"port": "http"}},
            }
        ],
        "volumes": [{"name": "v", "configMap": {"name": "x"}}],
    },
}
WORKLOAD = {"spec": {"selector": {"matchLabels": {"app": "x"}}, "template": TEMPLATE}}
REFERENCE = {"roleRef": {"kind": "ClusterRole", "name": "r"}, "subjects": [{"kind": "User", "name": "u"}]}
RULES = {"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]}
WEBHOOK = {
    "name": "check.example.com",
    "admissionReviewVersions": ["v1"],
    "sideEffects": "None",
    "clientConfig": {"url": "https://hooks.example.com/check"},
    "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}],
    "namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]},
    "matchConditions": [{"name": "people", "expression": "request.userInfo.username != 'robot'"}],
}
BODIES: dict[str, dict[str, Any]] = {
    "Namespace": {},
    "Pod": {"spec": TEMPLATE["spec"]},
    "Service": {"spec": {"ports": [{"port": 80}], "selector": {"app": "x"}}},
    "Node": {"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}},
    "ConfigMap": {"data": {"a": "b"}, "binaryData": {"c": "ZA=="}},
    "Secret": {"data": {"a": "Yg=="}, "stringData": {"c": "d"}},
    "Event": {"involvedObject": {"kind": "Pod", "name": "p", "namespace": "ns"}, "series": {"count": 1}},
    "PersistentVolumeClaim": {
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    },
    "ServiceAccount": {"secrets": [{"name": "s"}]},
    "Deployment": WORKLOAD,
    "ReplicaSet": WORKLOAD,
    "StatefulSet": WORKLOAD,
    "DaemonSet": WORKLOAD,
    "Job": {"spec": {"template": {**TEMPLATE, "spec": {**TEMPLATE["spec"], "restartPolicy": "Never"}}}},  # type: ignore[dict-item]
    "HorizontalPodAutoscaler": {"spec": {"scaleTargetRef": {"kind": "Deployment", "name": "x"}, "maxReplicas": 3}},
    "PodDisruptionBudget": {"spec": {"minAvailable": "50%", "selector": {"matchLabels": {"app": "x"}}}},
    "NetworkPolicy": {"spec": {"ingress": [{"from": [{"podSelector": {}}]}]}},
    "Lease": {"spec": {"holderIdentity": "me", "leaseDurationSeconds": 5, "renewTime": "2026-01-31T12:00:00.000000Z"}},
    "Role": RULES,
    "ClusterRole": RULES,
    "RoleBinding": REFERENCE,
    "ClusterRoleBinding": REFERENCE,
    "MutatingWebhookConfiguration": {"webhooks": [{**WEBHOOK, "reinvocationPolicy": "IfNeeded"}]},
    "ValidatingWebhookConfiguration": {"webhooks": [WEBHOOK]},
    "CustomResourceDefinition": {
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"plural": "things", "kind": "Thing"},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "additionalPrinterColumns": [{"name": "A", "type": "string", "jsonPath": ".spec.a"}],
                    "selectableFields": [{"jsonPath": ".spec.a"}],
                    "subresources": {
                        "status": {},
                        "scale": {"specReplicasPath": ".spec.r", "statusReplicasPath": ".status.r"},
                    },
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "properties": {
                                "spec": {
                                    "type": "object",
                                    "required": ["a"],
                                    "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "no"}],
                                    "properties": {
                                        "a": {"type": "string", "enum": ["x"], "pattern": "x", "maxLength": 3}
                                    },
                                }
                            },
                        }
                    },
                }
            ],
        }
    },
}


def body(kind: str) -> dict[str, Any]:
    metadata = {
        "name": "things.example.com" if kind == "CustomResourceDefinition" else "x",
        "labels": {"a": "b"},
        "annotations": {"c": "d"},
        "finalizers": ["e.example/f"],
        "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"}],
    }
    return {"apiVersion": KINDS[kind].api_version, "kind": kind, "metadata": metadata, **copy.deepcopy(BODIES[kind])}


@pytest.fixture
def objects(tmp_path: Path) -> Iterator[Objects]:
    """The rules over a store that is never started: nothing is committed, everything is in memory."""
    registry = Registry()
    registry.add(builtin_kinds())
    log = CommitLog(tmp_path / "objects.sqlite")
    it = Objects(Store(log))

    def definitions(kind: Any, obj: Any, old: Any) -> None:
        if kind.kind == "CustomResourceDefinition":
            crd.default(obj)
            if causes := crd.problems(obj, old, registry):
                raise ApiStatus(422, "Invalid", str(causes[0]))
            crd.kinds_of(obj)

    it.before_write.append(definitions)
    it.create(KINDS["Namespace"], "", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ns"}}, Options())
    yield it
    log.close()


def namespace_of(kind: str) -> str:
    return "ns" if KINDS[kind].namespaced else ""


def paths(value: Any, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if here:
        yield here
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from paths(item, (*here, key))


PLACES = [(kind, path) for kind in sorted(BODIES) for path in paths(body(kind))]
ODD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


def test_every_kind_has_a_sample(objects: Objects) -> None:
    """And the samples are accepted, unchanged by being stored twice."""
    assert set(KINDS) == set(BODIES)
    for kind in BODIES:
        made = objects.create(KINDS[kind], namespace_of(kind), body(kind), Options(field_validation="Strict"))
        again, _ = objects.change(
            KINDS[kind], namespace_of(kind), made.obj["metadata"]["name"], lambda old: old, Options()
        )
        assert made.raw == again.raw, kind


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(place=st.sampled_from(PLACES), odd=ODD, way=st.sampled_from(["create", "merge", "strategic", "apply"]))
def test_anything_anywhere_is_answered(
    objects: Objects, place: tuple[str, tuple[Any, ...]], odd: Any, way: str
) -> None:
    """Any value at any place of any kind is taken or refused with a Status, and a refusal changes nothing."""
    kind, path = KINDS[place[0]], place[1]
    wanted: Any = body(kind.kind)
    target = wanted
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = odd
    namespace = namespace_of(kind.kind)
    name = body(kind.kind)["metadata"]["name"]
    if objects.store.get(kind.table, namespace, name) is not None:
        objects.store.remove(kind.table, namespace, name)
    if way != "create":
        objects.create(kind, namespace, body(kind.kind), Options())
    before = objects.store.get(kind.table, namespace, name)
    refusal: ApiStatus | None = None
    try:
        match way:
            case "create":
                objects.create(kind, namespace, wanted, Options())
            case "apply":
                apply(objects, kind, namespace, name, wanted, Options(manager="m", force=True), "")
            case _:
                patch = merge_patch if way == "merge" else strategic_patch
                objects.change(kind, namespace, name, lambda old: patch(old, wanted), Options())
    except ApiStatus as refused:
        refusal = refused
    if refusal is not None:
        assert refusal.code in (400, 403, 404, 409, 422), refusal.message
        after = objects.store.get(kind.table, namespace, name)
        assert before is after
        assert before is None or orjson.dumps(before.obj) == before.raw


def counter(rule: str = "self.n > oldSelf.n", kind: str = "integer") -> Any:
    """Return a custom kind whose spec has a transition rule, and a status."""
    schema = {
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "x-kubernetes-validations": [{"rule": rule, "message": "n must grow"}],
                "properties": {"n": {"type": kind}},
            },
            "status": {"type": "object", "properties": {"seen": {"type": "integer", "minimum": 0}}},
        },
    }
    definition = copy.deepcopy(BODIES["CustomResourceDefinition"])
    version = definition["spec"]["versions"][0]
    version["schema"] = {"openAPIV3Schema": schema}
    del version["additionalPrinterColumns"], version["selectableFields"]
    version["subresources"] = {"status": {}}
    (made,) = crd.kinds_of(definition)
    return made


def say(objects: Objects, kind: Any, patch: dict[str, Any]) -> Any:
    entry, _ = objects.change(kind, "ns", "x", lambda old: merge_patch(old, patch), Options(), subresource="status")
    return entry


THING = {"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "x", "labels": {"a": "b"}}}


def test_a_status_write_shares_what_it_cannot_change(objects: Objects) -> None:
    """The spec and the labels of the version before are not copied, and neither version sees the other's status."""
    kind = counter("self.n >= oldSelf.n")
    first = objects.create(kind, "ns", {**THING, "spec": {"n": 1}}, Options())
    told = {"metadata": {"labels": {"c": "d"}}, "spec": {"n": 7}, "status": {"seen": 1, "unknown": True}}
    second = say(objects, kind, told)
    assert second.obj["spec"] is first.obj["spec"]
    assert second.obj["metadata"]["labels"] is first.obj["metadata"]["labels"]
    assert second.obj["status"] == {"seen": 1}
    assert "status" not in first.obj
    assert orjson.loads(second.raw) == second.obj
    with pytest.raises(ApiStatus, match=r"status\.seen"):
        say(objects, kind, {"status": {"seen": -1}})


@pytest.mark.parametrize("subresource", ["", "status"])
def test_a_null_that_was_not_there_before_is_dropped(objects: Objects, subresource: str) -> None:
    """A field that the version before has not got is no field that was left alone."""
    kind = counter("self.n >= oldSelf.n")
    objects.create(kind, "ns", {**THING, "spec": {"n": 1}}, Options())
    written, _ = objects.change(
        kind, "ns", "x", lambda old: {**old, "status": None}, Options(), subresource=subresource
    )
    assert "status" not in written.obj


def test_a_status_write_is_asked_the_transition_rules_of_the_spec(objects: Objects) -> None:
    """Rules about a change are asked of every change, also of one that leaves their field alone, as kube-apiserver does."""
    objects.create(counter(), "ns", {**THING, "spec": {"n": 1}}, Options())
    with pytest.raises(ApiStatus, match="n must grow"):
        say(objects, counter(), {"status": {"seen": 1}})


def test_a_schema_that_changed_leaves_what_is_stored_alone(objects: Objects) -> None:
    """A status write does not judge a spec that an older schema let in (ratcheting)."""
    old, new = counter("self.n >= oldSelf.n"), counter("true", kind="string")
    first = objects.create(old, "ns", {**THING, "spec": {"n": 1}}, Options())
    second = say(objects, new, {"status": {"seen": 1}})
    assert (second.obj["spec"], first.obj["spec"]) == ({"n": 1},) * 2
    with pytest.raises(ApiStatus, match=r"spec\.n"):
        objects.change(new, "ns", "x", lambda o: {**o, "spec": {"n": 2}}, Options())
