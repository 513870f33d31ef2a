"""The connection on which a revision runs: queries, SQL text, transactions, the schema."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

import sqlalchemy as sa
from alembic import op
from alembic.util import CommandError
from sqlalchemy.exc import SQLAlchemyError

RUN_UNLESS = """\
DO $unless$ BEGIN
  IF NOT ({condition}) THEN
    {statement};
  END IF;
END $unless$"""

HAS_COLUMN = """\
EXISTS (SELECT FROM pg_attribute WHERE attrelid = {} AND attname = {} AND NOT attisdropped)"""

OTHER_SCHEMA = """\
DO $schema$ BEGIN
  IF current_schema IS DISTINCT FROM {schema} THEN
    RAISE EXCEPTION '%', {message};
  END IF;
END $schema$"""


class Refused(CommandError):  # noqa: N818  # a refusal is not a fault
    """An operation can't be done with this data or this schema; the message says what to do.

    Alembic prints it as one line and exits with a code other than 0. A `query` that shows the rows
    in question stands at its end, where it can be copied.
    """

    def __init__(self, message: str, *, query: str = "") -> None:
        super().__init__(f"{message}. See them with: {query}" if query else message)
        self.message = message
        self.query = query

    def followed_by(self, sentence: str) -> "Refused":
        """Return the same refusal with one more sentence, before the query."""
        return Refused(f"{self.message}. {sentence}", query=self.query)


def postgresql() -> bool:
    """Return whether the revision runs on PostgreSQL; otherwise it runs on SQLite."""
    return op.get_context().dialect.name == "postgresql"


def offline() -> bool:
    """Return whether SQL is only printed (`--sql`), without a connection."""
    return op.get_context().as_sql


def revision() -> str:
    """Return the id of the revision that is being applied or undone."""
    options = op.get_context().opts
    if "revision" not in options:
        raise Refused(
            "env.py does not run its steps in safely.env.guarded(…), and the operations of safely "
            "need that: its docstring shows how"
        )
    return str(options["revision"])


def undoing() -> bool:
    """Return whether the revision is being undone."""
    return not op.get_context().opts["is_upgrade"]


def run(statement: str) -> None:
    """Execute SQL exactly as written: a colon in it does not begin a parameter."""
    op.execute(sa.text(statement.replace(":", r"\:")))


def scalar(query: str, *parameters: object) -> Any:
    """Return the first column of a query's first row, or None without a row.

    Parameters are spelled as the driver spells them: `$1` on PostgreSQL, `?` on SQLite.
    """
    return op.get_bind().exec_driver_sql(query, parameters).scalar()


def rows(query: str, *parameters: object) -> list[Any]:
    """Return all rows of a query; parameters are spelled as the driver spells them."""
    return list(op.get_bind().exec_driver_sql(query, parameters).all())


def run_unless(condition: str, statement: str) -> None:
    """Execute a statement unless a condition holds, in one DO block (PostgreSQL).

    The database checks the condition, so that a script of `--sql` can be sent a second time.
    """
    run(RUN_UNLESS.format(condition=condition, statement=statement))


def refuse_offline(table_name: str) -> None:
    """Raise Refused under `--sql`, for a change that SQLite makes by copying the table."""
    if offline():
        raise Refused(
            f"SQLite changes {table_name} by copying it as it is, and `--sql` has no database to "
            "read: run `alembic upgrade` on the file itself"
        )


def refuse_rows(
    query: str, problem: str, rows_do: str, remedy: str = "Correct them, and run this again"
) -> None:
    """Raise Refused if the query returns rows; the message counts them and shows the query."""
    if offline():
        return
    if count := scalar(f"SELECT count(*) FROM ({query}) AS refused"):
        raise Refused(f"{problem}: {count} row(s) {rows_do}. {remedy}", query=query)


def refuse_hidden_rows(table_name: str) -> None:
    """Raise Refused where policies hide rows from this role: they would be left as they are.

    Call it before the first change of an operation that reads or writes all rows.
    """
    if offline() or not postgresql():
        return
    if scalar(f"SELECT row_security_active({regclass(table_name)})"):
        raise Refused(
            f"policies hide rows of {table_name} from the role that migrates, which must see all "
            "(FORCE ROW LEVEL SECURITY holds for the owner, too): give it BYPASSRLS (ALTER ROLE …)"
        )


def required_name(name: str | None, table_name: str) -> str:
    """Return the name of a constraint or an index; raise Refused without one.

    Without a name, a second run would not find what a killed run has created.
    """
    if name is None:
        raise Refused(
            f"a constraint or an index of {table_name} has no name: write one in the place of "
            "None, and give the models' MetaData a naming_convention"
        )
    return name


def has_column(table_name: str, column_name: str) -> bool:
    """Return whether the table has the column."""
    if not postgresql():
        return pragma_value("1", table_name, column_name) is not None
    return bool(scalar(f"SELECT {HAS_COLUMN.format(regclass(table_name), literal(column_name))}"))


def column_type(table_name: str, column_name: str) -> str:
    """Return a column's type as the database spells it."""
    if not postgresql():
        return str(pragma_value("type", table_name, column_name))
    return str(catalogue_value("format_type(atttypid, atttypmod)", table_name, column_name))


