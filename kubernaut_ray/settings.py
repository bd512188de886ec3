"""Settings, read once at the edge and passed down as frozen values. Every field says its unit.

Sources, later ones winning: defaults, a YAML file, environment variables ``KUBERNAUT_<GROUP>__<FIELD>``, the command line.
Durations are seconds.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, create_model, model_validator
from pydantic_settings import BaseSettings, EnvSettingsSource

from kubernaut_ray import names
from kubernaut_ray.errors import InvalidInput

Seconds = Annotated[float, Field(ge=0)]


class Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ServerSettings(Group):
    """Where HTTP listens."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    """0 picks a free port."""
    dashboard: bool = True
    """Run Ray's dashboard (about 195 MiB)."""


class CloudWatchSettings(Group):
    """The gateway's door for CloudWatch alarms, through SNS or EventBridge."""

    confirm_subscriptions: bool = False
    """Confirm SNS subscriptions to this gateway by fetching their SubscribeURL; refused with 403 otherwise."""
    topic_arns: tuple[str, ...] = ()
    """The SNS topics that are listened to. Empty is any: SNS signs for everybody's topics."""
    allow_unsigned: bool = True
    """Take alarms without an SNS signature (raw message delivery, EventBridge): the caller's token is then all their proof."""
    fetch_timeout: Seconds = 5
    """For a signing certificate, or to confirm a subscription."""


class GatewaySettings(Group):
    replicas: Annotated[int, Field(ge=1)] = 2
    cloudwatch: CloudWatchSettings = CloudWatchSettings()
    max_body_bytes: int = 262_144
    """Refused with 413 beyond this."""
    max_concurrent_requests: int = 100
    max_queued_requests: int = 200
    client_requests_per_minute: Annotated[int, Field(ge=0)] = 0
    """Webhooks taken from one client (user of a token) per minute and replica; 0 is no limit. More is answered 503."""
    client_burst: Annotated[int, Field(ge=1)] = 100
    """So many webhooks a client may send at once before the limit holds."""
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    """Every replica also listens on this port itself, all on the same one, past Ray Serve's proxy. 0: ``kubernaut-ray up``
    picks a free one, and replicas deployed otherwise do without."""
    kubernetes_timeout: Seconds = 15
    kubernetes_retries: int = 3
    owner_lookup_timeout: Seconds = 2
    occurrence_flush_interval: Seconds = 0.8
    """How long duplicate counts may stay in memory before they reach the RemediationRequest's status."""
    silence_retention: Seconds = 432_000
    """How long a silence is kept after its end: 120 h, as Alertmanager keeps it."""
    storm_enabled: bool = True
    storm_rate_threshold: int = 10
    """More than this many signals of one name per minute is a rate storm."""
    storm_pattern_threshold: int = 5
    """More than this many distinct resources with one signal name within two minutes is a pattern storm: the next ones are
    folded into the oldest request."""
    storm_longest: Seconds = 300
    """For how long after its creation a request takes further members of its storm in."""
    scope: Literal["opt-in", "opt-out", "all"] = "all"
    """Which targets are managed: those with the label ``kubernaut.ai/managed=true`` (opt-in), also those without the label
    (opt-out), or whatever the label says (all). The target's own label wins over its namespace's."""
    fold_node_loss: bool = True
    """Whether a signal about pods on a lost node belongs to the node's incident."""
    fold_window: Seconds = 120
    """A signal that began to fire longer than this before the node was lost has another cause."""


class EventWatcherSettings(Group):
    enabled: bool = True
    """Forward the cluster's Warning events to the gateway, whose scope and rules decide what becomes an incident."""
    namespaces: tuple[str, ...] = ()
    """Watch these only; all when empty."""
    ignored_namespaces: tuple[str, ...] | None = None
    """Events about objects in these are left out. Our own namespaces when not given: we do not remediate ourselves."""
    lookback: Seconds = 300
    """At the very first start, events this old are still forwarded; older ones are history."""
    in_flight: Annotated[int, Field(ge=1)] = 256
    """Events read and not acknowledged yet; beyond it no more are read."""
    concurrency: Annotated[int, Field(ge=1)] = 8
    """Events on their way to the gateway at a time."""
    retry_base: Seconds = 0.5
    retry_max: Seconds = 15


class SignalProcessingSettings(Group):
    enrichment_timeout: Seconds = 30
    labels_policy_timeout: Seconds = 5
    priority_policy_timeout: Seconds = 0.1
    business_policy_timeout: Seconds = 0.2
    max_failures: int = 5


