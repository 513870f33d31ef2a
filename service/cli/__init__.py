"""`python -m service`: the commands."""
