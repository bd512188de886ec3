"""Parameters: mended where they mean the same, refused where they do not, and the target is never the model's."""

from __future__ import annotations

from typing import Any

import pytest

from kubernaut_ray.contracts.catalog import Workflow, WorkflowDescription, WorkflowLabels, WorkflowParameter
from kubernaut_ray.crds.shared import KubernetesContext, OwnerEntry, TargetResource
from serve_apps.holmesgpt.cluster import Cluster
from serve_apps.holmesgpt.models.hypotheses import Hints
from serve_apps.holmesgpt.models.roles import fill, scaled_cpu, scaled_memory
from serve_apps.holmesgpt.parameters import prepare
from serve_apps.holmesgpt.target import belongs, choose_target, resolve_target
from tests.build import TARGET
from tests.serve_apps.holmesgpt.world import HEALTHY, NAMESPACE, incident


def workflow(*parameters: dict[str, Any]) -> Workflow:
    return Workflow(
        workflow_id="w",
        workflow_name="fix",
        version="1",
        action_type="Fix",
        description=WorkflowDescription(what="fixes"),
        labels=WorkflowLabels(),
        parameters=tuple(WorkflowParameter(**p) for p in parameters),
        container_image="img",
        container_digest="",
    )


NUMBER = {"name": "COUNT", "type": "integer", "minimum": 1}
FLAG = {"name": "FORCE", "type": "boolean", "default": "false"}
LIST = {"name": "NAMES", "type": "array"}
WORD = {"name": "MODE", "enum": ("Fast", "Slow")}


@pytest.mark.parametrize(
    ("parameter", "given", "value"),
    [
        (NUMBER, "3", "3"), (NUMBER, "3.0", "3"), (NUMBER, " 3 ", "3"),
        (FLAG, "True", "true"), (FLAG, "no", "false"),
        (LIST, "a, b", '["a", "b"]'), (LIST, '["a"]', '["a"]'),
        (WORD, "fast", "Fast"),
    ],
)  # fmt: skip
def test_the_same_value_in_other_clothes(parameter, given, value):
    """What plainly means a value of the schema becomes it."""
    prepared = prepare(workflow(parameter), {parameter["name"]: given}, TARGET)

    assert not prepared.errors
    assert prepared.values[parameter["name"]] == value


@pytest.mark.parametrize(
    ("parameter", "given"), [(NUMBER, "0"), (NUMBER, "3.5"), (NUMBER, "three"), (FLAG, "maybe"), (WORD, "medium")]
)
def test_other_values_are_refused(parameter, given):
    """What does not fit is told, never bent."""
    assert prepare(workflow(parameter), {parameter["name"]: given}, TARGET).errors


def test_names_in_another_case_are_understood():
    """``count`` means COUNT; an unknown name is an error."""
    assert prepare(workflow(NUMBER), {"count": "2"}, TARGET).values == {"COUNT": "2"}
    assert "no such parameter" in prepare(workflow(NUMBER), {"SIZE": "2"}, TARGET).errors[0]


def test_all_errors_at_once():
    """So that one correction is enough."""
    required = {"name": "NEEDED", "required": True}

    assert len(prepare(workflow(NUMBER, WORD, required), {"COUNT": "x", "MODE": "y"}, TARGET).errors) == 3


def test_the_target_is_ours():
    """Declared target parameters are filled in, whatever the model says; undeclared ones are dropped in silence."""
    declared = workflow({"name": "TARGET_RESOURCE_NAME", "required": True}, {"name": "TARGET_RESOURCE_NAMESPACE"})

    prepared = prepare(declared, {"TARGET_RESOURCE_NAME": "kube-dns", "TARGET_RESOURCE_KIND": "Node"}, TARGET)

    assert prepared.values == {"TARGET_RESOURCE_NAME": "web", "TARGET_RESOURCE_NAMESPACE": "shop"}
    assert not prepared.errors
    assert "kube-dns" in prepared.warnings[0]


def for_kinds(*kinds: str) -> Workflow:
    return workflow({"name": "TARGET_RESOURCE_KIND", "enum": kinds, "required": True})


def a(kind: str, name: str, namespace: str = NAMESPACE) -> TargetResource:
    return TargetResource(kind=kind, name=name, namespace=namespace)


@pytest.mark.parametrize(
    ("kinds", "blamed", "expected"),
    [
        (("Deployment",), None, "web"),
        ((), a("Pod", "web-1-0"), "web"),
        (("Pod",), a("Pod", "web-1-0"), "web-1-0"),
        (("Pod",), a("pod", "web-1-0", ""), "web-1-0"),
        (("Pod",), a("Pod", "somebody-elses"), None),
        (("Pod",), a("Pod", "web-1-0", "kube-system"), None),
        (("Pod",), None, None),
        (("Node",), a("Node", "node-1", ""), "node-1"),
        (("Node",), a("Node", "node-9", ""), None),
        (("PodDisruptionBudget",), a("PodDisruptionBudget", "web-pdb"), "web-pdb"),
        (("PodDisruptionBudget",), a("PodDisruptionBudget", "other-pdb"), None),
        (("HorizontalPodAutoscaler",), a("HorizontalPodAutoscaler", "web-hpa"), "web-hpa"),
        (("Secret",), a("Secret", "db"), None),
        (("ReplicaSet",), None, "web-1"),
    ],
)  # fmt: skip
async def test_the_target_is_resolved(world, kinds, blamed, expected):
    """A workflow for another kind acts on what belongs to the target by the cluster's own word, or on nothing."""
    world.deployment(HEALTHY)
    world.budget()
    world.scaler()
    chain = KubernetesContext(owner_chain=(OwnerEntry(kind="ReplicaSet", name="web-1", namespace=NAMESPACE),))

    found = await resolve_target(for_kinds(*kinds), incident(enrichment=chain), blamed, Cluster(world.kube))

    assert (found.name if found else None) == expected
    assert (
        found is None or not kinds or (found.kind in kinds and (found.kind == "Node" or found.namespace == NAMESPACE))
    )


