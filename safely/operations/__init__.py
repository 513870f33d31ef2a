"""The operations that a revision calls, in one file for each kind."""
