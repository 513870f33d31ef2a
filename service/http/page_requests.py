"""Read the URL of a list, and write the URLs of its pages."""

from typing import NamedTuple
from urllib.parse import urlencode

from service.http.parameters import AFTER, EMAIL, LIMIT, NAME, SORT, ListOperation, Query
from service.user_lists import DEFAULT_LIMIT, Listing, listing_of, require_own_cursor

REMEMBERED = 256  # queries of first pages
QUERY_LENGTH = 128  # bytes of a remembered query, at most
PARAMETERS = [parameter.name for parameter in ListOperation.declared]


class PageRequest(NamedTuple):
    """A page of a list, and the list's own parameters as a URL has them, without `after`."""

    listing: Listing
    parameters: str

    def links(self, path: str, next_cursor: str | None) -> str:
        """Return the Link header of the page (RFC 8288); a cursor needs no quoting."""
        first = f"{path}?{self.parameters}" if self.parameters else path
        if next_cursor is None:
            return f'<{first}>; rel="first"'
        separator = "&" if self.parameters else "?"
        return f'<{first}>; rel="first", <{first}{separator}after={next_cursor}>; rel="next"'


first_pages: dict[bytes, PageRequest] = {}


def page_request(query_string: bytes) -> PageRequest:
    """Return the page that the query of a URL names; raise InvalidInput.

    First pages of whole lists are requested again and again, and reading a query takes a fifth of
    their time: these are remembered. No other query is, since it may hold a name or an address.
    """
    if (known := first_pages.get(query_string)) is not None:
        return known
    request = read_page_request(query_string)
    listing = request.listing
    if len(query_string) <= QUERY_LENGTH and listing == Listing(listing.sort, listing.limit):
        if len(first_pages) >= REMEMBERED:
            first_pages.clear()
        first_pages[query_string] = request
    return request


def read_page_request(query_string: bytes) -> PageRequest:
    """Parse the query of a URL; raise InvalidInput."""
    query = Query(query_string)
    limit = query.value(LIMIT) or DEFAULT_LIMIT
    query.require_only(*PARAMETERS)
    after = query.value(AFTER)
    listing = listing_in(query)._replace(limit=limit, after=after)
    require_own_cursor(listing)
    own = {
        name: query.texts[name] for name in PARAMETERS if name in query.texts and name != AFTER.name
    }
    return PageRequest(listing, urlencode(own))


def listing_in(query: Query) -> Listing:
    """Return the list without pages; raise InvalidInput."""
    sort = query.value(SORT)
    return listing_of(query.value(NAME), query.value(EMAIL), sort)
