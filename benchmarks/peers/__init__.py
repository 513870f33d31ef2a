"""Who the service is compared to: the same three requests, served in other ways.

Each reads DATABASE_URL and PORT, and maps the table `users` as it stands.
"""