class AnalysisSettings(Group):
    approval_threshold: Annotated[float, Field(ge=0, le=1)] = 0.80
    """Below this confidence a person must approve."""
    review_threshold: Annotated[float, Field(ge=0, le=1)] = 0.70
    """Below this confidence nothing is executed; a person takes over."""
    max_attempts: int = 5
    retry_base: Seconds = 1
    retry_max: Seconds = 300


class OrchestratorSettings(Group):
    global_timeout: Seconds = 3600
    processing_timeout: Seconds = 300
    analyzing_timeout: Seconds = 600
    approval_timeout: Seconds = 900
    executing_timeout: Seconds = 1800
    verifying_timeout: Seconds = 1800
    consecutive_failures: int = 3
    consecutive_failure_block: Seconds = 3600
    recheck_interval: Seconds = 30
    """How often an event-based block (duplicate, busy) is looked at again."""
    scope_backoff_base: Seconds = 5
    """The first pause before the scope label of an unmanaged target is looked up again; each is twice the one before."""
    scope_backoff_max: Seconds = 300
    recently_remediated_window: Seconds = 300
    backoff_base: Seconds = 60
    backoff_max: Seconds = 600
    backoff_max_exponent: int = 4
    max_pre_execution_failures: int = 5
    max_recovery_attempts: int = 3
    termination_rate_limit: Annotated[float, Field(ge=0, le=1)] = 0.10
    termination_rate_window: Seconds = 3600
    termination_rate_minimum: int = 10
    """The rate is not judged on fewer executions than this."""
    ineffective_chain: Annotated[int, Field(ge=1)] = 3
    """So many remediations of one target in a row that did not help, and a person takes over."""
    remediations_per_target: Annotated[int, Field(ge=1)] = 5
    """So many executions on one target within ``ineffective_window``, and a person takes over."""
    ineffective_window: Seconds = 14_400
    """What lies further back is not held against the next remediation."""
    retention: Seconds = 86_400
    """How long a finished RemediationRequest is kept, with its children; longer while its audit trail is not complete."""
    dry_run: bool = False
    """Do everything up to the PipelineRun that would be created, render it, and create nothing. ``spec.dryRun`` asks for one."""
    dry_run_hold: Seconds = 3600
    """How long after a dry run the next one of its signal waits."""
    notify_self_resolved: bool = False


class ApprovalSettings(Group):
    required_approvals: Annotated[int, Field(ge=1, le=20)] = 1
    """So many different people must approve before anything runs; one rejection is enough to stop it."""
    four_eyes: bool = False
    """The person who caused a RemediationRequest may not approve what is done about it."""
    grant_lifetime: Seconds = 3600
    """How long after the decision what was approved may start."""
    signing_key: Path | None = None
    """The Ed25519 key (PEM) that signs decisions; ``keys/approvals.pem`` in the data directory by default."""


class AdmissionSettings(Group):
    """The admission webhook that stamps who decides approvals."""

    mode: Literal["auto", "required", "off"] = "auto"
    """``required``: only decisions that the webhook stamped count. ``off``: decisions count as they are written, and say that
    nobody established who wrote them. ``auto``: ``kubernaut-ray up`` installs and requires it on the embedded API server."""
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    """Where the webhook serves HTTPS itself, past Ray Serve's proxy. 0: ``up`` picks a free one; else 8443."""
    replicas: Annotated[int, Field(ge=1)] = 1
    certificate: Path | None = None
    """PEM; read anew when it changes. ``admission/server.crt`` in the data directory by default."""
    certificate_key: Path | None = None
    caller_token: Path | None = None
    """A file with the bearer token that the API server must show. Without one anybody who reaches the port may ask."""
    timeout: Annotated[int, Field(ge=1, le=30)] = 5
    """Seconds that the API server waits for an answer."""

    @property
    def required(self) -> bool:
        return self.mode == "required"


class SignatureKeys(Group):
    """The public keys (PEM, one or several) that bundles must be signed with: a file, or one key of a Secret."""

    file: Path | None = None
    """Wins over the Secret; read anew at each check."""
    secret: str = names.BUNDLE_KEYS
    namespace: str = ""
    """Of the Secret; our own when empty. The shipped role reads this one Secret only, under its default name."""
    key: str = "cosign.pub"


