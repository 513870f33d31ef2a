"""Checks by the kind of a statement: each kind has a rule, is harmless by name, or is unseen."""

from collections.abc import Iterator

from postgast import nodes
from postgast.nodes import AstNode

from safely.database import as_literal
from safely.lint.checks.tables import is_in_transaction
from safely.lint.directions import Direction, description
from safely.lint.findings import Finding
from safely.lint.parsing import every, strings
from safely.lint.rendering import Statement
from safely.lint.sql_text import unqualified
from safely.lint.statement_kinds import (
    ACCESS_EXCLUSIVE,
    CONCURRENT,
    CREATE_TABLE,
    SYNTAX_ERROR,
    UNSEEN,
    WITHOUT_WAITING,
)
from safely.lint.statements import Change, changes

RULE_OF_KIND = {
    # clients wait
    "alter constraint": "brief-lock",
    "alter foreign table": "brief-lock",
    "alter index": "brief-lock",
    "alter materialized view": "brief-lock",
    "alter table move all": "rewrite",
    "alter view": "brief-lock",
    "add of": "brief-lock",
    "constraint using index": "brief-lock",
    "drop of": "brief-lock",
    "replica identity": "brief-lock",
    "set compression": "brief-lock",
    "set storage": "brief-lock",
    "attach partition": "attach-partition",
    "detach partition": "detach-partition",
    "add inherit": "inherit",
    "drop inherit": "inherit",
    "exclusion": "exclusion-at-once",
    "lock rows": "row-locks",
    "notify": "notify",
    "refresh materialized view": "refresh",
    "reindex": "reindex",
    # rows
    "create table as": "create-table-as",
    "insert query": "insert-select",
    "upsert": "upsert",
    # builds break, or data is lost
    "add identity": "identity",
    "change identity": "identity",
    "drop identity": "identity",
    "alter sequence": "alter-sequence",
    "alter type": "alter-type",
    "change schema": "rename",
    "drop constraint": "drop-constraint",
    "drop expression": "drop-expression",
    "dropdb": "drop-database",
    "rename label": "rename",
    "replace view": "replace-view",
    "restart sequence": "sequence-restart",
    # triggers
    "create trigger": "trigger",
    "enable trigger": "trigger",
    "rename trigger": "trigger",
    "disable trigger": "disable-trigger",
    "drop trigger": "drop-trigger",
    "create rule": "rewrite-rule",
    "disable rule": "rewrite-rule",
    "drop rule": "rewrite-rule",
    "enable rule": "rewrite-rule",
    "rename rule": "rewrite-rule",
    "alter event trig": "event-trigger",
    "create event trig": "event-trigger",
    # rights
    "alter default privileges": "default-privileges",
    "alter policy": "policy",
    "create policy": "policy",
    "drop policy": "policy",
    "rename policy": "policy",
    "row security": "row-security",
    "alter role": "alter-role",
    "alter role set": "alter-role",
    "create role": "alter-role",
    "drop role": "alter-role",
    "grant role": "alter-role",
    "change owner": "owner",
    "reassign owned": "owner",
    "drop owned": "drop-owned",
    "revoke": "revoke",
    # beyond the database
    "alter database": "alter-system",
    "alter database refresh coll": "alter-system",
    "alter database set": "alter-system",
    "alter system": "alter-system",
    "alter table space options": "alter-system",
    "create table space": "alter-system",
    "createdb": "alter-system",
    "drop table space": "alter-system",
    "alter extension": "extension",
    "alter extension contents": "extension",
    "create extension": "extension",
    "create plang": "server-program",
    "load": "server-program",
    "alter column generic options": "outside-database",
    "alter fdw": "outside-database",
    "alter foreign server": "outside-database",
    "alter user mapping": "outside-database",
    "create fdw": "outside-database",
    "create foreign server": "outside-database",
    "create foreign table": "outside-database",
    "create user mapping": "outside-database",
    "drop user mapping": "outside-database",
    "generic options": "outside-database",
    "import foreign schema": "outside-database",
    "alter publication": "replication",
    "alter subscription": "replication",
    "create publication": "replication",
    "create subscription": "replication",
    "drop subscription": "replication",
}
HARMLESS = {  # nobody waits, no data is lost, and what clients use stays as it is
    "alter object depends", "alter operator", "alter op family", "alter stats",
    "alter tsconfiguration", "alter tsdictionary", "check point", "close portal", "cluster on",
    "comment", "composite type", "constraints set", "create am", "create cast",
    "create conversion", "create domain", "create enum", "create materialized view",
    "create op class", "create op family", "create range", "create schema", "create seq",
    "create statistics", "create temporary table", "create transform", "create view",
    "deallocate", "declare cursor", "define", "drop cluster", "fetch", "insert", "listen",
    "replace rel options", "reset options", "reset rel options", "sec label", "select",
    "set options", "set rel options", "set statistics", "unlisten", "vacuum", "variable show",
}  # fmt: skip
CHECKED_ELSEWHERE = {  # in tables.py, settings.py, rights.py, order.py
    "add column", "add label", "alter collation", "alter domain", "alter function", "check",
    "column grant", "copy file", "create function", "create index", "create table", "default",
    "delete", "discard", "drop column", "drop index", "drop table", "foreign key", "grant",
    "lock", "no default", "not null", "null", "primary key", "rename constraint",
    "rename index", "rewrite", "set", SYNTAX_ERROR, "transaction", "truncate", "type", "unique",
    UNSEEN, "update", "validate",
}  # fmt: skip
ALL = "each object of the role"  # of REASSIGN OWNED
FALSE = ("f", "fa", "fal", "fals", "false", "n", "no", "of", "off", "0")  # for PostgreSQL
SET_NOT_NULL = "O"  # the parser's letter for it in ALTER DOMAIN
OUTSIDE_OF_TRANSACTIONS = {
    "alter system", "create subscription", "create table space", "createdb", "drop table space",
    "dropdb",
}  # fmt: skip
CASCADING = (nodes.AlterTableCmd, nodes.DropStmt, nodes.TruncateStmt)
CONCURRENTLY = ("detach partition", "reindex")  # tables.py knows indexes
# what an upgrade has brought and its downgrade takes back does no harm to the older builds
ONLY_IN_UPGRADES = {
    "alter-sequence", "create-table-as", "drop-object", "extension", "grant-to-public", "identity",
    "owner", "rename", "replace-function", "replace-view", "revoke",
}  # fmt: skip


