"""Kubernaut on Ray: from an alert to a remediated workload, with a trace of every step."""

__version__ = "0.1.0"
