"""RemediationWorkflow: a workflow of the catalog, declared. ``kubectl apply`` and GitOps register workflows with it.

``execution.bundle`` names the OCI bundle whose ``workflow-schema.yaml`` is the single source of truth. The spec is the
envelope form of that schema: everything else in it may be left out, and what is given must say what the schema says. So
three lines are enough, and the bundle's own envelope file can be applied as it is. The object's name is its own; the
workflow's name is in the schema and in ``status.workflowName``.

Where the envelope form takes one value or a list, or a number for a text, the schema here takes anything and the
controller says what is wrong: a structural schema knows one type a field.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field
from pydantic.config import JsonDict

from kubernaut_ray.conditions import Condition
from kubernaut_ray.crds.base import (
    CustomResource,
    LocalReference,
    Meta,
    Model,
    Name,
    PrinterColumn,
    ShortText,
    Text,
    Timestamp,
)
from kubernaut_ray.crds.enums import ExecutionEngine, ParameterType, RegistrationPhase

MAX_PROBLEMS = 50

Free = Annotated[Any, Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})]
"""One value or a list, a text or a number: the schema in the bundle decides."""
Sentence = Annotated[str, Field(max_length=4096)]
SemVer = Annotated[
    str,
    Field(
        pattern=r"^v?(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$",
        max_length=64,
    ),
]
BundleReference = Annotated[
    str, Field(min_length=1, max_length=512, pattern=r"^[^\s@/]+/[^\s@]+(@sha256:[0-9a-f]{64})?$")
]
Digest = Annotated[str, Field(max_length=71, pattern="^(sha256:[0-9a-f]{64})?$")]

_ONE_DIGEST: JsonDict = {
    "x-kubernetes-validations": [
        {
            "rule": "!has(self.bundleDigest) || self.bundleDigest == '' || !self.bundle.contains('@')"
            " || self.bundle.endsWith('@' + self.bundleDigest)",
            "message": "bundle and bundleDigest name two digests; leave one out",
        }
    ]
}


class WorkflowMaintainer(Model):
    name: Name
    email: Name | None = None


class WorkflowDescriptionSpec(Model):
    """What the model that investigates reads of the workflow."""

    what: Sentence | None = None
    when_to_use: Sentence | None = None
    when_not_to_use: Sentence | None = None
    preconditions: Sentence | None = None


class WorkflowLabelsSpec(Model):
    """What the workflow is for; each one value, a list of alternatives, or ``*``."""

    signal_type: Free | None = None
    severity: Free | None = None
    component: Free | None = None
    environment: Free | None = None
    priority: Free | None = None


class WorkflowParameterSpec(Model):
    name: Annotated[str, Field(pattern="^[A-Z][A-Z0-9_]*$", max_length=63)]
    type: ParameterType | None = None
    required: bool | None = None
    description: Sentence | None = None
    enum: Annotated[tuple[Free, ...], Field(max_length=100)] | None = None
    pattern: Annotated[str, Field(max_length=512)] | None = None
    minimum: int | None = None
    maximum: int | None = None
    min_length: int | None = None
    max_length: int | None = None
    default: Free | None = None
    depends_on: Annotated[tuple[Name, ...], Field(max_length=64)] | None = None


class WorkflowExecutionSource(Model):
    """Where the workflow is."""

    model_config = ConfigDict(json_schema_extra=_ONE_DIGEST)

    bundle: BundleReference
    """The OCI bundle, REGISTRY/REPOSITORY:TAG[@sha256:…]. Pin the digest: a tag may come to mean something else."""
    bundle_digest: Digest | None = None
    """The digest, where ``bundle`` does not carry it."""
    engine: ExecutionEngine | None = None
    engine_config: Annotated[dict[str, Any], Field(max_length=64)] | None = None
    service_account_name: Name | None = None


class WorkflowDependencies(Model):
    secrets: Annotated[tuple[LocalReference, ...], Field(max_length=64)] | None = None
    config_maps: Annotated[tuple[LocalReference, ...], Field(max_length=64)] | None = None


class RemediationWorkflowSpec(Model):
    """Only ``execution.bundle`` is needed. Any other field that is given must say what the bundle's schema says."""

    suspend: bool = False
    """The workflow is disabled in the catalog while this is set."""
    execution: WorkflowExecutionSource
    version: SemVer | None = None
    title: Name | None = None
    description: WorkflowDescriptionSpec | None = None
    action_type: Annotated[str, Field(pattern="^[A-Z][A-Za-z0-9]*$", max_length=63)] | None = None
    owner: Name | None = None
    maintainers: Annotated[tuple[WorkflowMaintainer, ...], Field(max_length=64)] | None = None
    labels: WorkflowLabelsSpec | None = None
    detected_labels: Annotated[dict[str, Free], Field(max_length=32)] | None = None
    """What must hold of the target: true, a value such as argocd, or ``*`` for some value."""
    custom_labels: Annotated[dict[str, Free], Field(max_length=64)] | None = None
    dependencies: WorkflowDependencies | None = None
    parameters: Annotated[tuple[WorkflowParameterSpec, ...], Field(max_length=64)] | None = None
    rollback_parameters: Annotated[tuple[WorkflowParameterSpec, ...], Field(max_length=64)] | None = None

    @property
    def image(self) -> str:
        """The bundle without its digest."""
        return self.execution.bundle.partition("@")[0]

    @property
    def digest(self) -> str:
        """The digest that the spec pins, empty when it pins none."""
        return self.execution.bundle.partition("@")[2] or self.execution.bundle_digest or ""

    def expected(self) -> dict[str, Any]:
        """Return what the spec says of the workflow beyond where it is, in the envelope form."""
        body = self.to_object()
        body.pop("suspend", None)
        execution = {k: v for k, v in body.pop("execution").items() if k not in ("bundle", "bundleDigest")}
        return body | ({"execution": execution} if execution else {})


