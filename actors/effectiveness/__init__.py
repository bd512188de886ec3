"""The effectiveness controller: judges whether a workflow that succeeded also helped."""
