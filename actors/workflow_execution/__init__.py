"""WorkflowExecution: one PipelineRun for one workflow on one target, watched to its end and told in a structured form."""
