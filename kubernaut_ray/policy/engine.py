"""The policy engine of a controller: the newest good version of a directory of policies, evaluated under deadlines.

Files are looked at again before an evaluation, at most every ``reload_interval`` seconds. A version that does not compile
changes nothing but ``problem`` and the log; the last good one stays in force. With no good version at all every
evaluation answers ``PolicyError(NoPolicy)``, and the caller fails to its safe side.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import structlog

from kubernaut_ray.crds.enums import PolicyFault
from kubernaut_ray.errors import InvalidInput
from kubernaut_ray.policy import bundle as bundles
from kubernaut_ray.policy.bundle import Bundle, Signature
from kubernaut_ray.policy.rehearsal import Rehearsal, rehearse
from kubernaut_ray.policy.verdict import Evaluation, PolicyError
from kubernaut_ray.policy.worker import Worker

MAX_INPUT_BYTES = 262_144
MAX_STUCK = 2
"""Evaluations beyond their deadline that may still run; with so many, nothing more is started."""

_log = structlog.get_logger(__name__)


class PolicyVersion:
    """One compiled bundle. Everything asked of one version is decided by the same policies."""

    def __init__(self, bundle: Bundle, entrypoints: Sequence[str]) -> None:
        self._bundle = bundle
        self._entrypoints = tuple(entrypoints)
        self._worker = Worker(bundle, self._entrypoints)
        self._release = weakref.finalize(self, self._worker.close)
        self._stuck: list[Worker] = []
        self._turn = asyncio.Lock()

    @property
    def hash(self) -> str:
        """SHA-256 of the policies, hexadecimal."""
        return self._bundle.sha256

    async def evaluate(self, entrypoint: str, input_: Mapping[str, Any], *, timeout: float) -> Evaluation:
        """Evaluate ``package/path/rule`` on a JSON-able input within ``timeout`` seconds of computing."""
        term = orjson.dumps(input_)
        if len(term) > MAX_INPUT_BYTES:
            return PolicyError(
                PolicyFault.INPUT_TOO_LARGE, f"{entrypoint}: input of {len(term)} bytes; at most {MAX_INPUT_BYTES}"
            )
        async with self._turn:
            self._stuck = [worker for worker in self._stuck if worker.alive]
            if len(self._stuck) >= MAX_STUCK:
                return PolicyError(
                    PolicyFault.OVERLOADED,
                    f"{entrypoint}: {len(self._stuck)} evaluations still run beyond their deadline; simplify the policy",
                )
            answer = await self._worker.evaluate(entrypoint, term.decode(), timeout)
            if answer is None:
                self._replace_worker()
                return PolicyError(PolicyFault.TIMEOUT, f"{entrypoint}: no verdict within {timeout:g} s")
            return answer

    def close(self) -> None:
        """Let the thread end; nothing may be evaluated any more."""
        self._release()

    def _replace_worker(self) -> None:
        self._release()
        self._stuck.append(self._worker)
        self._worker = Worker(self._bundle, self._entrypoints)
        self._release = weakref.finalize(self, self._worker.close)


class PolicyEngine:
    """Policies of one directory, for a fixed set of entry points."""

    def __init__(
        self,
        directory: Path,
        entrypoints: Sequence[str],
        *,
        reload_interval: float = 2.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._directory = directory
        self._entrypoints = tuple(entrypoints)
        self._interval = reload_interval
        self._monotonic = monotonic
        self._version: PolicyVersion | None = None
        self._signature: Signature | None = None
        self._next_look = float("-inf")
        self._reloading = asyncio.Lock()
        self.problem = ""
        """Why the files as they are now are not in force; empty when they are."""

    @property
    def hash(self) -> str:
        """SHA-256 of the policies in force; empty when there are none."""
        return self._version.hash if self._version else ""

    async def start(self) -> None:
        """Load what is there. Bad or missing policies are no error here: they show in every evaluation and in the log."""
        await self.current()

    async def current(self) -> PolicyVersion | None:
        """Return the version in force, after a look at the files when it is time; ``None`` without any good one."""
        if self._monotonic() >= self._next_look:
            async with self._reloading:
                if self._monotonic() >= self._next_look:
                    await self._reload()
                    self._next_look = self._monotonic() + self._interval
        return self._version

    async def evaluate(self, entrypoint: str, input_: Mapping[str, Any], *, timeout: float) -> Evaluation:
        """Evaluate on the version in force."""
        version = await self.current()
        if version is None:
            return self.no_policy(entrypoint)
        return await version.evaluate(entrypoint, input_, timeout=timeout)

    def no_policy(self, entrypoint: str) -> PolicyError:
        """Return the answer to everything while there is no good version."""
        return PolicyError(
            PolicyFault.NO_POLICY, f"{entrypoint}: no policy is in force ({self.problem or 'not loaded'})"
        )

    async def close(self) -> None:
        """Let the evaluating thread end."""
        if self._version is not None:
            self._version.close()
            self._version = None
        self._next_look = float("inf")

    async def _reload(self) -> None:
        try:
            found = bundles.signature(self._directory)
            if found == self._signature:
                return
            self._signature = found
            bundle = bundles.load(self._directory)
        except InvalidInput as error:
            self._refuse(str(error))
            return
        if bundle.sha256 == self.hash:
            self.problem = ""
            return
        rehearsal: Rehearsal = await asyncio.to_thread(rehearse, bundle.modules, self._entrypoints)
        if rehearsal.problems:
            self._refuse("; ".join(map(str, rehearsal.problems)))
            return
        former, self._version, self.problem = self.hash, PolicyVersion(bundle, self._entrypoints), ""
        _log.info("policies_loaded", directory=str(self._directory), policy_hash=bundle.sha256, former=former)

    def _refuse(self, problem: str) -> None:
        if problem != self.problem:
            _log.error("policies_refused", directory=str(self._directory), problem=problem, in_force=self.hash)
        self.problem = problem
