"""What clients send and receive: the structs, the rules for their values, the bytes."""

import base64
import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from email_validator import SPECIAL_USE_DOMAIN_NAMES, EmailNotValidError, validate_email
from email_validator.rfc_constants import CASE_INSENSITIVE_MAILBOX_NAMES, DOT_ATOM_TEXT
from msgspec import UNSET, Meta, Struct, UnsetType

from service.errors import Flaw, InvalidInput, MalformedJson, Rejected

NAME_LENGTH = 200  # characters, after trimming and NFC
NFC_SHRINKS = 4  # at most this many characters become one
EMAIL_LENGTH = 254  # RFC 5321's path of 256 less its angle brackets
ROLES = frozenset(CASE_INSENSITIVE_MAILBOX_NAMES)  # postmaster and the like, kept in lower case
AGE_LIMIT = 150
BIGINT_LIMIT = 2**63 - 1
PAGE = 50  # users, unless a limit is given
PAGE_LIMIT = 1000
FLAW_LIMIT = 20  # more are not told: the answer shall not be larger than the question

DOMAIN_LENGTH = 253  # characters; RFC 1035
# labels of letters, digits and single hyphens: no two together, which IDNA has rules for
PLAIN_DOMAIN = re.compile(r"([a-z0-9](([a-z0-9]|-(?!-)){0,61}[a-z0-9])?\.)+[a-z]{2,63}")
NOT_FOR_EMAIL = frozenset(SPECIAL_USE_DOMAIN_NAMES)  # each of them a last label

# The Meta are for the OpenAPI document; what is accepted is decided by CHECKS below
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
        description=f"1 to {NAME_LENGTH} characters, none control, "
        "once it is trimmed and in Unicode's NFC, as it is kept.",
    ),
]
Email = Annotated[
    str,
    Meta(
        max_length=EMAIL_LENGTH,
        description="Unique without regard to case; its domain is one that mail can be sent to.",
        extra_json_schema={"format": "idn-email"},
    ),
]
Age = Annotated[int, Meta(ge=0, le=AGE_LIMIT, description="Years.")]

Count = Annotated[int, Meta(ge=0)]

Sort = Literal["id", "-id", "full_name", "-full_name"]


class User(Struct, frozen=True, kw_only=True):
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


class Cursor(Struct, frozen=True, array_like=True):
    """Where a page ended, and of which list."""

    sort: Sort
    name: str | None
    email: str | None
    id: int
    key: str | None  # the folded name of that row, when names decide the order


def full_name(value: object) -> str:
    """A name as it is kept; raises ValueError with what is wrong with it."""
    if not isinstance(value, str):
        raise ValueError("must be a string")  # noqa: TRY004  # one kind for one flaw
    name = value.strip()
    if len(name) <= NAME_LENGTH * NFC_SHRINKS:  # normalising takes time quadratic in the length
        name = unicodedata.normalize("NFC", name).strip()
    if not name:
        raise ValueError("must not be empty")
    if len(name) > NAME_LENGTH:
        raise ValueError(f"must have at most {NAME_LENGTH} characters, not {len(name)}")
    if has_control(name):
        raise ValueError("must not contain control characters")
    return name


