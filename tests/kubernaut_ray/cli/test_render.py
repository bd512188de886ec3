"""How an incident looks on a terminal."""

from __future__ import annotations

from io import StringIO

from rich.console import Console, RenderableType

from kubernaut_ray.cli import render
from kubernaut_ray.crds.enums import Outcome, RemediationPhase, StormType
from kubernaut_ray.crds.remediation_request import Member, RemediationRequest, Storm
from tests import build


def drawn(request: RemediationRequest) -> str:
    return printed(render.detail(render.Incident(request), build.later(60)), width=120)


def printed(what: RenderableType, *, width: int) -> str:
    shown = StringIO()
    Console(file=shown, width=width).print(what)
    return shown.getvalue()


def test_an_incident_shows_its_storm_and_what_it_took_with_it() -> None:
    """Counts are complete; the workloads that were hit most are in the table."""
    members = tuple(
        Member(
            target=f"shop/deployment/w{n % 40:02}",
            resource=f"shop/pod/w{n}",
            signals=("KubePodNotReady",),
            first_seen_at=build.NOW,
        )
        for n in range(400)
    )
    storm = Storm(storm_type=StormType.PATTERN, window="2m", alert_count=400, detected_at=build.NOW)
    text = drawn(build.remediation_request(phase=RemediationPhase.ANALYZING, members=members, storm=storm))
    assert "Part of a pattern storm: 400 signals within 2m" in text
    assert "Took 400 resources of 40 workloads with it" in text
    assert text.count("KubePodNotReady") == render.MAX_WORKLOADS
    assert "and 25 more workloads" in text


def test_an_incident_alone_shows_neither() -> None:
    """No empty headings."""
    text = drawn(build.remediation_request(phase=RemediationPhase.ANALYZING))
    assert "storm" not in text
    assert "Took" not in text


def test_the_list_has_a_line_an_incident_where_there_is_room() -> None:
    """So that ``grep`` and ``awk`` find an incident's facts beside its name."""
    incident = build.remediation_request(phase=RemediationPhase.COMPLETED, outcome=Outcome.MANUAL_REVIEW_REQUIRED)
    (row,) = [
        line
        for line in printed(render.listing([incident], build.later(60)), width=160).splitlines()
        if incident.name in line
    ]
    assert row.split() == [
        incident.name, incident.spec.signal_name, str(incident.spec.target_resource), "Completed", "ManualReviewRequired", "1", "1m",
    ]  # fmt: skip


def test_no_word_of_the_list_is_broken_on_a_terminal_of_80() -> None:
    """A name that is cut in two cannot be copied."""
    incident = build.remediation_request(phase=RemediationPhase.AWAITING_APPROVAL)
    words = printed(render.listing([incident], build.later(60)), width=80).split()
    assert {incident.name, incident.spec.signal_name, str(incident.spec.target_resource), "AwaitingApproval"} <= set(
        words
    )
