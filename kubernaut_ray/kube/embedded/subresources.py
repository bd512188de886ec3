"""Subresources with a shape of their own: ``scale``, ``log``, ``eviction``, ``token`` and ``finalize``.

``log`` is a simulation and says so here: a real server asks the kubelet, and there is none. The text is whatever the Pod's
annotation ``embedded.kubernaut.ai/log`` holds (``…/log.CONTAINER`` for one container, ``…/previous-log`` for
``previous=true``), and is empty without one.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson

from kubernaut_ray.kube.embedded import meta, patches, status
from kubernaut_ray.kube.embedded.authn import Account, Authenticator
from kubernaut_ray.kube.embedded.columns import at
from kubernaut_ray.kube.embedded.handlers import Answer, delete_options
from kubernaut_ray.kube.embedded.kinds import Kind, Scale
from kubernaut_ray.kube.embedded.objects import Objects, Options, in_version
from kubernaut_ray.kube.embedded.requests import Request, Target
from kubernaut_ray.kube.embedded.selectors import from_label_selector, labels_match
from kubernaut_ray.kube.embedded.status import Obj

LOG_ANNOTATION = "embedded.kubernaut.ai/log"
PREVIOUS_LOG_ANNOTATION = "embedded.kubernaut.ai/previous-log"
_MAX_TOKEN_SECONDS = 10 * 365 * 86400


class Subresources:
    """Answers requests for subresources other than ``status``."""

    def __init__(self, objects: Objects, authenticator: Authenticator) -> None:
        self._objects, self._authenticator = objects, authenticator

    async def answer(self, kind: Kind, target: Target, request: Request) -> Answer:
        """Dispatch. Raises 404 for a subresource that the kind does not have, 405 for a verb it does not take."""
        name, method = target.subresource, request.method
        if name == "scale" and kind.scale is not None and method in ("GET", "PUT", "PATCH"):
            return await self._scale(kind, kind.scale, target, request)
        if name not in kind.subresources:
            raise status.no_such_path()
        match (name, method):
            case ("log", "GET"):
                return self._log(kind, target, request)
            case ("eviction", "POST"):
                return await self._evict(kind, target, request)
            case ("token", "POST"):
                return await self._token(kind, target, request)
            case ("finalize", "PUT"):
                return await self._finalize(kind, target, request)
            case _:
                raise status.method_not_allowed(f"{kind.plural}/{name}", kind.group, method)

    async def _scale(self, kind: Kind, scale: Scale, target: Target, request: Request) -> Answer:
        if request.method == "GET":
            entry = self._objects.get(kind, target.namespace, target.name)
            await self._objects.store.settled(entry.version)
            return Answer(orjson.dumps(_scale_of(entry.obj, scale)))
        options = request.options()
        if request.method == "PUT":
            how, body = "put", await request.object()
        else:
            how, body = await request.patch()

        def change(old: Obj) -> Obj:
            current = _scale_of(old, scale)
            match how:
                case "put":
                    wanted = body
                case "json":
                    wanted = patches.json_patch(current, body)
                case _:
                    wanted = patches.merge_patch(current, body)
            replicas = at(wanted, "spec", "replicas", missing=0)
            if not isinstance(replicas, int) or replicas < 0:
                raise status.invalid(
                    "Scale", "autoscaling", target.name,
                    [status.invalid_value("spec.replicas", replicas, "must be greater than or equal to 0")],
                )  # fmt: skip
            changed: Obj = patches.copied(old)
            _put(changed, scale.spec_replicas, replicas)
            version = at(wanted, "metadata", "resourceVersion")
            if version:
                changed["metadata"]["resourceVersion"] = version
            return changed

        entry, _ = self._objects.change(kind, target.namespace, target.name, change, options)
        await self._objects.store.settled()
        return Answer(orjson.dumps(_scale_of(entry.obj, scale)))

    def _log(self, kind: Kind, target: Target, request: Request) -> Answer:
        pod = self._objects.get(kind, target.namespace, target.name).obj
        containers = [c["name"] for c in pod["spec"]["containers"]]
        inits = [c["name"] for c in pod["spec"].get("initContainers") or ()]
        wanted = request.parameter("container")
        if wanted and wanted not in (*containers, *inits):
            raise status.bad_request(f"container {wanted} is not valid for pod {target.name}")
        if not wanted and len(containers) > 1:
            raise status.bad_request(
                f"a container name must be specified for pod {target.name}, choose one of: {containers}"
            )
        annotations = pod["metadata"].get("annotations") or {}
        base = PREVIOUS_LOG_ANNOTATION if request.flag("previous") else LOG_ANNOTATION
        container = wanted or containers[0]
        text = annotations.get(f"{base}.{container}", annotations.get(base))
        if text is None and request.flag("previous"):
            raise status.bad_request(f'previous terminated container "{container}" in pod "{target.name}" not found')
        tail, limit = request.number("tailLines"), request.number("limitBytes")
        lines = (text or "").splitlines(keepends=True)
        if tail is not None:
            lines = lines[-tail:] if tail > 0 else []
        data = "".join(lines).encode()
        return Answer(data[:limit] if limit is not None else data, content_type="text/plain; charset=utf-8")

    async def _evict(self, kind: Kind, target: Target, request: Request) -> Answer:
        """Delete a pod unless a PodDisruptionBudget that selects it allows no disruption now."""
        body = await request.object()
        pod = self._objects.get(kind, target.namespace, target.name).obj
        for entry in self._objects.store.scan("poddisruptionbudgets.policy", target.namespace):
            selector = labels_match(from_label_selector(at(entry.obj, "spec", "selector", missing={})))
            selected = selector is None or selector(pod["metadata"].get("labels") or {})
            if selected and at(entry.obj, "status", "disruptionsAllowed", missing=0) <= 0:
                raise status.ApiStatus(
                    429,
                    "TooManyRequests",
                    "Cannot evict pod as it would violate the pod's disruption budget.",
                    details={
                        "causes": [
                            {
                                "reason": "DisruptionBudget",
                                "message": f"The disruption budget {entry.obj['metadata']['name']} does not allow evictions now",
                            }
                        ],
                    },
                )
        given = at(body, "deleteOptions", missing={})
        options = delete_options(request, given if isinstance(given, dict) else {})
        self._objects.delete(kind, target.namespace, target.name, options)
        await self._objects.store.settled()
        return Answer(
            orjson.dumps({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}), 201
        )

    async def _token(self, kind: Kind, target: Target, request: Request) -> Answer:
        body = await request.object()
        account = self._objects.get(kind, target.namespace, target.name).obj
        await self._objects.store.settled()
        spec = body.get("spec") or {}
        if not isinstance(spec, dict) or not isinstance(spec.get("audiences") or [], list):
            raise status.bad_request("spec of a TokenRequest is an object, and its audiences are a list")
        seconds = spec.get("expirationSeconds") or 3600
        if not isinstance(seconds, int) or not 600 <= seconds <= _MAX_TOKEN_SECONDS:
            raise status.invalid(
                "TokenRequest", "authentication.k8s.io", "",
                [status.invalid_value("spec.expirationSeconds", seconds, "may not specify a duration less than 10 minutes")],
            )  # fmt: skip
        audiences = list(spec.get("audiences") or ())
        who = Account(target.namespace, target.name, account["metadata"]["uid"])
        token, expires = self._authenticator.issue(who, audiences, seconds)
        instant = datetime.fromtimestamp(expires, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        answer = {
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": {"name": target.name, "namespace": target.namespace, "creationTimestamp": meta.now_text()},
            "spec": {**spec, "expirationSeconds": seconds},
            "status": {"token": token, "expirationTimestamp": instant},
        }
        return Answer(orjson.dumps(answer), 201)

    async def _finalize(self, kind: Kind, target: Target, request: Request) -> Answer:
        """Set a namespace's ``spec.finalizers``."""
        body = await request.object()
        finalizers = at(body, "spec", "finalizers", missing=[])

        def change(old: Obj) -> Obj:
            return {**old, "spec": {**old.get("spec", {}), "finalizers": finalizers}}

        entry, _ = self._objects.change(kind, "", target.name, change, Options(manager="finalize"))
        await self._objects.store.settled()
        return Answer(orjson.dumps(in_version(entry.obj, kind)))


def _put(obj: Obj, path: tuple[str, ...], value: Any) -> None:
    for key in path[:-1]:
        obj = obj.setdefault(key, {})
    obj[path[-1]] = value


def _scale_of(obj: Obj, scale: Scale) -> Obj:
    metadata = {
        k: obj["metadata"][k]
        for k in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
        if k in obj["metadata"]
    }
    selector = at(obj, *scale.selector) if scale.selector else None
    shown: Obj = {"replicas": at(obj, *scale.status_replicas, missing=0)}
    if selector is not None:
        shown["selector"] = selector if isinstance(selector, str) else from_label_selector(selector)
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": metadata,
        "spec": {"replicas": at(obj, *scale.spec_replicas, missing=0)},
        "status": shown,
    }
