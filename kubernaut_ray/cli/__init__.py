"""The command line ``kubernaut-ray``: one module a command, wired together here. Ray is imported by ``up`` and ``demo`` only.

Exit codes: 0 done · 1 it failed · 2 wrong usage · 3 no such object · 4 nothing is running or it cannot be reached ·
5 refused (already decided, expired, invalid input).
"""

from __future__ import annotations

from kubernaut_ray.cli.app import app

__all__ = ["app"]
