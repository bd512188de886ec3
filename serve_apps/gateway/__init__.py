"""The gateway: signals in, RemediationRequests out. Stateless; the Kubernetes API is its only lock and its only memory."""
