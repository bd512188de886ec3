"""The control engine: observe → decide → apply, level-triggered and crash-safe. asyncio only, no Ray.

A controller gives ``observe`` (reads) and ``decide`` (pure); the engine performs effects in order, then writes the status
once, last. A crash at any point is a re-run: effects are idempotent by deterministic names.
"""
