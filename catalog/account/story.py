"""Reconstruct an incident: ``reconstruct`` is called by Data Storage's timeline route, and by whoever holds a trail.

Pure and total: any events, in any order, some twice and some missing, give an account; the same events give the same one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pydantic import ValidationError

from catalog.account import gaps as missing
from catalog.account import walk
from catalog.account.attempts import attempts
from catalog.account.facts import Data, Fact, first, last, of, ordered
from catalog.account.words import steps
from kubernaut_ray.contracts.audit import AuditEvent
from kubernaut_ray.contracts.recorded import Withheld
from kubernaut_ray.contracts.timeline import (
    Classification,
    DeliveryStory,
    IncidentStory,
    NotificationStory,
    Occurrences,
    RecoveredSpec,
    SignalStory,
    State,
)
from kubernaut_ray.crds.enums import RemediationPhase

CREATED, RECEIVED, TAKEN_UP = "gateway.crd.created", "gateway.signal.received", "orchestrator.lifecycle.started"
REPEATED, FOLDED, OVER, STORM, UNMADE = (
    "gateway.signal.deduplicated",
    "gateway.signal.folded",
    "gateway.signal.resolved",
    "gateway.storm.detected",
    "gateway.crd.failed",
)
WANTED, DELIVERED = "orchestrator.notification.requested", ("notification.message.sent", "notification.message.failed")


def reconstruct(
    remediation_id: str, events: Iterable[AuditEvent], *, related: Iterable[AuditEvent] = (), unreadable: int = 0
) -> IncidentStory:
    """Return what the events tell of one remediation, by its RemediationRequest's name.

    ``events`` of other correlations are left aside. ``related`` are facts under other correlations (see ``Timeline``);
    ``unreadable`` is how many events the caller holds that are none.
    """
    facts, odd = ordered(event for event in events if event.correlation_id == remediation_id)
    around, _ = ordered(related)
    request = _request(facts)
    path = walk.walk(facts)
    ending = walk.ending(facts, path.moves)
    story = IncidentStory(
        remediation_id=remediation_id,
        state=State.ENDED if ending else State.OPEN if facts else State.UNKNOWN,
        opened=next((fact.at for fact in facts if fact.type in {CREATED, TAKEN_UP}), None),
        target=_target(facts),
        signal=_signal(facts, around, request),
        occurrences=_occurrences(facts),
        classification=_classification(facts),
        phases=path.phases,
        attempts=attempts(remediation_id, facts),
        pauses=walk.pauses(facts, path.moves),
        verification=next((span for span in path.phases if span.phase == RemediationPhase.VERIFYING), None),
        notifications=_notifications(facts),
        ending=ending,
        request=request,
        steps=steps(facts, around, path.phases),
    )
    return story.model_copy(update={"gaps": missing.gaps(story, facts, path, odd, unreadable)})


def _request(facts: Sequence[Fact]) -> RecoveredSpec | None:
    """Return the spec as the orchestrator took it up, or else as the gateway created it."""
    for fact in (first(facts, TAKEN_UP), first(facts, CREATED)):
        spec = fact.data.part("spec") if fact else None
        if fact is None or spec is None:
            continue
        withheld = []
        for one in fact.data.parts("withheld"):
            try:
                withheld.append(Withheld.model_validate(one.values))
            except ValidationError:
                continue  # Said in the gaps: the event is not as the vocabulary says.
        return RecoveredSpec(spec=dict(spec.values), withheld=tuple(withheld), told_by=fact.type)
    return None


def _target(facts: Sequence[Fact]) -> str:
    started, created = first(facts, TAKEN_UP), first(facts, CREATED, RECEIVED)
    return (started.data.text("target") if started else "") or (created.data.text("target_resource") if created else "")


def _signal(facts: Sequence[Fact], around: Sequence[Fact], request: RecoveredSpec | None) -> SignalStory:
    received = first(facts, RECEIVED, CREATED)
    spec = Data(request.spec) if request else None
    told = received.data if received else None
    started = first(facts, TAKEN_UP)

    def text(in_event: str, in_spec: str) -> str:
        return (told.text(in_event) if told else "") or (spec.text(in_spec) if spec else "")

    return SignalStory(
        name=text("signal_name", "signalName") or (started.data.text("signal") if started else ""),
        type=text("signal_type", "signalType"),
        source=text("signal_source", "signalSource"),
        severity=text("severity", "severity"),
        fingerprint=text("fingerprint", "signalFingerprint") or (started.data.text("fingerprint") if started else ""),
        resource=told.text("signal_resource") if told else "",
        description=spec.text("description") if spec else "",
        labels=(told.pairs("labels") if told else {}) or (spec.pairs("signalLabels") if spec else {}),
        annotations=(told.pairs("annotations") if told else {}) or (spec.pairs("signalAnnotations") if spec else {}),
        received=received.at if received else None,
        refused_before=len(of(around, UNMADE)),
    )


def _occurrences(facts: Sequence[Fact]) -> Occurrences:
    opened, again, folded = first(facts, RECEIVED, CREATED, TAKEN_UP), of(facts, REPEATED), of(facts, FOLDED)
    storm, over = first(facts, STORM), of(facts, OVER)
    seen = [instant for fact in again if (instant := fact.data.instant("last_seen")) is not None]
    if opened is not None:
        seen.append(opened.at)
    names = {name for fact in again for name in fact.data.texts("signal_names")}
    if opened is not None:
        names.add(opened.data.text("signal_name") or opened.data.text("signal"))
    return Occurrences(
        count=(opened is not None) + sum(fact.data.count("occurrences") for fact in again),
        last_seen=max(seen, default=None),
        signals=tuple(sorted(names - {""})),
        folded=sum(fact.data.count("count") for fact in folded),
        folded_targets=tuple(sorted({m.text("target") for fact in folded for m in fact.data.parts("members")} - {""})),
        resolved=tuple(
            sorted(
                {
                    f"{one.text('signal_name')} on {one.text('resource')}"
                    for fact in over
                    for one in fact.data.parts("symptoms")
                }
            )
        ),
        storm=storm.data.text("storm_type") if storm else "",
    )


def _classification(facts: Sequence[Fact]) -> Classification | None:
    decided, business = (
        last(facts, "signalprocessing.classification.decision"),
        last(facts, "signalprocessing.business.classified"),
    )
    enriched = last(facts, "signalprocessing.enrichment.completed")
    if decided is None:
        return None
    data = decided.data
    parts = business.data if business else None
    return Classification(
        severity=data.text("severity"),
        severity_raw=data.text("severity_raw"),
        environment=data.text("environment"),
        environment_source=data.text("environment_source"),
        priority=data.text("priority"),
        priority_source=data.text("priority_source"),
        policy=data.text("policy_name"),
        policy_hash=data.text("policy_hash"),
        business={
            name: parts.text(name)
            for name in ("business_unit", "service_owner", "criticality", "sla_requirement")
            if parts.text(name)
        }
        if parts
        else {},
        owner_chain=enriched.data.texts("owner_chain") if enriched else (),
        degraded=enriched.data.flag("degraded") is True if enriched else False,
        flaws=data.texts("flaws"),
    )


def _notifications(facts: Sequence[Fact]) -> tuple[NotificationStory, ...]:
    told: dict[str, NotificationStory] = {}
    for fact in of(facts, WANTED):
        data = fact.data
        name = data.text("notification")
        told[name] = NotificationStory(
            name=name,
            type=data.text("type"),
            priority=data.text("priority"),
            subject=data.text("subject"),
            requested=fact.at,
        )
    for fact in of(facts, *DELIVERED):
        data, name = fact.data, fact.event.resource_id
        known = told.get(name) or NotificationStory(name=name, type=data.text("type"), priority=data.text("priority"))
        delivery = DeliveryStory(
            delivery=data.text("delivery"),
            sent=fact.type == DELIVERED[0],
            at=fact.at,
            attempts=data.count("attempts"),
            error=data.text("error"),
        )
        told[name] = known.model_copy(update={"deliveries": (*known.deliveries, delivery)})
    return tuple(told.values())
