"""Indexes of partitioned tables, built while everybody goes on working (PostgreSQL).

CONCURRENTLY doesn't work on a partitioned table. So its index is created ON ONLY the table, which
takes an instant and leaves it INVALID; then one is built concurrently on each partition and
attached. With the last one the index of the table is valid. Partitions that are made meanwhile get
theirs from PostgreSQL.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from alembic import op

from safely.operations.aside import LONGEST_NAME
from safely.operations.connection import (
    Refused,
    literal,
    outside_transaction,
    quoted,
    regclass,
    rows,
    run,
    scalar,
)

FIRST_WITH_KEYS = 180_000  # server_version_num of the first that takes a foreign key NOT VALID
MADE_BY_SCRIPT = "made_by_script"  # an option of Alembic's context: names of partitioned tables
DIGITS = 8  # of the checksum in the place of what is cut off
SHORTEST = 40  # bytes of an index's name that the names of its partitions' indexes begin with

# partitions whose index is not attached to {index} yet
WITHOUT_INDEX = """\
SELECT child.oid::bigint, format('%I.%I', nspname, child.relname), quote_ident(nspname),
       child.relname, child.relkind = 'p'
FROM pg_inherits JOIN pg_class AS child ON child.oid = inhrelid
JOIN pg_namespace ON pg_namespace.oid = child.relnamespace
WHERE inhparent = {table} AND NOT inhdetachpending AND NOT EXISTS (
  SELECT FROM pg_inherits AS attached JOIN pg_index ON indexrelid = attached.inhrelid
  WHERE attached.inhparent = to_regclass({index}) AND indrelid = child.oid AND indisvalid)
ORDER BY 2"""

# an index that a killed run has built for a partition
LEFT_BY_A_RUN = """\
SELECT format('%I.%I', nspname, relname), indisvalid
FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE indrelid = {table} AND starts_with(relname, {name}) AND indisunique = {unique}
  AND split_part(pg_get_indexdef(indexrelid), ' USING ', 2) = {definition}
  AND (NOT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = indexrelid)
       OR EXISTS (SELECT FROM pg_inherits WHERE inhrelid = indexrelid
                  AND inhparent = to_regclass({parent})))
ORDER BY 1 LIMIT 1"""

KEYS = """\
SELECT attname FROM pg_partition_tree({table}) AS tree
JOIN pg_partitioned_table ON partrelid = tree.relid
CROSS JOIN unnest(partattrs::smallint[]) AS number
LEFT JOIN pg_attribute ON attrelid = partrelid AND attnum = number"""

LEFT_OVER = """\
SELECT format('%I.%I', nspname, relname), (
  SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname)
  FROM pg_constraint WHERE conindid = indexrelid)
FROM pg_partition_tree({table}) AS tree
JOIN pg_index ON indrelid = tree.relid JOIN pg_class ON pg_class.oid = indexrelid
JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE tree.level > 0 AND starts_with(relname, {name}) AND relkind = {kind}
  AND NOT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = indexrelid)
  AND split_part(pg_get_indexdef(indexrelid), ' USING ', 2)
    = split_part(pg_get_indexdef(to_regclass({index})), ' USING ', 2)
