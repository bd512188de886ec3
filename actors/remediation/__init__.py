"""The orchestrator: drives a RemediationRequest from its signal to its outcome through the children that it creates."""
