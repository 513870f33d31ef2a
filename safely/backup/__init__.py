"""Backups: written, restored and compared."""