def catalogue_value(expression: str, table_name: str, column_name: str) -> Any:
    """Return an expression over a column's row in pg_attribute (PostgreSQL)."""
    return scalar(
        f"SELECT {expression} FROM pg_attribute "
        f"WHERE attrelid = {regclass(table_name)} AND attname = {literal(column_name)}"
    )


def pragma_value(expression: str, table_name: str, column_name: str) -> Any:
    """Return an expression over a column's row in `PRAGMA table_xinfo` (SQLite).

    Generated columns are in that one only.
    """
    query = f"SELECT {expression} FROM pragma_table_xinfo(?) WHERE name = ? COLLATE NOCASE"
    return scalar(query, table_name, column_name)


def type_sql(type_: sa.types.TypeEngine[Any]) -> str:
    """Return a type as SQL, as SQLAlchemy spells it."""
    return type_.compile(dialect=op.get_context().dialect)


def normalized_type(type_: sa.types.TypeEngine[Any]) -> str:
    """Return a type as the database spells it, to be compared with `column_type`."""
    if not postgresql():
        return type_sql(type_)
    run(f"CREATE TEMPORARY TABLE safely_wanted (shown {type_sql(type_)})")
    name = column_type("safely_wanted", "shown")
    run("DROP TABLE safely_wanted")
    return name


@contextmanager
def empty_twin(table_name: str) -> Iterator[str]:
    """Create an empty temporary table like this one, to try a change on (PostgreSQL).

    Yield its name.
    """
    name = "safely_twin"
    run(f"CREATE TEMPORARY TABLE {name} (LIKE {quoted(table_name)} INCLUDING ALL)")
    yield name
    run(f"DROP TABLE {name}")


def rewrites(table_name: str, change: str) -> bool:
    """Return whether ALTER TABLE with this change writes every row to a new file (PostgreSQL)."""
    with empty_twin(table_name) as twin:
        file = f"SELECT pg_relation_filenode('{twin}'::regclass)"
        before = scalar(file)
        run(f"ALTER TABLE {twin} {change}")
        return bool(before != scalar(file))


def analyze(table_name: str) -> None:
    """Let the planner know the values that many rows have got (PostgreSQL).

    SHARE UPDATE EXCLUSIVE, which blocks neither readers nor writers. The whole table: with a list
    of columns, the expressions of indexes are left out.
    """
    run(f"ANALYZE {quoted(table_name)}")


def quoted(name: str) -> str:
    """Return an identifier, in quotes where the database needs them."""
    return op.get_context().dialect.identifier_preparer.quote(name)


def literal(value: str | int) -> str:
    """Return a value as SQL, for statements that take no parameters."""
    # a quoted_name, which is a str too, has no literal of its own
    return expression_sql(sa.literal(str(value) if isinstance(value, str) else value))


def expression_sql(expression: str | sa.ColumnElement[Any] | sa.TextClause) -> str:
    """Return an expression as SQL; text is taken as written."""
    if isinstance(expression, sa.ColumnElement):
        dialect = op.get_context().dialect
        return str(expression.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))
    return str(expression)


