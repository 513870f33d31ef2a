"""Checks of the SQL of a revision: which statement makes clients wait, breaks builds or loses data.

Operations of `safely` are checked for what a column is, since their tests check how they work.
"""

import ast
from collections.abc import Iterator

from postgast import nodes, pg_query_pb2

from safely.lint.checks import subjects
from safely.lint.checks.type_changes import can_be_wider, rewrites_nothing
from safely.lint.directions import Direction, description
from safely.lint.findings import Finding
from safely.lint.parsing import every, statements, strings, type_sql
from safely.lint.rendering import BEGIN, Statement
from safely.lint.spellings import column_types, plain_sql
from safely.lint.spellings.rows import overwrites, required_tests
from safely.lint.sql_text import unqualified
from safely.lint.statement_kinds import SYNTAX_ERROR, UNSEEN
from safely.lint.statements import Change, changes
from safely.lint.volatility import is_volatile

IDENTITY = (  # what to do instead, where no single spelling would do
    "`safely.add_column` refuses an identity, too: add the column nullable, fill it in with "
    "safely.backfill, and give it a sequence of its own as its default with safely.change_default."
)
STORED = (
    "`safely.add_column` refuses it, too: as VIRTUAL, or sa.Computed with persisted=False, the "
    "value is computed when it is read (PostgreSQL 18)."
)
ONE_BY_ONE = (
    "Add the column nullable and without the default, give it the default with "
    "safely.change_default, fill in the old rows with safely.backfill, and then add its "
    "constraints."
)
WIDER = (
    "Lint doesn't know the old type: from a varchar, or a numeric of the same scale, that holds "
    "less, PostgreSQL rewrites nothing. The argument existing_type tells lint."
)
DROPS = ("drop column", "drop table", "truncate")
CONSTRAINTS = ("check", "foreign key", "not null")  # those that can be added NOT VALID
AT_ONCE = {  # the rule for each kind of change that needs no further look
    "check": "check-at-once",
    "foreign key": "foreign-key-at-once",
    "primary key": "primary-key-at-once",
    "rewrite": "rewrite",
    "type": "type-change",
    "unique": "unique-at-once",
}


def check(direction: Direction) -> Iterator[Finding]:
    """Yield the findings in the SQL of one direction."""
    not_null: set[str] = set()  # columns whose NOT NULL a validated CHECK proves, or whole tables
    for statement in direction.statements:
        for change in changes(statement.text):
            yield from new_columns(direction, statement, change)
            if change.kind == "no default" and not (
                is_nullable(direction, change) or has_default_again(direction, statement, change)
            ):
                yield direction.finding("drop-default", statement, change)._replace(safe=None)
            if change.kind == "validate":
                not_null |= proved_not_null(direction, change)
            if not statement.from_safely:
                yield from unsafe_change(direction, statement, change, not_null)
    yield from two_tables(direction)


def has_default_again(direction: Direction, dropping: Statement, drop: Change) -> bool:
    """Return whether the statement, or a later one of its transaction, sets a default again."""
    later = direction.statements[direction.statements.index(dropping) :]
    return any(
        change.kind == "default" and description(change) == description(drop)
        for statement in later
        if statement.transaction == dropping.transaction
        for change in changes(statement.text)
    )


def unsafe_change(
    direction: Direction, statement: Statement, change: Change, not_null: set[str]
) -> Iterator[Finding]:
    """Yield the findings about a change that no operation of `safely` emitted."""
    kind = change.kind
    if is_prepared(direction, change):
        return
    if kind in (UNSEEN, SYNTAX_ERROR, "column grant"):
        names = {"stopped": "", **change.parts}
        yield direction.finding(kind.replace(" ", "-"), statement, change, **names)
    elif kind == "lock":
        yield from table_lock(direction, statement, change)
    elif direction.in_use(change.table):
        yield from change_in_use(direction, statement, change, not_null)
    if kind != "update" and plain_sql.of_change(change) and not is_temporary(direction, change):
        names = direction.raw_op_names(statement, change)
        finding = direction.finding("raw-op", statement, change, **names)
        if finding.safe:
            yield finding


def is_temporary(direction: Direction, change: Change) -> bool:
    """Return whether a change is about a table that ends with the session."""
    return any(
        other.kind == "create temporary table" and other.table == change.table
        for statement in direction.statements
        for other in changes(statement.text)
    )


