"""The approval controller: initialises, seals and expires RemediationApprovalRequests."""
