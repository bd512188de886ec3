"""What a rule says: a cause with its evidence, how well it is supported, which kinds of action mend it, and with what values.

Values only; the rules are in ``rules_*.py``, and choosing a workflow is in ``remedies.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from kubernaut_ray.crds.enums import RcaSeverity
from kubernaut_ray.crds.shared import TargetResource


@dataclass(frozen=True, slots=True)
class Remedy:
    """A kind of action in words: a workflow is one when, of each group, it has a word that starts so."""

    what: str
    needs: tuple[tuple[str, ...], ...]
    weight: float = 1.0
    """How likely this action mends the cause, given that the cause is right."""

    def but(self, weight: float) -> Remedy:
        return Remedy(self.what, self.needs, weight)


_MORE = ("increas", "rais", "bump", "expand", "enlarg", "grow", "double", "resiz", "adjust")
RAISE_MEMORY = Remedy("raise the memory limit", (_MORE, ("memor",)))
RAISE_CPU = Remedy("raise the CPU limit", (_MORE, ("cpu",)))
ROLL_BACK = Remedy("roll back to the previous revision", (("rollback", "revert", "undo"),))
RESTART = Remedy("restart the pods", (("restart", "bounc", "recycl"),))
SCALE = Remedy("scale the replicas", (("scal",), ("replica", "out", "up", "deploy", "workload")))
RELAX_BUDGET = Remedy(
    "relax the PodDisruptionBudget",
    (("relax", "loosen", "lower", "adjust", "patch", "reduc"), ("pdb", "disrupt", "budget")),
)
DELETE_POD = Remedy("delete the stuck pod", (("delet", "remov", "kill", "forc"), ("pod",)))
DRAIN_NODE = Remedy("cordon and drain the node", (("drain", "evacuat"),))
ADD_NODE = Remedy("add a node", (("provision", "add"), ("node", "capacit")))
RAISE_SCALER = Remedy("raise the autoscaler's maximum", (("hpa", "autoscal"), ("patch", "max", *_MORE)))
FIX_IMAGE = Remedy("correct the image reference", (("fix", "correct", "updat"), ("image",)))
FIX_CONFIG = Remedy("correct the configuration", (("fix", "correct", "patch", "restor"), ("config", "secret")))
FREE_DISK = Remedy("free disk space", (("clean", "prun", "free", "gc"), ("disk", "imag", "storag", "pvc", "volum")))
FIX_VOLUME = Remedy(
    "repair the volume", (("fix", "expand", "provision", "recreat"), ("pvc", "volum", "storag", "claim"))
)
UNCORDON = Remedy("uncordon the node", (("uncordon",),))
CLEAN_JOBS = Remedy("clean up the failed Job", (("clean", "delet"), ("job",)))
RERUN_JOB = Remedy("run the job again", (("rerun", "retry", "recreat", "restart"), ("job",)))


@dataclass(frozen=True, slots=True)
class Hints:
    """Values for parameters, as far as the evidence gives them."""

    container: str = ""
    memory_limit: str = ""
    memory_request: str = ""
    cpu_limit: str = ""
    revisions: tuple[int, ...] = ()
    """To go back to, the best first."""
    image: str = ""
    replicas: int | None = None
    """The number that is wanted."""
    max_replicas: int | None = None
    min_available: int | None = None
    pod: str = ""
    node: str = ""
    budget: str = ""
    scaler: str = ""
    claim: str = ""


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """One possible cause. ``weight`` is the probability that it is the cause, by what the evidence has shown before."""

    signal_type: str
    weight: float
    summary: str
    evidence: tuple[str, ...]
    remedies: tuple[Remedy, ...]
    severity: RcaSeverity = RcaSeverity.HIGH
    factors: tuple[str, ...] = ()
    hints: Hints = field(default_factory=Hints)
    about: TargetResource | None = None
    """The resource at fault, when it is another than the target."""
