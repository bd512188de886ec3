"""The workflow catalog: schemas, OCI bundles, the store, search, and the audit archive."""
