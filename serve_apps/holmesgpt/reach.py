"""How far the incident reaches by now: its storm and the members folded into it, read from its RemediationRequest.

The gateway goes on writing both after the analysis was asked for, so they are read again when the investigation begins, and
a model may look once more. The incident's name stays in here: it is for correlation and never reaches a model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import structlog
from pydantic import ValidationError

from kubernaut_ray.contracts.catalog_tools import Arguments
from kubernaut_ray.contracts.investigation import IncidentRequest, storm_fields
from kubernaut_ray.crds.affected import Affected, affected
from kubernaut_ray.crds.remediation_request import Member, RemediationRequest, Storm
from kubernaut_ray.errors import InvalidInput, KubernautError
from serve_apps.holmesgpt.cluster import Cluster
from serve_apps.holmesgpt.toolbox import Tool

TOOL = "incident_reach"

log = structlog.get_logger(__name__)


class Nothing(Arguments):
    """No arguments."""


@dataclass(frozen=True, slots=True)
class Reach:
    """One incident's look at itself."""

    cluster: Cluster
    namespace: str
    request: IncidentRequest

    async def latest(self) -> IncidentRequest:
        """Return the request with storm and members as they are now; as it was where they cannot be read."""
        try:
            storm, took = await self._read()
        except KubernautError as error:
            log.warning("reach.unreadable", remediation=self.request.remediation_id, error=str(error))
            return self.request
        changes = {**storm_fields(storm), **({"affected": took} if took is not None else {})}
        return self.request.model_copy(update=changes)

    def tool(self) -> Tool:
        """Return the look as a tool."""
        return Tool(
            TOOL,
            "What else this incident has hit by now: workloads whose signals were folded into it, and its alert storm.",
            Nothing,
            self._look,
        )

    async def _look(self, _: Nothing) -> Any:
        storm, took = await self._read()
        found: dict[str, Any] = {}
        if took is not None:
            found |= took.model_dump(mode="json")
        if storm is not None:
            found["storm"] = storm.model_dump(mode="json")
        return found

    async def _read(self) -> tuple[Storm | None, Affected | None]:
        found = await self.cluster.get(RemediationRequest.kind(), self.request.remediation_id, self.namespace)
        status = (found or {}).get("status") or {}
        try:
            storm = Storm.model_validate(status["storm"]) if status.get("storm") else None
            return storm, affected(Member.model_validate(member) for member in status.get("members") or ())
        except ValidationError as error:
            raise InvalidInput(f"the incident's own status cannot be read: {error.error_count()} problems") from error
