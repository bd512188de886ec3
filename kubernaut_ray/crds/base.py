"""What every kind shares: frozen models in camelCase on the wire, metadata, and the way to and from plain objects.

A kind is one module: a ``…Spec`` and a ``…Status`` (both frozen) and one ``CustomResource`` subclass whose ``META`` says
how the API server should hold it. ``schema.py`` turns these into structural CRDs; nothing else describes a field twice.
Extras for the schema go into ``Field(json_schema_extra={…})`` under their Kubernetes names
(``x-kubernetes-validations``, ``x-kubernetes-preserve-unknown-fields``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, PlainSerializer
from pydantic.alias_generators import to_camel

from kubernaut_ray import clock, names

Timestamp = Annotated[
    AwareDatetime,
    AfterValidator(clock.in_utc),
    PlainSerializer(clock.rfc3339, return_type=str, when_used="json"),
]
"""An instant; RFC 3339 with microseconds on the wire."""

Text = Annotated[str, Field(max_length=32768)]
"""Free text that people read."""
ShortText = Annotated[str, Field(max_length=1024)]
Name = Annotated[str, Field(max_length=253)]
"""A Kubernetes object name."""
DurationText = Annotated[str, Field(pattern=r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$", max_length=32)]
"""A Go duration such as ``1h30m``."""
Labels = Annotated[dict[str, Annotated[str, Field(max_length=4096)]], Field(max_length=256)]
Score = Annotated[float, Field(ge=0, le=1)]

IMMUTABLE = {"x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "spec is immutable"}]}


class Model(BaseModel):
    """A frozen value: snake_case in Python, camelCase on the wire, unknown fields ignored as the API server prunes them."""

    model_config = ConfigDict(
        frozen=True,
        alias_generator=to_camel,
        populate_by_name=True,
        extra="ignore",
        use_enum_values=False,
        allow_inf_nan=False,
    )

    def to_object(self) -> dict[str, Any]:
        """Return the JSON form: camelCase keys, unset (``None``) fields left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    def replace(self, **changes: Any) -> Self:
        """Return a validated copy with these fields (Python names) changed."""
        return type(self).model_validate({**self.__dict__, **changes})

    def __deepcopy__(self, _: Any = None) -> Self:
        """A frozen value serves as its own copy; pydantic copies what a field defaults to for every object otherwise."""
        return self


class ObjectReference(Model):
    """``core/v1.ObjectReference`` as far as we use it."""

    api_version: ShortText = ""
    kind: Name = ""
    name: Name = ""
    namespace: Name = ""
    uid: Name = ""


class LocalReference(Model):
    name: Name


class OwnerReference(Model):
    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool | None = None
    block_owner_deletion: bool | None = None


class ObjectMeta(Model):
    """``metav1.ObjectMeta`` as far as we use it."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: AwareDatetime | None = None
    deletion_timestamp: AwareDatetime | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    finalizers: tuple[str, ...] = ()
    owner_references: tuple[OwnerReference, ...] = ()


@dataclass(frozen=True, slots=True)
class PrinterColumn:
    """A column of ``kubectl get``; ``priority`` 1 shows with ``-o wide`` only."""

    name: str
    json_path: str
    type: str = "string"
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Meta:
    """How the API server holds a kind."""

    plural: str
    singular: str
    short_names: tuple[str, ...]
    columns: tuple[PrinterColumn, ...]
    selectable_fields: tuple[str, ...] = ()
    categories: tuple[str, ...] = ("kubernaut",)


class CustomResource(Model):
    """One object of one of our kinds. Subclasses declare ``spec``, ``status`` and ``META``."""

    META: ClassVar[Meta]

    metadata: ObjectMeta

    @classmethod
    def kind(cls) -> str:
        return cls.__name__

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def namespace(self) -> str:
        return self.metadata.namespace

    @property
    def uid(self) -> str:
        return self.metadata.uid

    @property
    def created(self) -> datetime:
        """The creation instant; objects not yet stored raise ``ValueError``."""
        if self.metadata.creation_timestamp is None:
            raise ValueError(f"{self.kind()} {self.name} was never stored, so it has no creationTimestamp")
        return self.metadata.creation_timestamp.astimezone(UTC)

    @property
    def reference(self) -> ObjectReference:
        return ObjectReference(
            api_version=names.API_VERSION, kind=self.kind(), name=self.name, namespace=self.namespace, uid=self.uid
        )

    @property
    def owner_reference(self) -> dict[str, Any]:
        """Return this object as the controlling owner of a child, in JSON form."""
        return {
            "apiVersion": names.API_VERSION,
            "kind": self.kind(),
            "name": self.name,
            "uid": self.uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }

    def to_object(self) -> dict[str, Any]:
        """Return the object as the API server takes it."""
        body = super().to_object()
        body["metadata"] = {k: v for k, v in body["metadata"].items() if v not in ("", 0, {}, [])}
        return {"apiVersion": names.API_VERSION, "kind": self.kind(), **body}

    @classmethod
    def from_object(cls, obj: Mapping[str, Any], *, before: Self | None = None) -> Self:
        """Read an object as the API server gives it. Raises pydantic's ``ValidationError`` with every problem.

        ``before`` is another version of it, perhaps: in one generation an object has one ``spec``, which then is not read again.
        """
        if before is not None and _one_generation(before.metadata, obj["metadata"]):
            obj = {**obj, "spec": before.__dict__["spec"]}
        return cls.model_validate(obj)


def _one_generation(before: ObjectMeta, metadata: Mapping[str, Any]) -> bool:
    return 0 < before.generation == metadata.get("generation") and before.uid == metadata.get("uid") != ""
