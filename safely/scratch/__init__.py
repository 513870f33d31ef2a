"""Databases to throw away, and a PostgreSQL server for development."""
