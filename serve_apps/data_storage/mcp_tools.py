"""The tools of the MCP server: what they take, what they answer, and how they read the catalog. Knows nothing of MCP.

All are read-only. The search is the one of REST and of investigations (``catalog_tools``), with the same arguments, the same
words and the same order of attempts.
"""

from __future__ import annotations

import difflib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from catalog import explain
from kubernaut_ray.contracts import catalog_tools
from kubernaut_ray.contracts.base import Contract
from kubernaut_ray.contracts.catalog import (
    ScoreBreakdown,
    SearchFilters,
    SearchRequest,
    Workflow,
    WorkflowDescription,
    WorkflowLabels,
    WorkflowParameter,
)
from kubernaut_ray.contracts.catalog_tools import Arguments, CatalogQuery
from kubernaut_ray.errors import InvalidInput
from serve_apps.data_storage import searching
from serve_apps.data_storage.deps import Deps

EXAMPLES = 3
"""So many descriptions stand for an action."""

Offset = Annotated[int, Field(ge=0, le=1_000_000)]
Page = Annotated[int, Field(ge=1, le=100)]


class Facts(Arguments):
    """What is known of the incident. Leave out what you do not know: a wrong fact hides the right workflow."""

    severity: str = ""
    """critical, high, medium, low, warning or info."""
    environment: str = ""
    """production, staging, development or test."""
    priority: str = ""
    """P0 to P3."""
    custom_labels: dict[str, tuple[str, ...]] = {}
    detected_labels: dict[str, bool | str] = {}
    """What was detected on this very resource or its owner, for example {"gitOpsManaged": true, "gitOpsTool": "argocd"}."""


class Search(CatalogQuery):
    """The arguments of a search in an investigation, and the facts that an investigation would add by itself."""

    filters: Facts = Facts()
    remediation_id: Annotated[str, Field(max_length=255)] = ""
    """The RemediationRequest that this is for; only for the audit trail."""


class ListActions(Arguments):
    limit: Page = 50
    offset: Offset = 0


class ListWorkflows(Arguments):
    action_type: str = ""
    """Only workflows that do this, as list_available_actions names it."""
    component: str = ""
    """Only those for this kind of target, for example Deployment."""
    filters: Facts = Facts()
    limit: Page = 20
    offset: Offset = 0


class Get(Arguments):
    """Name the workflow by its id, or by its name and, where it is not the newest, its version."""

    workflow_id: str = ""
    name: str = ""
    version: str = ""
    include_content: bool = False
    """Also return workflow-schema.yaml as it is in the bundle."""


class Brief(WorkflowDescription):
    workflow_id: str
    name: str
    version: str
    title: str = ""
    action_type: str
    labels: WorkflowLabels


class Hit(Brief):
    rank: int
    relevance: float
    """Orders the answer; it is no confidence."""
    score_breakdown: ScoreBreakdown
    parameters: tuple[WorkflowParameter, ...] = ()


class Found(Contract):
    workflows: tuple[Hit, ...]
    signal_type: str
    """The signal type that was searched for at last; empty when none was, because nothing is labelled with yours."""
    total_matched: int
    """How many workflows the facts leave."""
    hint: str = ""


class Use(Contract):
    what: str
    when_to_use: str = ""


class Action(Contract):
    action_type: str
    workflows: int
    """How many workflows do this."""
    uses: tuple[Use, ...]


class Actions(Contract):
    actions: tuple[Action, ...]
    total: int
    has_more: bool


class Listed(Brief):
    total_executions: int = 0
    successful_executions: int = 0


class Listing(Contract):
    workflows: tuple[Listed, ...]
    total: int
    has_more: bool


class Detail(Brief):
    status: str
    is_latest_version: bool
    container_image: str
    """With its digest: what is executed."""
    parameters: tuple[WorkflowParameter, ...] = ()
    """Those that begin with TARGET_RESOURCE_ are filled from the target; give the others."""
    total_executions: int = 0
    successful_executions: int = 0
    success_rate: float | None = None
    """None when it was never executed."""
    content: str = ""


@dataclass(frozen=True, slots=True)
class Tool:
    """``run`` takes a validated ``arguments`` value."""

    name: str
    title: str
    description: str
    arguments: type[Arguments]
    answer: type[Contract]
    run: Callable[[Deps, Any], Awaitable[Contract]]


async def search(deps: Deps, asked: Search) -> Found:
    """Search by one spelling of the signal type after the other."""
    attempts = [
        SearchRequest(
            query=asked.query,
            filters=_filters(asked.filters, signal_type=signal_type, component=asked.rca_resource.kind),
            top_k=asked.top_k,
            remediation_id=asked.remediation_id,
        )
        for signal_type in catalog_tools.signal_types(asked.rca_resource.signal_type)
    ]
    answer, last = await searching.search(deps, *attempts)
    found = answer.response()
    return Found(
        workflows=tuple(
            Hit(
                rank=hit.rank,
                relevance=round(hit.score, 3),
                score_breakdown=hit.score_breakdown,
                parameters=_askable(hit.workflow),
                **_brief(hit.workflow),
            )
            for hit in found.hits
        ),
        signal_type=last.filters.signal_type,
        total_matched=found.total_matched,
        hint=""
        if found.hits
        else "Nothing fits these facts. Leave out those that you are not sure of, or hand over to a person.",
    )


