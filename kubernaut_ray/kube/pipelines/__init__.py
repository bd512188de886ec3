"""Pipelines on one machine: what Tekton does for a PipelineRun, with the steps as child processes of this host."""
