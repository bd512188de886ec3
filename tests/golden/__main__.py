"""``python -m tests.golden``: write the objects that executions become."""

from __future__ import annotations

from tests.golden.objects import write

if __name__ == "__main__":
    for name in write():
        print(f"wrote {name}")
