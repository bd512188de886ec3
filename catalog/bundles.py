"""Workflow folders to bundles and back: packing, checking, pushing, pulling.

A folder holds ``workflow-schema.yaml``, ``pipeline.yaml`` (a Tekton Pipeline named ``workflow``, and Tasks if it wants; none
where the engine is ``job``) and scripts. A step says ``script: "@script.py"`` and gets that file's text at packing; a line ``from NAME import …`` in it is
replaced by ``../lib/NAME.py`` where that exists, because a step is one file. Equal folders give equal digests: resources
travel as canonical JSON, which is YAML too.

Called by the CLI, by ``up`` for the shipped workflows and by registration. Calls block; asyncio callers use a thread.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import yaml

from catalog.workflow import FILE, INVALID, RESERVED, parse_schema
from kubernaut_ray.contracts.catalog import Workflow
from kubernaut_ray.crds.enums import ExecutionEngine
from kubernaut_ray.errors import InvalidInput
from kubernaut_ray.kube.pipelines.oci import SCHEMA_FILE, Bundle, Document, Stores, pull, push
from kubernaut_ray.kube.pipelines.reference import LAYOUT_REGISTRY, Reference
from kubernaut_ray.settings import RegistryAccess

__all__ = ["LAYOUT_REGISTRY", "Bundle", "Bundles", "PinnedRef", "check_bundle", "pack", "reference_for"]

PIPELINE_FILE = "pipeline.yaml"
PIPELINE_NAME = "workflow"
_API_VERSIONS = ("tekton.dev/v1", "tekton.dev/v1beta1")


@dataclass(frozen=True, slots=True)
class PinnedRef:
    """What was pushed: the image without digest, and its digest."""

    image: str
    digest: str

    def __str__(self) -> str:
        return f"{self.image}@{self.digest}"


@dataclass(frozen=True, slots=True)
class Packed:
    workflow: Workflow
    documents: tuple[Document, ...]


class Bundles:
    """Pushes and pulls. ``layout_dir`` is where references to ``bundles.kubernaut.local`` lie."""

    def __init__(
        self,
        layout_dir: Path | None,
        *,
        access: Mapping[str, RegistryAccess] | None = None,
        registry_config: Path | None = None,
    ) -> None:
        self._stores = Stores(layout_dir, access=access, registry_config=registry_config)

    def push(self, folder: Path, ref: str = "") -> PinnedRef:
        """Pack a workflow folder and push it, into the layout under its own name without a ``ref``.

        Raises ``InvalidInput`` with every problem of the folder.
        """
        packed = pack(folder)
        reference = Reference.parse(ref or reference_for(packed.workflow))
        if reference.digest:
            raise InvalidInput(f"{ref}: push to a tag; the digest comes from the content")
        annotations = {
            "org.opencontainers.image.title": packed.workflow.workflow_name,
            "org.opencontainers.image.version": packed.workflow.version,
        }
        digest = push(packed.documents, reference, self._stores.of(reference), annotations)
        return PinnedRef(reference.image, digest)

    def pull(self, ref: str) -> Bundle:
        """Fetch a bundle, every digest verified. Raises ``InvalidInput`` (missing, changed, no bundle) or ``Retryable``."""
        reference = Reference.parse(ref)
        return pull(reference, self._stores.of(reference))

    def workflow(self, ref: str) -> tuple[Workflow, Bundle]:
        """Fetch a bundle that is a workflow: schema parsed, pipeline checked against it, image and digest filled in."""
        bundle = self.pull(ref)
        return check_bundle(bundle), bundle


def reference_for(workflow: Workflow, registry: str = LAYOUT_REGISTRY) -> str:
    """Return the reference under which a shipped workflow is kept, for example ``…/workflows/scale-replicas:1.0.0``."""
    return f"{registry}/workflows/{workflow.workflow_name}:{workflow.version}"


def check_bundle(bundle: Bundle) -> Workflow:
    """Return the workflow of a bundle. Raises ``InvalidInput`` when it holds none or its pipeline does not fit its schema."""
    if not bundle.schema_yaml:
        raise InvalidInput(
            f"bundle {bundle.reference}: a Tekton bundle, but no workflow: it has no layer with {SCHEMA_FILE}; "
            "make it with kubernaut-ray workflow push",
            reason="NotAWorkflow",
        )
    workflow = parse_schema(bundle.schema_yaml, container_image=bundle.reference.image, container_digest=bundle.digest)
    _check(workflow, bundle.resources, f"bundle {bundle.reference}")
    return workflow


def pack(folder: Path) -> Packed:
    """Read, check and inline a workflow folder. Raises ``InvalidInput``."""
    schema = _read(folder / FILE)
    workflow = parse_schema(schema)
    path = folder / PIPELINE_FILE
    if workflow.execution_engine is ExecutionEngine.JOB and not path.exists():
        return Packed(workflow, (Document(SCHEMA_FILE, schema, yaml.safe_load(schema)),))
    try:
        resources = [r for r in yaml.safe_load_all(_read(path)) if r is not None]
    except (yaml.YAMLError, RecursionError) as error:
        raise InvalidInput(f"{path} is not YAML: {error}") from error
    for resource in resources:
        _inline(resource, folder)
    _check(workflow, tuple(resources), str(path))
    documents = [
        Document(
            PIPELINE_FILE if r["kind"] == "Pipeline" else f"task-{r['metadata']['name']}.yaml",
            orjson.dumps(r, option=orjson.OPT_SORT_KEYS).decode(),
            r,
        )
        for r in resources
    ]
    schema_document = Document(SCHEMA_FILE, schema, yaml.safe_load(schema))
    return Packed(workflow, (*documents, schema_document))


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError as error:
        raise InvalidInput(
            f"{path.parent} is not a workflow folder: {path.name} is missing; it needs {FILE} and {PIPELINE_FILE}"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} cannot be read: {error}") from error


def _inline(resource: Any, folder: Path) -> None:
    """Replace every step's ``script: "@FILE"`` by the file's text, in place."""
    for step in _steps(resource):
        script = step.get("script")
        if isinstance(script, str) and script.startswith("@"):
            name = script[1:].strip()
            if not name or "/" in name or name.startswith("."):
                raise InvalidInput(f"{folder / PIPELINE_FILE}: script {script!r} must name a file of this folder")
            text = _read_script(folder / name)
            step["script"] = _with_libraries(text, folder / name) if name.endswith(".py") else text


def _read_script(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError as error:
        there = ", ".join(sorted(f.name for f in path.parent.iterdir() if f.suffix != ".yaml")) or "none"
        raise InvalidInput(
            f"{path.parent / PIPELINE_FILE} uses the script {path.name}, which is not in its folder; there: {there}"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(
            f"{path.parent / PIPELINE_FILE} uses the script {path.name}, which cannot be read: {error}"
        ) from error


def _steps(resource: Any) -> Iterator[dict[str, Any]]:
    if isinstance(resource, dict):
        for key, value in resource.items():
            if key == "steps" and isinstance(value, list):
                yield from (step for step in value if isinstance(step, dict))
            else:
                yield from _steps(value)
    elif isinstance(resource, list):
        for value in resource:
            yield from _steps(value)


def _with_libraries(text: str, path: Path) -> str:
    """Put ``../lib/NAME.py`` in the place of ``from NAME import …``, less its docstring."""
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise InvalidInput(f"{path} is not Python: line {error.lineno}: {error.msg}") from error
    lines = text.splitlines()
    for node in reversed(tree.body):
        library = path.parent.parent / "lib" / f"{getattr(node, 'module', None)}.py"
        if isinstance(node, ast.ImportFrom) and library.is_file():
            lines[node.lineno - 1 : node.end_lineno] = _body(library)
    return "\n".join(lines) + "\n"


def _body(library: Path) -> list[str]:
    text = library.read_text()
    first = ast.parse(text).body[0]
    docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    return text.splitlines()[(first.end_lineno or 0) if docstring else 0 :]


def _check(workflow: Workflow, resources: tuple[Any, ...], where: str) -> None:
    """Check that the resources are Tekton's and that the pipeline takes what the schema offers."""
    problems = list(_problems(workflow, resources))
    if problems:
        listed = "; ".join(f"{path}: {what}" for path, what in problems)
        raise InvalidInput(
            f"{where} has {len(problems)} problem(s): {listed}", problems=tuple(problems), reason=INVALID
        )