def is_prepared(direction: Direction, change: Change) -> bool:
    """Return whether EXECUTE runs a statement that the file prepares, where it is checked."""
    return isinstance(change.node, nodes.ExecuteStmt) and any(
        node.name == change.node.name
        for statement in direction.statements
        for parsed in statements(statement.text)
        for node in every(parsed.node, nodes.PrepareStmt)
    )


def change_in_use(
    direction: Direction, statement: Statement, change: Change, not_null: set[str]
) -> Iterator[Finding]:
    """Yield the findings about a change of a table that clients use."""
    kind = change.kind
    if kind in AT_ONCE:
        if not is_not_valid(change) and not keeps_rows(direction, statement, change):
            finding = direction.finding(AT_ONCE[kind], statement, change)
            yield with_doubt(finding) if may_keep_rows(direction, statement, change) else finding
    elif kind in DROPS:
        rule = "plain-drop" if direction.up else "lossy-downgrade"
        yield direction.finding(rule, statement, change)
    elif kind in ("create index", "drop index"):
        yield from index(direction, statement, change)
    elif kind == "not null":
        if not {description(change), change.table} & not_null and not is_not_valid(change):
            yield direction.finding("not-null-at-once", statement, change)
    elif kind == "validate":
        yield from check_and_validate(direction, statement, change)
    elif kind in ("update", "delete"):
        yield from changed_rows(direction, statement, change)


def keeps_rows(direction: Direction, statement: Statement, change: Change) -> bool:
    """Return whether a change of a type rewrites nothing, by the type that the call says it had."""
    if change.kind != "type" or change.node.def_.raw_default is not None:
        return False
    return rewrites_nothing(existing_type(direction, statement), new_type(change))


def may_keep_rows(direction: Direction, statement: Statement, change: Change) -> bool:
    """Return whether a change of a type rewrites nothing on some old type, which nobody names."""
    if change.kind != "type" or change.node.def_.raw_default is not None:
        return False
    return existing_type(direction, statement) is None and can_be_wider(new_type(change))


def new_type(change: Change) -> str:
    """Return the type that a column gets, as SQL."""
    return type_sql(change.node.def_.type_name)


def existing_type(direction: Direction, statement: Statement) -> ast.expr | None:
    """Return the `existing_type` of the call that emitted a statement; None without one."""
    call, _ = direction.location(statement)
    keywords = call.node.keywords if call else ()
    return next((keyword.value for keyword in keywords if keyword.arg == "existing_type"), None)


def with_doubt(finding: Finding) -> Finding:
    """Return a finding about a change of a type that rewrites the table only from some types."""
    message = finding.message.replace(" rewrites ", " may rewrite ")
    return finding._replace(message=message, why=f"{finding.why} {WIDER}")


def is_not_valid(change: Change) -> bool:
    """Return whether a constraint is added without a look at the rows."""
    return change.has("skip_validation")


def index(direction: Direction, statement: Statement, change: Change) -> Iterator[Finding]:
    """Yield a finding about an index that is made or dropped under a lock, or can't be."""
    if isinstance(change.node, nodes.IndexStmt) and not change.has("inh"):
        return  # ON ONLY, of a partitioned table, which has no rows
    if not change.has("concurrent"):
        rule = "plain-index" if change.kind == "create index" else "plain-index-drop"
        yield direction.finding(rule, statement, change)
    elif is_in_transaction(direction, statement):
        yield direction.finding("concurrently-in-transaction", statement, change)


def is_in_transaction(direction: Direction, statement: Statement) -> bool:
    """Return whether other statements belong to the transaction of this one."""
    return any(
        other.transaction == statement.transaction and other.text == BEGIN
        for other in direction.statements
    )


# columns


def new_columns(direction: Direction, statement: Statement, change: Change) -> Iterator[Finding]:
    """Yield the findings about the columns that a change defines, whatever emitted it."""
    for column in defined_columns(change):
        yield from column_type(direction, statement, change, column)
    if change.kind == "add column" and direction.in_use(change.table):
        yield from added_column(direction, statement, change, change.node.def_)


