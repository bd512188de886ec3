"""Who caused a RemediationRequest, when a person did: written on the object from the authenticated user, and kept.

Four eyes need it: whoever asked for a remediation is not the one who may approve it.
"""

from __future__ import annotations

from typing import Any

from kubernaut_ray import names
from serve_apps.admission.review import Allowed, Request

_MACHINES = ("system:serviceaccount:", "system:node:", "system:kube-")


def stamp(request: Request) -> Allowed:
    """Set the annotation on what a person creates; put it back on what anybody but a machine changes."""
    user = request.user_info.username
    if user.startswith(_MACHINES):
        return Allowed()
    given = _requester(request.object)
    wanted = user if request.operation == "CREATE" else _requester(request.old_object)
    if given == wanted:
        return Allowed()
    metadata = dict((request.object or {}).get("metadata") or {})
    annotations = {k: v for k, v in (metadata.get("annotations") or {}).items() if k != names.ANNOTATION_REQUESTED_BY}
    if wanted:
        annotations[names.ANNOTATION_REQUESTED_BY] = wanted
    return Allowed(({"op": "add", "path": "/metadata/annotations", "value": annotations},))


def _requester(obj: dict[str, Any] | None) -> str:
    metadata = (obj or {}).get("metadata") or {}
    return str((metadata.get("annotations") or {}).get(names.ANNOTATION_REQUESTED_BY, ""))