def qualified(table_name: str) -> str:
    """Return a table as SQL with the schema of the project's tables, for a query to be pasted."""
    schema = project_schema() if postgresql() else None
    return quoted(table_name) if schema is None else f"{quoted(schema)}.{quoted(table_name)}"


def regclass(table_name: str) -> str:
    """Return SQL for a table's oid, to query the catalogue with (PostgreSQL)."""
    return f"{literal(quoted(table_name))}::regclass"


@contextmanager
def outside_transaction(*, patient: bool = False) -> Iterator[None]:
    """Run each statement in a transaction of its own, on PostgreSQL.

    What the revision did before is committed, so all that is done inside must bear to be done
    again after a kill. `patient` lifts `lock_timeout`, for a statement whose lock blocks nobody
    but which must outwait old transactions: a CONCURRENTLY that is cut off leaves an INVALID index.
    Such statements read or write whole tables, so they begin once no standby lags.
    The revision may have begun such a block itself, as Alembic has it for CONCURRENTLY.
    """
    if not postgresql():
        yield
        return
    context = op.get_context()
    options = context.opts
    with nullcontext() if is_outside() else context.autocommit_block():
        try:
            if patient:
                wait_for_standbys()
                run("SET lock_timeout = 0")
            yield
        finally:
            if patient:
                set_back(f"SET lock_timeout = {literal(options['lock_timeout'])}")


def wait_for_standbys() -> None:
    """Wait until no standby lags more than `-x max_lag`; call it outside of a transaction.

    Raise Refused where one still does after `-x patience`. A script of `--sql` doesn't wait.
    """
    limit = op.get_context().opts.get("lag_limit")  # a LagLimit of standby_lag.py
    if limit is not None and not offline():
        limit.wait(op.get_bind())


def is_outside() -> bool:
    """Return whether the revision runs in an autocommit_block() of its own; no script tells."""
    if offline():
        return False
    return bool(op.get_bind().get_execution_options().get("isolation_level") == "AUTOCOMMIT")


@contextmanager
def in_tablespace(name: str | None) -> Iterator[None]:
    """Build indexes in a tablespace, where a definition of PostgreSQL leaves it out.

    What the revision did before is committed. None: where the database has its tables.
    """
    if name is None:
        yield
        return
    with outside_transaction():
        run(f"SET default_tablespace = {quoted(name)}")
    try:
        yield
    finally:
        with suppress(SQLAlchemyError), outside_transaction():
            run("RESET default_tablespace")


def project_schema() -> str | None:
    """Return the schema of the project's tables; None: the connection's current one."""
    metadata = op.get_context().opts.get("target_metadata")
    tables = metadata.tables.values() if isinstance(metadata, sa.MetaData) else ()
    return next((table.schema for table in tables), None)


def refuse_other_schema(schema: str | None) -> None:
    """Raise Refused for another schema than the project's."""
    if schema is None:
        return
    if not postgresql():
        raise Refused(f"SQLite has no schemas: leave out schema={schema!r}")
    own = project_schema()
    if own is None and not offline():
        own = scalar("SELECT current_schema")
    if schema == own:
        return
    message = (
        f"schema={schema!r} is not the schema of this project"
        f"{' (' + own + ')' if own else ''}: safely publishes the versions of one schema, and "
        "builds would break over a change in another. Leave out schema=, or give those tables a "
        "project of their own"
    )
    if own is not None or schema != "public":
        raise Refused(message)
    # the current schema, unless the script is sent with another search_path
    run(OTHER_SCHEMA.format(schema=literal(schema), message=literal(message)))


def set_back(statement: str) -> None:
    """Execute a statement that sets a setting back, whatever state the connection is in.

    An aborted transaction takes no statement, but its rollback sets the setting back; and a lost
    connection has none. The error of either is on its way already, and must not be replaced.
    """
    with suppress(SQLAlchemyError):
        run(statement)


def has_table(table_name: str) -> bool:
    """Return whether the current schema has the table."""
    if postgresql():
        name = literal(table_name)
        return bool(scalar(f"SELECT to_regclass(format('%I.%I', current_schema, {name}))"))
    named = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ? COLLATE NOCASE"
    return bool(scalar(named, table_name))
