"""CustomResourceDefinitions: from the object to served kinds, refusing what cannot be honoured.

``problems`` checks a CRD when it is stored; ``kinds_of`` compiles an accepted one. A CRD whose schema holds a constraint
that this server cannot evaluate is refused with the place and the reason, so that a stored CRD means an enforced one.
Conversion webhooks are refused; versions that differ in name only (strategy ``None``) are served.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from typing import Any

from kubernaut_ray.kube.embedded import jsonpath, meta
from kubernaut_ray.kube.embedded import schema as structural
from kubernaut_ray.kube.embedded.kinds import Column, Kind, Registry, Scale
from kubernaut_ray.kube.embedded.plain import needed, plain
from kubernaut_ray.kube.embedded.schema import Node, SchemaError
from kubernaut_ray.kube.embedded.status import Cause, Obj, field_forbidden, invalid_value, required, unsupported

_VERSION = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
_COLUMN_TYPES = ("string", "integer", "number", "boolean", "date")
_TYPE_AND_METADATA = ("apiVersion", "kind", "metadata")
_METADATA_LISTS: dict[tuple[str, ...], tuple[str, ...]] = {
    ("metadata", "ownerReferences"): ("uid",),
    ("metadata", "finalizers"): (),
}
_AGE = Column(
    "Age",
    lambda obj: obj["metadata"].get("creationTimestamp"),
    "date",
    description="CreationTimestamp is a timestamp representing the server time when this object was created.",
)


class CustomRules:
    """The rules of one version of a custom resource."""

    piecewise: bool = True

    def __init__(self, schema: Obj) -> None:
        self._schema = schema
        self.node: Node = structural.compiled(schema)
        node = self.node
        odd = node.bounds or node.enum or node.preserve or node.combined or node.additional is not None
        self._plain = None if odd else {name: plain(child) for name, child in node.properties.items()}
        self._needed = needed(node) - {"metadata"}
        self._ruled = {name: child for name, child in node.ruled.items() if name not in _TYPE_AND_METADATA}
        described = node.properties.get("metadata")
        self._described = None if described == Node(type="object") else described
        """What the definition says of the metadata, if anything; the rest is every kind's, and ``objects.py`` sees to it."""

    def plain(self, obj: Obj, same: Container[str]) -> bool:
        if self._plain is None or not self._needed <= obj.keys():
            return False
        for name, value in obj.items():
            if name in _TYPE_AND_METADATA or name in same:
                continue
            check = self._plain.get(name)
            if check is None or not check(value):
                return False
        return True

    def canonical(self, obj: Obj) -> None:
        structural.drop_nulls(self.node, obj)

    def prune(self, obj: Obj) -> list[str]:
        return structural.prune(self.node, obj, "", root=True)

    def default(self, obj: Obj, old: Obj | None) -> None:  # noqa: ARG002
        structural.apply_defaults(self.node, obj)

    def problems(self, obj: Obj, old: Obj | None, *, plain: bool = False) -> list[Cause]:
        """What a write leaves alone was found right before; only its transition rules are asked again (KEP-4008, ratcheting)."""
        same = structural.untouched(obj, old) if old is not None else frozenset()
        if plain:
            causes = self._broken_rules(obj, old, same)
        else:
            skip = (*_TYPE_AND_METADATA, *same)
            causes = structural.validate(self.node, obj, "", old, skip=skip)
        for name, child in self._ruled.items():
            if name in same and old is not None:
                causes += structural.rule_problems(child, obj[name], name, old[name])
        if self._described is not None:
            causes += structural.validate(self._described, obj["metadata"], "metadata", None)
        return causes

    def _broken_rules(self, obj: Obj, old: Obj | None, same: Container[str]) -> list[Cause]:
        """Ask the rules of an object that is right otherwise, in the order in which validation asks them."""
        before, causes = old or {}, list[Cause]()
        for name, value in obj.items():
            child = self._ruled.get(name)
            if child is not None and name not in same:
                causes += structural.rule_problems(child, value, name, before.get(name))
        return causes or structural.broken_rules(self.node, obj, "", old)

    def list_keys(self, path: tuple[str, ...]) -> tuple[str, ...] | None:
        if path[:1] == ("metadata",):
            return _METADATA_LISTS.get(path)
        node: Node | None = self.node
        for name in path:
            if node is not None and node.type == "array":
                node = node.items
            node = node.child(name) if node is not None else None
        if node is None or node.list_type in ("", "atomic"):
            return None
        return node.map_keys if node.list_type == "map" else ()

    def openapi(self) -> Obj:
        properties = {
            **(self._schema.get("properties") or {}),
            "apiVersion": {
                "type": "string",
                "description": "The versioned schema of this representation of an object.",
            },
            "kind": {"type": "string", "description": "The REST resource this object represents."},
            "metadata": {
                "allOf": [{"$ref": "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}],
                "default": {},
                "description": "Standard object's metadata.",
            },
        }
        return {"type": "object", **self._schema, "properties": properties}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def problems(crd: Obj, old: Obj | None, registry: Registry) -> list[Cause]:
    """Say everything that is wrong with a CRD."""
    spec = crd.get("spec")
    if not isinstance(spec, Mapping):
        return [required("spec")]
    causes: list[Cause] = []
    names = spec.get("names") or {}
    group, plural = _text(spec.get("group")), _text(names.get("plural"))
    if not group:
        causes.append(required("spec.group"))
    elif not meta.DNS_SUBDOMAIN.match(group) or "." not in group:
        causes.append(invalid_value("spec.group", group, "should be a domain with at least one dot"))
    causes += [required(f"spec.names.{k}") for k in ("plural", "kind") if not names.get(k)]
    if crd["metadata"].get("name") != f"{plural}.{group}":
        causes.append(
            invalid_value("metadata.name", crd["metadata"].get("name"), 'must be spec.names.plural+"."+spec.group')
        )
    if spec.get("scope") not in ("Namespaced", "Cluster"):
        causes.append(unsupported("spec.scope", spec.get("scope"), ("Cluster", "Namespaced")))
    conversion = spec.get("conversion") or {}
    if conversion.get("strategy", "None") != "None":
        causes.append(
            field_forbidden("spec.conversion.strategy", "conversion webhooks are not supported by this server")
        )
    if spec.get("preserveUnknownFields"):
        causes.append(invalid_value("spec.preserveUnknownFields", True, "must be false in order to use v1"))
    if old is not None and not causes:
        for path in ("group", "scope"):
            if spec.get(path) != old["spec"].get(path):
                causes.append(invalid_value(f"spec.{path}", spec.get(path), "field is immutable"))
    versions = spec.get("versions")
    if not isinstance(versions, list) or not versions:
        return [*causes, required("spec.versions", "must have at least one version")]
    if sum(v.get("storage") is True for v in versions) != 1:
        causes.append(invalid_value("spec.versions", None, "must have exactly one version marked as storage version"))
    for i, version in enumerate(versions):
        causes += _version_problems(version, f"spec.versions[{i}]")
    if not causes:
        causes += _name_problems(group, plural, names, registry)
    return causes


def _name_problems(group: str, plural: str, names: Mapping[str, Any], registry: Registry) -> list[Cause]:
    """Names must not be taken by another resource of the group."""
    return [
        invalid_value("spec.names.kind", kind.kind, f"is already used by {kind.qualified}")
        for kind in registry.kinds()
        if kind.group == group and kind.plural != plural and kind.kind == names.get("kind")
    ]


def _version_problems(version: Mapping[str, Any], path: str) -> list[Cause]:
    causes: list[Cause] = []
    if not _VERSION.match(_text(version.get("name"))):
        causes.append(invalid_value(f"{path}.name", version.get("name"), "must be a DNS label such as v1alpha1"))
    causes += [required(f"{path}.{k}") for k in ("served", "storage") if not isinstance(version.get(k), bool)]
    schema = (version.get("schema") or {}).get("openAPIV3Schema")
    if schema is None:
        return [*causes, required(f"{path}.schema.openAPIV3Schema", "schemas are required")]
    where = f"{path}.schema.openAPIV3Schema"
    if isinstance(schema, Mapping) and schema.get("type") != "object":
        causes.append(invalid_value(f"{where}.type", schema.get("type"), "must be object at the root"))
    try:
        structural.compiled(schema, where)
    except SchemaError as error:
        causes.append(invalid_value(error.path, "…", error.why))
    for i, column in enumerate(version.get("additionalPrinterColumns") or ()):
        place = f"{path}.additionalPrinterColumns[{i}]"
        causes += [required(f"{place}.{k}") for k in ("name", "type", "jsonPath") if not column.get(k)]
        if column.get("type") not in _COLUMN_TYPES:
            causes.append(unsupported(f"{place}.type", column.get("type"), _COLUMN_TYPES))
        causes += _path_problems(column.get("jsonPath"), f"{place}.jsonPath")
    fields = version.get("selectableFields") or ()
    if len(fields) > 8:
        causes.append(
            Cause(
                f"{path}.selectableFields", "FieldValueTooMany", f"Too many: {len(fields)}: must have at most 8 items"
            )
        )
    for i, selectable in enumerate(fields):
        causes += _path_problems(selectable.get("jsonPath"), f"{path}.selectableFields[{i}].jsonPath")
    return causes


def _path_problems(path: Any, where: str) -> list[Cause]:
    try:
        jsonpath.compiled(_text(path))
    except ValueError as error:
        return [invalid_value(where, path, str(error))]
    return []


def _column(spec: Mapping[str, Any]) -> Column:
    find, type_ = jsonpath.compiled(spec["jsonPath"]), spec["type"]

    def value(obj: Obj) -> Any:
        found = find(obj)
        if type_ == "string" and found is not None and not isinstance(found, str):
            return str(found)
        return found

    return Column(
        spec["name"], value, type_, spec.get("format", ""), spec.get("priority", 0), spec.get("description", "")
    )


def _keys(path: Any) -> tuple[str, ...]:
    return tuple(part for part in _text(path).split(".") if part)


def _scale(version: Mapping[str, Any]) -> Scale | None:
    scale = (version.get("subresources") or {}).get("scale")
    if scale is None:
        return None
    label_path = scale.get("labelSelectorPath")
    return Scale(
        _keys(scale["specReplicasPath"]), _keys(scale["statusReplicasPath"]), _keys(label_path) if label_path else None
    )


def kinds_of(crd: Obj) -> list[Kind]:
    """Compile the served versions of an accepted CRD."""
    spec, names = crd["spec"], crd["spec"]["names"]
    found = []
    for version in spec["versions"]:
        if not version["served"]:
            continue
        columns = tuple(_column(c) for c in version.get("additionalPrinterColumns") or ())
        schema = version["schema"]["openAPIV3Schema"]
        found.append(
            Kind(
                group=spec["group"],
                version=version["name"],
                plural=names["plural"],
                kind=names["kind"],
                rules=CustomRules(schema),
                namespaced=spec["scope"] == "Namespaced",
                singular=names.get("singular") or names["kind"].lower(),
                list_kind=names.get("listKind") or f"{names['kind']}List",
                short_names=tuple(names.get("shortNames") or ()),
                categories=tuple(names.get("categories") or ()),
                status=(version.get("subresources") or {}).get("status") is not None,
                scale=_scale(version),
                columns=columns or (_AGE,),
                selectable=tuple(f["jsonPath"].lstrip(".") for f in version.get("selectableFields") or ()),
                strategic=False,
                storage=f"{names['plural']}.{spec['group']}",
                description=schema.get("description", ""),
            )
        )
    return found


def default(crd: Obj) -> None:
    """Fill in names and the served state, in place."""
    spec = crd.get("spec")
    names = spec.get("names") if isinstance(spec, dict) else None
    if not isinstance(spec, dict) or not isinstance(names, dict) or not names.get("kind"):
        return
    names.setdefault("singular", names["kind"].lower())
    names.setdefault("listKind", f"{names['kind']}List")
    spec.setdefault("conversion", {"strategy": "None"})


def established(crd: Obj, now: str) -> Obj:
    """Return the status of an accepted CRD: this server accepts names and serves at once."""
    stored = [v["name"] for v in crd["spec"]["versions"] if v["storage"]]
    before = crd.get("status") or {}
    versions = [*before.get("storedVersions", ()), *(v for v in stored if v not in before.get("storedVersions", ()))]
    old = {c["type"]: c for c in before.get("conditions", ())}

    def condition(type_: str, reason: str, message: str) -> Obj:
        moved = old.get(type_, {}).get("lastTransitionTime", now)
        return {"type": type_, "status": "True", "reason": reason, "message": message, "lastTransitionTime": moved}

    return {
        "acceptedNames": crd["spec"]["names"],
        "conditions": [
            condition("NamesAccepted", "NoConflicts", "no conflicts found"),
            condition("Established", "InitialNamesAccepted", "the initial names have been accepted"),
        ],
        "storedVersions": versions,
    }