class ExecutionSettings(Group):
    engines: Annotated[tuple[Literal["tekton", "job"], ...], Field(min_length=1)] = ("tekton", "job")
    """What carries workflows out here. A workflow that asks for another is refused; ``[job]`` needs no Tekton in the cluster."""
    namespace: str = names.WORKFLOW_NAMESPACE
    service_account: str = names.WORKFLOW_SERVICE_ACCOUNT
    timeout: Seconds = 1800
    cooldown: Seconds = 300
    """How long a finished run is kept as the target's lock."""
    poll_interval: Seconds = 10
    max_running: Annotated[int, Field(ge=0)] = 20
    """So many executions run at a time; the others wait their turn. 0 is no limit, here and in the next two."""
    max_running_per_namespace: Annotated[int, Field(ge=0)] = 5
    """Of the targets; targets without a namespace count as one."""
    budget_per_namespace: Annotated[int, Field(ge=0)] = 20
    """So many executions may begin within ``budget_window`` on targets of one namespace: what is beyond it waits."""
    budget_window: Annotated[float, Field(gt=0)] = 3600
    signatures: Literal["off", "warn", "required"] = "off"
    """``required``: a bundle runs only if it is signed by cosign with one of ``signature_keys``. ``warn``: it runs, and its
    execution says that it is not."""
    signature_keys: SignatureKeys = SignatureKeys()


class MetricQuery(Group):
    """What is measured before and after an execution."""

    query: Annotated[str, Field(min_length=1)]
    """PromQL, in which ``$namespace``, ``$kind`` and ``$name`` are the target's. A counter must be in ``rate()``, ``irate()`` or
    ``increase()``: by itself it only ever grows."""
    higher_is_better: bool = False

    @model_validator(mode="after")
    def _is_a_rate(self) -> Self:
        if _COUNTER.search(self.query) and not _RATE.search(self.query):
            raise ValueError("a counter (…_total) only ever grows: take its rate(), irate() or increase()")
        return self


_COUNTER = re.compile(r"[A-Za-z0-9_]_total\b")
_RATE = re.compile(r"\b(rate|irate|increase|delta|resets|changes)\s*\(")


class EffectivenessSettings(Group):
    """Whether a workflow that succeeded also helped: what is looked at, when, and what counts as help."""

    enabled: bool | None = None
    """Verify the effect before an incident counts as remediated. Not set: on with the embedded API server, off in a cluster."""
    stabilization_window: Seconds = 300
    """Nothing is judged before. 1 s with the embedded API server, where not set."""
    hash_compute_delay: Seconds = 60
    """After this a change of the target's spec is somebody else's. 1 s with the embedded API server, where not set."""
    alert_check_delay: Seconds = 300
    """How long a signal that says nothing more may yet be resolved. 2 s with the embedded API server, where not set."""
    git_ops_sync_delay: Seconds = 180
    """How long a GitOps tool may take to carry a change to the cluster."""
    validity: Seconds = 1800
    """When this is over, what is known by then must do. 20 s with the embedded API server, where not set."""
    poll_interval: Seconds = 10
    """How often a target that is still coming up, or a signal that still fires, is looked at again."""
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.5
    """From this score on a workflow helped."""
    alertmanager_url: str = ""
    """Ask this Alertmanager whether the alert is active; empty: what the gateway was told must do."""
    prometheus_url: str = ""
    """Where the queries are asked."""
    queries: dict[str, MetricQuery] = {}
    """By a name that people read, for example ``{errors: {query: 'sum(rate(http_errors_total{namespace="$namespace"}[5m]))'}}``."""
    lookback: Seconds = 1800
    """How far before the remediation the queries look back."""
    scrape_interval: Annotated[float, Field(ge=1)] = 60
    request_timeout: Seconds = 10

    def for_one_machine(self) -> Self:
        """Return these with verification on and short windows, wherever nothing else was said."""
        short = {
            "enabled": True,
            "stabilization_window": 1,
            "hash_compute_delay": 1,
            "alert_check_delay": 2,
            "validity": 20,
            "poll_interval": 1,
        }
        return self.model_copy(update={k: v for k, v in short.items() if k not in self.model_fields_set})


class TrustSettings(Group):
    """When a workflow's record in an environment makes it more, or less, trusted; see ``contracts/trust.py``."""

    quantile: Annotated[float, Field(gt=0, lt=1)] = 0.10
    """The chance that a workflow helps is taken at this quantile of what its record allows."""
    suggest_minimum: Annotated[int, Field(ge=1)] = 5
    """With fewer assessments nothing is held against it but failures in a row."""
    suggest_below: Annotated[float, Field(ge=0, le=1)] = 0.30
    demote_after: Annotated[int, Field(ge=1)] = 2
    """So many times in a row without help, and a person decides until it has helped again."""
    auto_minimum: Annotated[int, Field(ge=1)] = 10
    auto_from: Annotated[float, Field(ge=0, le=1)] = 0.80


