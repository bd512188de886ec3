"""The embedded Kubernetes API server: an honest subset of kube-apiserver on one SQLite file, for one machine.

Clients reach it over HTTPS as they would a cluster; nothing else in this project imports it but whatever starts it. It
holds objects and their rules (validation, watches, authorization, garbage collection) and runs no workload controllers,
scheduler or kubelet: a Pod's status is whatever somebody writes to its ``/status``.
"""
