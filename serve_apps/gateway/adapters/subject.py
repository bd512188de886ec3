"""A Kubernetes object named in one string, as the subject of an event does it. Pure, and no kind is looked up here.

Read are the API server's paths, with or without their beginning (``/apis/apps/v1/namespaces/shop/deployments/web``,
``apps/v1/namespaces/shop/deployments/web``, ``namespaces/shop/pods/web-1``, ``v1/nodes/n1``), and the short forms
``shop/pod/web-1`` and ``node/n1``. The kind stays as it is written, singular or plural.
"""

from __future__ import annotations

import re

from kubernaut_ray.crds.shared import TargetResource

MAX_LENGTH = 1024
_VERSION = re.compile(r"v[0-9]+((alpha|beta)[0-9]+)?")


def resource(subject: str) -> TargetResource | None:
    """Return the object that the subject names, or ``None`` when it has none of these forms."""
    parts = subject.strip("/").split("/")
    if len(subject) > MAX_LENGTH or any(not 0 < len(part) <= 253 for part in parts):
        return None
    if len(parts) > 2 and parts[0] in {"api", "apis"}:
        parts = parts[1:]
    api_version, rest = _api_version(parts)
    match rest:
        case ["namespaces", namespace, kind, name]:
            return TargetResource(api_version=api_version, kind=kind, name=name, namespace=namespace)
        case [namespace, kind, name] if not api_version and namespace != "namespaces":
            return TargetResource(kind=kind, name=name, namespace=namespace)
        case [kind, name]:
            return TargetResource(api_version=api_version, kind=kind, name=name)
        case _:
            return None


def _api_version(parts: list[str]) -> tuple[str, list[str]]:
    if len(parts) > 2 and _VERSION.fullmatch(parts[0]):
        return parts[0], parts[1:]
    if len(parts) > 3 and _VERSION.fullmatch(parts[1]):
        return f"{parts[0]}/{parts[1]}", parts[2:]
    return "", parts
