"""Every enumerated word of the system, once: models, schemas, controllers and parsers all take them from here."""

from __future__ import annotations

from enum import StrEnum


class Severity(StrEnum):
    """The one internal severity vocabulary; raw severities are mapped to it by policy (signal processing)."""

    CRITICAL = "critical"
    HIGH = "high"
    WARNING = "warning"
    INFO = "info"
    UNKNOWN = "unknown"


class RcaSeverity(StrEnum):
    """How bad the investigated cause is, as the LLM contract and the workflow catalog say it."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"
    UNKNOWN = "unknown"


class Environment(StrEnum):
    PRODUCTION = "production"
    STAGING = "staging"
    DEVELOPMENT = "development"
    TEST = "test"
    UNKNOWN = "unknown"


class Priority(StrEnum):
    P0 = "P0"
    P1 = "P1"
    P2 = "P2"
    P3 = "P3"


class TargetType(StrEnum):
    KUBERNETES = "kubernetes"
    AWS = "aws"
    AZURE = "azure"
    GCP = "gcp"
    DATADOG = "datadog"


class StormType(StrEnum):
    RATE = "rate"
    PATTERN = "pattern"


class RemediationPhase(StrEnum):
    PENDING = "Pending"
    PROCESSING = "Processing"
    ANALYZING = "Analyzing"
    AWAITING_APPROVAL = "AwaitingApproval"
    EXECUTING = "Executing"
    VERIFYING = "Verifying"
    BLOCKED = "Blocked"
    COMPLETED = "Completed"
    FAILED = "Failed"
    TIMED_OUT = "TimedOut"
    SKIPPED = "Skipped"
    CANCELLED = "Cancelled"

    @property
    def terminal(self) -> bool:
        return self in _TERMINAL_REMEDIATION


_TERMINAL_REMEDIATION = frozenset(
    {
        RemediationPhase.COMPLETED,
        RemediationPhase.FAILED,
        RemediationPhase.TIMED_OUT,
        RemediationPhase.SKIPPED,
        RemediationPhase.CANCELLED,
    }
)


class BlockReason(StrEnum):
    UNMANAGED_RESOURCE = "UnmanagedResource"
    CONSECUTIVE_FAILURES = "ConsecutiveFailures"
    DUPLICATE_IN_PROGRESS = "DuplicateInProgress"
    RESOURCE_BUSY = "ResourceBusy"
    RECENTLY_REMEDIATED = "RecentlyRemediated"
    EXPONENTIAL_BACKOFF = "ExponentialBackoff"
    INEFFECTIVE_CHAIN = "IneffectiveChain"


class SkipReason(StrEnum):
    RESOURCE_BUSY = "ResourceBusy"
    RECENTLY_REMEDIATED = "RecentlyRemediated"
    EXPONENTIAL_BACKOFF = "ExponentialBackoff"
    EXHAUSTED_RETRIES = "ExhaustedRetries"
    PREVIOUS_EXECUTION_FAILED = "PreviousExecutionFailed"
    INEFFECTIVE_CHAIN = "IneffectiveChain"


class FailurePhase(StrEnum):
    CONFIGURATION = "Configuration"
    SIGNAL_PROCESSING = "SignalProcessing"
    AI_ANALYSIS = "AIAnalysis"
    APPROVAL = "Approval"
    WORKFLOW_EXECUTION = "WorkflowExecution"
    BLOCKED = "Blocked"
    DEDUPLICATED = "Deduplicated"


class Outcome(StrEnum):
    REMEDIATED = "Remediated"
    NO_ACTION_REQUIRED = "NoActionRequired"
    MANUAL_REVIEW_REQUIRED = "ManualReviewRequired"
    INCONCLUSIVE = "Inconclusive"
    DRY_RUN = "DryRun"
    BLOCKED = "Blocked"


class DeliveryState(StrEnum):
    """``RemediationRequest.status.notificationStatus``."""

    PENDING = "Pending"
    IN_PROGRESS = "InProgress"
    SENT = "Sent"
    FAILED = "Failed"
    CANCELLED = "Cancelled"


class SignalOutcome(StrEnum):
    """What became of one signal at the gateway."""

    CREATED = "created"
    DUPLICATE = "duplicate"
    ACCEPTED = "accepted"
    """Folded into the incident of something larger: a storm, or a node that was lost."""
    RESOLVED = "resolved"
    SILENCED = "silenced"
    REJECTED = "rejected"
    FAILED = "failed"


class AdmissionReason(StrEnum):
    """Why the gateway did with a signal what it did."""

    NEW_INCIDENT = "NewIncident"
    IN_PROGRESS = "InProgress"
    PART_OF_STORM = "PartOfStorm"
    PART_OF_NODE_LOSS = "PartOfNodeLoss"
    SILENCED = "Silenced"
    AWAITING_REVIEW = "AwaitingReview"
    HELD = "Held"
    RESOLUTION_RECORDED = "ResolutionRecorded"
    NOTHING_OPEN = "NothingOpen"
    UNMANAGED_RESOURCE = "UnmanagedResource"
    NOT_A_SIGNAL = "NotASignal"
    MALFORMED = "Malformed"
    REFUSED = "Refused"
    UNAVAILABLE = "Unavailable"


class SilenceState(StrEnum):
    """Where a silence stands, in Alertmanager's words; one outside its windows is pending."""

    PENDING = "pending"
    ACTIVE = "active"
    EXPIRED = "expired"


