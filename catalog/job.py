"""What a workflow of engine ``job`` says of its one container: ``execution.engine_config`` of its schema.

The container's image is the bundle's own, pinned by its digest, unless the schema names another. Parameters reach it as
environment variables of their own names, so a parameter may not take the name of a variable that decides how a program
runs. Read at registration (every problem is told) and by the controller of executions, from the schema that the digest
pins; it builds no Job, that is the controller's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from catalog.schema_document import EnvelopeDocument, FlatDocument, load_mapping
from kubernaut_ray.contracts.catalog import Workflow
from kubernaut_ray.errors import InvalidInput

TAKEN = frozenset(
    {"PATH", "HOME", "TMPDIR", "LANG", "SHELL", "USER", "IFS", "ENV", "BASH_ENV", "KUBECONFIG", "HOSTNAME", "PWD",
     "EXECUTION_ID", "RESULT_SUMMARY", "TARGET_RESOURCE"}
)  # fmt: skip
"""Environment variables that a parameter cannot have: how the program is found and run, and what the engine itself sets."""
TAKEN_PREFIXES = ("LD_", "DYLD_", "PYTHON", "KUBERNETES_", "KUBERNAUT_", "NODE_OPTIONS", "PERL5", "RUBY", "GIT_")
_Quantities = Annotated[dict[str, Annotated[str, Field(max_length=32)]], Field(max_length=8)]
_Words = Annotated[tuple[Annotated[str, Field(max_length=32_768)], ...], Field(max_length=64)]


class Resources(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    requests: _Quantities = {}
    limits: _Quantities = {}


class JobConfig(BaseModel):
    """``command`` and ``args`` are the container's; without ``command`` the image's own entry point runs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image: Annotated[str, Field(max_length=512)] = ""
    command: _Words = ()
    args: _Words = ()
    resources: Resources = Resources()


def job_config(workflow: Workflow) -> JobConfig:
    """Read the container's settings out of a registered schema. Raises ``InvalidInput``."""
    raw = load_mapping(workflow.content, f"the schema of {workflow.workflow_name}")
    execution = raw.get("spec", raw).get("execution") or {}
    given = execution.get("engine_config") or execution.get("engineConfig") or {}
    try:
        return JobConfig.model_validate(given)
    except ValidationError as error:
        raise InvalidInput(
            f"the schema of {workflow.workflow_name} {workflow.version} has an engine_config that no Job can be made of: "
            + "; ".join(f"{path}: {what}" for path, what in _told(error)),
            problems=tuple(_told(error)),
        ) from None


def job_problems(document: FlatDocument | EnvelopeDocument) -> Iterator[tuple[str, str]]:
    """Yield (path below the document, what is wrong) of a schema whose engine is ``job``."""
    flat = isinstance(document, FlatDocument)
    body = document if isinstance(document, FlatDocument) else document.spec
    field = "execution.engine_config" if flat else "execution.engineConfig"
    try:
        JobConfig.model_validate(body.execution.engine_config)
    except ValidationError as error:
        for path, what in _told(error):
            yield f"{field}.{path}" if path else field, what
    for index, parameter in enumerate(body.parameters):
        if is_taken(parameter.name):
            yield f"parameters[{index}].name", taken(parameter.name)


def is_taken(name: str) -> bool:
    return name in TAKEN or name.startswith(TAKEN_PREFIXES)


def taken(name: str) -> str:
    return f"{name} decides as an environment variable how the Job's program runs; give the parameter another name"


def values(workflow: Workflow, given: Mapping[str, str]) -> dict[str, str]:
    """Return every parameter's value: what was given, and the schema's defaults for the rest."""
    defaults = {p.name: p.default for p in workflow.parameters if p.default is not None}
    return {**defaults, **given}


def _told(error: ValidationError) -> Iterator[tuple[str, str]]:
    for one in error.errors(include_url=False, include_input=False):
        what: Any = "no such field; there are image, command, args and resources"
        yield ".".join(map(str, one["loc"])), what if one["type"] == "extra_forbidden" else str(one["msg"])