class NotificationSettings(Group):
    routing_file: Path | None = None
    """An Alertmanager-style routing file; without one everything goes to the console and file channels."""
    output_directory: Path | None = None
    """Where the file channel writes; ``notifications`` in the data directory by default."""
    credentials_directory: Path | None = None
    """A folder of one file a credential, as a projected Secret."""
    timeout: Seconds = 10
    breaker_failures: int = 3
    breaker_open: Seconds = 30
    breaker_successes: int = 2


class LlmSettings(Group):
    provider: Literal["evidence", "openai", "anthropic"] = "evidence"
    model: str = ""
    base_url: str = ""
    api_key: SecretStr | None = None
    """Never written anywhere; from the environment (``KUBERNAUT_LLM__API_KEY``, ``OPENAI_API_KEY``, ``ANTHROPIC_API_KEY``)."""
    temperature: float = 0.2
    request_timeout: Seconds = 120
    investigation_timeout: Seconds = 600
    max_validation_attempts: int = 3
    max_tool_calls: int = 30
    tool_output_bytes: int = 16_384
    sessions_concurrent: int = 8


class RegistryAccess(Group):
    """How to speak with one OCI registry. The default is HTTPS, verified against the system's authorities."""

    plain_http: bool = False
    skip_tls_verify: bool = False
    """Take any certificate. Digests are still verified; a login is then told to whoever answers."""
    ca_file: Path | None = None
    """Authorities (PEM) to trust in the place of the system's."""
    client_certificate: Path | None = None
    """PEM, for registries that want one; may hold the key too."""
    client_key: Path | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.client_key and not self.client_certificate:
            raise ValueError("client_key needs client_certificate")
        if self.plain_http and (self.skip_tls_verify or self.ca_file or self.client_certificate):
            raise ValueError("plain_http speaks no TLS: leave out skip_tls_verify, ca_file and client_certificate")
        if self.skip_tls_verify and self.ca_file:
            raise ValueError("skip_tls_verify would ignore ca_file: leave one of them out")
        return self


class CatalogSettings(Group):
    registry_access: dict[str, RegistryAccess] = {}
    """By ``HOST[:PORT]`` as references write it, for example ``{registry.lan:5000: {ca_file: /etc/registry-ca.pem}}``."""
    registry_config: Path | None = None
    """A docker ``config.json`` with registry logins; docker's own (``$DOCKER_CONFIG``, ``~/.docker``) where none is set."""
    audit_flush_interval: Seconds = 0.25
    audit_checkpoint_events: Annotated[int, Field(ge=1, le=65_536)] = 4096
    """After so many events of the audit trail a checkpoint seals them."""
    audit_checkpoint_interval: Seconds = 60
    """An event waits no longer than this for its checkpoint."""
    audit_signing_key: Path | None = None
    """The Ed25519 private key (PEM) that signs checkpoints; made in the catalog's directory when not given."""
    audit_hot_months: Annotated[int, Field(ge=1)] = 1
    """Full months, besides the current one, that stay in the database; older ones are rolled off into Parquet files."""
    audit_retention_days: Annotated[int, Field(ge=31)] = 2555
    """Archived events are deleted after this: 7 years. A legal hold keeps them."""
    database_memory: Annotated[str, Field(pattern="^[1-9][0-9]*(MB|GB)$")] = "512MB"
    """What DuckDB may use; larger answers go to disk while they are made."""
    search_replicas: Annotated[int, Field(ge=1)] = 1
    registration_interval: Annotated[float, Field(gt=0)] = 300
    """How often a RemediationWorkflow is compared with the catalog again."""
    registration_retry_base: Seconds = 2
    registration_retry_max: Seconds = 120
    embedder: Literal["lexicon", "model", "endpoint"] = "lexicon"
    """``lexicon`` works offline and needs nothing; ``model`` runs a sentence-embedding model here (extra ``embeddings``);
    ``endpoint`` asks an OpenAI-compatible embeddings endpoint. A change rebuilds the index."""
    embedder_base_url: str = ""
    """Ends in ``/v1``."""
    embedder_model: str = ""
    """For ``model`` a directory, or a name on the Hugging Face hub; for ``endpoint`` the model's name there."""
    embedder_dimension: Annotated[int, Field(ge=1)] | None = None
    """Of the endpoint's vectors; asked for once where it is not set."""
    embedder_api_key: SecretStr | None = None
    """From the environment (``KUBERNAUT_CATALOG__EMBEDDER_API_KEY``); never written anywhere."""


