"""The rules for what clients send: values as they are stored, or every flaw at once."""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import msgspec
from email_validator import SPECIAL_USE_DOMAIN_NAMES, EmailNotValidError, validate_email
from email_validator.rfc_constants import CASE_INSENSITIVE_MAILBOX_NAMES, DOT_ATOM_TEXT

from service.errors import Flaw, InvalidInput, MalformedJson, Rejected
from service.schemas import (
    AGE_LIMIT,
    EMAIL_LENGTH,
    FLAW_LIMIT,
    NAME_LENGTH,
    FlawMessage,
    NewUser,
    Rejection,
    UserChanges,
)

REPEATED = "is given more than once"
LOCAL_LENGTH = 64  # characters before the @-sign; RFC 5321, 4.5.3.1.1
# Unicode's Default_Ignorable_Code_Point, and the blanks that are no white space: of Braille, of
# musical symbols and of Khitan
INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U00016fe4"
    "\U0001bca0-\U0001bca3\U0001d159\U0001d173-\U0001d17a\U000e0000-\U000e0fff]+"
)
POINTER_LENGTH = 100  # characters of a member's name that an error repeats
NFC_SHRINKS = 4  # at most this many characters become one
ROLES = frozenset(CASE_INSENSITIVE_MAILBOX_NAMES)  # postmaster and the like, stored in lower case
DOMAIN_LENGTH = 253  # characters; RFC 1035
# labels of letters, digits and single hyphens: no two together, which IDNA has rules for
PLAIN_DOMAIN = re.compile(r"([a-z0-9](([a-z0-9]|-(?!-)){0,61}[a-z0-9])?\.)+[a-z]{2,63}")
NOT_FOR_EMAIL = frozenset(SPECIAL_USE_DOMAIN_NAMES)  # each of them a last label

Input = TypeVar("Input", NewUser, UserChanges)


def full_name(value: object) -> str:
    """Return a name as it is stored: trimmed, in NFC. Raise ValueError with what is wrong."""
    if not isinstance(value, str):
        raise ValueError("must be a string")  # noqa: TRY004  # one exception type for all flaws
    name = value.strip()
    if len(name) <= NAME_LENGTH * NFC_SHRINKS:  # normalising takes time quadratic in the length
        name = unicodedata.normalize("NFC", name).strip()
    if not name:
        raise ValueError("must not be empty")
    if len(name) > NAME_LENGTH:
        raise ValueError(f"must have at most {NAME_LENGTH} characters, not {len(name)}")
    if has_control(name):
        raise ValueError("must not contain control characters")
    if not (name.isascii() or shows(name)):
        raise ValueError("must contain a character that shows")
    return name


