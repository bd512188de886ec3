"""From a reference to a spec: inline, by name in the namespace, or out of a bundle (``resolver: bundles``).

Called once per run: what was resolved is written to the run's status, so that a run never changes under way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kubernaut_ray.errors import InvalidInput
from kubernaut_ray.kube.client import KubeClient
from kubernaut_ray.kube.errors import NotFound
from kubernaut_ray.kube.pipelines.oci import Stores, pull
from kubernaut_ray.kube.pipelines.reference import Reference
from kubernaut_ray.kube.pipelines.spec import Ref, read_ref
from kubernaut_ray.kube.resources import PIPELINE, TASK, Resource


@dataclass(frozen=True, slots=True)
class Resolved:
    """``spec`` as JSON, the resource's name (empty for inline), and where it came from (``status.provenance``)."""

    spec: dict[str, Any]
    name: str = ""
    provenance: Mapping[str, Any] | None = None


class Resolver:
    """Resolves through the API server and the bundle stores."""

    def __init__(self, client: KubeClient, stores: Stores) -> None:
        self._client = client
        self._stores = stores

    async def pipeline(self, spec: Mapping[str, Any], namespace: str) -> Resolved:
        """Resolve ``pipelineSpec`` or ``pipelineRef``. Raises ``InvalidInput``, or ``Retryable`` when a registry is away."""
        return await self._resolve(spec, "pipelineSpec", "pipelineRef", PIPELINE, namespace)

    async def task(self, spec: Mapping[str, Any], namespace: str) -> Resolved:
        """Resolve ``taskSpec`` or ``taskRef``."""
        return await self._resolve(spec, "taskSpec", "taskRef", TASK, namespace)

    async def _resolve(
        self, spec: Mapping[str, Any], inline: str, reference: str, resource: Resource, namespace: str
    ) -> Resolved:
        if isinstance(body := spec.get(inline), dict):
            return Resolved(body)
        if not spec.get(reference):
            raise InvalidInput(f"neither {inline} nor {reference} is given")
        ref = read_ref(spec[reference])
        match ref.resolver:
            case "":
                return await self._by_name(ref, resource, namespace)
            case "bundles":
                return await self._bundle(ref, resource)
            case other:
                raise InvalidInput(f"{reference}.resolver {other!r}: the embedded runner resolves bundles only")

    async def _by_name(self, ref: Ref, resource: Resource, namespace: str) -> Resolved:
        if ref.kind not in ("", resource.kind):
            raise InvalidInput(f"{ref.kind} {ref.name}: the embedded runner runs {resource.kind}s only")
        try:
            found = await self._client.get(resource, ref.name, namespace)
        except NotFound as error:
            raise InvalidInput(
                f'{resource.plural}.tekton.dev "{ref.name}" not found in namespace {namespace}', reason="NotFound"
            ) from error
        return Resolved(found["spec"], ref.name)

    async def _bundle(self, ref: Ref, resource: Resource) -> Resolved:
        params = {p.name: p.value for p in ref.params}
        kind = params.get("kind", "task")
        if not params.get("bundle") or not params.get("name") or kind.lower() != resource.kind.lower():
            raise InvalidInput(
                f"resolver bundles needs the params bundle, name and kind: {resource.kind.lower()}; got {params}"
            )
        reference = Reference.parse(params["bundle"])
        store = self._stores.of(reference)
        bundle = await asyncio.to_thread(pull, reference, store)
        found = bundle.resource(kind, params["name"])
        source = {
            "uri": f"{reference.registry}/{reference.repository}",
            "digest": {"sha256": bundle.digest.partition(":")[2]},
            "entryPoint": params["name"],
        }
        return Resolved(found.get("spec") or {}, params["name"], {"refSource": source})