async def test_a_pod_without_a_node_waits_for_any(world):
    """Nodes are related to pods that cannot be placed."""
    world.deployment({"ready": False}, pod={"phase": "Pending", "node": ""})

    assert await belongs(incident(), a("Node", "node-7", ""), Cluster(world.kube))


def test_choose_target_takes_the_first_that_fits():
    assert choose_target(for_kinds("Pod"), (TARGET, None, a("Pod", "p"))) == a("Pod", "p")


@pytest.mark.parametrize(
    ("limit", "factor", "more"),
    [("128Mi", 2, "256Mi"), ("512Mi", 2, "1Gi"), ("1Gi", 3, "3Gi"), ("100M", 2, "191Mi"), ("1.5Gi", 2, "3Gi"), ("64Ki", 2, "1Mi"), ("", 2, ""),
     ("much", 2, ""), ("134217728", 2, "256Mi")],
)  # fmt: skip
def test_scaled_memory(limit, factor, more):
    """Whole mebibytes, never less than asked."""
    assert scaled_memory(limit, factor) == more


@pytest.mark.parametrize(
    ("limit", "factor", "more"),
    [("500m", 2, "1"), ("250m", 3, "750m"), ("1", 2, "2"), ("0.5", 3, "1500m"), ("x", 2, "")],
)
def test_scaled_cpu(limit, factor, more):
    assert scaled_cpu(limit, factor) == more


HINTS = Hints(
    container="app", memory_limit="128Mi", memory_request="64Mi", cpu_limit="500m", revisions=(4, 3), image="web:1", replicas=3,
    max_replicas=8, min_available=1, pod="web-1", node="n1", budget="pdb", scaler="hpa", claim="data",
)  # fmt: skip
ROLES: list[tuple[dict[str, Any], str]] = [
    ({"name": "MEMORY_LIMIT"}, "256Mi"),
    ({"name": "NEW_MEMORY_LIMIT_MB", "type": "integer"}, "256"),
    ({"name": "MEMORY_LIMIT_GI", "type": "integer"}, "1"),
    ({"name": "MEMORY_REQUEST"}, ""),
    ({"name": "MEMORY_REQUEST", "required": True}, "128Mi"),
    ({"name": "MEMORY_FACTOR", "type": "integer"}, "2"),
    ({"name": "MEMORY_INCREASE_PERCENT", "type": "integer"}, "100"),
    ({"name": "MEMORY_LIMIT_CAP"}, ""),
    ({"name": "CPU_LIMIT"}, "1"),
    ({"name": "TARGET_REVISION", "type": "integer"}, "4"),
    ({"name": "REPLICAS", "type": "integer"}, "3"),
    ({"name": "MAX_REPLICAS", "type": "integer"}, "8"),
    ({"name": "MIN_REPLICAS", "type": "integer"}, ""),
    ({"name": "ADD_REPLICAS", "type": "integer"}, ""),
    ({"name": "MIN_AVAILABLE", "type": "integer"}, "1"),
    ({"name": "MAX_UNAVAILABLE"}, "1"),
    ({"name": "PDB_NAME"}, "pdb"),
    ({"name": "HPA_NAME"}, "hpa"),
    ({"name": "POD_NAME"}, "web-1"),
    ({"name": "ALLOW_BARE_POD", "type": "boolean"}, ""),
    ({"name": "NODE_NAME"}, "n1"),
    ({"name": "PVC_NAME"}, "data"),
    ({"name": "CONTAINER_NAME"}, "app"),
    ({"name": "CONTAINER_IMAGE"}, "web:1"),
    ({"name": "DEPLOYMENT_NAME"}, "web"),
    ({"name": "NAMESPACE"}, "shop"),
    ({"name": "STRATEGY", "required": True, "enum": ("rolling",)}, "rolling"),
    ({"name": "TIMEOUT_SECONDS", "type": "integer"}, ""),
]


@pytest.mark.parametrize(("parameter", "value"), ROLES, ids=[f"{p['name']} {p.get('type', '')}" for p, _ in ROLES])
def test_roles_of_parameters(parameter, value):
    """What a parameter wants is told from its name and type; what the evidence does not give is left out."""
    assert fill(workflow(parameter), HINTS, TARGET).get(parameter["name"], "") == value


def test_later_turns_go_further():
    """A larger limit, an older revision; and in the end nothing more."""
    asked = workflow({"name": "MEMORY_LIMIT"}, {"name": "REVISION", "type": "integer"})

    turns = [fill(asked, HINTS, TARGET, turn) for turn in range(3)]

    assert [t.get("MEMORY_LIMIT") for t in turns] == ["256Mi", "384Mi", "512Mi"]
    assert [t.get("REVISION") for t in turns] == ["4", "3", None]
