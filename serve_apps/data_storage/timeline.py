"""The timeline of a remediation: its trail, and the incident that the trail tells.

The owner hands out events as they were stored; the account is made of them here, so that reads of it scale with replicas and
the writer does nothing for them. Facts under other correlations that the account needs are read along.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import orjson
from fastapi import APIRouter
from pydantic import ValidationError
from starlette.responses import Response

from catalog.account.story import UNMADE, reconstruct
from catalog.client import Catalog
from kubernaut_ray.contracts.audit import AuditEvent
from kubernaut_ray.contracts.timeline import IncidentStory, Timeline
from kubernaut_ray.contracts.vocabulary import EVENT_TYPES, Under
from serve_apps.data_storage.deps import Given

router = APIRouter(prefix="/api/v1", tags=["audit"])

JSON = "application/json"
_RELATED = frozenset({UNMADE}) | {name for name, known in EVENT_TYPES.items() if known.under is Under.WORKFLOW}


@router.get("/remediations/{remediation_id}/timeline", response_model=Timeline)
async def timeline(remediation_id: str, deps: Given) -> Response:
    """Tell everything known about one remediation, by its RemediationRequest's name.

    `incident` is the whole account, reconstructed from `events` alone, which stay when the objects are gone. What the trail
    lacks or contradicts is in `incident.gaps`. Nothing known is no error, because facts arrive up to a second after what they
    tell: the answer is 200 with no `events`, `incident.state` is `unknown`, and its one gap says `nothing-on-record`.
    """
    stored = await deps.catalog.timeline(remediation_id)
    bodies = orjson.loads(stored)["events"]
    events, unreadable = await asyncio.to_thread(_read, bodies)
    related = await _related(deps.catalog, events)
    account = await asyncio.to_thread(reconstruct, remediation_id, events, related=related, unreadable=unreadable)
    return Response(_answer(stored, account, related), media_type=JSON)


def _read(bodies: Iterable[object]) -> tuple[list[AuditEvent], int]:
    """Return the events that are as the contract says, and how many are not."""
    events, unreadable = [], 0
    for body in bodies:
        try:
            events.append(AuditEvent.model_validate(body))
        except ValidationError:
            unreadable += 1
    return events, unreadable


async def _related(catalog: Catalog, events: Iterable[AuditEvent]) -> list[AuditEvent]:
    """Read what other correlations hold of this incident: refusals of its fingerprint, changes of the workflows it chose."""
    under: set[str] = set()
    for event in events:
        fingerprint, workflow = event.event_data.get("fingerprint"), event.event_data.get("workflow_id")
        if isinstance(fingerprint, str) and event.event_type == "orchestrator.lifecycle.started":
            under.add(f"signal-{fingerprint[:12]}")
        if isinstance(workflow, str) and workflow and event.event_type.startswith("workflow."):
            under.add(workflow)
    answers = [orjson.loads(await catalog.timeline(name))["events"] for name in sorted(under)]
    found = [event for bodies in answers for event in _read(bodies)[0] if event.event_type in _RELATED]
    return sorted(found, key=lambda event: (event.event_timestamp, event.event_id))


def _answer(stored: bytes, account: IncidentStory, related: Iterable[AuditEvent]) -> bytes:
    """Put the account before the events, which stay as they were stored."""
    more = orjson.dumps({"incident": account.to_json(), "related": [event.to_json() for event in related]})
    return more[:-1] + b"," + stored[1:]
