"""The committed OpenAPI document: what the routes say, and all that a client needs to know."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from kubernaut_ray import shipped
from serve_apps.data_storage.app import describe
from serve_apps.data_storage.openapi import FILE, document, main, render
from serve_apps.problem import MEDIA_TYPE

DOCUMENT = document(describe())
OPERATIONS = [
    pytest.param(operation, id=f"{method} {path}")
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
]


def test_committed_file_is_what_the_routes_say(tmp_path):
    """``manifests/openapi`` is generated; run ``python -m serve_apps.data_storage.openapi`` after changing a route."""
    assert main(["--check"]) == 0
    file = tmp_path / "made.json"
    assert (
        main(["--check", "--file", str(file)]),
        main(["--file", str(file)]),
        main(["--check", "--file", str(file)]),
    ) == (1, 0, 0)
    assert file.read_text() == (shipped.directory() / FILE).read_text() == render(describe())
    assert "Do not edit" in json.loads(file.read_text())["x-generated"]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_is_described(operation):
    """A name, a description, a typed answer, and problems where it may refuse."""
    assert operation["operationId"]
    assert operation["description"]
    good = [answer for status, answer in operation["responses"].items() if status.startswith("2")]
    assert all(content.get("schema") for answer in good for content in answer.get("content", {}).values())
    assert "422" not in operation["responses"]
    if operation["tags"] != ["health"]:
        for status in ("400", "401", "403", "503", "default"):
            assert MEDIA_TYPE in operation["responses"][status]["content"]


def test_names_are_unique():
    """Clients are made from operation ids."""
    names = [p.values[0]["operationId"] for p in OPERATIONS]
    assert len(names) == len(set(names)) >= 20


def test_every_reference_leads_somewhere():
    """No schema is referred to that is not there, and none is there for nothing."""
    referred: set[str] = set()

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            if "$ref" in node:
                referred.add(node["$ref"])
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(DOCUMENT)
    assert {f"#/components/schemas/{name}" for name in DOCUMENT["components"]["schemas"]} == referred


def test_it_is_openapi_3_1():
    """The document keeps to the specification, by the specification's own schemas."""
    assert DOCUMENT["openapi"].startswith("3.1")
    assert list(OpenAPIV31SpecValidator(DOCUMENT).iter_errors()) == []