def check(direction: Direction) -> Iterator[Finding]:
    """Yield a finding for each statement whose kind has a rule, or that nobody knows."""
    for statement in direction.statements:
        if statement.from_safely:
            continue
        for change in changes(statement.text):
            if direction.in_use(change.table) or change.kind in CREATE_TABLE:
                for rule in rules_of(direction, statement, change):
                    if direction.up or rule not in ONLY_IN_UPGRADES:
                        yield finding(direction, rule, statement, change)


def rules_of(direction: Direction, statement: Statement, change: Change) -> Iterator[str]:
    """Yield the rules that a change breaks by its kind."""
    kind = change.kind
    yield from (rule for applies, rule in FURTHER_CASES if applies(change))
    if refuses_transaction(change) and is_in_transaction(direction, statement):
        yield "not-in-transaction"
    special = next((rule for applies, rule in SPECIAL_CASES if applies(change)), None)
    if special is not None:
        yield special
    elif change.has(*CONCURRENT):
        if kind in CONCURRENTLY and is_in_transaction(direction, statement):
            yield "concurrently-in-transaction"
    elif kind in RULE_OF_KIND:
        blocks = not set(WITHOUT_WAITING).issuperset(change.locks.values())
        if blocks or RULE_OF_KIND[kind] != "brief-lock":
            yield RULE_OF_KIND[kind]
    elif kind in HARMLESS | CHECKED_ELSEWHERE:
        return
    elif kind.startswith("drop "):
        yield "drop-object"
    elif kind.startswith("rename "):
        yield "rename"
    else:
        yield UNSEEN


def cascades(change: Change) -> bool:
    """Return whether a statement reaches what depends on its object; of a type: typed tables."""
    is_cascade = isinstance(change.node, CASCADING) and change.has("DROP_CASCADE")
    return is_cascade and change.kind != "alter type"


def is_partition(change: Change) -> bool:
    """Return whether a new table is a partition of another one."""
    return isinstance(change.node, nodes.CreateStmt) and change.node.partbound is not None


def inherits(change: Change) -> bool:
    """Return whether a new table is a child of another one, and no partition."""
    node = change.node
    return isinstance(node, nodes.CreateStmt) and bool(node.inh_relations) and not node.partbound


def is_of_parent(change: Change) -> bool:
    """Return whether a new index is that of a partitioned table alone, without its partitions."""
    return isinstance(change.node, nodes.IndexStmt) and not change.has("inh")


