"""Comparison of what a revision has set aside with what its file defines now (PostgreSQL).

A draft that was undone, edited and run again must not get the column or the table of its old
definition back. The rows can't be made to fit, so it is refused, with the way out.
"""

from collections.abc import Sequence
from pathlib import Path

import sqlalchemy as sa
from alembic import op
from sqlalchemy.schema import CreateTable

from safely.operations.aside import hidden_name, how_to_purge
from safely.operations.connection import (
    Refused,
    empty_twin,
    literal,
    regclass,
    revision,
    rows,
    run,
    undoing,
)

# Of each column what can't be changed on the way back. The sequence of a serial has another name
# in each table.
COLUMNS = r"""
SELECT attname, concat_ws(' ', format_type(atttypid, atttypmod),
  CASE WHEN attcollation <> typcollation THEN 'COLLATE ' || attcollation::regcollation END,
  CASE WHEN attnotnull THEN 'NOT NULL' END,
  'GENERATED ' || CASE attidentity WHEN 'a' THEN 'ALWAYS' WHEN 'd' THEN 'BY DEFAULT' END || format(
    ' AS IDENTITY (START %s INCREMENT %s MINVALUE %s MAXVALUE %s CACHE %s%s)', seqstart,
    seqincrement, seqmin, seqmax, seqcache, CASE WHEN seqcycle THEN ' CYCLE' END),
  CASE WHEN attgenerated = '' AND {with_default} THEN 'DEFAULT ' || regexp_replace(
    pg_get_expr(adbin, adrelid), 'nextval\(''.*''::regclass\)', 'nextval') END,
  CASE WHEN attgenerated <> '' THEN 'GENERATED ALWAYS AS ' || pg_get_expr(adbin, adrelid) END,
  CASE WHEN attgenerated = 's' THEN 'STORED' END)
FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid
LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
LEFT JOIN pg_depend ON refclassid = 'pg_class'::regclass AND refobjid = attrelid
  AND refobjsubid = attnum AND classid = 'pg_class'::regclass AND deptype = 'i'
LEFT JOIN pg_sequence ON seqrelid = objid
WHERE attrelid = {table} AND attnum > 0 AND NOT attisdropped
ORDER BY attname"""

# keys to other tables are dropped when a table is set aside, and added anew
RULES = """\
SELECT pg_get_constraintdef(oid), conname FROM pg_constraint
WHERE conrelid = {table} AND contype IN ('p', 'u', 'c', 'x') AND conname !~ '^_aside_'"""

INDEXES = """\
SELECT relname FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
WHERE indrelid = {table} AND relname !~ '^_aside_'
  AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)"""

# The names, without the prefix, of what comes back with a column. Not those of another column that
# the revision has retyped, nor the CHECK that keeps hidden labels out of an enum.
WITH_COLUMN = """\
SELECT substr(name, {length} + 1) FROM (
  SELECT conname AS name, number FROM pg_constraint, unnest(conkey) AS number
  WHERE conrelid = {table} AND contype IN ('u', 'c', 'x')
  UNION SELECT relname, refobjsubid FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
  JOIN pg_depend ON classid = 'pg_class'::regclass AND objid = indexrelid AND refobjid = indrelid
  WHERE indrelid = {table}) AS names
JOIN pg_attribute ON attrelid = {table} AND attnum = number
WHERE attname = {hidden} AND starts_with(name, {prefix}) AND name <> {hidden}
  AND NOT starts_with(name, {prefix} || '_aside_labels_')"""


def refuse_other_column(table_name: str, column: sa.Column[object], definition: str) -> None:
    """Raise Refused where the column that is set aside differs from its definition now.

    Its default is set anew, and NOT NULL may have come from `safely.require_column`. A downgrade
    brings the column back as it was.
    """
    if undoing():
        return
    hidden = hidden_name(column.name)
    with empty_twin(table_name) as twin:
        run(f"ALTER TABLE {twin} ADD COLUMN {definition}")
        wanted = columns_of(regclass(twin))[column.name]
    existing = columns_of(regclass(table_name))[hidden]
    is_tightened = bool(column.nullable) and " NOT NULL" in existing
    if is_tightened:
        existing = existing.replace(" NOT NULL", "", 1)
    refuse_difference(f"{table_name}.{column.name}", existing, wanted)
    names = WITH_COLUMN.format(
        table=regclass(table_name),
        prefix=literal(hidden.removesuffix(column.name)),
        length=len(hidden.removesuffix(column.name)),
        hidden=literal(hidden),
    )
    created = [name for (name,) in rows(names)] + ["require_column"] * is_tightened
    refuse_unmentioned(f"{table_name}.{column.name}", created)


def refuse_other_table(table: sa.Table) -> None:
    """Raise Refused where the table that came back differs from its definition now."""
    if undoing():
        return
    run(definition_as_twin(table))
    tables = regclass(table.name), regclass("safely_wanted")
    existing, wanted = (columns_of(table, with_default=True) for table in tables)
    for name, definition in wanted.items():
        refuse_difference(f"{table.name}.{name}", existing.get(name, "nothing"), definition)
    rules, wanted_rules = (dict(rows(RULES.format(table=table))) for table in tables)
    run("DROP TABLE safely_wanted")
    if missing := sorted(wanted_rules.keys() - rules.keys()):
        raise Refused(
            f"{table.name} was set aside by this revision without {', '.join(missing)}: "
            f"{how_to_purge()}"
        )
    own = {index.name for index in table.indexes}  # of columns with index=True
    indexes = [name for (name,) in rows(INDEXES.format(table=tables[0])) if name not in own]
    others = [name for rule, name in rules.items() if rule not in wanted_rules]
    refuse_unmentioned(table.name, others + indexes)


def definition_as_twin(table: sa.Table) -> str:
    """Return the statement that creates a temporary table by a definition, without foreign keys."""
    twin = table.to_metadata(sa.MetaData(), name="safely_wanted")
    statement = CreateTable(twin, include_foreign_key_constraints=[])
    create = str(statement.compile(dialect=op.get_context().dialect))
    return create.replace("CREATE TABLE", "CREATE TEMPORARY TABLE", 1)


def columns_of(table: str, *, with_default: bool = False) -> dict[str, str]:
    """Return the definitions of a table's columns, in words of PostgreSQL, by name."""
    query = COLUMNS.format(table=table, with_default=str(with_default).lower())
    return dict(rows(query))


def refuse_difference(what: str, existing: str, wanted: str) -> None:
    """Raise Refused where the two definitions differ."""
    if existing != wanted:
        raise Refused(
            f"{what} was set aside by this revision as {existing}, and is now to be {wanted}: "
            f"{how_to_purge()}"
        )


def refuse_unmentioned(what: str, names: Sequence[str]) -> None:
    """Raise Refused where a rule or an index would come back that the revision doesn't create.

    It has those whose names stand in its file.
    """
    script = op.get_context().opts["script"].get_revision(revision())
    source = Path(script.path).read_text(encoding="utf-8")
    if others := sorted(name for name in names if name not in source):
        raise Refused(
            f"{what} was set aside by this revision with {', '.join(others)}, which its file has "
            f"no more: {how_to_purge()}"
        )
