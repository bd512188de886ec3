"""RBAC: least privilege that is still enough, and a kustomization that applies everything."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from kubernaut_ray import crds, names, shipped
from kubernaut_ray.contracts import lineage
from serve_apps.gateway.topology import FOLLOWED

RBAC = shipped.directory() / "rbac"
OURS = {model.META.plural for model in crds.SERVED}
DECLARED = {model.META.plural for model in crds.DECLARED}


def documents() -> list[dict[str, Any]]:
    return [doc for path in sorted(RBAC.glob("*.yaml")) for doc in yaml.safe_load_all(path.read_text()) if doc]


def named(kind: str, name: str, namespace: str = "") -> dict[str, Any]:
    (found,) = [
        doc
        for doc in documents()
        if (doc["kind"], doc["metadata"]["name"], doc["metadata"].get("namespace", "")) == (kind, name, namespace)
    ]
    return found


def grants(role: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield (group, resource, verb)."""
    for rule in role["rules"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                for verb in rule["verbs"]:
                    yield group, resource, verb


def allowed(*roles: dict[str, Any]) -> set[tuple[str, str, str]]:
    return {grant for role in roles for grant in grants(role)}


PLATFORM = allowed(
    named("ClusterRole", "kubernaut-platform"),
    named("Role", "kubernaut-platform", names.SYSTEM_NAMESPACE),
    named("Role", "kubernaut-platform", names.WORKFLOW_NAMESPACE),
)
RUNNER = allowed(named("ClusterRole", names.WORKFLOW_SERVICE_ACCOUNT))


def test_nothing_is_granted_by_wildcard_and_no_secret_is_readable() -> None:
    """Every grant is spelled out; no role of ours sees a Secret but the public keys, or may widen itself."""
    for doc in documents():
        if doc["kind"] in {"Role", "ClusterRole"}:
            for rule in doc["rules"]:
                if "secrets" in rule["resources"]:
                    assert rule["resources"] == ["secrets"]
                    assert (rule["resourceNames"], rule["verbs"]) == ([names.BUNDLE_KEYS], ["get"])
                    assert (doc["kind"], doc["metadata"]["namespace"]) == ("Role", names.SYSTEM_NAMESPACE)
            for group, resource, verb in grants(doc):
                assert "*" not in (group, resource, verb), doc["metadata"]["name"]
                assert group != "rbac.authorization.k8s.io"
                assert verb not in {"impersonate", "escalate", "bind"}


def test_bindings_name_roles_and_accounts_that_exist() -> None:
    """A binding to nothing is a hole that looks like a rule."""
    accounts = {
        (doc["metadata"]["namespace"], doc["metadata"]["name"])
        for doc in documents()
        if doc["kind"] == "ServiceAccount"
    }
    for doc in documents():
        if doc["kind"].endswith("Binding"):
            home = doc["metadata"].get("namespace", "") if doc["roleRef"]["kind"] == "Role" else ""
            named(doc["roleRef"]["kind"], doc["roleRef"]["name"], home)
            for subject in doc["subjects"]:
                assert subject["kind"] == "Group" or (subject["namespace"], subject["name"]) in accounts


@pytest.mark.parametrize(
    ("group", "resource", "verb"),
    [
        *(("kubernaut.ai", plural, "create") for plural in sorted(OURS - DECLARED)),
        *(("kubernaut.ai", plural, verb) for plural in sorted(DECLARED) for verb in ("get", "list", "watch", "patch")),
        *(("kubernaut.ai", f"{plural}/finalizers", "update") for plural in sorted(DECLARED)),
        *(("kubernaut.ai", f"{plural}/status", "patch") for plural in sorted(OURS)),
        ("tekton.dev", "pipelineruns", "create"),
        ("tekton.dev", "taskruns", "list"),
        *(("batch", "jobs", verb) for verb in ("get", "watch", "create", "patch", "delete")),
        ("", "pods", "list"),
        ("coordination.k8s.io", "leases", "update"),
        ("authentication.k8s.io", "tokenreviews", "create"),
        ("authorization.k8s.io", "subjectaccessreviews", "create"),
        ("", "pods/log", "get"),
        ("", "events", "create"),
        ("", "events", "watch"),
        ("", "configmaps", "create"),
        ("", "configmaps", "patch"),
        ("kubernaut.ai", "signals", "create"),
        ("kubernaut.ai", "auditevents", "create"),
        *((r.group, r.plural, verb) for r in FOLLOWED for verb in ("get", "list", "watch")),
    ],
)
def test_the_platform_may_do_its_work(group: str, resource: str, verb: str) -> None:
    """What the code does, the role grants."""
    assert (group, resource, verb) in PLATFORM


def test_the_platform_changes_no_workload() -> None:
    """Only workflows change things outside our own kinds, under their own account."""
    writes = {(group, resource) for group, resource, verb in PLATFORM if verb not in {"get", "list", "watch"}}
    ours = {resource for group, resource in writes if group == "kubernaut.ai"}
    foreign = {(group, resource) for group, resource in writes if group != "kubernaut.ai"}
    assert ours >= OURS
    assert foreign == {
        ("tekton.dev", "pipelineruns"),
        ("batch", "jobs"),
        ("coordination.k8s.io", "leases"),
        ("", "events"),
        ("", "configmaps"),
        ("events.k8s.io", "events"),
        ("authentication.k8s.io", "tokenreviews"),
        ("authorization.k8s.io", "subjectaccessreviews"),
    }


def test_the_platform_makes_jobs_where_executions_run_and_nowhere_else() -> None:
    """In every other namespace it may only look at them."""
    everywhere = allowed(named("ClusterRole", "kubernaut-platform"), named("Role", "kubernaut-platform", names.SYSTEM_NAMESPACE))
    assert {verb for _, resource, verb in everywhere if resource == "jobs"} == {"get", "list", "watch"}


def test_people_declare_and_the_platform_only_carries_out() -> None:
    """Nobody but an operator makes or deletes a declared workflow; viewers see it."""
    viewer, operator = (allowed(named("ClusterRole", f"kubernaut-{who}")) for who in ("viewer", "operator"))
    for plural in DECLARED:
        assert {verb for _, resource, verb in viewer if resource == plural} == {"get", "list", "watch"}
        assert {"create", "update", "patch", "delete"} <= {verb for _, resource, verb in operator if resource == plural}
        assert not {"create", "delete"} & {verb for _, resource, verb in PLATFORM if resource == plural}


def test_the_platform_changes_no_config_map_but_those_of_its_own_memory() -> None:
    """Policies are ConfigMaps too: who could write them could approve anything."""
    memory = {names.EVENT_WATCHER, *(lineage.named(digit) for digit in "0123456789abcdef")}
    changed: list[str] = []
    rules = [
        rule
        for doc in documents()
        if doc["metadata"]["name"] == "kubernaut-platform" and doc["kind"] in {"Role", "ClusterRole"}
        for rule in doc["rules"]
        if "configmaps" in rule["resources"]
    ]
    for rule in rules:
        if set(rule["verbs"]) & {"update", "patch", "delete", "deletecollection"}:
            changed += rule["resourceNames"]
    assert sorted(changed) == sorted(memory)


@pytest.mark.parametrize(
    ("group", "resource", "verb"),
    [
        *(("apps", kind, "patch") for kind in ("deployments", "statefulsets", "daemonsets")),
        ("apps", "deployments/scale", "patch"),
        ("apps", "replicasets", "list"),
        ("", "pods", "delete"),
        ("", "pods/eviction", "create"),
        ("", "nodes", "patch"),
        ("batch", "jobs", "delete"),
        ("policy", "poddisruptionbudgets", "patch"),
        ("autoscaling", "horizontalpodautoscalers", "patch"),
    ],
)
def test_the_workflow_runner_may_do_what_the_shipped_workflows_do(group: str, resource: str, verb: str) -> None:
    """Each of them is used by a workflow under ``manifests/workflows``."""
    assert (group, resource, verb) in RUNNER


def test_a_workflow_can_touch_nothing_of_ours() -> None:
    """It can neither approve itself nor start another run."""
    assert {group for group, _, _ in RUNNER} & {"kubernaut.ai", "tekton.dev"} == set()


def test_a_signal_source_may_send_signals_and_nothing_else() -> None:
    """Alertmanager's token is the most widely spread one."""
    assert allowed(named("ClusterRole", "kubernaut-signal-source")) == {("kubernaut.ai", "signals", "create")}


def test_the_kustomization_leaves_nothing_out() -> None:
    """``kubectl apply -k manifests`` gives every CRD, every RBAC object and the policies."""
    root = shipped.directory()
    kustomization = yaml.safe_load((root / "kustomization.yaml").read_text())
    listed = set(kustomization["resources"])
    on_disk = {f"{folder}/{path.name}" for folder in ("rbac", "crds") for path in (root / folder).glob("*.yaml")}
    assert listed == on_disk
    assert len([name for name in listed if name.startswith("crds/")]) == len(crds.SERVED)
    (policies,) = kustomization["configMapGenerator"]
    assert all((root / name).is_file() for name in policies["files"])
    assert policies["options"]["disableNameSuffixHash"] is True
