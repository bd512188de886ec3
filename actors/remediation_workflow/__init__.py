"""The RemediationWorkflow controller: what is declared is registered in the catalog, and withdrawn when it is deleted."""
