"""Accept and Accept-Encoding: which form of a response a client prefers (RFC 9110, 12.4 and 12.5).

Litestar's `Accept` takes a weight of 0, which forbids a form, for the lowest preference.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

WEIGHT = re.compile(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?")
REMEMBERED_LENGTH = 256  # bytes of a remembered header, at most
UNNAMED = 0.0001  # the weight of a form that the header does not mention: less than any in it

Weights = Mapping[str, float]


def weights(lines: Iterable[bytes]) -> Weights:
    """Return the weight of each form in the lines of a header, by its name in lower case.

    A form that is named twice has the lower weight; one with a malformed weight is left out.
    """
    header = b",".join(lines)
    # clients send the same few headers again and again
    return remembered_weights(header) if len(header) <= REMEMBERED_LENGTH else read_weights(header)


def read_weights(header: bytes) -> Weights:
    """Return the weights in a header."""
    found: dict[str, float] = {}
    for item in header.decode("latin-1").lower().split(","):
        name, *parameters = (part.strip() for part in item.split(";"))
        weight = next((part[2:] for part in parameters if part.startswith("q=")), "1")
        if name and WEIGHT.fullmatch(weight):
            found[name] = min(float(weight), found.get(name, 1))
    return found


remembered_weights = lru_cache(maxsize=256)(read_weights)


def of_media_type(media_type: str, accepted: Weights) -> float:
    """Return the weight of a media type, which may be given for the type as a whole, or for all."""
    whole = f"{media_type.partition('/')[0]}/*"
    return next((accepted[key] for key in (media_type, whole, "*/*") if key in accepted), UNNAMED)


def preferred_media_type(offered: Sequence[str], accepted: Weights) -> str | None:
    """Return the best of the media types, the first of equals; None where all are forbidden."""
    best = max(offered, key=lambda media_type: of_media_type(media_type, accepted))
    return best if of_media_type(best, accepted) else None


def preferred_coding(offered: Sequence[str], accepted: Weights) -> str | None:
    """Return the best of the content codings, the first of equals, or else `identity`.

    None where identity is forbidden, too.
    """

    def of_coding(coding: str) -> float:
        return accepted.get(coding, accepted.get("*", 0))

    if offered and of_coding(best := max(offered, key=of_coding)):
        return best
    return "identity" if accepted.get("identity", accepted.get("*", 1)) else None
