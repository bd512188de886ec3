"""What operators mean by what they write: Kubernetes failure and repair vocabulary as concepts.

Each concept has a weight (how much it tells about which repair is right) and the ways it is said. The embedded embedder
gives every concept its own dimensions, so that "exit code 137", "OOMKilled" and "the memory limit is too low" meet.
Written from the Kubernetes documentation's own terms; an entry belongs here if it holds in any cluster.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import re2

VERSION = 3
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
        "memory-exhausted", 1.0, r"oom[ -]?kill\w*", r"\boom\b", r"oom[ -]?killer", r"out[ -]of[ -]memory", r"exit (code|status):? ?137",
        r"exitcode:? ?137", r"memory limits?", r"limits\.memory", r"memory\.max", r"cgroup", r"memory pressure", r"memory headroom", r"memory exhaust\w*", r"exhaust\w* (its |the )?memory",
    ),
    _concept(
        "raise-limits", 1.0, r"(increas|rais|doubl|higher|bump)\w* (the |its |their )?(container |current )?(memory|cpu|resource)?"
        r" ?limits?", r"limits? (is |are |was |were )?(set )?(too|very) (low|small|tight)", r"(no|zero|little|insufficient) headroom",
        r"undersized", r"under-?provisioned", r"more memory", r"(larger|higher) (memory |cpu )?limits?",
    ),
    _concept(
        "memory-leak", 0.9, r"memory leaks?", r"leak\w*", r"memory (usage |use |consumption )?(is )?(grow|climb|ris|creep)\w*", r"unbounded",
        r"monotonic\w*", r"accumulat\w*", r"never (released|freed|evicted)", r"(grow|climb|ris)\w* (steadily|linearly|continuously)",
        r"steadily (grow|climb|ris)\w*", r"working set",
    ),
    _concept("cpu", 0.8, r"\bcpu\b", r"throttl\w*", r"millicores?"),
    _concept(
        "load", 0.8, r"traffic (spike|growth|increase|surge)\w*", r"sustained (load|cpu|traffic|demand)\w*", r"high load",
        r"(cpu|load|traffic|request) (demand|pressure|volume)", r"request rate", r"legitimate traffic", r"(traffic|load|evening|daily) peak",
        r"peak (traffic|load)",
    ),
    # Processes and releases
    _concept(
        "crash-loop", 0.5, r"crash\w*", r"back[- ]?off", r"(exit(s|ed|ing)?|quits?|dies?)( \w+)? (with )?(code|status) ?:?=?[12]\b",
        r"exitcode", r"abort\w*", r"panic\w*", r"segfault\w*", r"segmentation fault", r"start-?up (error|failure|crash)\w*",
        r"(fails?|refuses?|unable) to start", r"cannot start", r"(fails?|dies?|quits?|crashes|aborts?) (at|on|during) start\w*",
    ),
    _concept(
        "release-changed", 0.9, r"bad (release|deploy\w*|rollout|image|revision|spec)", r"(deployment|pod|container)('s)? (spec|template)\b",
        r"\b(was|been|were) (\w+ly )?patched", r"kubectl[- ](patch|set)", r"new (replicaset|revision|release|version|build|image|code)",
        r"command( |/args )?override", r"container (command|args)", r"overrid\w* the container", r"spec (change|regression)\w*",
        r"(recent|last|latest|newest) (deploy\w*|rollout|revision|change|update|release|template)", r"image (tag )?(change|update)",
        r"volume (reference|mount)\w*", r"entrypoint", r"regression", r"(since|after) (the )?(deploy\w*|release|rollout|update|upgrade|revision)",
        r"environment variable\w*", r"generation \d+",
    ),
    _concept(
        "roll-back", 1.0, r"roll(s|ed|ing)?[- ]?back\w*", r"rollback\w*", r"revert\w*", r"previous (healthy |working |good )?(revision|replicaset|release|version)",
        r"(last[- ])?known[- ]good", r"undo\w*", r"undone", r"\brevision \d+", r"old(er)? replicaset",
        r"(go|return\w*|put|back) (back )?to (the )?(former|previous|old|last|revision)",
    ),
    _concept(
        "rollout-stuck", 0.9, r"(rollout|rolling update|update)( \w+){0,4} (stuck|stalled|exceeded)", r"(stuck|stalled) (rollout|rolling update|update)",
        r"progress ?deadline\w*", r"rollout ?stuck", r"progressing (is |condition )?false", r"(made|makes) no progress",
    ),
    _concept(
        "restart", 0.8, r"rolling restart", r"graceful restart", r"restart(s|ed|ing)? the (owning |affected |container |pod|deployment|process)",
        r"bounce\w*", r"recycl\w*", r"rollout restart", r"pod restart", r"(cycl|roll)(e|ing) (its |the |all )?pods",
        r"zero[- ]downtime",
    ),
    _concept("error-budget", 1.0, r"error[- ]?budget\w*", r"\bslos?\b", r"burn[- ]?rates?", r"error r(ate|atio)", r"budgetburn",
             r"(service level|availability) objective\w*", r"fast[- ]burn"),
    # Configuration
    _concept(
        "configuration-content", 1.0, r"config ?map('s)? (data|content|key|value)\w*", r"(invalid|unrecogni[sz]ed|bad|faulty|unknown|poisoned|malformed|corrupt\w*)"
        r" (configuration |config )?(directive|key|value|setting|option|field|config\w*)", r"directives?", r"config(uration)? errors?",
        r"misspelt|typo in", r"pars(e|er|ing) (error|time|fail)\w*", r"(syntax|validation) errors?", r"edited in[- ]place", r"modified in[- ]place",
        r"config(uration)? (drift|content|file)",
    ),
    _concept("configuration", 0.6, r"config ?maps?", r"configuration", r"config files?", r"environment variables?", r"settings?"),
    _concept("gitops", 1.0, r"gitops\w*", r"argo ?(cd)?\b", r"\bflux(cd)?\b", r"\bgit (repo\w*|revert|commit)", r"\bcommit(s|ted)?\b", r"source of truth",
             r"kustomizations?", r"(pull|merge) requests?", r"(auto-?|self-?)(sync|heal)\w*"),
    _concept("helm", 1.1, r"\bhelm\b", r"\bchart\b", r"helm[- ](managed|release|upgrade|rollback|history)", r"managed-by[=:] ?helm"),
    # Images and builds
    _concept("image-pull", 1.1, r"imagepull\w*", r"err ?image ?pull", r"image pull\w*", r"pull(ing|s)? (the |an? )?(\w+ )?image", r"manifest unknown", r"\bregistry\b",
             r"pull access denied"),
    _concept("image-reference", 0.9, r"(wrong|bad|non-?existent|missing|invalid) (image|tag)\w*", r"image (reference|tag|name)s?",
             r"tag\w* (does not|doesn't) exist", r"manifest unknown", r"never (pushed|built|published)", r"(no such|deleted) (image|tag)",
             r"\btag\b[^.]{0,40}(not found|missing|non-?existent)", r"pulling image [^.]{0,80}not found"),
    _concept(
        "pull-credentials", 1.1, r"image ?pull ?secrets?", r"pull ?secret\w*", r"registry (credential|auth|token|login|password)\w*", r"dockerconfig\w*",
        r"authentication required", r"unauthori[sz]ed", r"pull access denied", r"robot account", r"(expired|invalid|old|rotated|wrong) credentials?",
    ),
    _concept("build", 1.1, r"buildconfigs?", r"\bbuilds?\b( pod| fail| phase)?", r"builder image", r"clon(e|ing)( error)?", r"source[- ]to[- ]image",
             r"buildfail\w*", r"source\.git", r"fetchsource\w*", r"remote (ref|repository)"),
    # Scheduling and nodes
    _concept(
        "unschedulable", 0.9, r"unschedulable", r"failed ?scheduling", r"scheduling (fail|constraint)\w*", r"stuck (in )?pending", r"pending (state|indefinitely)",
        r"pods? (is |are |stuck |stays? |remains? )?pending", r"(remain|stay|wait)\w* pending", r"kubepod(pending|unschedul|notschedul)\w*",
        r"cannot be (scheduled|placed)", r"scheduler", r"unscheduled",
    ),
    _concept(
        "cluster-capacity", 1.1, r"insufficient (cpu|memory|resource|cluster|capacity)\w*", r"cluster[- ]wide (memory|cpu|resource|capacity)\w*",
        r"no (existing )?node\w* (has|with|have) (free |enough )?capacity", r"cluster (capacity|autoscal\w*)", r"provision\w* (of )?(a )?(new )?node\w*",
        r"nodes? (are |is )?available", r"add\w* (an?(other)? )?(new )?nodes?", r"another node", r"allocatable",
        r"out of capacity", r"more capacity", r"fully (booked|allocated|utili[sz]ed)", r"overcommit\w*",
    ),
    _concept("node", 0.5, r"\bnodes?\b"),
    _concept("node-unready", 1.1, r"node\w* (is |are |was |became |in |has been )*not ?ready", r"notready node\w*", r"nodenotready", r"kubelet",
             r"node ?(failure|failed|down|unreachable|lost)", r"hardware", r"kernel panic", r"power supply", r"read-?only (root )?file ?system",
             r"i/o errors?", r"(stopped|not) (posting|posted|reporting)", r"status (is )?unknown", r"heartbeats?"),
    _concept("cordon-drain", 1.0, r"cordon\w*", r"drain\w*", r"evict\w*", r"evacuat\w*"),
    _concept("taint", 1.2, r"(un)?taint\w*", r"tolerat(e|es|ion)s?", r"noschedule", r"noexecute", r"untolerated"),
    _concept("affinity", 0.9, r"(anti-?)?affinity", r"node ?selector", r"topology spread"),
    _concept("quota", 1.1, r"resource ?quotas?", r"\bquotas?\b", r"limit ?ranges?", r"exceeded quota"),
    # Scaling and disruption
    _concept(
        "autoscaler", 1.2, r"\bhpas?\b", r"horizontal ?pod ?autoscal\w*", r"autoscaler", r"max ?replicas", r"scalinglimited", r"toomanyreplicas",
        r"hpamaxed\w*", r"desired ?replicas", r"maximum replicas",
    ),
    _concept("scale", 0.9, r"scal(e|es|ed|ing) (the |a |an |up|down|out|in|to)", r"replica count", r"scale[- ]to[- ]zero", r"\b0 replicas",
             r"(add\w*|more|additional) replicas", r"scale ?replicas",
             r"scal(e|ed|ing)[- ](out|up|down|in)\b", r"insufficient capacity", r"too few (replicas|pods|instances)"),
    _concept(
        "disruption-budget", 1.2, r"\bpdbs?\b", r"pod ?disruption ?budgets?", r"min ?available", r"max ?unavailable", r"disruptions? ?(allowed|budgets?)", r"allowed disruptions?",
        r"evictions? (is |are |was |were )?(refused|denied|blocked|rejected)", r"cannot evict",
        r"voluntary (disruption|eviction|cluster)\w*",
    ),
    _concept("noisy-workload", 0.9, r"offending workload", r"resource hog", r"hogg?(s|ing)\b", r"leak\w* (\w+ )?connections?", r"connections? leak\w*",
             r"(connection|resource)[- ]leak\w*", r"starv\w*", r"noisy neighbou?r", r"runaway", r"rogue", r"monopoli[sz]\w*",
             r"idle in transaction", r"never (closes?|closed|returns?)", r"(must|should|to) be stopped", r"isolate\w*", r"compromised"),
    # Storage
    _concept("volume-claim", 1.0, r"\bpvcs?\b", r"persistent ?volume ?claims?", r"volume claims?", r"volumeclaim\w*"),
    _concept(
        "storage-full", 1.1, r"disk (pressure|full|usage|growth|exhaust\w*|space)", r"storage (capacity|growth|pressure|exhaust\w*)", r"no space left",
        r"(volume|disk|claim|pvc)( \w+)? ?(is |are )?(almost |nearly |\d+ ?% )?(full|filling)", r"(pvc|volume|disk|storage)[\w -]{0,40}exhaust\w*",
        r"predict_linear", r"fill(s|ed|ing)? ?up", r"\d+ ?% (full|used)", r"enospc", r"out of (disk|space|storage|inodes)", r"diskpressure",
        r"(inode|filesystem)\w*", r"volume ?expansion", r"volume_stats", r"resiz\w*", r"(expand|enlarge|grow)(s|ing)? (the |its |a )?(volume|pvc|claim|disk|storage)",
        r"(runway|will (be|run) (full|out))", r"free space",
    ),
    _concept(
        "claim-broken", 1.1, r"storage ?class\w*", r"provisioningfailed", r"(missing|deleted|unbound|lost|recreat\w*)[\w' -]{0,24}(pvc|claim)\w*",
        r"(pvc|claim)[\w' -]{0,40}(deleted|missing|unbound|not found|recreat\w*|pending|manually created|by hand)",
        r"volume provisioning", r"pv provisioning",
    ),
    _concept("stateful", 0.8, r"stateful ?sets?", r"volumeclaimtemplates?", r"ordinal", r"headless"),
    _concept("ephemeral-storage", 1.1, r"empty[- ]?dir", r"ephemeral[- ]storage"),
    _concept("cleanup", 0.9, r"orphan\w*", r"clean(s|ed|ing)?[- ]?up", r"stale (data|pvc|job)\w*", r"garbage", r"(completed|finished) (\w+ )?(jobs?|runs?)",
             r"unused", r"left-?overs?", r"no longer (used|needed|mounted)", r"(mounted|used) by no\w*", r"reclaim\w* (them|unused|space)"),
    _concept("backup", 0.8, r"back(s|ed|ing)? up", r"backup\w*", r"pg_dump", r"restor\w* the database"),
    # Network and mesh
    _concept("network-policy", 1.2, r"network ?polic\w+", r"netpol\w*", r"(deny[- ]all|default[- ]deny)\w*", r"policytypes?", r"ingress rules?", r"(block|den)\w* (all )?(ingress|egress)( traffic)?"),
    _concept("probe", 0.6, r"(liveness|readiness|startup|health)( check|[- ]?probe)?s?\b", r"probes?\b", r"healthz"),
    _concept("mesh", 1.1, r"istio\w*", r"linkerd", r"service ?mesh", r"\bmesh\w*", r"sidecars?\b", r"envoy", r"mtls", r"peer ?authentication", r"(virtual ?service|destination ?rule)s?"),
    _concept("mesh-authorization", 1.2, r"authorization ?polic\w+", r"authz polic\w+", r"rbac: access denied", r"rbac_access_denied\w*", r"\b403s?\b"),
    _concept("dns", 1.1, r"\bdns\b", r"coredns", r"name resolution", r"nxdomain"),
    _concept("service-endpoints", 0.9, r"endpoints?", r"selector (does not|doesn't|mismatch)", r"no healthy (backend|endpoint)s?"),
    _concept("route", 1.1, r"\broutes?\b", r"router", r"ingress (controller|rule|resource|class)", r"external (traffic|users|requests)", r"\b50[23]\b", r"gateway api"),
    # Security
    _concept(
        "certificate", 1.2, r"certificates?", r"\bcerts?\b", r"cert-?manager", r"certnotready", r"(cluster)?issuers?", r"\btls\b", r"x509", r"\bca (secret|key)", r"signing (ca|key)", r"certificate ?authorit\w*", r"key pair",
    ),
    _concept("secret-missing", 0.8, r"secret[\w' -]{0,40}(does not exist|missing|deleted|not found|expired|corrupt\w*)",
             r"(missing|deleted|expired|corrupt\w*)[\w' -]{0,24}secret"),
    _concept("api-permission", 1.1, r"rbac", r"role ?bindings?", r"clusterroles?", r"forbidden", r"service ?accounts?", r"cannot (get|list|watch|create|update|patch|delete)\b", r"permissions?",
             r"\b403s?\b", r"(lost|missing|denied) (api )?(access|permission)\w*",
             r"rbac permission\w*"),
    _concept(
        "pod-security", 1.2, r"security ?contexts?", r"\bsccs?\b", r"scc\w+", r"privilege\w*", r"run ?as ?(user|nonroot|root)", r"capabilit(y|ies)",
        r"pod ?security", r"(net|sys)_\w+", r"failedcreate", r"\buid 0\b", r"host ?(path|network|pid)", r"admission",
        r"violat\w* (\w+ )?(policy|policies|constraints?|standards?)",
    ),
    # Platforms
    _concept("database", 0.7, r"postgres\w*", r"mysql", r"mariadb", r"mongo\w*", r"databases?", r"\bdb\b"),
    _concept(
        "connection-pool", 1.2, r"max_connections", r"connection (pool|limit|budget|slot|exhaust)\w*", r"connections? (pool|saturat\w*)",
        r"too many (\w+ )?(connections|clients)", r"databaseconnection\w*", r"connection ?slots?", r"pg_stat_activity", r"numbackends", r"(active|persistent|held|open|blocked)[\w ]{0,12} connections",
    ),
    _concept("etcd", 1.1, r"\betcd\w*", r"raft", r"quorum"),
    _concept("fragmentation", 1.2, r"defrag\w*", r"fragment\w*", r"compact(ed|ion)", r"db_total_size\w*", r"backend quota"),
    _concept("operator-lifecycle", 1.2, r"\bolm\b", r"\bcsvs?\b", r"clusterserviceversions?", r"subscriptions?", r"catalog ?sources?", r"installplans?",
             r"operatorcsv\w*"),
    _concept("virtual-machine", 1.2, r"virtual ?machines?", r"kubevirt\w*", r"\bvmi?s?\b", r"data ?volumes?", r"\bcdi\b", r"disk (image|import)", r"importer"),
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
    r"\b(no|not|nor|neither|none|nothing|zero|never|without|rather than|instead of|ruled out|falsely|isn't|aren't|wasn't"
    r"|weren't|doesn't|don't|didn't|0)\s+(?:[\w'-]+\s+){0,3}$"
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


def _one_by_one() -> tuple[Any, ...]:
    options = re2.Options()
    options.never_capture = True
    return tuple(re2.compile(concept.pattern.pattern.encode(), options) for concept in CONCEPTS)


_QUICK = _one_by_one()
"""The concepts' patterns once more, for bytes; a few times as fast."""


_FOREIGN = re.compile(r"[^\W\x00-\x7f]")
"""A letter or digit beyond ASCII: the two engines have other ideas of the word that it is in."""


def spoken_of(text: str) -> Iterable[int]:
    """Return the places in ``CONCEPTS`` of all that a lower-case text may speak of, rising; the rest it does not.

    One pass of an automaton over the text instead of one a concept.
    """
    return range(len(CONCEPTS)) if _FOREIGN.search(text) else sorted(_PATTERNS.Match(text) or ())


def said_in(text: str) -> Iterator[tuple[int, list[int]]]:
    """Yield the places in ``CONCEPTS`` of what a lower-case text speaks of, and where in the text each begins to be said."""
    if _FOREIGN.search(text):
        for place, concept in enumerate(CONCEPTS):
            yield place, [match.start() for match in concept.pattern.finditer(text)]
        return
    encoded = text.encode()
    plain = len(encoded) == len(text)
    for place in spoken_of(text):
        starts = [match.start() for match in _QUICK[place].finditer(encoded)]
        yield place, starts if plain else [len(encoded[:start].decode()) for start in starts]
