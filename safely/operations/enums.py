"""Enums: created, and set aside; the types of new columns.

PostgreSQL: drivers name the type of a parameter (`$1::mood`), so builds of all revisions must find
one type under its name. It keeps the labels of all of them: what goes is hidden, from autogenerate
and from newer builds, by a note in the type's comment and by a CHECK on the columns.
SQLite has no types of its own: `sa.Enum` makes a column of text there, perhaps with a CHECK.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ENUM as NATIVE
from sqlalchemy.dialects.postgresql import CreateEnumType

from safely.operations.aside import LONGEST_NAME
from safely.operations.connection import (
    Refused,
    literal,
    offline,
    postgresql,
    refuse_other_schema,
    regclass,
    revision,
    rows,
    run,
    scalar,
)
from safely.operations.enum_sql import (
    ALL_LABELS,
    CREATE,
    DEPENDENTS,
    GUARD,
    LABELS,
    NOTE,
    NOTE_DOWN,
    OID,
    WRITE_NOTE,
)


def create_enum(name: str, *values: str, schema: str | None = None) -> None:
    """Create an enum type, or bring back the one that was set aside under this name.

    Alembic has no such operation: it leaves the type of a new column out. One that a killed run
    has created is no error. `safely.create_table` and `safely.add_column` create a type that is
    missing too, but their opposites don't set it aside.

    PostgreSQL: no table is locked. Older builds don't use it.
    SQLite: nothing happens, since a column of an enum is text there.
    The opposite is `safely.drop_enum`.
    Raise Refused where a type of that name has other labels, and for labels that are empty, longer
    than 63 bytes, or given twice.

    Example: `safely.create_enum("mood", "sad", "ok")`
    """
    refuse_labels(name, values)
    refuse_other_schema(schema)
    if not postgresql():
        return
    refuse_other_labels(name, values)
    oid = oid_of(name)
    create = str(CreateEnumType(NATIVE(*values, name=name)).compile(dialect=dialect()))
    run(
        CREATE.format(
            create=create.strip(),
            oid=oid,
            labels=labels_of(oid),
            note=NOTE.format(oid=oid),
            wanted=array(values),
            other_labels=literal(other_labels(name, values, "%s").replace("%%", "%")),
            write_note=write_note(name, labels_of(oid)),
        )
    )


def drop_enum(name: str, *, schema: str | None = None) -> None:
    """Set an enum type aside: newer builds and autogenerate don't see it any more.

    Alembic has no such operation. One that a killed run has set aside is no error.

    PostgreSQL: no table is locked. The type keeps its name, by which older builds go on using it
    for columns and tables that are set aside themselves.
    SQLite: nothing happens.
    The opposite is `safely.create_enum` with the same labels.
    `python -m safely purge` drops it for good, once nothing uses it.
    Raise Refused while a column, or anything else that is not set aside, uses it.

    Example: `safely.drop_enum("mood")`
    """
    refuse_other_schema(schema)
    if not postgresql():
        return
    oid = oid_of(name)
    if not offline() and (dependents := dependents_of(name)):
        raise Refused(
            f"the type {name} can't be set aside while {', '.join(dependents)} uses it: "
            "change or drop that first"
        )
    run(
        NOTE_DOWN.format(
            oid=oid, write_note=write_note(name, labels_of(oid), set_aside_by=revision())
        )
    )


def dependents_of(name: str) -> list[str]:
    """Return what uses a type and is not set aside, in words."""
    return [
        f"{relation}.{column}" if kind == "column" else column
        for kind, relation, column in rows(DEPENDENTS.format(oid=oid_of(name)))
    ]


def refuse_labels(name: str, values: Sequence[str]) -> None:
    """Raise Refused for labels that PostgreSQL does not take, before it says so."""
    if len(name.encode()) > LONGEST_NAME:
        raise Refused(
            f"the type {name} has a name longer than {LONGEST_NAME} bytes: the database would cut "
            "it off. Shorten it"
        )
    for value in values:
        if not isinstance(value, str):
            raise Refused(
                f"a label of {name} is no text: write the labels one by one, as in "
                f'safely.create_enum("{name}", "a", "b")'
            )
        if len(value.encode()) > LONGEST_NAME:
            raise Refused(
                f"the label {value} of {name} is longer than {LONGEST_NAME} bytes, which "
                "PostgreSQL does not take: shorten it"
            )
    if len(set(values)) < len(values):
        twice = next(value for value in values if values.count(value) > 1)
        raise Refused(f"{name} has the label {twice} twice: write it once")


def refuse_other_labels(name: str, values: Sequence[str]) -> None:
    """Raise Refused where a type of that name exists, and is no enum with these labels."""
    if offline() or scalar(f"SELECT {oid_of(name)}") is None:
        return
    labels = visible_labels(name)
    if labels is None:
        raise Refused(f"{name} can't become an enum: there is a type of that name that is none")
    if set(labels) != set(values):
        if by := note_of(name).get("set aside by"):
            raise Refused(
                f"revision {by} has set aside a type {name} with the labels {', '.join(labels)}, "
                f"and not {', '.join(values)}: `python -m safely purge` drops it, or give the new "
                "one another name"
            )
        raise Refused(other_labels(name, values, ", ".join(labels)))


def other_labels(name: str, values: Sequence[str], existing: str) -> str:
    """Return the message for a type that has other labels than it should."""
    wanted = ", ".join(values)
    if existing == "%s":  # for format() in the database
        wanted = wanted.replace("%", "%%")
    return (
        f"there is a type {name} with the labels {existing}, and not {wanted}: change them with "
        "safely.change_enum"
    )


def visible_labels(name: str) -> list[str] | None:
    """Return the labels that the newest build may use; None where the type is no enum."""
    oid = oid_of(name)
    if not scalar(f"SELECT typtype = 'e' FROM pg_type WHERE oid = {oid}"):
        return None
    return list(scalar(f"SELECT {labels_of(oid)}"))


def all_labels(name: str) -> list[str]:
    """Return the labels of a type, with those that only other builds know."""
    return list(scalar(f"SELECT {ALL_LABELS.format(oid=oid_of(name))}"))


def note_of(name: str) -> dict[str, Any]:
    """Return what is noted of a type: its hidden labels, and the revision that set it aside."""
    note = scalar(f"SELECT {NOTE.format(oid=oid_of(name))}::text")
    return dict(json.loads(note)) if note else {}


def oid_of(name: str) -> str:
    """Return SQL for the oid of a type in the current schema; NULL where there is none."""
    return OID.format(name=literal(name))


def labels_of(oid: str) -> str:
    """Return SQL for the labels that the newest build may use."""
    return LABELS.format(oid=oid, note=NOTE.format(oid=oid))


def write_note(name: str, shown: str, *, set_aside_by: str | None = None) -> str:
    """Return SQL that notes which labels are shown, and the revision that sets the type aside."""
    return WRITE_NOTE.format(
        oid=oid_of(name),
        name=literal(name),
        shown=shown,
        revision="NULL" if set_aside_by is None else literal(set_aside_by),
    )


def array(values: Iterable[str]) -> str:
    """Return texts as an array in SQL."""
    return f"ARRAY[{', '.join(literal(value) for value in values)}]::text[]"


def dialect() -> sa.Dialect:
    """Return the dialect of the database."""
    return op.get_context().dialect


def enum_of(type_: Any, database: sa.Dialect) -> NATIVE | None:
    """Return the enum type that a column of this type has, or has an array of; None for others."""
    native = type_.dialect_impl(database)
    if isinstance(native, sa.types.TypeDecorator):
        return enum_of(native.impl_instance, database)
    if isinstance(native, sa.ARRAY):
        return enum_of(native.item_type, database)
    return native if isinstance(native, NATIVE) else None


def without_creation(type_: Any) -> None:
    """Let SQLAlchemy not create a type that is there: a script would create it twice."""
    while type_ is not None:
        if isinstance(type_, sa.Enum):
            type_.create_type = False
            type_.dialect_impl(dialect()).create_type = False  # type: ignore[attr-defined]  # NATIVE
        inner = getattr(type_, "item_type", None)
        type_ = inner if inner is not None else getattr(type_, "impl_instance", None)


def columns_of(items: Iterable[sa.schema.SchemaItem]) -> Iterator[tuple[sa.Column[Any], NATIVE]]:
    """Yield the columns of an enum type, or of arrays of it, with the type."""
    for item in items:
        if isinstance(item, sa.Column) and (enum := enum_of(item.type, dialect())) is not None:
            yield item, enum


def create_missing_enums(items: Iterable[sa.schema.SchemaItem]) -> bool:
    """Create the enum types that columns need; return whether there are any (PostgreSQL).

    Raise Refused where a type of the name lacks a label of the column.
    """
    if not postgresql():
        return False
    enums = list(columns_of(items))
    for column, enum in enums:
        if enum.name is None:
            raise Refused(
                f"the Enum of {column.name} has no name, and PostgreSQL needs one: write "
                "sa.Enum(…, name=…)"
            )
        name = str(enum.name)
        refuse_other_schema(enum.schema)
        is_there = has_labels(name, enum.enums)
        if enum.create_type and not is_there:
            create_enum(name, *enum.enums, schema=enum.schema)
        without_creation(column.type)
    return bool(enums)


def has_labels(name: str, values: Iterable[str]) -> bool:
    """Return whether there is an enum with at least these labels that is not set aside."""
    if offline() or scalar(f"SELECT {oid_of(name)}") is None:
        return False
    # autogenerate reflects hidden labels, too, which `hide_labels` keeps out of the column
    return set(values) <= set(all_labels(name)) and "set aside by" not in note_of(name)


def hide_labels(table_name: str) -> None:
    """Give new columns of enum types the CHECK that keeps hidden labels out (PostgreSQL)."""
    run(
        GUARD.format(
            table=literal(table_name),
            table_oid=regclass(table_name),
            labels=labels_of("enum.oid"),
            note=NOTE.format(oid="enum.oid"),
        )
    )