class SignalProcessingPhase(StrEnum):
    PENDING = "Pending"
    ENRICHING = "Enriching"
    CLASSIFYING = "Classifying"
    CATEGORIZING = "Categorizing"
    COMPLETED = "Completed"
    FAILED = "Failed"


class EnrichmentReason(StrEnum):
    """Reasons of SignalProcessing's condition ``EnrichmentComplete``."""

    ENRICHMENT_SUCCEEDED = "EnrichmentSucceeded"
    ENRICHMENT_FAILED = "EnrichmentFailed"
    API_TIMEOUT = "K8sAPITimeout"
    RBAC_DENIED = "RBACDenied"
    DEGRADED_MODE = "DegradedMode"


class ClassificationReason(StrEnum):
    """Reasons of SignalProcessing's condition ``ClassificationComplete``."""

    SUCCEEDED = "ClassificationSucceeded"
    POLICY_ERROR = "RegoEvaluationError"
    POLICY_NOT_FOUND = "PolicyNotFound"
    INVALID_NAMESPACE_LABELS = "InvalidNamespaceLabels"
    SEVERITY_FALLBACK = "SeverityFallback"


class CategorizationReason(StrEnum):
    """Reasons of SignalProcessing's condition ``CategorizationComplete``."""

    SUCCEEDED = "CategorizationSucceeded"
    FAILED = "CategorizationFailed"
    INVALID_BUSINESS_UNIT = "InvalidBusinessUnit"
    INVALID_SLA_TIER = "InvalidSLATier"


class ProcessingReason(StrEnum):
    """Reasons of SignalProcessing's condition ``ProcessingComplete``."""

    SUCCEEDED = "ProcessingSucceeded"
    FAILED = "ProcessingFailed"


class EnvironmentSource(StrEnum):
    NAMESPACE_LABELS = "namespace-labels"
    REGO_INFERENCE = "rego-inference"
    DEFAULT = "default"


class PrioritySource(StrEnum):
    REGO_POLICY = "rego-policy"
    SEVERITY_FALLBACK = "severity-fallback"
    DEFAULT = "default"


class Criticality(StrEnum):
    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


class SlaTier(StrEnum):
    PLATINUM = "platinum"
    GOLD = "gold"
    SILVER = "silver"
    BRONZE = "bronze"


class Detection(StrEnum):
    """A detected label; one named in ``failedDetections`` is unknown, not false."""

    GITOPS_MANAGED = "gitOpsManaged"
    PDB_PROTECTED = "pdbProtected"
    HPA_ENABLED = "hpaEnabled"
    STATEFUL = "stateful"
    HELM_MANAGED = "helmManaged"
    NETWORK_ISOLATED = "networkIsolated"
    SERVICE_MESH = "serviceMesh"


class AnalysisType(StrEnum):
    INVESTIGATION = "investigation"
    ROOT_CAUSE = "root-cause"
    WORKFLOW_SELECTION = "workflow-selection"


class AIAnalysisPhase(StrEnum):
    PENDING = "Pending"
    INVESTIGATING = "Investigating"
    ANALYZING = "Analyzing"
    COMPLETED = "Completed"
    FAILED = "Failed"


class AIAnalysisReason(StrEnum):
    """``AIAnalysis.status.reason``."""

    WORKFLOW_SELECTED = "WorkflowSelected"
    WORKFLOW_NOT_NEEDED = "WorkflowNotNeeded"
    WORKFLOW_RESOLUTION_FAILED = "WorkflowResolutionFailed"
    NO_WORKFLOW_SELECTED = "NoWorkflowSelected"
    INVALID_SPEC = "InvalidSpec"
    API_ERROR = "APIError"
    TIMED_OUT = "TimedOut"


