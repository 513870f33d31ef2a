"""Databases to throw away."""
