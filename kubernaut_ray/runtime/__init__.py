"""Brings everything up on one machine, or against a cluster: API server, Ray, Serve apps, the fleet, the pipeline runner.

Called by ``kubernaut-ray up`` and ``demo`` only. Nothing here decides about incidents.
"""
