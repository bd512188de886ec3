"""Forwards the Warning events of a cluster to the gateway, with a durable position of its own."""
