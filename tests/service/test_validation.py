"""The fast checks of names and addresses give the same results as plain ones."""

import csv
import json
import unicodedata
from collections.abc import Callable
from typing import Any

import pytest
from email_validator import EmailNotValidError, validate_email
from hypothesis import example, given, settings
from hypothesis import strategies as st

from service import validation
from tests.paths import ROOT

NAUGHTY = json.loads((ROOT / "tests/data/naughty_strings.json").read_text(encoding="utf-8"))
with (ROOT / "tests/data/people.csv").open(encoding="utf-8", newline="") as file:
    PEOPLE = list(csv.DictReader(file))


def plain_full_name(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a string")  # noqa: TRY004  # the service raises ValueError
    name = value.strip()
    if len(name) <= 200 * 4:
        name = unicodedata.normalize("NFC", name).strip()
    if not name:
        raise ValueError("must not be empty")
    if len(name) > 200:
        raise ValueError(f"must have at most 200 characters, not {len(name)}")
    if plain_has_control(name):
        raise ValueError("must not contain control characters")
    if not any(plain_shows(character) for character in name):
        raise ValueError("must contain a character that shows")
    return name


def plain_email(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError("must be a string or null")  # noqa: TRY004  # the service raises ValueError
    if len(value) > 254:
        raise ValueError("must have at most 254 characters")
    try:
        address = validate_email(value, check_deliverability=False).normalized
    except EmailNotValidError as error:
        raise ValueError(f"is not an e-mail address: {error}") from None
    local, _, domain = address.rpartition("@")
    if not local.isascii():
        local = unicodedata.normalize("NFC", local.lower())
    if len(f"{local}@{domain}") > 254:
        raise ValueError("must have at most 254 characters")
    if len(local) > 64:
        raise ValueError("must have at most 64 characters before the @-sign")
    return f"{local}@{domain}"


def plain_age(value: object) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError("must be a whole number or null")  # noqa: TRY004  # the service raises ValueError
    if not 0 <= value <= 150:
        raise ValueError("must be between 0 and 150")
    return value


def plain_shows(character: str) -> bool:
    """Return whether a character is visible; these are all kinds that `INVISIBLE` names."""
    return not (character.isspace() or validation.INVISIBLE.fullmatch(character))


def plain_has_control(text: str) -> bool:
    return any(unicodedata.category(character) == "Cc" for character in text)


def outcome(check: Callable[[Any], Any], value: object) -> tuple[str, Any]:
    try:
        return "accepted", check(value)
    except ValueError as error:
        return "refused", str(error)


def check_agreement(value: object) -> None:
    """Check that all three checks give the plain ones' results, also when cached."""
    for fast, plain in (
        (validation.email, plain_email),
        (validation.full_name, plain_full_name),
        (validation.age, plain_age),
    ):
        expected = outcome(plain, value)
        assert outcome(fast, value) == expected
        assert outcome(fast, value) == expected


ATOM = "".join(map(chr, range(0x21, 0x7F)))
SPECIAL_CHARACTERS = (
    "\u0301\u0338\u212a\u00df\uff0e\u3002\u200d\u05d0\u0661\ud800\0\n\x85\u2028 é\uff20\ufe6b"
)
LABELS = [
    *("example", "EXAMPLE", "Example", "test", "localhost", "invalid", "local", "arpa", "onion"),
    *("org", "ORG", "com", "1", "1a", "a-", "-a", "a--b", "a_b", "", "münchen", "MÜNCHEN", "é"),
    *("xn--mnchen-3ya", "XN--MNCHEN-3YA", "xn--a", "xn--", "xn--4dbc", "אב", "faß", "\u212a"),
    *("a" * 62, "a" * 63, "a" * 64, "é" * 50, "[127.0.0.1]", "[IPv6:::1]", "\uff11", "日本"),
]
ROLES = ["postmaster", "Postmaster", "INFO", "info", "Abuse", "sales.x", "wwW", '"info"']
QUOTED = st.text(st.sampled_from('ab.\\" @é\0'), max_size=6).map(lambda text: f'"{text}"')
LOCALS = st.one_of(
    st.text(st.sampled_from("abcZ09._+-'"), min_size=1, max_size=12),
    st.text(st.sampled_from(ATOM + SPECIAL_CHARACTERS), max_size=12),
    st.sampled_from([*ROLES, *("a" * length for length in (63, 64, 65))]),
    QUOTED,
)
DOMAINS = st.one_of(
    st.lists(st.sampled_from(LABELS), min_size=1, max_size=5).map(".".join),
    st.lists(st.sampled_from(LABELS), min_size=1, max_size=2).map(
        lambda ls: ".".join([*ls, "org"])
    ),
    st.text(st.sampled_from("aZ0-." + SPECIAL_CHARACTERS), max_size=12),
)
ADDRESSES = st.tuples(
    LOCALS, st.sampled_from(["@", "@", "@", "", "@@", "\uff20", "<", " @"]), DOMAINS
)


@settings(max_examples=300, deadline=None)
@given(ADDRESSES.map("".join))
@example("A <a@example.org>")
@example("a@EXAMPLE\u212a.org")  # the Kelvin sign, whose lower case is ASCII
@example("postMaster@example.org")
@example("a@b@example.org")
def test_near_addresses_get_the_plain_result(text: str) -> None:
    check_agreement(text)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["abc", "ab."]), DOMAINS, st.integers(250, 258))
