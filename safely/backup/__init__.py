"""Backups: writes, restores and compares them."""
