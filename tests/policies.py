"""The shipped Rego policies, evaluated where they are asked: no thread, no deadline, each question answered once."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import orjson

from kubernaut_ray import shipped
from kubernaut_ray.policy import bundle
from kubernaut_ray.policy.check import ENTRYPOINTS
from kubernaut_ray.policy.interpreter import Compiled
from kubernaut_ray.policy.verdict import Evaluation, PolicyError


@cache
def _compiled() -> tuple[str, Compiled]:
    policies = bundle.load(shipped.directory() / "policies")
    return policies.sha256, Compiled(policies.modules, ENTRYPOINTS)


@cache
def _evaluated(entrypoint: str, term: bytes) -> Evaluation:
    return _compiled()[1].evaluate(entrypoint, term.decode())


class Policies:
    """A ``PolicyEngine`` and its one version."""

    problem = ""

    @property
    def hash(self) -> str:
        return _compiled()[0]

    async def start(self) -> None:
        """They are compiled when they are first asked."""

    async def current(self) -> Policies:
        return self

    async def evaluate(self, entrypoint: str, input_: Mapping[str, Any], *, timeout: float) -> Evaluation:
        return _evaluated(entrypoint, orjson.dumps(input_))

    def no_policy(self, entrypoint: str) -> PolicyError:
        raise NotImplementedError

    async def close(self) -> None:
        """Nothing is open."""
