"""A migration: lock, steps, retry, published versions."""
