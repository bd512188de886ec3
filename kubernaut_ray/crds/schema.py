"""CustomResourceDefinitions from the models: ``python -m kubernaut_ray.crds.schema [--check]`` writes ``manifests/crds``.

The models are the only description of a field; this turns pydantic's JSON Schema into the *structural* OpenAPI v3 schema
that a kube-apiserver demands (Kubernetes documentation, "Extend the Kubernetes API with CustomResourceDefinitions",
"Specifying a structural schema"): references inlined, ``anyOf`` with null made optional, no titles, one type per node.
A keyword that such a schema may not hold raises here, not in the cluster.

Defaults are written for ``spec`` only, and only where they say something (no null, no empty value): an absent field and
an empty one mean the same to the models, and a default in a status would look like a fact that nobody recorded.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from kubernaut_ray import crds, names, shipped
from kubernaut_ray.crds.base import CustomResource, PrinterColumn
from kubernaut_ray.crds.docstrings import Described

Schema = dict[str, Any]

_PLAIN = (
    "type", "format", "enum", "pattern", "minLength", "maxLength", "minimum", "maximum", "minItems", "maxItems",
    "minProperties", "maxProperties", "x-kubernetes-validations", "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-int-or-string", "x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-map-type",
)  # fmt: skip
"""Keywords that are carried over as they are, in the order in which they are written."""
_READ = {"title", "description", "default", "properties", "required", "items", "additionalProperties"}
_NOTHING: tuple[Any, ...] = (None, "", [], {})
_HEADER = "# Generated from kubernaut_ray/crds by `python -m kubernaut_ray.crds.schema`. Do not edit.\n"


def crd_manifests() -> tuple[Schema, ...]:
    """Return the CustomResourceDefinitions of all our kinds, ready to be applied."""
    return tuple(manifest(model) for model in crds.SERVED)


def manifest(model: type[CustomResource]) -> Schema:
    """Return the CustomResourceDefinition (``apiextensions.k8s.io/v1``) of one kind."""
    meta = model.META
    version: Schema = {
        "name": names.VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": structural(model)},
        "subresources": {"status": {}},
        "additionalPrinterColumns": [_column(column) for column in meta.columns],
    }
    if meta.selectable_fields:
        version["selectableFields"] = [{"jsonPath": path} for path in meta.selectable_fields]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{meta.plural}.{names.GROUP}",
            "labels": {"app.kubernetes.io/name": "kubernaut-ray", "app.kubernetes.io/component": "crd"},
        },
        "spec": {
            "group": names.GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": model.kind(),
                "listKind": f"{model.kind()}List",
                "plural": meta.plural,
                "singular": meta.singular,
                "shortNames": list(meta.short_names),
                "categories": list(meta.categories),
            },
            "versions": [version],
        },
    }


def structural(model: type[CustomResource]) -> Schema:
    """Return the structural schema of one kind: ``apiVersion``, ``kind``, ``metadata``, ``spec``, ``status``."""
    source = model.model_json_schema(by_alias=True, mode="validation", schema_generator=Described)
    definitions = source.get("$defs", {})
    properties = source["properties"]
    body: dict[str, Schema] = {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object"},
        "spec": _node(properties["spec"], definitions, f"{model.kind()}.spec", defaults=True),
        "status": _node(properties["status"], definitions, f"{model.kind()}.status", defaults=False),
    }
    body["status"].pop("default", None)
    described: Schema = {"description": _prose(source["description"])} if source.get("description") else {}
    return {"type": "object", **described, "required": ["spec"], "properties": body}


def _node(source: Mapping[str, Any], definitions: Mapping[str, Any], path: str, *, defaults: bool) -> Schema:
    source = _resolve(source, definitions, path)
    if source.get("additionalProperties") is True:
        source = {k: v for k, v in source.items() if k != "additionalProperties"}
        source.setdefault("x-kubernetes-preserve-unknown-fields", True)
    if "const" in source:
        source = {**{k: v for k, v in source.items() if k != "const"}, "enum": [source["const"]]}
    if odd := set(source) - set(_PLAIN) - _READ:
        raise ValueError(f"{path}: {', '.join(sorted(odd))} has no place in a structural schema; change the model")
    if "type" not in source and not source.get("x-kubernetes-preserve-unknown-fields"):
        raise ValueError(f"{path}: a structural schema needs one type per node; give the field a type")
    node: Schema = {}
    if text := source.get("description"):
        node["description"] = _prose(text)
    node.update({key: source[key] for key in _PLAIN if key in source})
    if node.get("type") == "integer":
        node.setdefault("format", "int64")
    if defaults and (default := _said(source.get("default"))) not in _NOTHING:
        node["default"] = default
    if "items" in source:
        node["items"] = _node(source["items"], definitions, f"{path}[]", defaults=defaults)
    if "additionalProperties" in source:
        values = source["additionalProperties"]
        node["additionalProperties"] = _node(values, definitions, f"{path}{{}}", defaults=defaults)
    if "properties" in source:
        node["properties"] = {
            name: _node(child, definitions, f"{path}.{name}", defaults=defaults)
            for name, child in source["properties"].items()
        }
        if "additionalProperties" in node:
            raise ValueError(f"{path}: properties and additionalProperties exclude each other")
    if source.get("required"):
        node["required"] = list(source["required"])
    return node


def _resolve(source: Mapping[str, Any], definitions: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Inline references and reduce "this or null" to this; what stands beside a reference wins over what it points at."""
    node = dict(source)
    for _ in range(16):
        if "$ref" in node:
            target = definitions[node.pop("$ref").removeprefix("#/$defs/")]
            node = {**target, **node}
        elif "anyOf" in node:
            choices = [choice for choice in node.pop("anyOf") if choice != {"type": "null"}]
            if len(choices) != 1:
                raise ValueError(f"{path}: a union of several types has no structural schema; use one type")
            node = {**choices[0], **node}
        else:
            return node
    raise ValueError(f"{path}: the model contains itself, which a structural schema cannot say")