def refuses_transaction(change: Change) -> bool:
    """Return whether PostgreSQL refuses a statement in a transaction; CONCURRENTLY apart."""
    is_vacuum = isinstance(change.node, nodes.VacuumStmt) and change.node.is_vacuumcmd
    return is_vacuum or change.kind in OUTSIDE_OF_TRANSACTIONS


def is_unlogged(change: Change) -> bool:
    """Return whether a new table is empty after a crash."""
    node = change.node
    return isinstance(node, nodes.CreateStmt) and bool(
        node.relation and node.relation.relpersistence == "u"
    )


def disables_autovacuum(change: Change) -> bool:
    """Return whether autovacuum no longer works on a table."""
    return change.kind == "set rel options" and any(
        option.defname == "autovacuum_enabled" and is_false(option.arg)
        for option in every(change.node, nodes.DefElem)
    )


def is_false(value: AstNode | None) -> bool:
    """Return whether the value of an option means false, such as `off` or 0."""
    if isinstance(value, nodes.Integer):
        return value.ival == 0
    if isinstance(value, nodes.TypeName):  # a word without quotes
        return strings(value.names)[-1] in FALSE
    return isinstance(value, nodes.String) and value.sval.lower() in FALSE


def is_checked(change: Change) -> bool:
    """Return whether ALTER DOMAIN looks at every row of the domain's tables."""
    if not isinstance(change.node, nodes.AlterDomainStmt):
        return False
    constraints = every(change.node, nodes.Constraint)
    adds = any(not constraint.skip_validation for constraint in constraints)
    return adds or change.node.subtype == SET_NOT_NULL


def forbids_null(change: Change) -> bool:
    """Return whether a column is made NOT NULL without a look at its rows."""
    return change.kind == "not null" and change.has("skip_validation")


def restarts(change: Change) -> bool:
    """Return whether an identity starts again."""
    options = every(change.node, nodes.DefElem)
    return change.kind == "change identity" and any(one.defname == "restart" for one in options)


FURTHER_CASES = (  # each that applies, whatever else is said of the change
    (is_unlogged, "durability"),
    (disables_autovacuum, "autovacuum-off"),
)
SPECIAL_CASES = (  # the first that applies decides
    (cascades, "cascade"),
    (is_partition, "create-partition"),
    (inherits, "inherit"),
    (is_of_parent, "brief-lock"),
    (forbids_null, "not-null-not-valid"),
    (is_checked, "domain-constraint"),
    (restarts, "sequence-restart"),
)


def finding(direction: Direction, rule: str, statement: Statement, change: Change) -> Finding:
    """Return a finding, which names the object that the change is about."""
    names = {
        "object": named(change),
        "mode": change.mode,
        "blocked": "reads and writes" if ACCESS_EXCLUSIVE in change.locks.values() else "writes",
        "rows": "the rows of COPY" if change.has("CopyStmt") else "the result of a query",
    }
    if rule == "trigger":
        name = unqualified(change.parts.get("name", ""))
        names["trigger"] = f"the trigger {name}" if name else "each trigger"
    elif is_unlogged(change):
        names["name"] = "UNLOGGED"
    elif rule == "create-partition":
        names["parent"] = next(iter(map(unqualified, change.locks)), "…")
    elif rule == "drop-constraint":
        return dropped_constraint(direction, statement, change)
    elif rule in ("domain-constraint", "drop-owned"):
        names["name"] = ".".join(strings(getattr(change.node, "type_name", [])))
    return direction.finding(rule, statement, change, **names)


def named(change: Change) -> str:
    """Return the object of a change in words, such as `the view open_orders`."""
    if "column" in change.parts:
        return description(change)
    if change.kind == "rename label":
        return f"the label {as_literal(change.node.old_val)} of {unqualified(change.parts['name'])}"
    name = unqualified(change.parts.get("name", "")) or change.table
    kind = change.kind.removeprefix("drop ").replace("statistic ext", "statistics")
    return f"the {kind} {name}" if change.kind.startswith("drop ") else name or ALL


def dropped_constraint(direction: Direction, statement: Statement, change: Change) -> Finding:
    """Return a finding about DROP CONSTRAINT; of a foreign key, both tables are locked."""
    name = unqualified(change.parts.get("name", ""))
    referents = {
        key.referred_table.name
        for table in direction.metadata.tables.values()
        for key in table.foreign_key_constraints
        if table.name == change.table and key.name == name
    }
    locks = dict.fromkeys([*change.locks, *referents], change.mode)
    locked = " and ".join(map(unqualified, locks))
    return direction.finding(
        "drop-constraint", statement, change._replace(locks=locks), locked=locked
    )
