"""Parameters that a route reads by itself, for the OpenAPI document.

Some must be read by rules of our own: a header may come in several lines, a parameter of a URL
must not. Those that a signature names Litestar reads as well, which takes as long as a third of
a lookup.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

from litestar.openapi.spec import OpenAPIType, Operation, Parameter, Schema

from service import schemas, users

KEY_LENGTH = 255


def parameter(
    name: str, place: Literal["header", "query"], description: str, **schema: Any
) -> Parameter:
    """A parameter that may be left out; a string, unless its schema says otherwise."""
    said = Schema(**{"type": OpenAPIType.STRING, "description": description, **schema})
    return Parameter(name, place, said, description)


@dataclass
class Taking(Operation):
    """An operation that reads parameters by itself."""

    taken: ClassVar[Sequence[Parameter]]

    def __post_init__(self) -> None:
        self.parameters = [*(self.parameters or ()), *self.taken]


class IfMatch(Taking):
    """Does what it does to no other version."""

    taken = (
        parameter(
            "If-Match",
            "header",
            "Only if the user is still the version with this ETag (RFC 9110).",
        ),
    )


class IfNoneMatch(Taking):
    """Sends no version twice."""

    taken = (
        parameter(
            "If-None-Match",
            "header",
            "The ETag of the version that you have; if it is still current, the answer is 304, "
            "without the user.",
        ),
    )


class Repeatable(Taking):
    """Does what it does once, however often it is asked."""

    taken = (
        parameter(
            "Idempotency-Key",
            "header",
            "Any text of the client's making, one for each thing to be done: the same key and "
            "request get the same answer again, for 24 hours.",
            min_length=1,
            max_length=KEY_LENGTH,
            pattern="^[!-~]([ -~]*[!-~])?$",
            examples=["8e03978e-40d5-43e8-bc93-6894a57f9324"],
        ),
    )


FILTER = {"max_length": users.FILTER_LENGTH, "pattern": schemas.NO_CONTROL}
FILTERS = (
    parameter(
        "name",
        "query",
        "The beginning of the name, whatever its case; the list is sorted by name.",
        **FILTER,
    ),
    parameter("email", "query", "The whole e-mail address, whatever its case.", **FILTER),
    parameter(
        "sort",
        "query",
        "`id`, or `full_name` where `name` is given, unless you say otherwise.",
        enum=[*get_args(schemas.Sort)],
    ),
)


class Listed(Taking):
    """Answers a page of a list."""

    taken = (
        parameter(
            "limit",
            "query",
            "How many users a page has at most.",
            type=OpenAPIType.INTEGER,
            minimum=1,
            maximum=schemas.PAGE_LIMIT,
            default=schemas.PAGE,
        ),
        parameter(
            "after",
            "query",
            "The `next` of the page before, with its other parameters unchanged.",
            pattern="^[A-Za-z0-9_-]+$",
        ),
        *FILTERS,
    )
