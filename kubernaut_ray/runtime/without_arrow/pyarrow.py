"""Stands in for pyarrow where nobody needs it: this folder goes first on ``PYTHONPATH`` of Ray's workers.

Ray imports pyarrow in every worker where it is installed, to serialise datasets, which we have none of: 14 MiB and a
quarter of a CPU second in each process. The catalog owner, which writes through Arrow, runs without this folder.
"""

raise ModuleNotFoundError("pyarrow is kept out of this process; only the catalog owner uses it", name="pyarrow")
