"""Rego policies: real evaluation, default deny, hot reload that keeps the last good version.

Controllers use ``engine.PolicyEngine``; the command line uses ``check.check``. Only ``interpreter`` knows the evaluator.
"""
