"""What the URL of a list asks for, and where its pages are."""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Annotated, NamedTuple, get_args
from urllib.parse import parse_qsl, urlencode

import msgspec

from service import schemas, users
from service.errors import Flaw, InvalidInput

PARAMETERS = ("limit", "after", "name", "email", "sort")
SORTS: tuple[schemas.Sort, ...] = get_args(schemas.Sort)
REMEMBERED = 1024  # URLs; the first page of a list is asked for again and again
SHORT = 512  # bytes; a longer one is not remembered

Limit = Annotated[int, msgspec.Meta(ge=1, le=schemas.PAGE_LIMIT)]


class Asked(NamedTuple):
    """A page of a list, and the list as a URL has it: its parameters but for `after`."""

    listing: users.Listing
    parameters: str

    def links(self, path: str, cursor: str | None) -> str:
        """The Link header of the page (RFC 8288); a cursor needs no quoting."""
        first = f"{path}?{self.parameters}" if self.parameters else path
        if cursor is None:
            return f'<{first}>; rel="first"'
        following = "&" if self.parameters else "?"
        return f'<{first}>; rel="first", <{first}{following}after={cursor}>; rel="next"'


def page_of(query: bytes) -> Asked:
    """What the query of a URL asks for; raises InvalidInput."""
    return remembered(query) if len(query) <= SHORT else read(query)


def read(query: bytes) -> Asked:
    """The same, anew."""
    given = parsed(query)
    values = dict(given)
    limit = limit_of(values.get("limit"))
    check(given, PARAMETERS)
    after = values.pop("after", None)
    cursor = None if after is None else schemas.decode_cursor(after)
    listing = list_of(values)._replace(limit=limit, after=cursor)
    users.check_cursor(listing)
    return Asked(listing, urlencode({name: values[name] for name in PARAMETERS if name in values}))


remembered = lru_cache(REMEMBERED)(read)


def parsed(query: bytes) -> list[tuple[str, str]]:
    """The parameters in a URL."""
    return parse_qsl(query.decode("latin-1"), keep_blank_values=True)


def limit_of(text: str | None) -> int:
    """How many users a page has at most."""
    try:
        return schemas.PAGE if text is None else msgspec.convert(text, Limit, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidInput(Flaw("/limit", str(error))) from None


def list_of(values: Mapping[str, str]) -> users.Listing:
    """The list without pages."""
    return users.listing_of(values.get("name"), values.get("email"), sort_of(values.get("sort")))


def sort_of(text: str | None) -> schemas.Sort | None:
    """The order that is asked for."""
    sort = next((sort for sort in SORTS if sort == text), None)
    if sort is None and text is not None:
        raise InvalidInput(Flaw("/sort", f"must be one of {', '.join(SORTS)}"))
    return sort


def check(given: Sequence[tuple[str, str]], known: Sequence[str]) -> None:
    """Refuse parameters that would otherwise be silently left out of account."""
    flaws = []
    counts = Counter(name for name, _ in given)
    for name in counts:
        if name not in known:
            flaws.append(Flaw(f"/{schemas.escaped(name)}", "is not a parameter of this URL"))
        elif counts[name] > 1:
            flaws.append(Flaw(f"/{name}", "is given more than once"))
    if flaws:
        raise InvalidInput(*flaws)