ORDER BY 1"""


def is_partitioned(table_name: str) -> bool:
    """Return whether the table is divided into partitions."""
    return bool(
        scalar(f"SELECT relkind = 'p' FROM pg_class WHERE oid = to_regclass({name_of(table_name)})")
    )


def is_partitioned_index(index_name: str) -> bool:
    """Return whether the index is that of a partitioned table."""
    return bool(
        scalar(f"SELECT relkind = 'I' FROM pg_class WHERE oid = to_regclass({name_of(index_name)})")
    )


def name_of(name: str) -> str:
    """Return SQL for a name in the current schema, as to_regclass takes it."""
    return f"format('%I.%I', current_schema, {literal(name)})"


def print_refusal(table_name: str, operation: str) -> None:
    """Print a statement that refuses a partitioned table in a script of `--sql`.

    The partitions are not known where a script is printed. A table that the script itself makes
    has none, unless somebody adds some before the next statement.
    """
    message = (
        f"{operation} works on each partition of {table_name}, and a script was printed without "
        "knowing them: run `alembic upgrade`"
    )
    catalogue = "pg_class WHERE relkind = 'p' AND oid"
    if is_made_by_script(table_name):
        catalogue = "pg_inherits WHERE inhparent"
    run(
        "DO $partitions$ BEGIN\n"
        f"  IF EXISTS (SELECT FROM {catalogue} = to_regclass({name_of(table_name)})) THEN\n"
        f"    RAISE EXCEPTION '%', {literal(message)};\n"
        "  END IF;\n"
        "END $partitions$"
    )


def note_made_by_script(table_name: str) -> None:
    """Note that the script of `--sql` that is being printed makes a partitioned table."""
    op.get_context().opts.setdefault(MADE_BY_SCRIPT, set()).add(table_name)


def is_made_by_script(table_name: str) -> bool:
    """Return whether the script of `--sql` that is being printed has made a partitioned table."""
    return table_name in op.get_context().opts.get(MADE_BY_SCRIPT, ())


def refuse_old_server(constraint_name: str, table_name: str) -> None:
    """Raise Refused for a foreign key of a partitioned table before PostgreSQL 18.

    It can't be added there without the check of all rows, under a lock.
    """
    version = "current_setting('server_version_num')::int"
    if scalar(f"SELECT {version} < {FIRST_WITH_KEYS}") and is_partitioned(table_name):
        raise Refused(
            f"{constraint_name} can't be added to {table_name}: before version 18 PostgreSQL "
            "checks all rows of a partitioned table at once, while nobody can write. Add a key to "
            "each partition instead, or upgrade the server first"
        )


def refuse_without_key(index_name: str, table_name: str, columns: Sequence[object]) -> None:
    """Raise Refused for a unique index that lacks a column by which rows are divided."""
    keys = [name for (name,) in rows(KEYS.format(table=regclass(table_name)))]
    if None in keys:
        raise Refused(
            f"{index_name} can't be unique: {table_name} is partitioned by an expression, and "
            "PostgreSQL looks for duplicates in one partition at a time. Create a unique index on "
            "each partition, or partition by columns"
        )
    if missing := sorted(set(keys) - {column for column in columns if isinstance(column, str)}):
        raise Refused(
            f"{index_name} can't be unique without {', '.join(missing)}, by which {table_name} is "
            "partitioned: PostgreSQL looks for duplicates in one partition at a time. Add "
            f"{'it' if len(missing) == 1 else 'them'} to the columns"
        )


def build_index(index_name: str, table_name: str, definition: str, *, unique: bool) -> None:
    """Build an index from what its definition says after USING; go on where a run was killed.

    Each statement is committed by itself.
    """
    with outside_transaction():
        run(
            f"CREATE {'UNIQUE ' if unique else ''}INDEX IF NOT EXISTS {quoted(index_name)} "
            f"ON ONLY {quoted(table_name)} USING {definition}"
        )
    fill(Tree(name=index_name, definition=definition, unique=unique), table_name)


def build_constraint(constraint_name: str, table_name: str, rule: str, deferral: str) -> None:
    """Add a UNIQUE constraint as `build_index` builds its index.

    `rule` is what stands after its name, as UNIQUE (a, b), and `deferral` what stands after that.
    """
    with outside_transaction():
        add_constraint(constraint_name, quoted(table_name), regclass(table_name), rule, deferral)
    statement = str(scalar(f"SELECT pg_get_indexdef({name_of(constraint_name)}::regclass)"))
    definition = statement.partition(" USING ")[2]
    tree = Tree(
        name=constraint_name, definition=definition, unique=True, rule=rule, deferral=deferral
    )
    fill(tree, table_name)


def add_constraint(name: str, place: str, table: str, rule: str, deferral: str) -> None:
    """Add a constraint to a table, unless it has it, and to none of its partitions.

    `place` is the table as in a statement, `table` its oid as SQL.
    """
    run(
        "DO $unique$ BEGIN IF NOT EXISTS (SELECT FROM pg_constraint "
        f"WHERE conname = {literal(name)} AND conrelid = {table}) THEN "
        f"ALTER TABLE ONLY {place} ADD CONSTRAINT {quoted(name)} {rule} {deferral}; "
        "END IF; END $unique$"
    )


def fill(tree: "Tree", table_name: str) -> None:
    """Build and attach the indexes of partitions until the index of the table is valid."""
    schema = scalar("SELECT quote_ident(current_schema)")
    index = f"{schema}.{quoted(tree.name)}"
    tree.fill(index, int(scalar(f"SELECT {regclass(table_name)}::oid::bigint")))
    if not scalar(
        f"SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass({literal(index)})"
    ):
        raise Refused(
            f"{tree.name} is INVALID: a partition of {table_name} was attached meanwhile, or is a "
            "foreign table. Run this again, or detach the foreign table"
        )


class Partition(NamedTuple):
    """A partition; place and schema are quoted as in SQL."""

    oid: int
    place: str
    schema: str
    name: str
    is_partitioned: bool


@dataclass(frozen=True, kw_only=True)
class Tree:
    """The indexes of a table and of its partitions, which together are one."""

    name: str
    definition: str
    """The part of each definition after USING."""
    unique: bool
    rule: str = ""
    """The UNIQUE constraint that each of them serves; empty for none."""
    deferral: str = ""

    def fill(self, index: str, table: int) -> None:
        """Build and attach what is missing below the index of a table, by its oid."""
        for row in rows(WITHOUT_INDEX.format(table=table, index=literal(index))):
            part = self.build(Partition(*row), index)
            with outside_transaction():
                run(f"ALTER INDEX {index} ATTACH PARTITION {part}")

    def build(self, partition: Partition, parent: str) -> str:
        """Build the index of one partition, or complete that of a killed run; return its name."""
        index = self.left_by_a_run(partition, parent)
        if index is None:
            name = free_name(partition.schema, shortened(f"{self.name}_{partition.name}"))
            index = f"{partition.schema}.{quoted(name)}"
            self.create(partition, name)
        if partition.is_partitioned:
            self.fill(index, partition.oid)
        elif self.rule:
            name = index.removeprefix(f"{partition.schema}.")
            exists = f"SELECT FROM pg_constraint WHERE conindid = to_regclass({literal(index)})"
            with outside_transaction():
                run(
                    f"DO $unique$ BEGIN IF NOT EXISTS ({exists}) THEN "
                    f"ALTER TABLE {partition.place} ADD CONSTRAINT {name} "
                    f"UNIQUE USING INDEX {name} {self.deferral}; END IF; END $unique$"
                )
        return index

    def left_by_a_run(self, partition: Partition, parent: str) -> str | None:
        """Return the index that a killed run has built for a partition; drop an INVALID one."""
        query = LEFT_BY_A_RUN.format(
            table=partition.oid,
            name=literal(shortened(f"{self.name}_{partition.name}")),
            unique=self.unique,
            definition=literal(self.definition),
            parent=literal(parent),
        )
        for index, is_valid in rows(query):
            if is_valid or partition.is_partitioned:
                return str(index)
            with outside_transaction(patient=True):
                run(f"DROP INDEX CONCURRENTLY IF EXISTS {index}")
        return None

    def create(self, partition: Partition, name: str) -> None:
        """Create the index of one partition: of one with partitions itself, without theirs."""
        unique = "UNIQUE " if self.unique else ""
        if not partition.is_partitioned:
            with outside_transaction(patient=True):
                run(
                    f"CREATE {unique}INDEX CONCURRENTLY {quoted(name)} ON {partition.place} "
                    f"USING {self.definition}"
                )
            return
        with outside_transaction():
            if self.rule:
                add_constraint(name, partition.place, str(partition.oid), self.rule, self.deferral)
            else:
                run(
                    f"CREATE {unique}INDEX {quoted(name)} ON ONLY {partition.place} "
                    f"USING {self.definition}"
                )


def shortened(name: str) -> str:
    """Return the name, with a checksum in the place of what the database would cut off."""
    encoded = name.encode()
    if len(encoded) <= LONGEST_NAME - 2:  # room for a number
        return name
    digest = hashlib.sha256(encoded).hexdigest()[:DIGITS]
    return f"{encoded[: LONGEST_NAME - DIGITS - 3].decode(errors='ignore')}_{digest}"


def free_name(schema: str, name: str) -> str:
    """Return the name, or one with a number where another object has it."""
    candidates = [name, *(f"{name}{number}" for number in range(2, 10))]
    for candidate in candidates:
        place = f"{schema}.{quoted(candidate)}"
        if scalar(f"SELECT to_regclass({literal(place)}) IS NULL"):
            return candidate
    raise Refused(f"{candidates} exist all: rename some of them, and run this again")


def print_drop(index_name: str) -> None:
    """Print a statement that drops an index if it is that of a partitioned table."""
    run(
        "DO $partitions$ BEGIN\n"
        f"  IF EXISTS (SELECT FROM pg_class WHERE relkind = 'I' AND oid = to_regclass("
        f"{name_of(index_name)})) THEN\n"
        f"    DROP INDEX {quoted(index_name)};\n"
        "  END IF;\n"
        "END $partitions$"
    )


def drop_index(index_name: str) -> None:
    """Drop the index of a partitioned table, and what a killed run has built for it.

    ACCESS EXCLUSIVE for an instant on the table and its partitions: only the catalogue changes.
    """
    drop_left_over(index_name)
    run(f"DROP INDEX IF EXISTS {quoted(index_name)}")


def drop_left_over(index_name: str) -> None:
    """Drop what a killed run has built for the index of a partitioned table, and not attached."""
    table = f"(SELECT indrelid FROM pg_index WHERE indexrelid = to_regclass({name_of(index_name)}))"
    for kind, how in (("i", "CONCURRENTLY "), ("I", "")):
        query = LEFT_OVER.format(
            table=table,
            name=literal(index_name.encode()[:SHORTEST].decode(errors="ignore")),
            kind=literal(kind),
            index=name_of(index_name),
        )
        for index, drop_constraint in rows(query):
            with outside_transaction(patient=bool(how) and not drop_constraint):
                run(drop_constraint or f"DROP INDEX {how}IF EXISTS {index}")
