"""Tekton's v1 pipeline and task specs, as far as this runner does them.

What it does not do (matrix, sidecars, custom tasks, step actions, pipelines in pipelines) is refused by name when a spec
is read, never ignored. Fields that only mean something in a pod (image, securityContext, volumeMounts, computeResources)
are accepted and have no effect: a step runs on this host.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from kubernaut_ray.clock import parse_duration
from kubernaut_ray.errors import InvalidInput

ParamValue = str | list[str] | dict[str, str]
ParamType = Literal["string", "array", "object"]


def _seconds(value: Any) -> Any:
    """Read a Go duration; ``0`` means no limit."""
    if value is None or isinstance(value, int | float):
        return value
    return 0.0 if value == "0" else parse_duration(str(value)).total_seconds()


Seconds = Annotated[float | None, BeforeValidator(_seconds)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]


class _Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)

    UNSUPPORTED: ClassVar[tuple[str, ...]] = ()

    @model_validator(mode="before")
    @classmethod
    def _refuse(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and (found := [f for f in cls.UNSUPPORTED if value.get(f)]):
            raise ValueError(f"{', '.join(found)}: not done by the embedded runner; run this on a cluster with Tekton")
        return value


class ParamSpec(_Spec):
    name: str
    type: ParamType | None = None
    default: ParamValue | None = None
    enum: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """The declared type, or that of the default."""
        return self.type or kind_of(self.default if self.default is not None else "")


class Param(_Spec):
    name: str
    value: ParamValue


class When(_Spec):
    UNSUPPORTED: ClassVar[tuple[str, ...]] = ("cel",)

    input: str = ""
    operator: Literal["in", "notin"] = "in"
    values: tuple[str, ...] = ()

    def holds(self) -> bool:
        return (self.input in self.values) == (self.operator == "in")


class ResultSpec(_Spec):
    name: str
    type: ParamType = "string"
    value: ParamValue | None = None


class EnvVar(_Spec):
    name: str
    value: str = ""
    value_from: dict[str, Any] | None = None


class WorkspaceUse(_Spec):
    name: str
    workspace: str = ""
    sub_path: str = ""


class WorkspaceSpec(_Spec):
    name: str
    optional: bool = False


class Step(_Spec):
    UNSUPPORTED: ClassVar[tuple[str, ...]] = ("ref", "when", "stdoutConfig", "stderrConfig")

    name: str = ""
    image: str = ""
    script: str = ""
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    working_dir: str = ""
    env: tuple[EnvVar, ...] = ()
    on_error: Literal["", "continue", "stopAndFail"] = ""
    timeout: Seconds = None
    results: tuple[ResultSpec, ...] = ()


class TaskSpec(_Spec):
    UNSUPPORTED: ClassVar[tuple[str, ...]] = ("sidecars",)

    params: tuple[ParamSpec, ...] = ()
    steps: Annotated[tuple[Step, ...], Field(min_length=1)]
    step_template: Step | None = None
    results: tuple[ResultSpec, ...] = ()
    workspaces: tuple[WorkspaceSpec, ...] = ()


class ResolverParam(_Spec):
    name: str
    value: str


class Ref(_Spec):
    """``pipelineRef`` or ``taskRef``: a name in the namespace, or a resolver with its params."""

    name: str = ""
    kind: str = ""
    resolver: str = ""
    params: tuple[ResolverParam, ...] = ()


class PipelineTask(_Spec):
    UNSUPPORTED: ClassVar[tuple[str, ...]] = ("matrix", "pipelineRef", "pipelineSpec")

    name: Name
    task_ref: Ref | None = None
    task_spec: dict[str, Any] | None = None
    params: tuple[Param, ...] = ()
    when: tuple[When, ...] = ()
    run_after: tuple[str, ...] = ()
    retries: Annotated[int, Field(ge=0)] = 0
    timeout: Seconds = None
    on_error: Literal["", "continue", "stopAndFail"] = ""
    workspaces: tuple[WorkspaceUse, ...] = ()


class PipelineSpec(_Spec):
    params: tuple[ParamSpec, ...] = ()
    tasks: Annotated[tuple[PipelineTask, ...], Field(min_length=1)]
    finally_: Annotated[tuple[PipelineTask, ...], Field(alias="finally")] = ()
    results: tuple[ResultSpec, ...] = ()
    workspaces: tuple[WorkspaceSpec, ...] = ()


class Timeouts(_Spec):
    """``spec.timeouts`` of a PipelineRun in seconds; 0 is no limit."""

    pipeline: Seconds = None
    tasks: Seconds = None
    finally_: Annotated[Seconds, Field(alias="finally")] = None


def kind_of(value: ParamValue) -> str:
    return "string" if isinstance(value, str) else "array" if isinstance(value, list) else "object"


SpecModel = TypeVar("SpecModel", bound=BaseModel)


def read_pipeline(spec: Any) -> PipelineSpec:
    """Read a pipeline spec. Raises ``InvalidInput`` with every problem."""
    return _read(PipelineSpec, spec, "pipeline")


def read_task(spec: Any) -> TaskSpec:
    """Read a task spec. Raises ``InvalidInput`` with every problem."""
    return _read(TaskSpec, spec, "task")


def read_ref(ref: Any) -> Ref:
    """Read a ``pipelineRef`` or ``taskRef``. Raises ``InvalidInput``."""
    return _read(Ref, ref, "reference")


def read_timeouts(spec: Any) -> Timeouts:
    """Read ``spec.timeouts``. Raises ``InvalidInput``."""
    return _read(Timeouts, spec or {}, "timeouts")


def _read(model: type[SpecModel], spec: Any, what: str) -> SpecModel:
    try:
        return model.model_validate(spec)
    except ValidationError as error:
        problems = tuple((".".join(map(str, e["loc"])), e["msg"]) for e in error.errors(include_url=False))
        listed = "; ".join(f"{path or 'spec'}: {message}" for path, message in problems)
        raise InvalidInput(f"the {what} is not valid: {listed}", problems=problems) from error