def email(value: object) -> str | None:
    """An e-mail address as it is kept; raises ValueError with what is wrong with it."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError("must be a string or null")  # noqa: TRY004
    if len(value) > EMAIL_LENGTH:
        raise ValueError(f"must have at most {EMAIL_LENGTH} characters")
    local, _, domain = value.partition("@")
    if DOT_ATOM_TEXT.match(local) and local.lower() not in ROLES and (kept := plain_domain(domain)):
        return f"{local}@{kept}"
    try:
        address = validate_email(value, check_deliverability=False).normalized
    except EmailNotValidError as error:
        raise ValueError(f"is not an e-mail address: {error}") from None
    if len(address) > EMAIL_LENGTH:
        raise ValueError(f"must have at most {EMAIL_LENGTH} characters")
    return address


def plain_domain(domain: str) -> str | None:
    """The domain of an address as it is kept, if it is a plain one; None if it must be looked into.

    Asking email-validator takes some 30 µs. A plain domain is ASCII and only lowered, so that the
    address keeps its length.
    """
    kept = domain.lower()
    if domain.isascii() and PLAIN_DOMAIN.fullmatch(kept) and len(kept) <= DOMAIN_LENGTH:
        return kept if kept.rpartition(".")[2] not in NOT_FOR_EMAIL else None
    return None


def age(value: object) -> int | None:
    """An age in years; raises ValueError with what is wrong with it."""
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError("must be a whole number or null")  # noqa: TRY004
    if not 0 <= value <= AGE_LIMIT:
        raise ValueError(f"must be between 0 and {AGE_LIMIT}")
    return value


CHECKS: dict[str, Callable[[object], Any]] = {"full_name": full_name, "email": email, "age": age}

Input = TypeVar("Input", NewUser, UserChanges)


def decode(body: bytes, kind: type[Input]) -> Input:
    """The body as a NewUser or UserChanges.

    Raises MalformedJson, or InvalidInput with every flaw at once.
    """
    try:
        given = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise MalformedJson("the body is not JSON in UTF-8") from None
    except RecursionError:
        raise MalformedJson("the body is nested too deeply") from None
    if not isinstance(given, dict):
        raise InvalidInput(Flaw("", "must be an object"))
    values, flaws = checked(given)
    if kind is NewUser and "full_name" not in given:
        flaws.append(Flaw("/full_name", "is required"))
    if kind is UserChanges and not given:
        flaws.append(Flaw("", "must name at least one field to change"))
    if flaws:
        raise InvalidInput(*flaws[:FLAW_LIMIT])
    return kind(**values)


def checked(given: dict[str, object]) -> tuple[dict[str, Any], list[Flaw]]:
    """The values as they are kept, and what is wrong with the others."""
    values: dict[str, Any] = {}
    flaws: list[Flaw] = []
    for name, value in given.items():
        if name not in CHECKS:
            flaws.append(Flaw(f"/{escaped(name)}", "is not a field of a user"))
            continue
        try:
            values[name] = CHECKS[name](value)
        except ValueError as error:
            flaws.append(Flaw(f"/{name}", str(error)))
    return values, flaws


def flaw_messages(flaws: Iterable[Flaw]) -> list[FlawMessage]:
    """Flaws as clients see them."""
    return [FlawMessage(pointer=flaw.pointer, detail=flaw.detail) for flaw in flaws]


def rejection(rejected: Rejected) -> Rejection:
    """A rejected line as clients see it."""
    return Rejection(line=rejected.line, errors=flaw_messages(rejected.flaws))


def name_prefix(text: str) -> str:
    """The beginning of a name in the form in which names are kept."""
    return unicodedata.normalize("NFC", text).lstrip()


def email_as_kept(text: str) -> str:
    """An address in the form in which addresses are kept; what is none is nobody's."""
    try:
        return email(text) or text
    except ValueError:
        return text


def escaped(name: str) -> str:
    """A member's name as part of a JSON pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")


def has_control(text: str) -> bool:
    """Whether there is a control character in it."""
    if text.isprintable():  # no control character is, and this is a hundred times as fast
        return False
    return any(unicodedata.category(character) == "Cc" for character in text)


def encode(value: Struct) -> bytes:
    """JSON."""
    return msgspec.json.encode(value)


def etag(body: bytes) -> str:
    """A strong validator: a hash of the representation, so it holds for writers of every build."""
    return f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'


def matches(header: str, tag: str, *, weakly: bool) -> bool:
    """Whether an If-Match or If-None-Match names the tag (RFC 9110, 13.1).

    If-None-Match compares weakly, If-Match strongly: a weak tag never matches it.
    """
    if header.strip() == "*":
        return True
    candidates = (candidate.strip() for candidate in header.split(","))
    if weakly:
        candidates = (candidate.removeprefix("W/") for candidate in candidates)
    return tag in candidates


def encode_cursor(cursor: Cursor) -> str:
    """Opaque text for a URL, with a checksum against typing and guessing."""
    content = msgspec.msgpack.encode(cursor)
    return base64.urlsafe_b64encode(checksum(content) + content).rstrip(b"=").decode()


def decode_cursor(text: str) -> Cursor:
    """The cursor again; raises InvalidInput for anything that encode_cursor did not write."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        content = raw[CHECKSUM:]
        if checksum(content) == raw[:CHECKSUM]:
            return msgspec.msgpack.decode(content, type=Cursor)
    except (ValueError, msgspec.DecodeError):
        pass
    raise InvalidInput(Flaw("/after", "is not a cursor that this service gave"))


CHECKSUM = 6  # bytes


def checksum(content: bytes) -> bytes:
    """Enough to tell a cursor from anything else."""
    return hashlib.blake2b(content, digest_size=CHECKSUM, person=b"users.cursor").digest()
