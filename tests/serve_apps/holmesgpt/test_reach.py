"""How far the incident reaches by now is read again when an investigation begins, and may be looked at once more."""

from __future__ import annotations

import pytest

from kubernaut_ray import names
from kubernaut_ray.crds.affected import affected
from kubernaut_ray.crds.enums import StormType
from kubernaut_ray.crds.remediation_request import Member, RemediationRequest, Storm
from kubernaut_ray.kube.errors import Forbidden
from serve_apps.holmesgpt.cluster import Cluster
from serve_apps.holmesgpt.models.evidence import EvidenceModel
from serve_apps.holmesgpt.models.model import Case
from serve_apps.holmesgpt.reach import TOOL, Nothing, Reach
from tests import build
from tests.serve_apps.holmesgpt.world import World, incident

MEMBERS = tuple(
    Member(
        target=f"shop/deployment/w{n % 40}",
        resource=f"shop/pod/w{n % 40}-{n}",
        signals=("KubePodNotReady",),
        first_seen_at=build.NOW,
    )
    for n in range(400)
)
STORM = Storm(storm_type=StormType.RATE, window="1m", alert_count=812, detected_at=build.NOW)


def folded(world: World, members: tuple[Member, ...] = MEMBERS, storm: Storm | None = STORM) -> None:
    """The incident as the gateway left it."""
    request = build.remediation_request(incident().remediation_id, members=members, storm=storm)
    world.kube.objects["RemediationRequest", names.SYSTEM_NAMESPACE, request.name] = request.to_object()


def reach(world: World) -> Reach:
    return Reach(Cluster(world.kube), names.SYSTEM_NAMESPACE, incident())


async def test_what_was_folded_meanwhile_is_in_the_request(world: World) -> None:
    """The analysis was asked for before the storm; the investigation knows it."""
    folded(world)
    latest = await reach(world).latest()
    assert str(latest.affected) == "400 resources of 40 workloads"
    assert (latest.is_storm, latest.storm_signal_count) == (True, 812)
    assert latest.remediation_id == incident().remediation_id


async def test_without_members_or_incident_the_request_stays(world: World) -> None:
    """Nothing was folded, or the incident is gone: nothing is made up, nothing is lost."""
    known = incident(affected=affected(MEMBERS[:1]), is_storm=True, storm_type="rate")
    look = Reach(Cluster(world.kube), names.SYSTEM_NAMESPACE, known)
    assert await look.latest() == known
    folded(world, (), None)
    assert await look.latest() == known


async def test_an_incident_that_cannot_be_read_is_investigated_as_it_was_told(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a missing right nor an object edited into nonsense stops an investigation."""
    folded(world)
    key = "RemediationRequest", names.SYSTEM_NAMESPACE, incident().remediation_id
    world.kube.objects[key] = {**world.kube.objects[key], "status": {"members": [{"bananas": 1}]}}
    assert await reach(world).latest() == incident()

    async def refuse(*_: object) -> RemediationRequest:
        raise Forbidden("remediationrequests is forbidden", status=403, reason="Forbidden")

    monkeypatch.setattr(world.kube, "get", refuse)
    assert await reach(world).latest() == incident()


async def test_the_tool_tells_counts_and_workloads_and_not_the_incidents_name(world: World) -> None:
    """A model may look again; the correlation id stays behind."""
    folded(world)
    tool = reach(world).tool()
    told = await tool.run(Nothing())
    assert tool.name == TOOL
    assert (told["resources"], told["workload_count"], len(told["workloads"])) == (400, 40, 40)
    assert told["storm"]["alert_count"] == 812
    assert incident().remediation_id not in str(told)


async def test_the_evidence_model_tells_one_cause_for_all_of_them(world: World, investigator) -> None:
    """The root cause names how much was folded; there is one investigation and one answer."""
    world.deployment({"ready": True, "restartCount": 0, "state": {"running": {}}})
    world.node("node-1", ready=False)
    folded(world)
    node = build.TARGET.replace(api_version="v1", kind="Node", name="node-1", namespace="")
    answer = await investigator().investigate(incident(node, signal_name="KubeNodeNotReady"))
    (told,) = [f for f in answer.root_cause_analysis.contributing_factors if f.startswith("One cause")]
    assert told.startswith(
        "One cause, 400 resources of 40 workloads folded into this incident: shop/deployment/w0 (10)"
    )
    assert told.endswith("and 35 more")
    assert any(
        f.startswith("A rate storm: 812 signals within 1m") for f in answer.root_cause_analysis.contributing_factors
    )


async def test_a_language_model_is_told_and_has_the_tool(world: World, investigator) -> None:
    """Prompt and toolbox of the case hold the latest reach."""
    folded(world)
    seen: list[Case] = []

    class Looking(EvidenceModel):
        def converse(self, case: Case):
            seen.append(case)
            return super().converse(case)

    await investigator(Looking(world.now)).investigate(incident())
    (case,) = seen
    assert "400 resources of 40 workloads send signals" in case.prompt.incident
    assert TOOL in {tool.name for tool in case.toolbox.tools}
