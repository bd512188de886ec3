"""The generated schemas of the built-in kinds."""

from __future__ import annotations

from kubernaut_ray.kube.embedded import builtin_schemas
from kubernaut_ray.kube.embedded.builtins import builtin_kinds


def test_the_file_is_what_the_installed_client_says() -> None:
    """Stale? Run ``python -m kubernaut_ray.kube.embedded.builtin_schemas``."""
    assert builtin_schemas.generate() == builtin_schemas.load()


def test_every_builtin_kind_has_a_schema_that_compiles() -> None:
    """And each judges an empty object without falling over."""
    for kind in builtin_kinds():
        obj = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": "n"}}
        assert kind.rules.prune(obj) == [], kind.kind
        kind.rules.problems(obj, None)
        assert kind.rules.openapi()["properties"]["metadata"]