class AIAnalysisSubReason(StrEnum):
    WORKFLOW_NOT_FOUND = "WorkflowNotFound"
    IMAGE_MISMATCH = "ImageMismatch"
    PARAMETER_VALIDATION_FAILED = "ParameterValidationFailed"
    NO_MATCHING_WORKFLOWS = "NoMatchingWorkflows"
    LOW_CONFIDENCE = "LowConfidence"
    LLM_PARSING_ERROR = "LLMParsingError"
    VALIDATION_ERROR = "ValidationError"
    TRANSIENT_ERROR = "TransientError"
    PERMANENT_ERROR = "PermanentError"
    MAX_RETRIES_EXCEEDED = "MaxRetriesExceeded"
    INVESTIGATION_INCONCLUSIVE = "InvestigationInconclusive"
    PROBLEM_RESOLVED = "ProblemResolved"
    NO_RECOVERY_STRATEGY = "NoRecoveryStrategy"


class ConfidenceLevel(StrEnum):
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"

    @staticmethod
    def of(confidence: float) -> ConfidenceLevel:
        """≥ 0.8 high, ≥ 0.6 medium, else low."""
        if confidence >= 0.8:
            return ConfidenceLevel.HIGH
        return ConfidenceLevel.MEDIUM if confidence >= 0.6 else ConfidenceLevel.LOW


class PolicyDecision(StrEnum):
    APPROVED = "approved"
    MANUAL_REVIEW_REQUIRED = "manual_review_required"
    DENIED = "denied"
    DEGRADED_MODE = "degraded_mode"


class PolicyFault(StrEnum):
    """Why a policy gave no verdict. None of them is a "no": the caller falls back to its safe side."""

    NO_POLICY = "NoPolicy"
    COMPILE = "DoesNotCompile"
    CONFLICT = "ConflictingRules"
    EVALUATION = "EvaluationFailed"
    TIMEOUT = "TimedOut"
    INPUT_TOO_LARGE = "InputTooLarge"
    OUTPUT_TOO_LARGE = "OutputTooLarge"
    OVERLOADED = "Overloaded"


class HumanReviewReason(StrEnum):
    """Why an investigation hands over to a person (HolmesGPT-API answer)."""

    WORKFLOW_NOT_FOUND = "workflow_not_found"
    IMAGE_MISMATCH = "image_mismatch"
    PARAMETER_VALIDATION_FAILED = "parameter_validation_failed"
    NO_MATCHING_WORKFLOWS = "no_matching_workflows"
    LOW_CONFIDENCE = "low_confidence"
    LLM_PARSING_ERROR = "llm_parsing_error"
    INVESTIGATION_INCONCLUSIVE = "investigation_inconclusive"


class ApprovalDecision(StrEnum):
    NONE = ""
    APPROVED = "Approved"
    REJECTED = "Rejected"
    EXPIRED = "Expired"


class WorkflowExecutionPhase(StrEnum):
    PENDING = "Pending"
    RUNNING = "Running"
    COMPLETED = "Completed"
    FAILED = "Failed"


class ExecutionFailureReason(StrEnum):
    OOM_KILLED = "OOMKilled"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    FORBIDDEN = "Forbidden"
    RESOURCE_EXHAUSTED = "ResourceExhausted"
    CONFIGURATION_ERROR = "ConfigurationError"
    IMAGE_PULL_BACK_OFF = "ImagePullBackOff"
    TASK_FAILED = "TaskFailed"
    APPROVAL_INVALID = "ApprovalInvalid"
    """The leave to run it is missing, used up, out of date, or for something else."""
    UNKNOWN = "Unknown"


class AssessmentPhase(StrEnum):
    """``EffectivenessAssessment.status.phase``."""

    PENDING = "Pending"
    WAITING_FOR_PROPAGATION = "WaitingForPropagation"
    STABILIZING = "Stabilizing"
    ASSESSING = "Assessing"
    COMPLETED = "Completed"
    FAILED = "Failed"

    @property
    def terminal(self) -> bool:
        return self in {AssessmentPhase.COMPLETED, AssessmentPhase.FAILED}


class AssessmentReason(StrEnum):
    """How an assessment ended."""

    FULL = "Full"
    """Everything that is looked at has a score."""
    PARTIAL = "Partial"
    NO_EXECUTION = "NoExecution"
    """There is no execution whose effect could be judged."""
    METRICS_TIMED_OUT = "MetricsTimedOut"
    EXPIRED = "Expired"
    """Its time was up before anything could be judged."""
    SPEC_DRIFT = "SpecDrift"
    """Somebody changed the target meanwhile: what is seen is not the workflow's effect."""
    ALERT_DECAY_TIMEOUT = "AlertDecayTimeout"
    """The target was well and the signal did not end."""
    UNRECOVERABLE = "Unrecoverable"
    """The assessment contradicts itself."""