async def actions(deps: Deps, asked: ListActions) -> Actions:
    """Group what is offered by what it does."""
    snapshot = await searching.snapshot_of(deps)
    offered: dict[str, list[Workflow]] = {}
    for record in snapshot.index.records:
        if explain.is_offered(record):
            offered.setdefault(record.action_type, []).append(record)
    page = sorted(offered)[asked.offset : asked.offset + asked.limit]
    return Actions(
        actions=tuple(
            Action(action_type=name, workflows=len(offered[name]), uses=_uses(offered[name])) for name in page
        ),
        total=len(offered),
        has_more=asked.offset + len(page) < len(offered),
    )


async def listing(deps: Deps, asked: ListWorkflows) -> Listing:
    """List what is offered and fits, by name."""
    index = (await searching.snapshot_of(deps)).index
    mask = index.admitted(_filters(asked.filters, component=asked.component), include_disabled=False)
    fitting = sorted(
        (index.records[n] for n in np.flatnonzero(mask).tolist()),
        key=lambda record: (record.workflow_name, record.version),
    )
    if asked.action_type:
        fitting = [record for record in fitting if record.action_type.lower() == asked.action_type.lower()]
    page = fitting[asked.offset : asked.offset + asked.limit]
    return Listing(
        workflows=tuple(
            Listed(total_executions=r.total_executions, successful_executions=r.successful_executions, **_brief(r))
            for r in page
        ),
        total=len(fitting),
        has_more=asked.offset + len(page) < len(fitting),
    )


async def get(deps: Deps, asked: Get) -> Detail:
    """Read one workflow as the catalog holds it now. Raises ``InvalidInput`` for one that it does not hold."""
    wanted = asked.workflow_id or asked.name
    if not wanted:
        raise InvalidInput("say which workflow: give workflow_id, or name (and version)")
    records = (await searching.snapshot_of(deps)).index.records
    position = explain.position_of(records, wanted, asked.version)
    if position is None:
        near = difflib.get_close_matches(wanted, {name.workflow_name for name in records.names()})
        named = f"{wanted} {asked.version}".strip()
        hint = f"similar names: {', '.join(near)}" if near else "list_workflows says which there are"
        raise InvalidInput(f"the catalog holds no workflow {named}; {hint}")
    record = Workflow.model_validate_json(await deps.catalog.workflow(records[position].workflow_id))
    total, good = record.total_executions, record.successful_executions
    return Detail(
        status=record.status.value,
        is_latest_version=record.is_latest_version,
        container_image=record.pinned_image,
        parameters=_askable(record),
        total_executions=total,
        successful_executions=good,
        success_rate=round(good / total, 3) if total else None,
        content=record.content if asked.include_content else "",
        **_brief(record),
    )


TOOLS = (
    Tool(
        catalog_tools.SEARCH,
        "Search the workflow catalog",
        catalog_tools.SEARCH_DESCRIPTION,
        Search,
        Found,
        search,
    ),
    Tool(
        "list_available_actions",
        "List remediation actions",
        "List the kinds of remediation that the catalog offers, with what each does and when to use it.",
        ListActions,
        Actions,
        actions,
    ),
    Tool(
        "list_workflows",
        "List workflows",
        "List the workflows on offer, by action type or by what they are for, with their labels and how often they succeeded.",
        ListWorkflows,
        Listing,
        listing,
    ),
    Tool(catalog_tools.GET, "Read a workflow", catalog_tools.GET_DESCRIPTION, Get, Detail, get),
)
BY_NAME: Mapping[str, Tool] = {tool.name: tool for tool in TOOLS}


def _filters(facts: Facts, *, signal_type: str = "", component: str = "") -> SearchFilters:
    return SearchFilters(signal_type=signal_type, component=component, **facts.model_dump())


def _brief(workflow: Workflow) -> dict[str, Any]:
    return {
        "workflow_id": workflow.workflow_id,
        "name": workflow.workflow_name,
        "version": workflow.version,
        "title": workflow.title,
        "action_type": workflow.action_type,
        "labels": workflow.labels,
        **workflow.description.model_dump(),
    }


def _askable(workflow: Workflow) -> tuple[WorkflowParameter, ...]:
    return tuple(p for p in workflow.parameters if not p.name.startswith(catalog_tools.TARGET_PARAMETERS))


def _uses(records: list[Workflow]) -> tuple[Use, ...]:
    found = {(r.description.what, r.description.when_to_use) for r in records}
    return tuple(Use(what=what, when_to_use=when) for what, when in sorted(found)[:EXAMPLES])
