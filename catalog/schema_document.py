"""The two forms of ``workflow-schema.yaml`` as strict models, and the reading of their YAML.

``workflow.py`` turns these into catalog records. The flat form (``kind: WorkflowSchema``) speaks snake_case, the
envelope form (``kind: RemediationWorkflow``, the shape of a custom resource) camelCase. Unknown fields are errors, and
so are anchors, aliases and repeated keys: a document that reads differently to two readers is not a contract.
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from kubernaut_ray.crds.enums import (
    Detection,
    Environment,
    ExecutionEngine,
    ParameterType,
    Priority,
    RcaSeverity,
    Severity,
)
from kubernaut_ray.errors import InvalidInput

MAX_BYTES = 65_536
MAX_SENTENCE = 500
ANY = "*"
INVALID = "InvalidSchema"
"""The reason of every refusal of a schema, or of a pipeline that does not fit it."""
SEVERITIES = tuple(dict.fromkeys((*RcaSeverity, *Severity)))
ENVIRONMENTS = tuple(Environment)
PRIORITIES = tuple(Priority)
DETECTIONS = (*Detection, "gitOpsTool")

KEBAB = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"
PARAMETER = "^[A-Z][A-Z0-9_]*$"
PASCAL = "^[A-Z][A-Za-z0-9]*$"
SEMVER = r"^v?(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$"


def _as_tuple(value: Any) -> Any:
    """One value and a list of one value mean the same."""
    return tuple(value) if isinstance(value, list) else (value,) if isinstance(value, str) else value


def _word_of(vocabulary: tuple[str, ...]) -> AfterValidator:
    """Check that every word is of the vocabulary, or ``*``."""

    def check(words: tuple[str, ...]) -> tuple[str, ...]:
        if wrong := [w for w in words if w != ANY and w not in vocabulary]:
            raise PydanticCustomError(
                "vocabulary",
                "must be among {words} or '*', got {wrong}",
                {"words": ", ".join(vocabulary), "wrong": ", ".join(wrong)},
            )
        return words

    return AfterValidator(check)


def _known_detections(labels: dict[str, bool | str]) -> dict[str, bool | str]:
    if wrong := [key for key in labels if key not in DETECTIONS]:
        raise PydanticCustomError(
            "vocabulary", "has {wrong}; there are {words}", {"words": ", ".join(DETECTIONS), "wrong": ", ".join(wrong)}
        )
    return labels


def _described(value: Any) -> Any:
    """A description may be one sentence."""
    if isinstance(value, str) and len(value) > MAX_SENTENCE:
        raise PydanticCustomError(
            "sentence",
            "at most {max} characters as one text; longer ones as what, when_to_use, …",
            {"max": MAX_SENTENCE},
        )
    return {"what": value} if isinstance(value, str) else value


def default_text(value: Any) -> Any:
    """The default of an array may be written as a list; parameters travel as text."""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return json.dumps(value)
    return value_text(value)


def value_text(value: Any) -> Any:
    """Enumerations and defaults are text in the catalog; YAML may have read a number or a truth value."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else value


Kebab = Annotated[str, Field(pattern=KEBAB, max_length=128)]
SemVer = Annotated[str, Field(pattern=SEMVER, max_length=64)]
Text = Annotated[str, Field(max_length=4096)]
ValueText = Annotated[str, StringConstraints(min_length=1, max_length=253)]
OneOrMore = Annotated[tuple[ValueText, ...], BeforeValidator(_as_tuple), Field(min_length=1, max_length=50)]
Severities = Annotated[OneOrMore, _word_of(SEVERITIES)]
Environments = Annotated[OneOrMore, _word_of(ENVIRONMENTS)]
Priorities = Annotated[OneOrMore, _word_of(PRIORITIES)]
DetectedRequirements = Annotated[dict[str, bool | str], AfterValidator(_known_detections)]
ParameterText = Annotated[str, BeforeValidator(value_text), Field(max_length=4096)]


class Snake(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Camel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel)


class Maintainer(Snake):
    name: ValueText
    email: Annotated[str, Field(max_length=253)] = ""


class Description(Snake):
    what: Annotated[str, Field(min_length=1, max_length=4096)]
    when_to_use: Text = ""
    when_not_to_use: Text = ""
    preconditions: Text = ""


class Parameter(Snake):
    name: Annotated[str, Field(pattern=PARAMETER, max_length=63)]
    type: ParameterType
    required: bool = False
    description: Text = ""
    enum: Annotated[tuple[ParameterText, ...], Field(max_length=100)] = ()
    pattern: Annotated[str, Field(max_length=512)] = ""
    minimum: int | None = None
    maximum: int | None = None
    min_length: Annotated[int, Field(ge=0)] | None = None
    max_length: Annotated[int, Field(ge=1)] | None = None
    default: Annotated[str, BeforeValidator(default_text), Field(max_length=4096)] | None = None
    depends_on: tuple[str, ...] = ()


class Execution(Snake):
    engine: ExecutionEngine = ExecutionEngine.TEKTON
    bundle: str = ""
    engine_config: dict[str, Any] = {}
    service_account_name: Annotated[str, Field(max_length=253)] = ""


class FlatMetadata(Snake):
    workflow_id: Kebab
    version: SemVer
    name: Annotated[str, Field(max_length=253)] = ""
    description: Annotated[Description, BeforeValidator(_described)]
    action_type: Annotated[str, Field(pattern=PASCAL, max_length=63)] | None = None
    owner: Annotated[str, Field(max_length=253)] = ""
    maintainers: tuple[Maintainer, ...] = ()