class RegistrationProblem(Model):
    path: Annotated[str, Field(max_length=512)] = ""
    message: Annotated[str, Field(max_length=2048)] = ""


class RemediationWorkflowStatus(Model):
    """What the catalog answered. The fields about the workflow are those of the last registration that succeeded."""

    phase: RegistrationPhase | None = None
    observed_generation: int | None = None
    """The generation that the catalog was last told of, and has taken or refused."""
    workflow_id: Name = ""
    workflow_name: Name = ""
    version: Annotated[str, Field(max_length=64)] = ""
    action_type: Annotated[str, Field(max_length=63)] = ""
    container_image: ShortText = ""
    container_digest: Annotated[str, Field(max_length=71)] = ""
    content_hash: Annotated[str, Field(max_length=64)] = ""
    """sha256 of the schema's text."""
    message: Text = ""
    problems: Annotated[tuple[RegistrationProblem, ...], Field(max_length=MAX_PROBLEMS)] = ()
    registered_at: Timestamp | None = None
    """When this version was registered through this object."""
    last_checked_at: Timestamp | None = None
    """When the catalog was last asked and answered, or the asking failed."""
    next_check_at: Timestamp | None = None
    failures: Annotated[int, Field(ge=0)] = 0
    """Askings in a row that failed for a passing reason."""
    suspended: bool | None = None
    """What ``spec.suspend`` said when it was last carried out."""
    conditions: Annotated[tuple[Condition, ...], Field(max_length=32)] = ()


class RemediationWorkflow(CustomResource):
    META: ClassVar[Meta] = Meta(
        plural="remediationworkflows",
        singular="remediationworkflow",
        short_names=("rw",),
        columns=(
            PrinterColumn("Workflow", ".status.workflowName"),
            PrinterColumn("Version", ".status.version"),
            PrinterColumn("Status", ".status.phase"),
            PrinterColumn("Action", ".status.actionType"),
            PrinterColumn("Age", ".metadata.creationTimestamp", "date"),
            PrinterColumn("Message", ".status.message", priority=1),
        ),
    )

    spec: RemediationWorkflowSpec
    status: RemediationWorkflowStatus = RemediationWorkflowStatus()

    @property
    def source(self) -> str:
        """Who this object is to the catalog."""
        return f"remediationworkflow {self.namespace}/{self.name}"
