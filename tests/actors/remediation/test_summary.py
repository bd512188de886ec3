"""What people are told about an incident that took others with it."""

from __future__ import annotations

from actors.remediation import summary
from actors.remediation.observe import Observed
from kubernaut_ray.crds.enums import StormType
from kubernaut_ray.crds.remediation_request import Member, Storm
from tests import build


def told(count: int, workloads: int) -> str:
    members = tuple(
        Member(
            target=f"shop/deployment/w{n % workloads:02}",
            resource=f"shop/pod/w{n}",
            signals=("KubePodNotReady",),
            first_seen_at=build.NOW,
        )
        for n in range(count)
    )
    storm = Storm(storm_type=StormType.RATE, window="1m", alert_count=812, detected_at=build.NOW)
    request = build.remediation_request(members=members, storm=storm)
    return summary.failed(Observed(request), "no workflow fits", build.later(60)).body


def test_a_message_says_what_the_incident_took_with_it() -> None:
    """Counts, and the workloads that were hit most, each with its signals."""
    body = told(5, 2)
    assert "Part of a rate storm: 812 signals within 1m." in body
    assert "It took **5 resources of 2 workloads** with it:" in body
    assert "- shop/deployment/w00, 3 resources: KubePodNotReady" in body
    assert "more workloads" not in body


def test_a_message_stays_readable_however_much_was_hit() -> None:
    """Ten workloads are named, the rest is counted."""
    body = told(2000, 400)
    assert body.count("- shop/deployment/") == 10
    assert "- and 390 more workloads" in body
