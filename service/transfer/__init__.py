"""Import and export: many users at once."""
