"""``meta.k8s.io/v1`` views of objects: Table, as ``kubectl get`` wants it, and PartialObjectMetadata."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kubernaut_ray.kube.embedded.columns import since
from kubernaut_ray.kube.embedded.kinds import Column, Kind
from kubernaut_ray.kube.embedded.status import Obj

_NAME = Column(
    "Name", lambda o: o["metadata"]["name"], format="name", description="Name must be unique within a namespace."
)


def columns_of(kind: Kind) -> tuple[Column, ...]:
    """Return the kind's columns; custom resources get their name in front."""
    if kind.columns and (kind.columns[0].format == "name" or kind.table == "events."):
        return kind.columns
    return (_NAME, *kind.columns)


def _cell(column: Column, obj: Obj) -> Any:
    value = column.value(obj)
    if column.type == "date":
        return "" if value is None and column.name != "Age" else since(value) if value is not None else "<unknown>"
    return "" if value is None and column.type == "string" else value


def partial(obj: Obj) -> Obj:
    """Return the object's metadata as ``PartialObjectMetadata``."""
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"]}


def table(kind: Kind, objects: Iterable[Obj], metadata: Obj, *, include: str, headers: bool = True) -> Obj:
    """Render a Table. ``include`` is the request's ``includeObject``: None, Metadata or Object."""
    shown = columns_of(kind)
    rows = []
    for obj in objects:
        row: Obj = {"cells": [_cell(c, obj) for c in shown]}
        if include == "Object":
            row["object"] = obj
        elif include != "None":
            row["object"] = partial(obj)
        rows.append(row)
    definitions = [
        {"name": c.name, "type": c.type, "format": c.format, "description": c.description, "priority": c.priority}
        for c in shown
    ]
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": definitions if headers else None,
        "rows": rows,
    }
