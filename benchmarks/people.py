"""People who don't exist, any number of them."""

import csv
import random
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

# how the names are written in an address, too
GIVEN = {
    "Ada": "ada", "Grace": "grace", "José": "jose", "Zoë": "zoe", "Søren": "soren",
    "Łukasz": "lukasz", "Anaïs": "anais", "Jürgen": "juergen", "Nguyệt": "nguyet",
    "Иван": "ivan", "Δημήτρης": "dimitris", "美咲": "misaki", "محمد": "mohammed",
    "Mary Ann": "maryann", "Olga": "olga", "Ramesh": "ramesh", "Chloé": "chloe", "Wei": "wei",
}  # fmt: skip
FAMILY = {
    "Lovelace": "lovelace", "Hopper": "hopper", "García Márquez": "garcia", "O'Brien": "obrien",
    "Müller": "mueller", "Kierkegaard": "kierkegaard", "Wałęsa": "walesa", "Þórsdóttir": "thors",
    "Петров": "petrov", "Παπαδόπουλος": "papadopoulos", "田中": "tanaka", "حسن": "hassan",
    "van der Berg": "vanderberg", "Smith": "smith", "Smith-Jones": "smithjones", "Ñúñez": "nunez",
    "Davis, Jr.": "davis", 'Ray "Boom Boom" Mancini': "mancini",
}  # fmt: skip
DOMAINS = 5000


class Person(NamedTuple):
    """Somebody whom nobody knows."""

    full_name: str
    email: str | None
    age: int | None


# what CSV, JSON and COPY must each write in a way of their own; looked for in every export
SAMPLE = Person('Zoë "Zed\\Zero" 田中, Jr.', "zoe@sample.example.org", 36)


def people(count: int) -> Iterator[Person]:
    """The same people each time.

    Addresses differ from each other and begin at random, as those of real people do, so that an
    index on them has to be searched. They have 5,000 domains, of which the commonest tenth has
    half of the people. One in 50 has no address, one in 10 no age, and one in 20 writes the
    address with capitals.
    """
    chance = random.Random(4)  # noqa: S311  # nothing is secret
    given, family = list(GIVEN.items()), list(FAMILY.items())
    yield SAMPLE
    for number in range(1, count):
        (first, early), (last, late) = chance.choice(given), chance.choice(family)
        # to the power of 3.3 half of the numbers are below a tenth
        domain = f"mail{int(DOMAINS * chance.random() ** 3.3)}.example.org"
        email = f"{early}.{late}{number}@{domain}" if number % 50 else None
        if email and number % 20 == 1:
            email = email.title()
        age = chance.randrange(100) if number % 10 else None
        yield Person(f"{first} {last}", email, age)


FORMATS = {"CSV": "text/csv", "NDJSON": "application/x-ndjson"}


class Files(NamedTuple):
    """The same people in both formats."""

    rows: int
    by_format: dict[str, Path]


def written(directory: Path, rows: int) -> Files:
    """So many people, in files."""
    files = Files(rows, {form: directory / f"people-{rows}.{form}" for form in FORMATS})
    with (
        files.by_format["CSV"].open("w", encoding="utf-8", newline="") as table,
        files.by_format["NDJSON"].open("wb") as lines,
    ):
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(Person._fields)
        for person in people(rows):
            writer.writerow(person)
            lines.write(msgspec.json.encode(person._asdict()) + b"\n")
    return files
