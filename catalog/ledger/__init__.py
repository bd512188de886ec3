"""The tamper-evident audit trail: canonical JSON, hash chains, Merkle trees, signatures, bundles, and the verifier.

Pure: nothing here opens the database. What is computed here anybody can compute from RFC 8785, RFC 6962 and the models of
``kubernaut_ray.contracts.ledger``.
"""
