"""The ways out: one module a channel, each a `send(message)` that raises `Retryable` or `Permanent` and never a secret."""