def defined_columns(change: Change) -> Iterator[nodes.ColumnDef]:
    """Yield the definition of each column that a change adds or gives another type."""
    if change.kind in ("create table", "add column", "type"):
        yield from every(change.node, nodes.ColumnDef)


def type_name(column: nodes.ColumnDef) -> str:
    """Return the name of a column's type, without its schema and its size."""
    return strings(column.type_name.names)[-1] if column.type_name else ""


def column_type(
    direction: Direction, statement: Statement, change: Change, column: nodes.ColumnDef
) -> Iterator[Finding]:
    """Yield a finding about a type that one day is regretted."""
    names = {"column": column.colname or change.parts.get("column", "")}
    if type_name(column) in column_types.SERIALS:
        finding = direction.finding("prefer-identity", statement, change, **names)
        # an added column is spelled by what else is said of it: safely.add_column takes no identity
        is_new = change.kind == "create table"
        yield finding._replace(safe=column_types.identity(column, change.node) if is_new else None)
    elif type_name(column) == "timestamp":
        finding = direction.finding("prefer-timestamp-tz", statement, change, **names)
        yield finding._replace(safe="sa.DateTime(timezone=True)")


def added_column(
    direction: Direction, statement: Statement, change: Change, column: nodes.ColumnDef
) -> Iterator[Finding]:
    """Yield the findings about a column that a table in use gets.

    On the way down, safely.add_column brings back what was set aside, or refuses it.
    """
    if statement.from_safely and not direction.up:
        return
    constraints = {node.contype: node for node in every(column, nodes.Constraint)}
    default = constraints.get(pg_query_pb2.CONSTR_DEFAULT)
    is_computed = (
        type_name(column) in column_types.SERIALS
        or pg_query_pb2.CONSTR_IDENTITY in constraints
        or is_stored(constraints.get(pg_query_pb2.CONSTR_GENERATED))
    )
    if is_computed or (default is not None and is_volatile(default.raw_expr)):
        finding = direction.finding("volatile-default", statement, change)
        if finding.safe is None:
            remedies = {
                pg_query_pb2.CONSTR_IDENTITY: IDENTITY,
                pg_query_pb2.CONSTR_GENERATED: STORED,
            }
            remedy = next(
                (remedies[type_] for type_ in remedies if type_ in constraints), ONE_BY_ONE
            )
            finding = finding._replace(why=f"{finding.why} {remedy}")
        yield finding
    if pg_query_pb2.CONSTR_PRIMARY in constraints:
        yield direction.finding("primary-key-at-once", statement, change)
    elif (
        pg_query_pb2.CONSTR_NOTNULL in constraints
        and default is None
        and not is_computed
        and pg_query_pb2.CONSTR_GENERATED not in constraints
    ):
        yield direction.finding("required-column", statement, change)
    if statement.from_safely:
        return
    if pg_query_pb2.CONSTR_UNIQUE in constraints:
        columns = change.parts["column"]
        yield direction.finding("unique-at-once", statement, change, columns=columns)
    if pg_query_pb2.CONSTR_CHECK in constraints:
        yield checked_column(direction, statement, change)
    foreign_key = constraints.get(pg_query_pb2.CONSTR_FOREIGN)
    if foreign_key is not None and default is not None:  # else PostgreSQL looks up no row
        both = " and ".join(map(unqualified, change.locks))
        name = f"a foreign key on {change.parts['column']}"
        yield direction.finding("foreign-key-at-once", statement, change, name=name, both=both)


def is_stored(generated: nodes.Constraint | None) -> bool:
    """Return whether a generated column is computed for each row when it is added."""
    return generated is not None and generated.generated_kind != "v"


def is_nullable(direction: Direction, change: Change) -> bool:
    """Return whether the models say that the column may be NULL."""
    name = unqualified(change.parts["column"])
    return any(
        bool(table.columns[name].nullable)
        for table in direction.metadata.tables.values()
        if table.name == change.table and name in table.columns
    )


def checked_column(direction: Direction, statement: Statement, change: Change) -> Finding:
    """Return a finding about ADD COLUMN … CHECK, which checks every row."""
    name = f"a CHECK on {change.parts['column']}"
    return direction.finding("check-at-once", statement, change, name=name)


# rows