class FlatLabels(BaseModel):
    """The five labels every workflow carries; any other key is a custom label."""

    model_config = ConfigDict(frozen=True, extra="allow")
    __pydantic_extra__: dict[str, OneOrMore]

    signal_type: OneOrMore
    severity: Severities
    component: OneOrMore
    environment: Environments
    priority: Priorities


class FlatDocument(Snake):
    """``kind: WorkflowSchema``."""

    api_version: Annotated[Literal["kubernaut.io/v1alpha1"], Field(alias="apiVersion")]
    kind: Literal["WorkflowSchema"]
    metadata: FlatMetadata
    labels: FlatLabels
    detected_labels: DetectedRequirements = {}
    execution: Execution = Execution()
    parameters: Annotated[tuple[Parameter, ...], Field(min_length=1, max_length=64)]
    rollback_parameters: tuple[Parameter, ...] = ()


class CamelDescription(Camel):
    what: Annotated[str, Field(min_length=1, max_length=4096)]
    when_to_use: Text = ""
    when_not_to_use: Text = ""
    preconditions: Text = ""


class CamelParameter(Camel, Parameter):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel)


class CamelExecution(Camel):
    engine: ExecutionEngine = ExecutionEngine.TEKTON
    bundle: str = ""
    bundle_digest: str = ""
    engine_config: dict[str, Any] = {}
    service_account_name: Annotated[str, Field(max_length=253)] = ""


class NamedObject(Camel):
    name: ValueText


class Dependencies(Camel):
    secrets: tuple[NamedObject, ...] = ()
    config_maps: tuple[NamedObject, ...] = ()


class EnvelopeMetadata(BaseModel):
    """Object metadata; what an API server adds (uid, managedFields, …) is ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: Kebab


class EnvelopeLabels(Camel):
    signal_type: OneOrMore = (ANY,)
    severity: Severities
    component: OneOrMore
    environment: Environments
    priority: Priorities


class EnvelopeSpec(Camel):
    suspend: bool = False
    """Of the object in a cluster, not of the workflow: ignored."""
    version: SemVer
    title: Annotated[str, Field(max_length=253)] = ""
    description: CamelDescription
    action_type: Annotated[str, Field(pattern=PASCAL, max_length=63)]
    owner: Annotated[str, Field(max_length=253)] = ""
    maintainers: tuple[Maintainer, ...] = ()
    labels: EnvelopeLabels
    detected_labels: DetectedRequirements | None = None
    custom_labels: dict[str, OneOrMore] | None = None
    execution: CamelExecution = CamelExecution()
    dependencies: Dependencies | None = None
    parameters: Annotated[tuple[CamelParameter, ...], Field(min_length=1, max_length=64)]
    rollback_parameters: tuple[CamelParameter, ...] = ()


class EnvelopeDocument(Camel):
    """``kind: RemediationWorkflow``; a ``status`` that came along from a cluster is ignored."""

    api_version: Literal["kubernaut.ai/v1alpha1"]
    kind: Literal["RemediationWorkflow"]
    metadata: EnvelopeMetadata
    spec: EnvelopeSpec
    status: Any = None


class _StrictLoader(yaml.SafeLoader):
    """Safe YAML without aliases and without repeated keys."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(
                None, None, "aliases are not allowed here; write a literal * in quotes: '*'", mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys: set[Any] = set()
        for key_node, _ in node.value:
            key = key_node.value
            if key in keys:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is repeated", key_node.start_mark)
            keys.add(key)
        return super().construct_mapping(node, deep=deep)


def load_mapping(text: str, what: str) -> dict[str, Any]:
    """Read one YAML mapping. Raises ``InvalidInput`` that names the line and column of a syntax error."""
    if len(text.encode()) > MAX_BYTES:
        raise InvalidInput(f"{what} is larger than {MAX_BYTES} bytes; a schema is a page of text", reason=INVALID)
    try:
        document = yaml.load(text, Loader=_StrictLoader)  # noqa: S506 a SafeLoader made stricter
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "the document"
        raise InvalidInput(f"{what} is not YAML: {where}: {_said(error)}", reason=INVALID) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise InvalidInput(f"{what} is not YAML: {reason}", reason=INVALID) from error
    if not isinstance(document, dict):
        raise InvalidInput(
            f"{what} must be one mapping that starts with apiVersion and kind, got {type(document).__name__}",
            reason=INVALID,
        )
    if not all(isinstance(key, str) for key in document):
        raise InvalidInput(f"{what} has keys that are not text; write apiVersion, kind, metadata, …", reason=INVALID)
    return document


def _said(error: yaml.MarkedYAMLError) -> str:
    """Say a syntax error, and what to write where that is known."""
    problem = str(error.problem)
    if "alias" in str(error.context) or "anchor" in str(error.context):
        return "a value that begins with * or & must be in quotes: '*'"
    if "\\t" in problem:
        return "a tab; indent with spaces"
    if "mapping values are not allowed" in problem:
        return "a colon inside a value; put the whole value in quotes"
    return problem


def action_type_of(workflow_name: str) -> str:
    """Derive ``IncreaseMemoryLimits`` from ``increase-memory-limits``; a trailing ``-v1`` is no part of the action."""
    stem = re.sub(r"-v\d+$", "", workflow_name)
    name = "".join(part[:1].upper() + part[1:] for part in stem.split("-"))
    return name if name[:1].isalpha() else f"Workflow{name}"
