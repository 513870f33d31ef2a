"""The checks of a revision, each module a subject: what `lint` reports."""
