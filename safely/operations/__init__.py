"""The operations that a revision calls, one file per kind."""
