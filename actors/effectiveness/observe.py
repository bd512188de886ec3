"""What an assessment is judged by: its remediation, the target and its pods, what the signal's source and Prometheus say.

Read from the source of truth, and only what the phase needs. Somebody who does not answer, or may not be asked, is an
observation too: windows must pass even then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from string import Template
from typing import Protocol

from actors.effectiveness import alerts
from actors.effectiveness import pods as workloads
from actors.effectiveness.alerts import Heard
from actors.effectiveness.score import Measured, Pods
from actors.effectiveness.windows import windows
from kubernaut_ray import clock
from kubernaut_ray.clock import Clock
from kubernaut_ray.control.decision import Key
from kubernaut_ray.crds.base import CustomResource
from kubernaut_ray.crds.effectiveness_assessment import EffectivenessAssessment
from kubernaut_ray.crds.enums import AssessmentPhase as Phase
from kubernaut_ray.crds.remediation_request import RemediationRequest
from kubernaut_ray.crds.workflow_execution import WorkflowExecution
from kubernaut_ray.errors import InvalidInput, Retryable
from kubernaut_ray.kube import resources, targets
from kubernaut_ray.kube.client import KubeClient, Object
from kubernaut_ray.kube.errors import Forbidden, NotFound
from kubernaut_ray.kube.spec_hash import spec_hash
from kubernaut_ray.settings import EffectivenessSettings


class ActiveAlerts(Protocol):
    """Alertmanager, as far as it is asked."""

    async def alerts(self, name: str) -> tuple[Mapping[str, str], ...]: ...

    async def close(self) -> None: ...


class Samples(Protocol):
    """Prometheus, as far as it is asked."""

    async def mean(self, query: str, start: datetime, end: datetime, *, step: float) -> float | None: ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Target:
    """``found`` and ``gone`` are both false where nobody can tell, and ``problem`` says why."""

    found: bool = False
    gone: bool = False
    problem: str = "it was not looked at"
    spec_hash: str = ""
    pods: Pods | None = None
    """Read while assessing, of kinds that have pods."""


@dataclass(frozen=True, slots=True)
class Metrics:
    """``wanted`` is false where no query is configured."""

    wanted: bool = False
    measured: tuple[Measured, ...] = ()
    problem: str = "no query is configured"
    unreachable: bool = False


@dataclass(frozen=True, slots=True)
class Observed:
    assessment: EffectivenessAssessment
    execution: WorkflowExecution | None = None
    target: Target = Target()
    heard: Heard = alerts.NOTHING
    metrics: Metrics = Metrics()


class Reader:
    """Reads ``Observed`` values; ``alertmanager`` and ``prometheus`` are ``None`` where they are not configured."""

    def __init__(
        self,
        client: KubeClient,
        settings: EffectivenessSettings,
        alertmanager: ActiveAlerts | None = None,
        prometheus: Samples | None = None,
        now: Clock = clock.utcnow,
    ) -> None:
        self._client, self._settings, self._now = client, settings, now
        self._alertmanager, self._prometheus = alertmanager, prometheus

    async def observe(self, key: Key) -> Observed | None:
        """Return the assessment and what it needs, or ``None`` when it is gone."""
        try:
            found = await self._client.get(resources.EFFECTIVENESS_ASSESSMENT, key.name, key.namespace)
        except NotFound:
            return None
        assessment = EffectivenessAssessment.from_object(found)
        match assessment.status.phase:
            case Phase.PENDING | Phase.WAITING_FOR_PROPAGATION:
                return Observed(assessment, await self._execution(assessment))
            case Phase.STABILIZING:
                execution, target = await asyncio.gather(self._execution(assessment), self._target(assessment))
                return Observed(assessment, execution, target[0])
            case Phase.ASSESSING:
                return await self._assessing(assessment)
            case _:
                return Observed(assessment)

    async def _assessing(self, assessment: EffectivenessAssessment) -> Observed:
        execution, request, (target, obj), metrics = await asyncio.gather(
            self._execution(assessment), self._request(assessment), self._target(assessment), self._metrics(assessment)
        )
        names: frozenset[str] | None = None
        if obj is not None and target.found:
            target, names = await self._pods(assessment, target, obj)
        heard = await self._heard(assessment, request, names) if request is not None else alerts.NOTHING
        return Observed(assessment, execution, target, heard, metrics)

    async def _execution(self, assessment: EffectivenessAssessment) -> WorkflowExecution | None:
        name = assessment.spec.workflow_execution_ref.name
        try:
            found = await self._client.get(resources.WORKFLOW_EXECUTION, name, assessment.namespace)
        except NotFound:
            return None
        execution = WorkflowExecution.from_object(found)
        return execution if _same_remediation(execution, assessment) else None

    async def _request(self, assessment: EffectivenessAssessment) -> RemediationRequest | None:
        name = assessment.spec.remediation_request_ref.name
        try:
            return RemediationRequest.from_object(
                await self._client.get(resources.REMEDIATION_REQUEST, name, assessment.namespace)
            )
        except NotFound:
            return None

    async def _target(self, assessment: EffectivenessAssessment) -> tuple[Target, Object | None]:
        ref = assessment.spec.remediation_target
        try:
            found = await targets.read(self._client, ref)
        except NotFound:
            return Target(gone=True, problem=f"{assessment.spec.target} is gone"), None
        except Forbidden as error:
            return Target(problem=f"{assessment.spec.target} may not be read: {error}"), None
        if found is None:
            return Target(problem=f"objects of kind {ref.kind} are not looked up"), None
        # A list's items and some servers' answers leave the kind out.
        named = {**found, "kind": ref.kind}
        return Target(found=True, problem="", spec_hash=spec_hash(named)), named

    async def _pods(
        self, assessment: EffectivenessAssessment, target: Target, obj: Object
    ) -> tuple[Target, frozenset[str] | None]:
        ref, ended = assessment.spec.remediation_target, assessment.spec.execution_ended_at
        if ref.kind not in workloads.KINDS:
            return Target(True, problem=f"a {ref.kind} has no pods to be judged by", spec_hash=target.spec_hash), None
        if not workloads.reported(obj):
            problem = "no controller reports on the state of this workload"
            return Target(True, problem=problem, spec_hash=target.spec_hash), None
        if ref.kind == "Pod":
            listed: tuple[Object, ...] = (obj,)
        else:
            chosen = workloads.selector(obj)
            if not chosen:
                return Target(True, problem="it selects its pods by no label", spec_hash=target.spec_hash), None
            try:
                listed = tuple((await self._client.list(resources.POD, ref.namespace, labels=chosen)).items)
            except Forbidden as error:
                return Target(True, problem=f"its pods may not be read: {error}", spec_hash=target.spec_hash), None
        seen = workloads.read(obj, listed, ended)
        names = frozenset(pod["metadata"]["name"] for pod in listed)
        return Target(True, problem="", spec_hash=target.spec_hash, pods=seen), names

    async def _heard(
        self, assessment: EffectivenessAssessment, request: RemediationRequest, pods: frozenset[str] | None
    ) -> Heard:
        said = alerts.told(request, windows(assessment, self._now()).stabilized)
        if self._alertmanager is None or not alerts.from_alertmanager(request):
            return said
        try:
            held = await self._alertmanager.alerts(assessment.spec.signal_name)
        except Retryable as error:
            return said if said.signal is not alerts.Signal.UNKNOWN else Heard(details=str(error), unreachable=True)
        return alerts.active(request, held, pods)

    async def _metrics(self, assessment: EffectivenessAssessment) -> Metrics:
        queries, settings, spec = self._settings.queries, self._settings, assessment.spec
        if self._prometheus is None or not queries:
            return Metrics()
        prometheus, now, ref = self._prometheus, self._now(), spec.remediation_target
        began = spec.execution_started_at or spec.execution_ended_at
        ranges = (
            (spec.remediation_created_at - timedelta(seconds=settings.lookback), began),
            (min(windows(assessment, now).stabilized, now), now),
        )
        try:
            means = await asyncio.gather(
                *(
                    prometheus.mean(
                        Template(one.query).safe_substitute(namespace=ref.namespace, kind=ref.kind, name=ref.name),
                        start,
                        end,
                        step=settings.scrape_interval,
                    )
                    for one in queries.values()
                    for start, end in ranges
                )
            )
        except Retryable as error:
            return Metrics(wanted=True, problem=str(error), unreachable=True)
        except InvalidInput as error:
            return Metrics(wanted=True, problem=str(error))
        measured = tuple(
            Measured(name, means[2 * place], means[2 * place + 1], queries[name].higher_is_better)
            for place, name in enumerate(queries)
        )
        return Metrics(wanted=True, measured=measured, problem="")


def _same_remediation(child: CustomResource, assessment: EffectivenessAssessment) -> bool:
    owner = assessment.spec.remediation_request_ref.uid
    return any(ref.controller and ref.uid == owner for ref in child.metadata.owner_references)