class TrustLevel(StrEnum):
    """How far a workflow is trusted in an environment, by how its executions there turned out."""

    SUGGEST = "suggest"
    """It failed too often: a person decides, always."""
    APPROVE = "approve"
    """Nothing speaks against it and too little for it: the policy's other rules decide. Where everything begins."""
    AUTO = "auto"
    """It has earned to run by itself, where nothing else asks for a person."""
    UNKNOWN = "unknown"
    """Its record cannot be read now."""


class ClearMethod(StrEnum):
    ANNOTATION = "Annotation"
    API_ENDPOINT = "APIEndpoint"
    STATUS_FIELD = "StatusField"


class NotificationType(StrEnum):
    ESCALATION = "escalation"
    SIMPLE = "simple"
    STATUS_UPDATE = "status-update"
    APPROVAL = "approval"
    MANUAL_REVIEW = "manual-review"
    COMPLETION = "completion"


class NotificationPriority(StrEnum):
    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


class Channel(StrEnum):
    EMAIL = "email"
    SLACK = "slack"
    TEAMS = "teams"
    SMS = "sms"
    WEBHOOK = "webhook"
    PAGERDUTY = "pagerduty"
    CONSOLE = "console"
    FILE = "file"
    LOG = "log"


class NotificationPhase(StrEnum):
    PENDING = "Pending"
    SENDING = "Sending"
    RETRYING = "Retrying"
    SENT = "Sent"
    PARTIALLY_SENT = "PartiallySent"
    FAILED = "Failed"


class NotificationReason(StrEnum):
    ALL_DELIVERIES_SUCCEEDED = "AllDeliveriesSucceeded"
    PARTIAL_DELIVERY_SUCCESS = "PartialDeliverySuccess"
    ALL_DELIVERIES_FAILED = "AllDeliveriesFailed"
    NO_CHANNELS_RESOLVED = "NoChannelsResolved"
    PARTIAL_FAILURE_RETRYING = "PartialFailureRetrying"
    MAX_RETRIES_EXHAUSTED = "MaxRetriesExhausted"


class AttemptStatus(StrEnum):
    """A delivery attempt: ``sending`` is the intent, written before anything leaves; ``unknown`` an intent whose end nobody saw."""

    SENDING = "sending"
    SUCCESS = "success"
    FAILED = "failed"
    TIMEOUT = "timeout"
    INVALID = "invalid"
    UNKNOWN = "unknown"


class WorkflowStatus(StrEnum):
    """Where a catalog workflow stands."""

    ACTIVE = "active"
    DISABLED = "disabled"
    DEPRECATED = "deprecated"
    ARCHIVED = "archived"
    SUPERSEDED = "superseded"


class RegistrationPhase(StrEnum):
    """A RemediationWorkflow: ``Suspended`` is registered and not offered, whoever disabled it."""

    PENDING = "Pending"
    REGISTERED = "Registered"
    SUSPENDED = "Suspended"
    REJECTED = "Rejected"


class RegistrationReason(StrEnum):
    """Why a RemediationWorkflow stands where it stands; the first five are registered, the last three may pass by themselves."""

    REGISTERED = "Registered"
    NOT_LATEST = "NotLatest"
    SUSPENDED = "Suspended"
    DISABLED_IN_CATALOG = "DisabledInCatalog"
    RETIRED_IN_CATALOG = "RetiredInCatalog"
    PENDING = "Pending"
    INVALID_SCHEMA = "InvalidSchema"
    SPEC_DIFFERS = "SpecDiffers"
    VERSION_CONFLICT = "VersionConflict"
    BUNDLE_NOT_FOUND = "BundleNotFound"
    BUNDLE_UNUSABLE = "BundleUnusable"
    REFUSED = "Refused"
    REGISTRY_UNAVAILABLE = "RegistryUnavailable"
    REGISTRY_DENIED = "RegistryDenied"
    DATA_STORAGE_UNAVAILABLE = "DataStorageUnavailable"


class ParameterType(StrEnum):
    STRING = "string"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    ARRAY = "array"


class ExecutionEngine(StrEnum):
    TEKTON = "tekton"
    JOB = "job"


class AuditCategory(StrEnum):
    GATEWAY = "gateway"
    NOTIFICATION = "notification"
    ANALYSIS = "analysis"
    SIGNAL_PROCESSING = "signalprocessing"
    WORKFLOW = "workflow"
    EXECUTION = "execution"
    ORCHESTRATION = "orchestration"
    APPROVAL = "approval"
    EFFECTIVENESS = "effectiveness"


class AuditOutcome(StrEnum):
    SUCCESS = "success"
    FAILURE = "failure"
    PENDING = "pending"
