"""The catalog as a tool of a language model: what it is asked, in which words, and what a model reads of a workflow.

Shared by the investigations of HolmesGPT-API and by Data Storage's MCP server, so that a model asks the same question in the
same way wherever it runs. A search's score is told as ``relevance``; it is never a confidence.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from kubernaut_ray.contracts.catalog import SearchHit, Workflow
from kubernaut_ray.contracts.signal_words import canonical

SEARCH = "search_workflow_catalog"
SEARCH_DESCRIPTION = (
    "Find remediation workflows for your root cause. Mandatory before you answer. The order is by relevance; "
    "the relevance is no confidence."
)
GET = "get_workflow"
GET_DESCRIPTION = "Read one workflow of the catalog with its parameters."
TARGET_PARAMETERS = "TARGET_RESOURCE_"
"""Parameters that begin so are filled from the resolved target and never by a model."""


class Arguments(BaseModel):
    """The base of every tool's arguments: unknown ones are refused; attribute docstrings become descriptions."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Resource(Arguments):
    """A Kubernetes object."""

    kind: str
    """For example Deployment, Pod, Node, PersistentVolumeClaim."""
    name: str
    namespace: str = ""
    """Empty for cluster-scoped kinds."""


class RcaResource(Resource):
    """The resource that your root cause is about, and the signal type that your investigation found."""

    signal_type: str = ""
    """For example OOMKilled, CrashLoopBackOff, ImagePullBackOff, NodeNotReady."""


class CatalogQuery(Arguments):
    query: Annotated[str, Field(min_length=1, max_length=1000)]
    """'<signal_type> <severity>' and a few words for the remedy, for example 'OOMKilled critical increase memory limit'."""
    rca_resource: RcaResource
    top_k: Annotated[int, Field(ge=1, le=10)] = 3


def signal_types(asked: str) -> tuple[str, ...]:
    """Return the signal types to search for, one after the other until something is found.

    Workflows are labelled with signal types in one spelling or another: the canonical word is tried first, then the word as
    given, and then none, so that an unusual word does not hide what fits.
    """
    asked = asked.strip()
    return tuple(dict.fromkeys((canonical(asked), asked, "")))


def hit_brief(hit: SearchHit) -> dict[str, Any]:
    return {"rank": hit.rank, "relevance": round(hit.score, 3), **workflow_brief(hit.workflow)}


def workflow_brief(workflow: Workflow) -> dict[str, Any]:
    """Return what a model needs to judge and use a workflow."""
    return {
        "workflow_id": workflow.workflow_id,
        "name": workflow.workflow_name,
        "version": workflow.version,
        "title": workflow.title,
        "action_type": workflow.action_type,
        **workflow.description.model_dump(exclude_defaults=True),
        "labels": workflow.labels.model_dump(mode="json", exclude_defaults=True),
        "parameters": [
            p.model_dump(mode="json", exclude_defaults=True)
            for p in workflow.parameters
            if not p.name.startswith(TARGET_PARAMETERS)
        ],
    }
