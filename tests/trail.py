"""Holds every event that an emitter tells in a test against the vocabulary."""

from __future__ import annotations

from kubernaut_ray.contracts.audit import AuditEvent
from kubernaut_ray.contracts.vocabulary import check, undeclared


def fits(event: AuditEvent) -> AuditEvent:
    """The event, if it is of a declared type and holds what that type holds, and nothing else."""
    problems = (
        *check(event),
        *(f"{event.event_type}: {key} is not declared" for key in undeclared(event.event_type, event.event_data)),
    )
    assert not problems, problems
    return event