def _problems(workflow: Workflow, resources: tuple[Any, ...]) -> Iterator[tuple[str, str]]:
    if workflow.execution_engine is ExecutionEngine.JOB:
        if resources:
            yield (
                "execution.engine",
                f"job runs one container and no pipeline: leave out {PIPELINE_FILE}, or use tekton",
            )
        return
    pipelines = []
    for index, resource in enumerate(resources):
        kind = resource.get("kind") if isinstance(resource, dict) else None
        if kind not in ("Pipeline", "Task") or resource.get("apiVersion") not in _API_VERSIONS:
            yield f"document {index}", f"must be a Pipeline or a Task of {_API_VERSIONS[0]}, got {kind!r}"
        elif not isinstance(resource.get("metadata"), dict) or not resource["metadata"].get("name"):
            yield f"document {index}", "has no metadata.name"
        elif not isinstance(resource.get("spec"), dict):
            yield f"document {index}", "has no spec"
        elif kind == "Pipeline":
            pipelines.append(resource)
    if [p["metadata"]["name"] for p in pipelines] != [PIPELINE_NAME]:
        found = ", ".join(p["metadata"]["name"] for p in pipelines) or "none"
        yield "Pipeline", f"there must be exactly one, named {PIPELINE_NAME}; found {found}"
        return
    spec = pipelines[0]["spec"]
    if not spec.get("tasks"):
        yield "spec.tasks", "must have at least one task"
    params = {p.get("name"): p for p in spec.get("params") or () if isinstance(p, dict)}
    if RESERVED not in params:
        yield "spec.params", f"must declare {RESERVED}, which every execution passes"
    for parameter in workflow.parameters:
        param = params.get(parameter.name)
        if param is None:
            yield "spec.params", f"must declare {parameter.name}, as {FILE} does"
        elif param.get("type", "string") != "string":
            yield f"spec.params.{parameter.name}", "must be of type string: values are passed as text"
        elif not parameter.required and "default" not in param:
            yield f"spec.params.{parameter.name}", f"needs a default: {FILE} does not require it"
    offered = {p.name for p in workflow.parameters}
    for name, param in params.items():
        if name not in offered and name != RESERVED and "default" not in param:
            yield f"spec.params.{name}", f"has no default and {FILE} does not offer it, so it would never be given"