class FleetSettings(Group):
    shards: dict[str, Annotated[int, Field(ge=1, le=names.SHARD_BLOCKS)]] = {}
    """Actors a kind (by plural), 1 where not named, at most 16: shards change hands in blocks of 4."""
    together: bool | None = None
    """Whether controllers that are not divided share one process, all but the RemediationRequests'. ``None``: where the API
    server is embedded, so that one machine starts sooner; in a cluster each has its own."""
    concurrency: Annotated[int, Field(ge=1)] = 32
    """Reconciles at a time in one actor. They mostly wait, and the more wait together, the fewer commits the API server needs."""
    resync_interval: Seconds = 300
    backoff_base: Seconds = 0.5
    backoff_max: Seconds = 60


class Settings(BaseModel):
    """All settings of one running system."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data_dir: Path = Path(".kubernaut")
    kubeconfig: Path | None = None
    """A cluster to run against; ``None`` starts the embedded API server."""
    namespace: str = names.SYSTEM_NAMESPACE
    """Where our objects live."""
    cluster_name: str = ""
    policies_directory: Path | None = None
    """Rego policies; the shipped defaults otherwise."""
    log_format: Literal["console", "json"] = "json"
    log_level: str = "info"
    server: ServerSettings = ServerSettings()
    gateway: GatewaySettings = GatewaySettings()
    event_watcher: EventWatcherSettings = EventWatcherSettings()
    signal_processing: SignalProcessingSettings = SignalProcessingSettings()
    analysis: AnalysisSettings = AnalysisSettings()
    orchestrator: OrchestratorSettings = OrchestratorSettings()
    approval: ApprovalSettings = ApprovalSettings()
    admission: AdmissionSettings = AdmissionSettings()
    execution: ExecutionSettings = ExecutionSettings()
    effectiveness: EffectivenessSettings = EffectivenessSettings()
    trust: TrustSettings = TrustSettings()
    notification: NotificationSettings = NotificationSettings()
    llm: LlmSettings = LlmSettings()
    catalog: CatalogSettings = CatalogSettings()
    fleet: FleetSettings = FleetSettings()

    @property
    def approval_key(self) -> Path:
        """Where the key lies that signs decisions."""
        return self.approval.signing_key or self.data_dir / "keys" / "approvals.pem"

    def without_secrets(self) -> dict[str, Any]:
        """Return the JSON form that may travel in arguments and logs; secrets reach every process by its environment."""
        return self.model_dump(mode="json", exclude={"llm": {"api_key"}, "catalog": {"embedder_api_key"}})

    @classmethod
    def load(cls, file: Path | None = None, **overrides: Any) -> Settings:
        """Read the YAML file and the environment; ``overrides`` (whole groups or fields, nested dicts) win over both.

        Raises ``InvalidInput`` that names the file and every wrong field.
        """
        values: dict[str, Any] = {}
        if file is not None:
            try:
                values = yaml.safe_load(file.read_text()) or {}
            except OSError as error:
                raise InvalidInput(f"settings file {file}: {error.strerror}") from error
            except yaml.YAMLError as error:
                raise InvalidInput(f"settings file {file} is not YAML: {_where(error)}") from None
            if not isinstance(values, dict):
                raise InvalidInput(f"settings file {file}: expected a mapping of groups, got {type(values).__name__}")
        try:
            environment = EnvSettingsSource(_Environment, env_prefix="KUBERNAUT_", env_nested_delimiter="__")()
            return cls.model_validate(_merge(_merge(values, environment), overrides))
        except ValidationError as error:
            # Each with its path and without its value: a key under a misspelt name is a secret all the same.
            problems = tuple((".".join(map(str, e["loc"])), e["msg"]) for e in error.errors(include_input=False))
            told = "; ".join(f"{path}: {what}" for path, what in problems)
            raise InvalidInput(f"settings{f' file {file}' if file else ''}: {told}", problems=problems) from None
        except ValueError as error:
            raise InvalidInput(f"settings{f' file {file}' if file else ''}: {error}") from None


_fields: dict[str, Any] = {name: (field.annotation, field) for name, field in Settings.model_fields.items()}
_Environment = create_model("_Environment", __base__=BaseSettings, **_fields)
"""Tells the environment source which fields there are."""


def _where(error: yaml.YAMLError) -> str:
    """What is wrong and in which line, without the line itself."""
    mark = getattr(error, "problem_mark", None)
    return f"{getattr(error, 'problem', None) or 'cannot be parsed'}{f' (line {mark.line + 1})' if mark else ''}"


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged
