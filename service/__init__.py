"""The users service: keeps users, over HTTP, while its schema evolves."""
