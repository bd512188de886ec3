"""A whole system for a benchmark: brought up on a data directory of its own, its processes found by their part, killed by id.

Only processes below the ``up`` that was started here are ever looked at.
"""

from __future__ import annotations

import os
import random
import re
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from benchmarks._load import Target
from serve_apps.gateway.adapters import PREFIX
from tests.flow.running import Running, descendants

ROUTE = f"{PREFIX}/prometheus"

PARTS = {
    "gateway": re.compile(r"ray::(.*:)?ServeReplica:gateway:"),
    "controller": re.compile(r"ray::(.*:)?ControllerHost\b"),
    "catalog owner": re.compile(r"ray::(.*:)?CatalogOwner\b"),
    "API server": re.compile(r"\S+ -m kubernaut_ray\.kube\.embedded "),
}
"""What may be killed, and how its command line begins; Ray writes the actor's class and what it is doing there."""


@dataclass(frozen=True, slots=True)
class Process:
    pid: int
    part: str


class System:
    """One ``kubernaut-ray up`` with nothing in it that a benchmark does not need."""

    def __init__(self, data_dir: Path, *options: str) -> None:
        self.running = Running(data_dir, "--no-dashboard", "--no-shipped-workflows", *options)

    @classmethod
    def started(cls, data_dir: Path, *options: str) -> tuple[Self, float]:
        """Bring one up; returns it and the seconds that it took."""
        system = cls(data_dir, *options)
        return system, system.running.start()

    @property
    def kubeconfig(self) -> Path:
        return self.running.kubeconfig

    def doors(self) -> list[Target]:
        """Every way in for Alertmanager webhooks: the gateway's own where it has one, and the ingress of Ray Serve."""
        endpoints = self.running.endpoints
        bases = (getattr(endpoints, "signals", ""), endpoints.gateway)
        return [Target(f"{base}{ROUTE}", self.running.data_dir / "token") for base in bases if base]

    def processes(self) -> list[Process]:
        """The living processes of the parts that may be killed."""
        found = []
        for pid in descendants(self.running.pid):
            try:
                command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            found += [Process(pid, part) for part, begins in PARTS.items() if begins.match(command)]
        return found

    def kill(self, part: str, dice: random.Random) -> int:
        """``kill -9`` one process of this part, drawn by lot; returns its id, 0 when there is none now."""
        alive = [process.pid for process in self.processes() if process.part == part]
        if not alive:
            return 0
        pid = dice.choice(alive)
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return 0
        return pid
