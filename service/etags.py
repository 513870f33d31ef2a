"""ETags: the version of a user as clients see it (RFC 9110, 8.8), and conditions on it (13.1)."""

import hashlib
import re
from typing import NamedTuple

TAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
# no two parts of it match the same blanks: it takes time linear in the header's length
TAGS = re.compile(rf"[ \t]*(?:{TAG}[ \t]*)?(?:,[ \t]*(?:{TAG}[ \t]*)?)*")


def etag(body: bytes) -> str:
    """Return a strong validator: a hash of the representation.

    A hash needs no column, so it holds for writers of every build.
    """
    return f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'


class Condition(NamedTuple):
    """The content of an If-Match or If-None-Match header."""

    is_any: bool  # it is `*`, which every version matches
    tags: frozenset[str] = frozenset()

    def matches(self, tag: str | None, *, weak: bool) -> bool:
        """Return whether it names the ETag of something that exists; None where that has no ETag.

        If-None-Match compares weakly. If-Match compares strongly: a weak tag never matches it.
        """
        if self.is_any:
            return True
        tags = {each.removeprefix("W/") for each in self.tags} if weak else self.tags
        return tag in tags


def condition(header: str) -> Condition:
    """Parse an If-Match or If-None-Match header; raise ValueError with what is wrong with it."""
    if header.strip(" \t") == "*":
        return Condition(is_any=True)
    tags = frozenset(re.findall(TAG, header)) if TAGS.fullmatch(header) else None
    if not tags:
        raise ValueError("must be * or a list of ETags, each in double quotes")
    return Condition(is_any=False, tags=tags)


class Conditions(NamedTuple):
    """The conditions of a request: all must be met."""

    if_match: Condition | None = None
    if_none_match: Condition | None = None

    def unmet(self, tag: str | None) -> str | None:
        """Return the name of the first header that forbids the version; None where none does.

        `tag` is the ETag of something that exists; None where that has no ETag.
        """
        if self.if_match is not None and not self.if_match.matches(tag, weak=False):
            return "If-Match"
        if self.if_none_match is not None and self.if_none_match.matches(tag, weak=True):
            return "If-None-Match"
        return None


UNCONDITIONAL = Conditions()
