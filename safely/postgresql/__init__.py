"""A PostgreSQL server and its own programs."""
