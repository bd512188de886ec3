"""An incident reconstructed from its audit events alone: pure functions, without a database and without a clock."""
