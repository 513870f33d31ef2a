"""How fast the service is, and how much memory it takes."""
