"""Tokens, scopes and the rate limit."""
