"""What different words for the same thing have in common."""

from __future__ import annotations

import pytest
import re2

from catalog.embed import Lexicon
from catalog.thesaurus import CONCEPTS, IMPLIES


def spoken(text: str) -> set[str]:
    return {concept.name for concept in CONCEPTS if concept.pattern.search(text.lower())}


@pytest.mark.parametrize(
    ("concept", "ways"),
    [
        ("memory-exhausted", ["OOMKilled", "the oom killer was invoked", "exit status 137", "ran out of memory"]),
        ("memory-leak", ["leaks memory", "memory climbs steadily", "entries are never released"]),
        ("roll-back", ["rollback", "rolled back", "undone", "return to the former build", "last known-good"]),
        ("image-reference", ["manifest unknown", "the tag does not exist", "a tag that was never pushed"]),
        ("pull-credentials", ["imagePullSecret", "pull access denied", "the registry token", "expired credentials"]),
        ("cluster-capacity", ["Insufficient cpu", "add another node", "nodes are fully booked"]),
        ("node-unready", ["NodeNotReady", "stopped posting node status", "a kernel panic", "NotReady node"]),
        ("cordon-drain", ["cordoned", "draining", "evacuate the machine", "evicted"]),
        ("taint", ["untolerated taint", "NoSchedule", "untaint"]),
        ("autoscaler", ["HPA", "maxReplicas", "ScalingLimited", "HorizontalPodAutoscaler"]),
        ("disruption-budget", ["PDB", "minAvailable", "maxUnavailable", "evictions are refused"]),
        ("noisy-workload", ["leaks connections", "idle in transaction", "hogs", "starves its neighbours"]),
        ("storage-full", ["no space left on device", "ENOSPC", "91 % full", "disk pressure", "filling up"]),
        ("network-policy", ["NetworkPolicy", "default-deny", "policyTypes"]),
        ("mesh-authorization", ["RBAC: access denied", "AuthorizationPolicy", "answered 403"]),
        ("certificate", ["ClusterIssuer", "x509", "the signing CA", "cert-manager"]),
        ("api-permission", ["RoleBinding", "is forbidden", "cannot list resource", "its service account"]),
        ("pod-security", ["securityContext", "runAsUser", "SYS_ADMIN", "hostPath", "UID 0"]),
        ("connection-pool", ["max_connections", "too many clients", "sorry, too many database connections"]),
        ("configuration-content", ["unknown directive", "parse error", "syntax error", "edited in place"]),
        ("gitops", ["Argo CD", "ArgoCD", "Flux", "reverted the commit", "self-healed"]),
    ],
)
def test_ways_to_say_it(concept, ways):
    """Each way is heard."""
    assert [way for way in ways if concept not in spoken(way)] == []


@pytest.mark.parametrize(
    "denied",
    [
        "no OOMKilled container",
        "it was not OOMKilled",
        "OOMKilled was seen, nothing else",
        "neither OOMKilled nor evicted",
    ],
)
def test_denial(denied):
    """What is said not to be the case counts for less than what is the case, and only before the word."""
    said, unsaid, other = Lexicon().embed(["OOMKilled", denied, "out of memory, exit code 137"])
    before = denied.startswith("OOMKilled")
    assert bool(other @ unsaid > 0.4 * (other @ said)) == before


@pytest.mark.parametrize("concept", CONCEPTS, ids=lambda concept: concept.name)
def test_every_concept_is_cheap_and_says_something(concept):
    """Patterns run in linear time (re2 takes them), match no empty text and nothing of everyday prose."""
    assert re2.compile(concept.pattern.pattern)
    assert not concept.pattern.search("")
    assert not concept.pattern.search("the quick brown fox jumps over the lazy dog and goes home")
    assert concept.weight > 0


def test_what_is_implied_is_there():
    """Both ends of an implication are concepts."""
    names = {concept.name for concept in CONCEPTS}
    assert IMPLIES.keys() <= names
    assert {other for others in IMPLIES.values() for other in others} <= names
