"""What a decision leaves behind: the record of who decided, and the grant, the single-use leave to run one thing.

Both are signed. A record is made by the admission webhook, which alone knows who the API server authenticated; a grant by
the approval controller once enough records are there. ``kubernaut_ray.contracts.grants`` signs and checks them.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from kubernaut_ray.crds.base import Model, Name, ShortText, Text, Timestamp
from kubernaut_ray.crds.enums import ApprovalDecision
from kubernaut_ray.crds.shared import Parameters, WorkflowRef


class DecisionRecord(Model):
    """One person's decision."""

    decision: ApprovalDecision
    by: ShortText
    """The user name under which the API server authenticated the request."""
    at: Timestamp
    via: ShortText = ""
    message: Text = ""
    subject: ShortText
    """Digest of the workflow and the parameters that were decided on."""
    key_id: ShortText = ""
    signature: ShortText = ""


class WorkflowOverride(Model):
    """What the approver wants to run instead. Without a ``workflowName``: the recommended workflow, with these parameters."""

    workflow_name: Name = ""
    version: Name = ""
    """The newest active version when empty."""
    parameters: Parameters = Field(default_factory=dict)
    rationale: Text = ""
    resolved: WorkflowRef | None = None
    """The catalog's workflow, pinned, as it was when the override was written; the admission webhook fills it in."""


class Grant(Model):
    """Leave to run exactly this, once."""

    request: Name
    request_uid: Name
    remediation_uid: Name
    execution: Name
    """The one WorkflowExecution that may use it."""
    workflow_id: Name
    workflow_image: ShortText
    """Image and digest."""
    parameters_digest: ShortText
    target_resource: ShortText
    target_uid: Name = ""
    """UID of the target when leave was asked for; empty where it could not be read."""
    policy_hash: ShortText = ""
    approved_by: Annotated[tuple[ShortText, ...], Field(max_length=20)] = ()
    issued_at: Timestamp
    expires_at: Timestamp
    key_id: ShortText = ""
    signature: ShortText = ""