def changed_rows(direction: Direction, statement: Statement, change: Change) -> Iterator[Finding]:
    """Yield the findings about UPDATE and DELETE: the values they lose, the rows they lock."""
    if not direction.up and overwrites(change):
        yield direction.finding("lossy-downgrade", statement, change)
    if change.kind == "delete":  # also of one row, since no downgrade brings it back
        if direction.up:
            yield direction.finding("delete-at-once", statement, change)
    elif not has_few_rows(change):
        yield direction.finding("backfill-at-once", statement, change)


def has_few_rows(change: Change) -> bool:
    """Return whether the WHERE lists ids of the table itself."""
    where = change.node.where_clause if isinstance(change.node, nodes.UpdateStmt) else None
    if isinstance(where, nodes.BoolExpr) and where.boolop == pg_query_pb2.AND_EXPR:
        return any(lists_ids(condition, change) for condition in where.args)
    return lists_ids(where, change)


def lists_ids(condition: nodes.AstNode | None, change: Change) -> bool:
    """Return whether a condition is `id = 1` or `id IN (1, 2)`, of the changed table itself."""
    if not isinstance(condition, nodes.A_Expr) or not isinstance(condition.lexpr, nodes.ColumnRef):
        return False
    if condition.kind not in (pg_query_pb2.AEXPR_OP, pg_query_pb2.AEXPR_IN):
        return False
    *owner, column = strings(condition.lexpr.fields)
    value = condition.rexpr
    values = value.items if isinstance(value, nodes.List) else [value]
    alias = change.node.relation.alias
    table = alias.aliasname if alias else change.table
    return (
        strings(condition.name) == ["="]
        and column == "id"
        and owner in ([], [table])
        and all(isinstance(item, nodes.A_Const) for item in values)
    )


# locks


def table_lock(direction: Direction, statement: Statement, change: Change) -> Iterator[Finding]:
    """Yield a finding about LOCK TABLE if it blocks clients."""
    tables = [table for table in change.tables if direction.in_use(table)]
    if tables and change.blocks:
        exclusive = change.mode == "ACCESS EXCLUSIVE"
        names = {
            "tables": " and ".join(tables),
            "mode": change.mode,
            "blocked": "reads and writes wait" if exclusive else "writes wait, and reads go on",
        }
        yield direction.finding("table-lock", statement, change, **names)


def adding(direction: Direction, validate: Change) -> tuple[Statement, Change] | None:
    """Return the statement that adds the constraint to validate; None if another revision does."""
    for statement in direction.statements:
        for change in changes(statement.text):
            is_same = change.parts.get("name") == validate.parts["name"]
            if change.kind in CONSTRAINTS and is_same:
                return statement, change
    return None


def check_and_validate(
    direction: Direction, statement: Statement, change: Change
) -> Iterator[Finding]:
    """Yield a finding about VALIDATE in the transaction that adds the constraint."""
    added = adding(direction, change)
    if added and added[0].transaction == statement.transaction:
        safe = f"{direction.finding('raw-op', *added).safe}  # in the place of both"
        yield direction.finding("check-and-validate", statement, change)._replace(safe=safe)


def proved_not_null(direction: Direction, change: Change) -> set[str]:
    """Return the columns that a validated constraint proves to have no NULL.

    If another revision or `safely` has added the constraint, return the whole table: the condition
    is unknown.
    """
    added = adding(direction, change)
    if added is None:
        return {change.table}
    if added[1].kind == "not null":
        return {description(added[1])}
    condition = added[1].node.def_.raw_expr
    return {
        f"{change.table}.{strings(test.arg.fields)[-1]}"
        for test in required_tests(condition)
        if test.nulltesttype == pg_query_pb2.IS_NOT_NULL and isinstance(test.arg, nodes.ColumnRef)
    }


def two_tables(direction: Direction) -> Iterator[Finding]:
    """Yield a finding for each lock that a transaction takes while it holds one elsewhere."""
    first_tables: dict[int, str] = {}
    for statement in direction.statements:
        for table, change in direction.blocked(statement):
            first = first_tables.setdefault(statement.transaction, table)
            if first != table:
                names = {"first": first, "table": table}
                finding = direction.finding("two-tables", statement, change, **names)
                revisions = subjects.revisions_to_write(direction)
                yield finding._replace(safe=revisions or "one revision for each table")