def test_addresses_of_about_254_characters_get_the_plain_result(
    part: str, domain: str, length: int
) -> None:
    local = (part * 100)[: max(length - len(domain) - 1, 0)]
    check_agreement(f"{local}@{domain}")


NAMES = st.one_of(
    st.text(max_size=30),
    st.text(st.sampled_from("aé \u0301\u0316\u0338\u212b\u1100\u1161\u2003\t\n\0\x7f\x9f\ud800")),
    st.tuples(
        st.sampled_from(["a", "é", "e\u0301", "\ufb2c", "\U0001d160", " "]), st.integers(195, 205)
    ).map(lambda pair: pair[0] * pair[1]),
    st.integers(795, 805).map(lambda length: "a" + "\u0301" * length),
)


@settings(max_examples=200, deadline=None)
@given(NAMES)
def test_names_get_the_plain_result(text: str) -> None:
    check_agreement(text)
    assert validation.has_control(text) == plain_has_control(text)


@given(st.none() | st.booleans() | st.integers() | st.floats() | st.lists(st.text()) | st.binary())
def test_other_values_get_the_plain_result(value: object) -> None:
    check_agreement(value)


def test_naughty_strings_get_the_plain_result_as_names_and_as_parts_of_addresses() -> None:
    for string in NAUGHTY:
        for text in (string, f"{string}@example.org", f"a@{string}", f"a@{string}.org"):
            check_agreement(text)
        assert validation.has_control(string) == plain_has_control(string)


def test_people_get_the_plain_result() -> None:
    for person in PEOPLE:
        check_agreement(person["full_name"])
        check_agreement(person["email"])
        check_agreement(int(person["age"]) if person["age"] else None)


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("Ada.Lovelace@Example.ORG", "Ada.Lovelace@example.org"),
        ("PostMaster@example.org", "postmaster@example.org"),
        ("zoë@xn--mnchen-3ya.de", "zoë@münchen.de"),
        ("Zoe\u0308@example.org", "zoë@example.org"),
        ("ZOË.Smith@example.org", "zoë.smith@example.org"),
        ("ΟΔΥΣΣΕΥΣ@example.org", "οδυσσευς@example.org"),
        ("STRA\u1e9eE@example.org", "straße@example.org"),
        ("a" * 64 + "@example.org", "a" * 64 + "@example.org"),
    ],
)
def test_an_address_is_stored_in_the_form_in_which_it_is_compared(text: str, stored: str) -> None:
    assert validation.email(text) == stored
    assert validation.email(stored) == stored


@pytest.mark.parametrize("local", ["a" * 65, "é" * 65, "a" * 64 + "é"])
def test_before_the_at_sign_are_at_most_64_characters(local: str) -> None:
    with pytest.raises(ValueError, match="at most 64 characters before the @-sign"):
        validation.email(f"{local}@example.org")


# one of each kind: of Unicode's Default_Ignorable_Code_Point, and blanks that are no white space
UNSEEN = "\u200b\u200d\u2060\ufeff\u00ad\u3164\u115f\uffa0\u2800\ufe0f\U000e0041\u202e\u061c"


@pytest.mark.parametrize("unseen", UNSEEN, ids=ascii)
def test_a_name_of_characters_that_do_not_show_is_refused(unseen: str) -> None:
    for text in (unseen, f" {unseen} ", unseen * 3, f"{unseen}\u00a0{unseen}"):
        with pytest.raises(ValueError, match="must contain a character that shows"):
            validation.full_name(text)
    assert validation.full_name(f"A{unseen}") == f"A{unseen}"


@pytest.mark.parametrize(
    "name", ["\u0301", "\u0661", "👩\u200d🔬", "\u0645\u06cc\u200c\u062e", "?", "\u06dd"]
)
def test_a_name_of_one_character_that_shows_is_a_name(name: str) -> None:
    assert validation.full_name(name) == unicodedata.normalize("NFC", name)
