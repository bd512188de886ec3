"""The Kubernetes seam: the only place that knows the official client. Objects are plain JSON mappings here."""
