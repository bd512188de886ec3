"""When what is looked at: the instants that follow from an assessment's beginning and its spec. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from kubernaut_ray.clock import parse_duration
from kubernaut_ray.crds.effectiveness_assessment import EffectivenessAssessment


@dataclass(frozen=True, slots=True)
class Windows:
    propagated: datetime
    """A change in git has had its time to arrive."""
    hash_at: datetime
    """What the spec is now, the workflow left."""
    stabilized: datetime
    alert_at: datetime
    valid_until: datetime


def windows(assessment: EffectivenessAssessment, now: datetime) -> Windows:
    """Return the instants; those of one that has not begun count from ``now``."""
    spec, config = assessment.spec, assessment.spec.config
    began = assessment.status.started_at or now
    valid_until = began + parse_duration(config.validity)
    propagated = began + parse_duration(config.git_ops_sync_delay)
    return Windows(
        propagated=propagated,
        hash_at=propagated + parse_duration(config.hash_compute_delay),
        stabilized=propagated + parse_duration(config.stabilization_window),
        alert_at=propagated + parse_duration(config.alert_check_delay),
        valid_until=min(valid_until, spec.deadline) if spec.deadline is not None else valid_until,
    )


def problem(assessment: EffectivenessAssessment) -> str:
    """Return why these windows can never lead to a judgement; empty when they can."""
    config = assessment.spec.config
    wait = max(parse_duration(config.stabilization_window), parse_duration(config.hash_compute_delay))
    needed = parse_duration(config.git_ops_sync_delay) + wait
    if needed >= parse_duration(config.validity):
        return f"it is valid for {config.validity}, and nothing can be judged before {needed.total_seconds():g}s have passed"
    return ""
