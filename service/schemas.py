"""The structs of requests and responses.

The `Meta` annotations make the OpenAPI document. What is accepted is decided by
`service.validation`, which reports all flaws of an input at once.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

NAME_LENGTH = 200  # characters, after trimming and NFC
EMAIL_LENGTH = 254  # RFC 5321's path of 256 less its angle brackets
AGE_LIMIT = 150
BIGINT_LIMIT = 2**63 - 1
FLAW_LIMIT = 20  # more flaws are left out: a response must not be larger than its request

CONTROL = r"\x00-\x1f\x7f-\x9f"
NO_CONTROL = rf"^[^{CONTROL}]*$"
Id = Annotated[
    int,
    Meta(
        ge=1,
        le=BIGINT_LIMIT,
        description="Given by the service.",
        extra_json_schema={"format": "int64"},
    ),
]
FullName = Annotated[str, Meta(min_length=1, max_length=NAME_LENGTH, pattern=NO_CONTROL)]
GivenName = Annotated[
    str,
    Meta(
        # no max_length: spaces around the name don't count
        pattern=rf"^\s*[^\s{CONTROL}]([^{CONTROL}]{{0,{NAME_LENGTH - 2}}}[^\s{CONTROL}])?\s*$",
        description=f"1 to {NAME_LENGTH} characters, none control and one at least that shows, "
        "once it is trimmed and in Unicode's NFC, as it is kept.",
    ),
]
Email = Annotated[
    str,
    Meta(
        max_length=EMAIL_LENGTH,
        description="Unique without regard to case; at most 64 characters before the @-sign; its "
        "domain is one that mail can be sent to. One with letters beyond ASCII is kept in lower "
        "case before the @-sign.",
        extra_json_schema={"format": "idn-email"},
    ),
]
Age = Annotated[int, Meta(ge=0, le=AGE_LIMIT, description="Years.")]

Count = Annotated[int, Meta(ge=0)]

Sort = Literal["id", "-id", "full_name", "-full_name"]


class User(Struct, frozen=True):
    """A user as clients see it; `email` and `age` are null when not known."""

    id: Id
    full_name: FullName
    email: Email | None
    age: Age | None


class NewUser(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What creates a user."""

    full_name: GivenName
    email: Email | None = None
    age: Age | None = None


class UserChanges(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A merge patch (RFC 7396): what is absent stays, null removes."""

    full_name: GivenName | UnsetType = UNSET
    email: Email | UnsetType | None = UNSET
    age: Age | UnsetType | None = UNSET


class Page(Struct, frozen=True, kw_only=True):
    """A stretch of the list; `next` is the cursor of the one after it, null on the last."""

    items: list[User]
    next: str | None


class FlawMessage(Struct, frozen=True, kw_only=True):
    """One thing wrong with the input, and where."""

    pointer: Annotated[
        str,
        Meta(
            description="Into the body (RFC 6901); of a parameter or a header its name after `/`."
        ),
    ]
    detail: str


class Rejection(Struct, frozen=True, kw_only=True):
    """A line of an import that can't be a user."""

    line: Annotated[int, Meta(ge=1, description="From 1, a CSV's header included.")]
    errors: list[FlawMessage]


class ImportCounts(Struct, frozen=True, kw_only=True):
    """What became of an import's lines."""

    created: Count
    updated: Count
    skipped: Count
    rejected: Count


class ImportReport(ImportCounts, frozen=True, kw_only=True):
    """What became of an import's lines, and the first 100 that were rejected."""

    rejections: list[Rejection]


class Problem(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a request was refused (RFC 9457)."""

    type: Annotated[str, Meta(description="The kind of problem; it never changes.")]
    title: Annotated[str, Meta(description="The kind of problem, for people.")]
    status: Annotated[int, Meta(ge=400, le=599, description="The answer's status.")]
    detail: Annotated[str, Meta(description="What is wrong in this case, for people.")]
    instance: Annotated[str, Meta(description="The path that was asked for.")]
    errors: Annotated[
        list[FlawMessage], Meta(description=f"The flaws of the input, the first {FLAW_LIMIT}.")
    ] = []
    rejections: Annotated[
        list[Rejection], Meta(description="The first 100 lines of an import that can't be users.")
    ] = []


class Live(Struct, frozen=True, kw_only=True):
    """The process answers."""

    status: Literal["live"]


class Ready(Struct, frozen=True, kw_only=True):
    """The service can serve; the revisions are those of the schema."""

    status: Literal["ready"]
    build: Annotated[str, Meta(description="The revision that this build knows.")]
    database: Annotated[str, Meta(description="The revision that the database is at.")]
    writes: Annotated[
        bool, Meta(description="Whether the database takes writes; a standby only reads.")
    ]


encode = msgspec.json.Encoder().encode  # a struct as JSON