def email(value: object) -> str | None:
    """Return an e-mail address as it is stored. Raise ValueError with what is wrong with it."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError("must be a string or null")  # noqa: TRY004  # see full_name
    if len(value) > EMAIL_LENGTH:
        raise ValueError(f"must have at most {EMAIL_LENGTH} characters")
    local, _, domain = value.partition("@")
    if DOT_ATOM_TEXT.match(local) and len(local) <= LOCAL_LENGTH and local.lower() not in ROLES:
        plain = plain_domain(domain)
        if plain is not None:
            return f"{local}@{plain}"
    try:
        valid = validate_email(value, check_deliverability=False)
    except EmailNotValidError as error:
        raise ValueError(f"is not an e-mail address: {error}") from None
    address = valid.normalized
    if not valid.local_part.isascii():
        # a database folds other letters than ASCII's as its collation does: SQLite not at all
        folded = unicodedata.normalize("NFC", valid.local_part.lower())
        address = f"{folded}@{valid.domain}"
    if len(address) > EMAIL_LENGTH:
        raise ValueError(f"must have at most {EMAIL_LENGTH} characters")
    if address.rindex("@") > LOCAL_LENGTH:
        raise ValueError(f"must have at most {LOCAL_LENGTH} characters before the @-sign")
    return address


def plain_domain(domain: str) -> str | None:
    """Return a plain domain in lower case; None for one that email-validator must look at.

    email-validator takes some 30 µs. A plain domain is ASCII and keeps its length.
    """
    lower = domain.lower()
    if domain.isascii() and PLAIN_DOMAIN.fullmatch(lower) and len(lower) <= DOMAIN_LENGTH:
        return lower if lower.rpartition(".")[2] not in NOT_FOR_EMAIL else None
    return None


def age(value: object) -> int | None:
    """Return an age in years. Raise ValueError with what is wrong with it."""
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError("must be a whole number or null")  # noqa: TRY004  # see full_name
    if not 0 <= value <= AGE_LIMIT:
        raise ValueError(f"must be between 0 and {AGE_LIMIT}")
    return value


CHECKS: dict[str, Callable[[object], Any]] = {"full_name": full_name, "email": email, "age": age}


def decode(body: bytes, schema: type[Input]) -> Input:
    """Return a JSON body as a NewUser or UserChanges.

    Raise MalformedJson, or InvalidInput with every flaw at once.
    """
    try:
        fields = msgspec.json.decode(body)
        # each member has a colon: more of them are in texts, or belong to a repeated member
        is_plain = isinstance(fields, dict) and body.count(b":") == len(fields)
        repeated = [] if is_plain else repeated_members(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise MalformedJson("the body is not JSON in UTF-8") from None
    except RecursionError:
        raise MalformedJson("the body is nested too deeply") from None
    if not isinstance(fields, dict):
        raise InvalidInput(Flaw("", "must be an object"))
    values, flaws = check_fields(fields)
    flaws += repeated
    if schema is NewUser and "full_name" not in fields:
        flaws.append(Flaw("/full_name", "is required"))
    if schema is UserChanges and not fields:
        flaws.append(Flaw("", "must name at least one field to change"))
    if flaws:
        raise InvalidInput(*flaws[:FLAW_LIMIT])
    return schema(**values)


def repeated_members(body: bytes) -> list[Flaw]:
    """Return a flaw for each name that an object in valid JSON has more than once.

    A proxy before the service may read another of its values. Raise RecursionError for JSON that
    is nested too deeply.
    """
    flaws: list[Flaw] = []

    def note(members: list[tuple[str, object]]) -> None:
        for name, times in Counter(name for name, _ in members).items():
            if times > 1:
                flaws.append(Flaw(f"/{escape_pointer(name)}", REPEATED))

    # numbers stay texts: Python refuses to read very long ones
    json.loads(body.decode(), object_pairs_hook=note, parse_int=str, parse_float=str)
    return flaws


def check_fields(fields: dict[str, object]) -> tuple[dict[str, Any], list[Flaw]]:
    """Return the valid values as they are stored, and the flaws of the others."""
    values: dict[str, Any] = {}
    flaws: list[Flaw] = []
    for name, value in fields.items():
        if name not in CHECKS:
            flaws.append(Flaw(f"/{escape_pointer(name)}", "is not a field of a user"))
            continue
        try:
            values[name] = CHECKS[name](value)
        except ValueError as error:
            flaws.append(Flaw(f"/{name}", str(error)))
    return values, flaws


def flaw_messages(flaws: Iterable[Flaw]) -> list[FlawMessage]:
    """Return flaws as clients see them."""
    return [FlawMessage(pointer=flaw.pointer, detail=flaw.detail) for flaw in flaws]


def rejection(rejected: Rejected) -> Rejection:
    """Return a rejected line as clients see it."""
    return Rejection(line=rejected.line, errors=flaw_messages(rejected.flaws))


def escape_pointer(name: str) -> str:
    """Return a member's name as part of a JSON pointer (RFC 6901), cut where it is long.

    A name of any length would come back twice, and longer than it was sent.
    """
    if len(name) > POINTER_LENGTH:
        name = f"{name[:POINTER_LENGTH]}…"
    return name.replace("~", "~0").replace("/", "~1")


def shows(text: str) -> bool:
    """Return whether a character of the text is visible."""
    return INVISIBLE.sub("", text).strip() != ""


def has_control(text: str) -> bool:
    """Return whether the text has a control character (Unicode category Cc)."""
    if text.isprintable():  # no control character is printable, and this is 100 times as fast
        return False
    return any(unicodedata.category(character) == "Cc" for character in text)
