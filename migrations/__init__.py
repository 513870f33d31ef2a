"""How the schema evolves."""
