"""The ledger, the schema's snapshot, and drift."""
