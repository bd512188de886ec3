"""WorkflowExecution: one run (a PipelineRun, a Job) of one workflow on one target, watched to its end and told in a structured form."""
