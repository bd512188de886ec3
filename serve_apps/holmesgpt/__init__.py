"""The HolmesGPT-API: durable investigations that end in one validated workflow, in nothing to do, or in a person's hands."""
