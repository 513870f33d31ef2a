"""ETags: the version of a user as clients see it (RFC 9110, 8.8)."""

import hashlib


def etag(body: bytes) -> str:
    """Return a strong validator: a hash of the representation.

    A hash needs no column, so it holds for writers of every build.
    """
    return f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'


def matches(header: str, tag: str, *, weak: bool) -> bool:
    """Return whether an If-Match or If-None-Match header names the ETag (RFC 9110, 13.1).

    If-None-Match compares weakly. If-Match compares strongly: a weak tag never matches it.
    """
    if header.strip() == "*":
        return True
    candidates = (candidate.strip() for candidate in header.split(","))
    if weak:
        candidates = (candidate.removeprefix("W/") for candidate in candidates)
    return tag in candidates
