"""Tables, constraints and indexes under another name; `columns.py` has columns."""

from collections.abc import Collection

from safely.operations.aside import rename_indexes
from safely.operations.connection import (
    Refused,
    has_table,
    literal,
    offline,
    postgresql,
    quoted,
    refuse_offline,
    refuse_other_schema,
    regclass,
    rows,
    run,
    run_unless,
    scalar,
)
from safely.operations.constraints import HAS_CONSTRAINT
from safely.operations.halves import is_left_out, is_named_by_both, is_table_left_out
from safely.operations.rebuild import definition_of_table, rebuilt


def rename_table(old_table_name: str, new_table_name: str, *, schema: str | None = None) -> None:
    """Rename a table; one that a killed run has renamed is no error.

    Its indexes, constraints and sequences keep their names: `safely.rename_index` and
    `safely.rename_constraint` change them. What is set aside of it comes along.

    PostgreSQL: ACCESS EXCLUSIVE for an instant; only the catalogue changes. SQLite: the same.
    Older builds go on using the old name (PostgreSQL).
    The opposite is `safely.rename_table` with the names exchanged.
    Raise Refused for a table that is missing, and where another one has the new name.

    Example: `safely.rename_table("customers", "clients")`
    """
    refuse_other_schema(schema)
    if not offline():
        # a run that was killed has renamed it
        if not has_table(old_table_name) and (
            has_table(new_table_name) or is_table_left_out(old_table_name)
        ):
            return
        if has_table(new_table_name):
            raise Refused(
                f"{old_table_name} can't become {new_table_name}: there is such a table. Take "
                "another name, or rename that one first"
            )
    rename = f"ALTER TABLE {quoted(old_table_name)} RENAME TO {quoted(new_table_name)}"
    if not postgresql():
        run(rename)
        return
    old, new = relation(old_table_name), relation(new_table_name)
    run_unless(f"{new} IS NOT NULL AND {old} IS NULL", rename)


def rename_constraint(
    constraint_name: str, table_name: str, new_name: str, *, schema: str | None = None
) -> None:
    """Rename a constraint; one that a killed run has renamed is no error.

    Both are names in the database: no naming convention is applied to them.

    PostgreSQL: ACCESS EXCLUSIVE for an instant; only the catalogue changes. The index of a unique
    constraint or a primary key gets the new name, too. SQLite: the table is copied.
    Older builds don't notice. The opposite is `safely.rename_constraint` with the names exchanged.
    Raise Refused for a constraint that is missing, and where another one has the new name.

    Example: `safely.rename_constraint("uq_customers_mail", "customers", "uq_customers_email")`
    """
    if is_left_out(schema, table_name):
        return
    if not postgresql():
        rename_constraint_on_sqlite(constraint_name, table_name, new_name)
        return
    if not offline():
        query = f"SELECT conname FROM pg_constraint WHERE conrelid = {regclass(table_name)}"
        names = [name for (name,) in rows(query)]
        if constraint_name not in names and is_named_by_both(constraint_name):
            return
        refuse_constraint(constraint_name, table_name, new_name, names)
    old, new = (
        HAS_CONSTRAINT.format(name=literal(name), table=regclass(table_name))
        for name in (constraint_name, new_name)
    )
    run_unless(
        f"{new} AND NOT {old}",
        f"ALTER TABLE {quoted(table_name)} "
        f"RENAME CONSTRAINT {quoted(constraint_name)} TO {quoted(new_name)}",
    )


def refuse_constraint(name: str, table_name: str, new_name: str, names: Collection[str]) -> None:
    """Raise Refused for a constraint that can't be renamed, or not to this name.

    `names` are those of the table's constraints. One that has the new name already is no error.
    """
    if name not in names and new_name not in names:
        raise Refused(f"{table_name} has no constraint {name}: correct the name")
    if name in names and new_name in names:
        raise Refused(taken(name, table_name, new_name))


def taken(name: str, table_name: str, new_name: str) -> str:
    """Return the message for a new name that something else has."""
    return (
        f"{name} of {table_name} can't become {new_name}: that name is taken. Take another one, or "
        "rename that one first"
    )


def rename_constraint_on_sqlite(constraint_name: str, table_name: str, new_name: str) -> None:
    """Copy the table with the constraint under its new name."""
    refuse_offline(table_name)
    names = {clause.name for _, clause in definition_of_table(table_name).rules() if clause.name}
    refuse_constraint(constraint_name, table_name, new_name, names)
    if constraint_name in names:  # otherwise a run that was killed has renamed it
        with rebuilt(table_name) as table:
            table.rename_constraint(constraint_name, quoted(new_name))


def rename_index(
    index_name: str, table_name: str, new_name: str, *, schema: str | None = None
) -> None:
    """Rename an index; one that a killed run has renamed is no error.

    PostgreSQL: SHARE UPDATE EXCLUSIVE for an instant, which blocks nobody. SQLite: it is dropped
    and created again under the new name, in the revision's transaction.
    Older builds don't notice. The opposite is `safely.rename_index` with the names exchanged.
    Raise Refused for an index that is missing or that a constraint owns, and where something else
    has the new name.

    Example: `safely.rename_index("ix_customers_mail", "customers", "ix_customers_email")`
    """
    if is_left_out(schema, table_name):
        return
    if not offline():
        indexes = indexes_of(table_name)
        if index_name not in indexes and (new_name in indexes or is_named_by_both(index_name)):
            return  # a run that was killed has renamed it
        refuse_index(index_name, table_name, new_name, indexes)
    if not postgresql():
        refuse_offline(table_name)
        rename_indexes(table_name, lambda _: new_name, only=index_name)
        return
    run_unless(
        f"{relation(new_name)} IS NOT NULL AND {relation(index_name)} IS NULL",
        f"ALTER INDEX {quoted(index_name)} RENAME TO {quoted(new_name)}",
    )


def relation(name: str) -> str:
    """Return SQL for the table or index of a name in the current schema, or NULL (PostgreSQL)."""
    return f"to_regclass(format('%I.%I', current_schema, {literal(name)}))"


def indexes_of(table_name: str) -> dict[str, bool]:
    """Return the indexes of a table by name, each with whether a constraint owns it."""
    if postgresql():
        query = (
            "SELECT relname, EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid "
            "AND conrelid = indrelid) FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid "
            f"WHERE indrelid = {regclass(table_name)}"
        )
        return dict(rows(query))
    query = "SELECT name, sql IS NULL FROM sqlite_master WHERE type = 'index' AND tbl_name = ?"
    return {name: bool(is_owned) for name, is_owned in rows(query, table_name)}


def refuse_index(index_name: str, table_name: str, new_name: str, indexes: dict[str, bool]) -> None:
    """Raise Refused for an index that can't be renamed, or not to this name."""
    if index_name not in indexes:
        raise Refused(f"{table_name} has no index {index_name}: correct the name")
    if indexes[index_name]:
        raise Refused(
            f"{index_name} is the index of a constraint: write safely.rename_constraint"
            f"({index_name!r}, {table_name!r}, {new_name!r})"
        )
    if postgresql():
        is_taken = scalar(f"SELECT {relation(new_name)} IS NOT NULL")
    else:
        is_taken = scalar("SELECT 1 FROM sqlite_master WHERE name = ?", new_name)
    if is_taken:
        raise Refused(taken(index_name, table_name, new_name))
