"""Data Storage: the workflow catalog and its search, the audit trail, durable investigations, execution statistics."""