def _said(default: Any) -> Any:
    """Return a default without its nulls and empty values, at any depth."""
    if isinstance(default, dict):
        said = {key: _said(value) for key, value in default.items()}
        return {key: value for key, value in said.items() if value not in _NOTHING}
    return [_said(value) for value in default] if isinstance(default, list) else default


def _prose(text: str) -> str:
    """Return a docstring as plain paragraphs for ``kubectl explain``."""
    paragraphs = (" ".join(part.split()) for part in text.replace("``", "").split("\n\n"))
    return "\n\n".join(part for part in paragraphs if part)


def _column(column: PrinterColumn) -> Schema:
    rendered: Schema = {"name": column.name, "type": column.type, "jsonPath": column.json_path}
    if column.priority:
        rendered["priority"] = column.priority
    return rendered


class _Dumper(yaml.SafeDumper):
    """Lists indented under their key and no aliases, as in every hand-written manifest."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002
        super().increase_indent(flow=flow, indentless=False)

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


def render(crd: Mapping[str, Any]) -> str:
    """Return one CRD as the text of its file; the same models always give the same bytes."""
    return _HEADER + yaml.dump(dict(crd), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def files() -> dict[str, str]:
    """Return file name → content of everything under ``manifests/crds``."""
    return {f"{crd['spec']['names']['plural']}.yaml": render(crd) for crd in crd_manifests()}


def stale(directory: Path) -> tuple[str, ...]:
    """Return the names of files that are missing, differ from the models, or describe no kind of ours."""
    wanted = files()
    found = {path.name: path.read_text() for path in directory.glob("*.yaml")}
    return tuple(sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name)))


def main(argv: Sequence[str] | None = None) -> int:
    """Write the files, or with ``--check`` exit 1 and name those that are not what the models say."""
    parser = argparse.ArgumentParser(prog="python -m kubernaut_ray.crds.schema", description=main.__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a file is stale")
    parser.add_argument("--directory", type=Path, default=None, help="default: manifests/crds of this checkout")
    arguments = parser.parse_args(argv)
    directory: Path = arguments.directory or shipped.directory() / "crds"
    directory.mkdir(parents=True, exist_ok=True)
    out_of_date = stale(directory)
    if arguments.check:
        for name in out_of_date:
            sys.stderr.write(f"{directory / name} is stale; run: python -m kubernaut_ray.crds.schema\n")
        return 1 if out_of_date else 0
    wanted = files()
    for name in out_of_date:
        if name in wanted:
            (directory / name).write_text(wanted[name])
        else:
            (directory / name).unlink()
        sys.stdout.write(f"wrote {directory / name}\n" if name in wanted else f"removed {directory / name}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
