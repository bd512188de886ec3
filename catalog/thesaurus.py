"""What operators mean by what they write: Kubernetes failure and repair vocabulary as concepts.

Each concept has a weight (how much it tells about which repair is right) and the ways it is said. The embedded embedder
gives every concept its own dimensions, so that "exit code 137", "OOMKilled" and "the memory limit is too low" meet.
Written from the Kubernetes documentation's own terms; an entry belongs here if it holds in any cluster.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import re2

VERSION = 2
"""Raise with every change: indexes made with another version are rebuilt."""


@dataclass(frozen=True, slots=True)
class Concept:
    name: str
    weight: float
    pattern: re.Pattern[str]


def _concept(name: str, weight: float, *ways: str) -> Concept:
    return Concept(name, weight, re.compile("|".join(f"(?:{way})" for way in ways)))


CONCEPTS: tuple[Concept, ...] = (
    # Memory and CPU
    _concept(
        "memory-exhausted", 1.0, r"oom[ -]?kill\w*", r"\boom\b", r"oomkill\w*", r"out of memory", r"exit code:? 137",
        r"memory limits?", r"memory pressure", r"memory headroom", r"memory exhaust\w*", r"exhaust\w* (its |the )?memory",
    ),
    _concept(
        "raise-limits", 1.0, r"(increas|rais|doubl|higher|bump)\w* (the |its |their )?(container |current )?(memory|cpu|resource)?"
        r" ?limits?", r"limits? (is |are )?(set )?(too|very) (low|small)", r"zero headroom", r"undersized",
    ),
    _concept(
        "memory-leak", 0.9, r"memory leaks?", r"leak\w*", r"memory (usage |use )?(is )?grow\w*", r"unbounded", r"grow\w* monoton\w*",
        r"monotonic\w*", r"resource accumulation",
    ),
    _concept("cpu", 0.8, r"\bcpu\b", r"throttl\w*", r"millicores?"),
    _concept(
        "load", 0.8, r"traffic (spike|growth|increase|surge)\w*", r"sustained (load|cpu|traffic|demand)\w*", r"high load",
        r"(cpu|load|traffic) (demand|pressure)", r"request rate", r"legitimate traffic",
    ),
    # Processes and releases
    _concept(
        "crash-loop", 0.5, r"crash\w*", r"crash ?loop\w*", r"back[- ]?off", r"exit(s|ed|ing)?( immediately)? (with )?(code|status) ?:?=?1\b",
        r"exitcode", r"abort\w*", r"startup (error|failure)\w*", r"fails? to start",
    ),
    _concept(
        "release-changed", 0.9, r"bad (release|deploy\w*|rollout|image|revision|spec)", r"(deployment|pod|container)('s)? (spec|template)\b",
        r"\b(was|been|were) (deliberately |recently )?patched", r"kubectl[- ]patch", r"new (replicaset|revision|release|version)",
        r"command( |/args )?override", r"container command", r"overrid\w* the container", r"spec (change|regression)\w*",
        r"recent (deploy\w*|rollout|revision|change)", r"image (tag )?change", r"volume reference", r"entrypoint", r"regression",
    ),
    _concept(
        "roll-back", 1.0, r"roll(s|ed|ing)?[- ]?back\w*", r"rollback\w*", r"revert\w*", r"previous (healthy |working |good )?(revision|replicaset|release|version)",
        r"last[- ]known[- ]good", r"known[- ]good revision", r"undo\w*", r"\brevision \d+", r"old(er)? replicaset",
    ),
    _concept(
        "rollout-stuck", 0.9, r"rollout (is |has |was )?(stuck|stalled|exceeded)", r"(stuck|stalled) (rollout|rolling update|update)",
        r"progress ?deadline\w*", r"rolling update is (stuck|stalled)", r"rollout stuck", r"degraded (progressing|rollout)",
    ),
    _concept(
        "restart", 0.8, r"rolling restart", r"graceful restart", r"restart(s|ed|ing)? the (owning |affected |container |pod|deployment|process)",
        r"bounce\w*", r"recycl\w*", r"rollout restart", r"pod restart",
    ),
    _concept("error-budget", 1.0, r"error[- ]?budget\w*", r"\bslos?\b", r"burn[- ]?rate", r"error rate", r"budgetburn"),
    # Configuration
    _concept(
        "configuration-content", 1.0, r"config ?map('s)? (data|content|key|value)\w*", r"(invalid|unrecogni[sz]ed|bad|faulty|unknown|poisoned|corrupt\w*)"
        r" (configuration |config )?(directive|key|value|setting|option|config\w*)", r"invalid_\w+", r"configuration error",
        r"misspelt|typo in", r"parse (error|time)", r"config(uration)? (drift|content)",
    ),
    _concept("configuration", 0.6, r"config ?maps?", r"configuration", r"config files?", r"environment variables?", r"settings?"),
    _concept("gitops", 1.0, r"gitops\w*", r"argo ?cd", r"\bflux\b", r"\bgit (repo\w*|revert|commit)", r"\bcommit(s|ted)?\b", r"source of truth"),
    _concept("helm", 1.1, r"\bhelm\b", r"\bchart\b", r"helm[- ](managed|release|upgrade|rollback)"),
    # Images and builds
    _concept("image-pull", 1.1, r"imagepull\w*", r"err ?image ?pull", r"image pull\w*", r"pull(ing)? (the |an? )?image", r"manifest unknown", r"\bregistry\b"),
    _concept("image-reference", 0.9, r"(wrong|bad|non-?existent|missing|invalid) (image|tag)\w*", r"image (reference|tag)", r"tag (does not|doesn't) exist"),
    _concept(
        "pull-credentials", 1.1, r"image ?pull ?secrets?", r"pull secret\w*", r"registry (credential|auth)\w*", r"dockerconfig\w*",
        r"authentication required", r"unauthori[sz]ed",
    ),
    _concept("build", 1.1, r"buildconfigs?", r"\bbuilds?\b( pod| fail| phase)?", r"builder image", r"clone error", r"source[- ]to[- ]image"),
    # Scheduling and nodes
    _concept(
        "unschedulable", 0.9, r"unschedulable", r"failed ?scheduling", r"scheduling (fail|constraint)\w*", r"stuck (in )?pending", r"pending (state|indefinitely)",
        r"permanently pending", r"pods? (is |are |stuck )?pending", r"cannot be scheduled", r"scheduler",
    ),
    _concept(
        "cluster-capacity", 1.1, r"insufficient (cpu|memory|resource|cluster|capacity)\w*", r"cluster[- ]wide (memory|cpu|resource|capacity)\w*",
        r"no (existing )?node\w* (has|with|have) (free |enough )?capacity", r"cluster (capacity|autoscal\w*)", r"provision\w* (of )?(a )?(new )?node\w*",
        r"nodes? (are |is )?available", r"add\w* (a )?nodes?", r"allocatable",
    ),
    _concept("node", 0.5, r"\bnodes?\b"),
    _concept("node-unready", 1.1, r"node\w* (is |are |was |became |in |has been )*not ?ready", r"notready node\w*", r"nodenotready", r"kubelet",
             r"node (failure|down|unreachable)", r"hardware"),
    _concept("cordon-drain", 1.0, r"cordon\w*", r"drain\w*", r"evict\w*"),
    _concept("taint", 1.2, r"taint\w*", r"tolerations?", r"noschedule", r"noexecute", r"untolerated"),
    _concept("affinity", 0.9, r"(anti-?)?affinity", r"node ?selector", r"topology spread"),
    _concept("quota", 1.1, r"resource ?quotas?", r"\bquotas?\b", r"limit ?ranges?", r"exceeded quota"),
    # Scaling and disruption
    _concept(
        "autoscaler", 1.2, r"\bhpas?\b", r"horizontal ?pod ?autoscal\w*", r"autoscaler", r"max ?replicas", r"scalinglimited", r"toomanyreplicas",
        r"hpamaxed\w*",
    ),
    _concept("scale", 0.9, r"scal(e|es|ed|ing) (the |a |an |up|down|out|in|to)", r"replica count", r"scale[- ]to[- ]zero", r"\b0 replicas",
             r"add(ing)? replicas", r"scale ?replicas"),
    _concept(
        "disruption-budget", 1.2, r"\bpdbs?\b", r"pod ?disruption ?budgets?", r"min ?available", r"disruptions? ?allowed", r"allowed disruptions?",
        r"voluntary (disruption|eviction|cluster)\w*",
    ),
    _concept("noisy-workload", 0.9, r"offending workload", r"resource hog", r"(connection|resource)[- ]leak\w*", r"starv\w*", r"noisy neighbou?r",
             r"runaway"),
    # Storage
    _concept("volume-claim", 1.0, r"\bpvcs?\b", r"persistent ?volume ?claims?", r"volume claims?", r"volumeclaim\w*"),
    _concept(
        "storage-full", 1.1, r"disk (pressure|full|usage|growth|exhaust\w*|space)", r"storage (capacity|growth|pressure|exhaust\w*)", r"no space left",
        r"volume (is )?(almost |nearly )?(full|filling)", r"(pvc|volume|disk|storage)[\w -]{0,40}exhaust\w*", r"runway", r"predict_linear",
        r"fill(s|ed|ing)? up", r"diskpressure", r"(inode|filesystem)\w*", r"volume expansion", r"\d+ ?[mg]i? volume",
    ),
    _concept(
        "claim-broken", 1.1, r"storage ?class\w*", r"provisioningfailed", r"(missing|deleted|unbound|lost|recreat\w*)[\w' -]{0,24}(pvc|claim)\w*",
        r"(pvc|claim)[\w' -]{0,40}(deleted|missing|unbound|recreat\w*|pending|manually created)",
        r"volume provisioning", r"pv provisioning",
    ),
    _concept("stateful", 0.8, r"stateful ?sets?", r"volumeclaimtemplates?", r"ordinal", r"headless"),
    _concept("ephemeral-storage", 1.1, r"empty ?dir", r"ephemeral storage"),
    _concept("cleanup", 0.9, r"orphan\w*", r"clean(s|ed|ing)?[- ]?up", r"stale (data|pvc|job)\w*", r"garbage", r"completed jobs?"),
    _concept("backup", 0.8, r"back(s|ed|ing)? up", r"backup\w*", r"pg_dump", r"restor\w* the database"),
    # Network and mesh
    _concept("network-policy", 1.2, r"network ?polic\w+", r"netpol\w*", r"deny[- ]all\w*", r"(block|den)\w* (all )?(ingress|egress)( traffic)?"),
    _concept("probe", 0.6, r"(liveness|readiness|startup|health)( check|[- ]?probe)?s?\b", r"probes?\b", r"healthz"),
    _concept("mesh", 1.1, r"istio\w*", r"linkerd", r"service ?mesh", r"\bmesh\w*", r"sidecar proxy", r"envoy", r"mtls"),
    _concept("mesh-authorization", 1.2, r"authorization ?polic\w+", r"authz polic\w+", r"rbac: access denied", r"\b403s\b"),
    _concept("dns", 1.1, r"\bdns\b", r"coredns", r"name resolution", r"nxdomain"),
    _concept("service-endpoints", 0.9, r"endpoints?", r"selector (does not|doesn't|mismatch)", r"no healthy (backend|endpoint)s?"),
    _concept("route", 1.1, r"\broutes?\b", r"ingress (controller|rule|resource|class)", r"external traffic", r"\b50[23]\b", r"gateway api"),
    # Security
    _concept(
        "certificate", 1.2, r"certificates?", r"\bcerts?\b", r"cert-?manager", r"certnotready", r"(cluster)?issuers?", r"\btls\b", r"x509", r"\bca secret",
    ),
    _concept("secret-missing", 0.8, r"secret[\w' -]{0,40}(does not exist|missing|deleted|not found|expired|corrupt\w*)",
             r"(missing|deleted|expired|corrupt\w*)[\w' -]{0,24}secret"),
    _concept("api-permission", 1.1, r"rbac", r"role ?bindings?", r"clusterroles?", r"forbidden", r"(lost|missing|denied) (api )?(access|permission)\w*",
             r"rbac permission\w*"),
    _concept(
        "pod-security", 1.2, r"security ?contexts?", r"\bsccs?\b", r"scc\w+", r"privilege\w*", r"run ?as ?(user|nonroot|root)", r"capabilit(y|ies)",
        r"pod ?security", r"net_admin", r"failedcreate",
    ),
    # Platforms
    _concept("database", 0.7, r"postgres\w*", r"mysql", r"mariadb", r"mongo\w*", r"databases?", r"\bdb\b"),
    _concept(
        "connection-pool", 1.2, r"max_connections", r"connection (pool|limit|budget|slot|exhaust)\w*", r"connections? (pool|saturat\w*)",
        r"too many (connections|clients)", r"databaseconnection\w*", r"(active|persistent|held|open|blocked)[\w ]{0,12} connections",
    ),
    _concept("etcd", 1.1, r"\betcd\w*", r"raft", r"quorum"),
    _concept("fragmentation", 1.2, r"defrag\w*", r"fragment\w*"),
    _concept("operator-lifecycle", 1.2, r"\bolm\b", r"\bcsvs?\b", r"clusterserviceversions?", r"subscriptions?", r"catalog ?sources?", r"installplans?",
             r"operatorcsv\w*"),
    _concept("virtual-machine", 1.2, r"virtual ?machines?", r"kubevirt\w*", r"\bvmi?s?\b", r"data ?volumes?", r"\bcdi\b", r"disk import"),
    _concept("job", 0.7, r"cron ?jobs?", r"batch jobs?", r"deadlineexceeded", r"backofflimit"),
    _concept("daemon", 0.8, r"daemon ?sets?"),
)  # fmt: skip

IMPLIED_SHARE = 0.5
IMPLIES: dict[str, tuple[str, ...]] = {
    "memory-exhausted": ("raise-limits",),
    "memory-leak": ("restart",),
    "release-changed": ("roll-back",),
    "rollout-stuck": ("roll-back",),
    "error-budget": ("roll-back",),
    "image-reference": ("roll-back", "image-pull"),
    "pull-credentials": ("image-pull",),
    "configuration-content": ("configuration",),
    "load": ("scale", "autoscaler"),
    "noisy-workload": ("scale",),
    "storage-full": ("volume-claim",),
    "claim-broken": ("volume-claim",),
    "cluster-capacity": ("unschedulable", "node"),
    "node-unready": ("cordon-drain", "node"),
    "taint": ("unschedulable", "node"),
    "disruption-budget": ("cordon-drain",),
    "fragmentation": ("etcd",),
    "mesh-authorization": ("mesh",),
}
"""What a text also speaks of, at half strength: a cause suggests its usual repair, a part its whole."""

DENIAL = re.compile(
    r"\b(no|not|zero|never|without|rather than|instead of|falsely|isn't|aren't|wasn't|0)\s+(?:[\w'-]+\s+){0,3}$"
)
"""What stands before something that is said not to be the case."""


AUTOMATON_BYTES = 32 << 20
"""What the states of the automaton may take; it forgets them and goes on when they are more."""


def _all_at_once() -> re2.Set:
    options = re2.Options()
    options.max_mem = AUTOMATON_BYTES
    patterns = re2.Set.SearchSet(options)
    for concept in CONCEPTS:
        patterns.Add(concept.pattern.pattern)
    patterns.Compile()
    return patterns


_PATTERNS = _all_at_once()


_FOREIGN = re.compile(r"[^\W\x00-\x7f]")
"""A letter or digit beyond ASCII: the two engines have other ideas of the word that it is in."""


def spoken_of(text: str) -> Iterable[int]:
    """Return the places in ``CONCEPTS`` of all that a lower-case text may speak of, rising; the rest it does not.

    One pass of an automaton over the text instead of one a concept.
    """
    return range(len(CONCEPTS)) if _FOREIGN.search(text) else sorted(_PATTERNS.Match(text) or ())
