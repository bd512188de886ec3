"""Enriches a signal from the cluster and classifies it by policy: one ``SignalProcessing`` at a time, phase by phase."""
