"""A whole system's trail: an incident can be told from its events alone, without a gap, also when its objects are gone."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import pytest

from kubernaut_ray import names
from kubernaut_ray.clients.data_storage import DataStorage
from kubernaut_ray.contracts import recorded
from kubernaut_ray.contracts.timeline import Timeline
from kubernaut_ray.crds import RemediationRequest
from kubernaut_ray.crds.enums import DeliveryState, RemediationPhase
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import KubeClient
from tests.flow.running import Running, alert, broken, eventually, post, webhook
from tests.trail import fits

pytestmark = [pytest.mark.flow, pytest.mark.rayed, pytest.mark.timeout(600)]

NAMESPACE = "flow-trail"
SECRET = "hunter2-hunter2"


async def command(running: Running, *arguments: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "kubernaut_ray.cli", *arguments, "--data-dir", str(running.data_dir),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    text, _ = await process.communicate()
    return process.returncode or 0, text.decode()


async def incident(running: Running, client: KubeClient, payload: dict[str, Any], *decision: str) -> RemediationRequest:
    """Open an incident, decide on it, and wait until everybody was told how it ended."""
    code, answer = await post(running, payload)
    assert code == 201, answer
    name = (answer.get("results") or [answer])[0]["remediationRequestName"]
    await eventually(client, name, lambda r: r.status.overall_phase is RemediationPhase.AWAITING_APPROVAL)
    code, text = await command(running, decision[0], name, *decision[1:])
    assert code == 0, text
    return await eventually(client, name, lambda r: r.status.notification_status is DeliveryState.SENT and _over(r))


def _over(remediation: RemediationRequest) -> bool:
    return bool(remediation.status.overall_phase and remediation.status.overall_phase.terminal)


async def told(running: Running, name: str) -> Timeline:
    """The timeline once every service has written what it had to say."""
    token = (running.data_dir / "token").read_text().strip()
    async with DataStorage(running.endpoints.data_storage, lambda: token) as storage:
        for _ in range(60):
            found = await storage.timeline(name)
            if found.incident is not None and found.incident.complete:
                break
            await asyncio.sleep(0.5)
    return found


async def test_a_fixed_incident_is_told_without_a_gap(running: Running, client: KubeClient) -> None:
    """From the signal to the messages, every event as declared; the spec comes back as it was applied."""
    await broken(client, "whole", NAMESPACE)
    rr = await incident(running, client, webhook(alert("whole", NAMESPACE)), "approve", "-m", "go")

    timeline = await told(running, rr.name)
    account = timeline.incident
    assert account is not None
    assert account.gaps == ()
    assert [fits(event).correlation_id for event in timeline.events] == [rr.name] * len(timeline.events)
    assert account.request is not None
    assert (account.request.spec, account.request.withheld) == (rr.spec.to_object(), ())
    (attempt,) = account.attempts
    assert (attempt.approval.decision, attempt.approval.said, attempt.approval.via) == ("Approved", "go", "cli")
    assert attempt.execution is not None
    assert attempt.execution.outcome == "completed"
    assert attempt.chosen is not None
    assert attempt.chosen.parameters == attempt.execution.parameters
    assert [span.phase for span in account.phases] == [
        "Pending", "Processing", "Analyzing", "AwaitingApproval", "Executing", "Verifying", "Completed",
    ]  # fmt: skip
    assert {(one.type, one.deliveries[0].sent) for one in account.notifications} == {
        ("approval", True),
        ("completion", True),
    }

    code, text = await command(running, "timeline", rr.name)
    assert code == 0, text
    assert "The trail is complete" in text

    await client.delete(resources.REMEDIATION_REQUEST, rr.name, names.SYSTEM_NAMESPACE)
    code, text = await command(running, "timeline", rr.name, "-o", "json")
    assert code == 0, text
    again = Timeline.model_validate(json.loads(text)).incident
    assert again is not None
    assert (again.ending, again.attempts, again.request) == (account.ending, account.attempts, account.request)


async def test_a_refused_one_with_a_secret_in_its_signal(running: Running, client: KubeClient) -> None:
    """The decision and its reason are told; the secret is nowhere in the trail, and what is withheld is named."""
    await broken(client, "refused", NAMESPACE)
    leaky = alert("refused", NAMESPACE)
    leaky["annotations"]["db_password"] = SECRET
    rr = await incident(running, client, webhook(leaky), "reject", "--reason", "planned maintenance")

    timeline = await told(running, rr.name)
    account = timeline.incident
    assert account is not None
    assert account.gaps == ()
    assert account.attempts[0].approval.decision == "Rejected"
    assert account.attempts[0].approval.said == "planned maintenance"
    assert account.attempts[0].execution is None
    assert SECRET in json.dumps(rr.spec.to_object())
    assert SECRET not in timeline.model_dump_json()
    assert account.request is not None
    assert account.request.spec == recorded.write(rr.spec.to_object())["spec"]
    assert {one.field for one in account.request.withheld} == {"signalAnnotations.db_password", "originalPayload"}


async def test_an_unknown_name_is_said_to_be_unknown(running: Running) -> None:
    """Exit code 3, and what to do."""
    code, text = await command(running, "timeline", "rr-nobody")
    assert (code, "nothing is on record about rr-nobody" in text) == (3, True), text
