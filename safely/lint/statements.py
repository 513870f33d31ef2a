"""Statements of SQL as changes of a schema or of rows: what each changes, and what it locks.

The lock modes are those of PostgreSQL 15 to 18, as a test observes them in pg_locks.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from postgast import nodes, pg_query_pb2
from postgast.nodes import AstNode, RangeVar

from safely.database import as_literal
from safely.lint.parsing import (
    action_sql,
    every,
    expression,
    quoted,
    statements,
    strings,
    type_sql,
)
from safely.lint.sql_text import unqualified

ACCESS_SHARE, ROW_SHARE, ROW_EXCLUSIVE = "ACCESS SHARE", "ROW SHARE", "ROW EXCLUSIVE"
SHARE_UPDATE_EXCLUSIVE, SHARE = "SHARE UPDATE EXCLUSIVE", "SHARE"
SHARE_ROW_EXCLUSIVE, EXCLUSIVE = "SHARE ROW EXCLUSIVE", "EXCLUSIVE"
ACCESS_EXCLUSIVE = "ACCESS EXCLUSIVE"
MODES = (  # by strength; those after the fourth block writes, the last blocks reads as well
    ACCESS_SHARE, ROW_SHARE, ROW_EXCLUSIVE, SHARE_UPDATE_EXCLUSIVE,
    SHARE, SHARE_ROW_EXCLUSIVE, EXCLUSIVE, ACCESS_EXCLUSIVE,
)  # fmt: skip
WITHOUT_WAITING = MODES[:4]
FOREIGN_KEY_ACTIONS = {"c": "CASCADE", "r": "RESTRICT", "n": "SET NULL", "d": "SET DEFAULT"}
SYNTAX_ERROR, UNSEEN = "syntax error", "unseen"


class Change(NamedTuple):
    """A change that a statement makes."""

    kind: str
    """What it does, such as `create index` or `drop column`; `unseen` where SQL doesn't show it."""
    parts: dict[str, str]
    """Pieces of the SQL, such as `table`, `column`, `where`; those that are missing have no key."""
    locks: dict[str, str] = {}  # noqa: RUF012  # nobody changes it
    """The lock mode by table; the table is empty where the SQL doesn't name it."""
    node: Any = None
    """The node of the change: of the statement, or of one action of ALTER TABLE."""
    statement: Any = None
    """The node of the whole statement."""

    @property
    def table(self) -> str:
        """The name of the table, without schema and quotes; empty if there is none."""
        return unqualified(self.parts.get("table", ""))

    @property
    def tables(self) -> list[str]:
        """The names of all tables that the change locks, without schema and quotes."""
        return list(dict.fromkeys([self.table, *map(unqualified, self.locks)]))

    @property
    def mode(self) -> str:
        """The lock mode on the table; empty without a lock."""
        return next(iter(self.locks.values()), "")

    @property
    def blocks(self) -> bool:
        """Whether writes, or reads and writes, of the table have to wait."""
        return self.mode not in ("", *WITHOUT_WAITING)


def changes(text: str) -> Iterator[Change]:
    """Yield the changes that the statements of a text make."""
    for statement in statements(text):
        if statement.node is not None:
            yield from changes_of(statement.node)
        elif statement.error:
            yield Change(SYNTAX_ERROR, {"error": statement.error, "sql": statement.text})


def changes_of(node: AstNode) -> Iterator[Change]:
    """Yield the changes of one statement, those in its common table expressions first."""
    for inner in every(node, nodes.CommonTableExpr):
        if isinstance(inner.ctequery, nodes.UpdateStmt | nodes.DeleteStmt | nodes.InsertStmt):
            for change in read(inner.ctequery):
                yield change._replace(parts={**change.parts, "cte": ""}, statement=node)
    has_cte = getattr(node, "with_clause", None) is not None
    for change in read(node):
        # of a statement with CTEs, no call of `safely` can take over the other parts
        parts = {**change.parts, "cte": ""} if has_cte else change.parts
        yield change._replace(
            parts=parts, node=node if change.node is None else change.node, statement=node
        )


def read(node: AstNode) -> Iterator[Change]:
    """Yield the changes of one statement, apart from its common table expressions."""
    reader = READERS.get(type(node))
    if reader is not None:
        yield from reader(node)
    else:
        yield Change(words(type(node).__name__.removesuffix("Stmt")), {})


def words(name: str) -> str:
    """Return a name such as `AlterSystem` as lower-case words."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()


def name_of(relation: RangeVar | None) -> str:
    """Return the name of a table as SQL; empty without one."""
    if relation is None:
        return ""
    parts = [relation.schemaname, relation.relname]
    return ".".join(quoted(part) for part in parts if part)


def dotted(node: AstNode | None) -> str:
    """Return a name in DROP or COMMENT as SQL, such as `public.plans`; empty for another node."""
    if isinstance(node, nodes.TypeName):
        return ".".join(map(quoted, strings(node.names)))
    if isinstance(node, nodes.List):
        return ".".join(map(quoted, strings(node.items)))
    if isinstance(node, nodes.ObjectWithArgs):  # a function or an operator
        return ".".join(map(quoted, strings(node.objname)))
    return quoted(node.sval) if isinstance(node, nodes.String) else ""


def names(items: list[AstNode]) -> str:
    """Return a list of names as SQL."""
    return ", ".join(map(quoted, strings(items)))


def present(**parts: str) -> dict[str, str]:
    """Return the parts that aren't empty."""
    return {name: part for name, part in parts.items() if part}


# tables and their parts


def of_create_table(node: nodes.CreateStmt) -> Iterator[Change]:
    """Yield the new table; it locks the tables to which its foreign keys refer, and its parent."""
    if is_temporary(node.relation):
        yield Change("create temporary table", {"table": name_of(node.relation)})
        return
    locks = {
        name_of(constraint.pktable): SHARE_ROW_EXCLUSIVE
        for constraint in every(node, nodes.Constraint)
        if constraint.pktable is not None
    }
    for parent in node.inh_relations:
        if isinstance(parent, RangeVar):
            is_partition = node.partbound is not None
            locks[name_of(parent)] = ACCESS_EXCLUSIVE if is_partition else SHARE_UPDATE_EXCLUSIVE
    table = name_of(node.relation)
    locks.pop(table, None)
    if_not_exists = "yes" if node.if_not_exists else ""
    yield Change("create table", {"table": table, **present(if_not_exists=if_not_exists)}, locks)


def of_table_as(node: nodes.CreateTableAsStmt) -> Iterator[Change]:
    """Yield a table or a materialized view that a query fills."""
    table = name_of(node.into.rel) if node.into else ""
    if node.into and is_temporary(node.into.rel):
        yield Change("create temporary table", {"table": table})
        return
    is_view = node.objtype == pg_query_pb2.OBJECT_MATVIEW
    yield Change("create materialized view" if is_view else "create table as", {"table": table})


def of_select(node: nodes.SelectStmt) -> Iterator[Change]:
    """Yield a query: the table that it makes, the rows that it locks, or what it reads."""
    into = next((select.into_clause for select in every(node, nodes.SelectStmt)), None)
    if into is not None:
        kind = "create temporary table" if is_temporary(into.rel) else "create table as"
        yield Change(kind, {"table": name_of(into.rel)})
    locked = [
        table
        for select in every(node, nodes.SelectStmt)
        if select.locking_clause
        for table in select.from_clause
        if isinstance(table, RangeVar)
    ]
    if locked:
        locks = {name_of(table): ROW_SHARE for table in locked}
        yield Change("lock rows", {"table": name_of(locked[0])}, locks)
    else:
        yield Change("select", {})


def is_temporary(relation: RangeVar | None) -> bool:
    """Return whether a table ends with the session, so that no client sees it."""
    return relation is not None and relation.relpersistence == "t"


def of_view(node: nodes.ViewStmt) -> Iterator[Change]:
    """Yield a new view, or a view that is replaced."""
    view = name_of(node.view)
    if node.replace:
        yield Change("replace view", {"table": view}, {view: ACCESS_EXCLUSIVE})
    else:
        yield Change("create view", {"table": view})


def of_index(node: nodes.IndexStmt) -> Iterator[Change]:
    """Yield a new index."""
    table = name_of(node.relation)
    parts = present(
        unique="UNIQUE" if node.unique else "",
        concurrently="CONCURRENTLY" if node.concurrent else "",
        name=quoted(node.idxname) if node.idxname else "",
        table=table,
        columns=", ".join(index_element(element) for element in node.index_params),
        where=expression(node.where_clause),
        if_not_exists="yes" if node.if_not_exists else "",
    )
    mode = SHARE_UPDATE_EXCLUSIVE if node.concurrent else SHARE
    yield Change("create index", parts, {table: mode})


def index_element(node: AstNode) -> str:
    """Return a column or an expression of an index as SQL, without its operator class."""
    if not isinstance(node, nodes.IndexElem):
        return ""
    order = {pg_query_pb2.SORTBY_DESC: " DESC"}.get(node.ordering, "")
    nulls = {
        pg_query_pb2.SORTBY_NULLS_FIRST: " NULLS FIRST",
        pg_query_pb2.SORTBY_NULLS_LAST: " NULLS LAST",
    }.get(node.nulls_ordering, "")
    column = quoted(node.name) if node.name else expression(node.expr)
    return f"{column}{order}{nulls}"


DROPPED = {
    pg_query_pb2.OBJECT_TABLE: "drop table",
    pg_query_pb2.OBJECT_INDEX: "drop index",
    pg_query_pb2.OBJECT_TYPE: "drop type",
    pg_query_pb2.OBJECT_VIEW: "drop view",
    pg_query_pb2.OBJECT_MATVIEW: "drop materialized view",
}
OF_TABLE = {  # objects of a table, whose name stands last
    pg_query_pb2.OBJECT_TRIGGER: "drop trigger",
    pg_query_pb2.OBJECT_RULE: "drop rule",
    pg_query_pb2.OBJECT_POLICY: "drop policy",
}


def of_drop(node: nodes.DropStmt) -> Iterator[Change]:
    """Yield each object that is dropped."""
    cascade = "CASCADE" if node.behavior == pg_query_pb2.DROP_CASCADE else ""
    for item in node.objects:
        if node.remove_type in OF_TABLE and isinstance(item, nodes.List):
            *table, name = strings(item.items)
            path = ".".join(map(quoted, table))
            parts = present(table=path, name=quoted(name), cascade=cascade)
            yield Change(OF_TABLE[node.remove_type], parts, {path: ACCESS_EXCLUSIVE})
            continue
        name = dotted(item)
        other = pg_query_pb2.ObjectType.Name(node.remove_type).removeprefix("OBJECT_").lower()
        kind = DROPPED.get(node.remove_type, f"drop {other.replace('_', ' ')}")
        parts = present(cascade=cascade, if_exists="yes" if node.missing_ok else "")
        if kind in ("drop table", "drop view", "drop materialized view", "drop sequence"):
            yield Change(kind, {"table": name, **parts}, {name: ACCESS_EXCLUSIVE})
        elif kind == "drop index":
            mode = SHARE_UPDATE_EXCLUSIVE if node.concurrent else ACCESS_EXCLUSIVE
            parts |= present(name=name, concurrently="CONCURRENTLY" if node.concurrent else "")
            yield Change(kind, parts, {"": mode})
        else:
            yield Change(kind, {"name": name, **parts})


def of_truncate(node: nodes.TruncateStmt) -> Iterator[Change]:
    """Yield each table that loses its rows."""
    cascade = "CASCADE" if node.behavior == pg_query_pb2.DROP_CASCADE else ""
    for table in map(name_of, every(node, RangeVar)):
        yield Change("truncate", present(table=table, cascade=cascade), {table: ACCESS_EXCLUSIVE})


def of_lock(node: nodes.LockStmt) -> Iterator[Change]:
    """Yield one change for LOCK TABLE, whatever the number of its tables."""
    tables = [name_of(table) for table in every(node, RangeVar)]
    mode = MODES[node.mode - 1]
    yield Change("lock", {"table": tables[0], "mode": mode}, dict.fromkeys(tables, mode))


def of_maintenance(node: nodes.VacuumStmt | nodes.ClusterStmt) -> Iterator[Change]:
    """Yield what VACUUM, ANALYZE and CLUSTER do with each table."""
    options = {option.defname for option in every(node, nodes.DefElem)}
    rewrites = isinstance(node, nodes.ClusterStmt) or "full" in options
    kind = "rewrite" if rewrites else "vacuum"
    mode = ACCESS_EXCLUSIVE if rewrites else SHARE_UPDATE_EXCLUSIVE
    for table in [name_of(relation) for relation in every(node, RangeVar)] or [""]:
        yield Change(kind, {"table": table}, {table: mode})


def of_reindex(node: nodes.ReindexStmt) -> Iterator[Change]:
    """Yield indexes that are built anew."""
    concurrently = any(option.defname == "concurrently" for option in every(node, nodes.DefElem))
    name = name_of(node.relation) or quoted(node.name)
    is_table = node.kind == pg_query_pb2.REINDEX_OBJECT_TABLE
    parts = present(
        table=name if is_table else "",
        name="" if is_table else name,
        concurrently="CONCURRENTLY" if concurrently else "",
    )
    mode = SHARE_UPDATE_EXCLUSIVE if concurrently else SHARE
    yield Change("reindex", parts, {parts.get("table", ""): mode})


def of_refresh(node: nodes.RefreshMatViewStmt) -> Iterator[Change]:
    """Yield a materialized view that is filled anew."""
    view = name_of(node.relation)
    concurrently = "CONCURRENTLY" if node.concurrent else ""
    mode = EXCLUSIVE if node.concurrent else ACCESS_EXCLUSIVE
    parts = present(table=view, concurrently=concurrently)
    yield Change("refresh materialized view", parts, {view: mode})


def with_lock(kind: str, mode: str) -> Callable[[Any], Iterator[Change]]:
    """Return a reader of statements with a name and one relation."""

    def reader(node: Any) -> Iterator[Change]:
        relation = next(every(node, RangeVar), None)
        given = (
            getattr(node, attribute, "") for attribute in ("trigname", "rulename", "policy_name")
        )
        name = next((quoted(name) for name in given if name), "")
        table = name_of(relation)
        yield Change(kind, present(table=table, name=name), {table: mode})

    return reader


def of_sequence(node: nodes.AlterSeqStmt) -> Iterator[Change]:
    """Yield a change of a sequence."""
    is_restart = any(option.defname == "restart" for option in every(node, nodes.DefElem))
    sequence = name_of(node.sequence)
    kind = "restart sequence" if is_restart else "alter sequence"
    yield Change(kind, {"name": sequence}, {sequence: SHARE_ROW_EXCLUSIVE})


def of_comment(node: nodes.CommentStmt) -> Iterator[Change]:
    """Yield a comment; on a table or a column, only other changes of the schema wait."""
    name = dotted(node.object)
    if node.objtype == pg_query_pb2.OBJECT_COLUMN:
        name = name.rpartition(".")[0]
    elif node.objtype != pg_query_pb2.OBJECT_TABLE:
        name = ""
    locks = {name: SHARE_UPDATE_EXCLUSIVE} if name else {}
    yield Change("comment", present(table=name), locks)


RENAMED = {
    pg_query_pb2.OBJECT_TABLE: "rename table",
    pg_query_pb2.OBJECT_COLUMN: "rename column",
    pg_query_pb2.OBJECT_TABCONSTRAINT: "rename constraint",
    pg_query_pb2.OBJECT_INDEX: "rename index",
}


def of_rename(node: nodes.RenameStmt) -> Iterator[Change]:
    """Yield a new name."""
    other = pg_query_pb2.ObjectType.Name(node.rename_type).removeprefix("OBJECT_").lower()
    kind = RENAMED.get(node.rename_type, f"rename {other.replace('_', ' ')}")
    table, new = name_of(node.relation), quoted(node.newname)
    old = quoted(node.subname) if node.subname else dotted(node.object)
    if kind == "rename index":  # the name of the index stands where that of the table does
        yield Change(kind, {"name": table, "new": new}, {"": SHARE_UPDATE_EXCLUSIVE})
        return
    part = "column" if kind == "rename column" else "name"
    locks = {table: ACCESS_EXCLUSIVE} if table else {}
    yield Change(kind, present(table=table, new=new, **{part: old}), locks)


def of_alter_object(
    node: nodes.AlterOwnerStmt | nodes.AlterObjectSchemaStmt,
) -> Iterator[Change]:
    """Yield another owner or another schema of an object."""
    kind = "change owner" if isinstance(node, nodes.AlterOwnerStmt) else "change schema"
    table = name_of(node.relation)
    locks = {table: ACCESS_EXCLUSIVE} if table else {}
    yield Change(kind, present(table=table, name=dotted(node.object)), locks)


# actions of ALTER TABLE

ACTIONS = {
    "DropColumn": "drop column",
    "DropConstraint": "drop constraint",
    "SetNotNull": "not null",
    "DropNotNull": "null",
    "AlterColumnType": "type",
    "ValidateConstraint": "validate",
    "SetLogged": "rewrite",
    "SetUnLogged": "rewrite",
    "SetTableSpace": "rewrite",
    "SetAccessMethod": "rewrite",
    "SetExpression": "rewrite",
    "AddColumn": "add column",
    "AddIdentity": "add identity",
    "DropIdentity": "drop identity",
    "SetIdentity": "change identity",
    "ChangeOwner": "change owner",
    "EnableTrig": "enable trigger",
    "EnableAlwaysTrig": "enable trigger",
    "EnableReplicaTrig": "enable trigger",
    "EnableTrigAll": "enable trigger",
    "EnableTrigUser": "enable trigger",
    "DisableTrig": "disable trigger",
    "DisableTrigAll": "disable trigger",
    "DisableTrigUser": "disable trigger",
    "EnableRule": "enable rule",
    "EnableAlwaysRule": "enable rule",
    "EnableReplicaRule": "enable rule",
    "DisableRule": "disable rule",
    "EnableRowSecurity": "row security",
    "DisableRowSecurity": "row security",
    "ForceRowSecurity": "row security",
    "NoForceRowSecurity": "row security",
    "AttachPartition": "attach partition",
    "DetachPartition": "detach partition",
    "DetachPartitionFinalize": "detach partition",
}
ACTION_MODES = {  # of the actions that take another lock than ACCESS EXCLUSIVE
    **dict.fromkeys(
        ("SetStatistics", "ClusterOn", "DropCluster", "SetOptions", "ResetOptions",
         "SetRelOptions", "ResetRelOptions", "ValidateConstraint", "AttachPartition",
         "DetachPartitionFinalize"),
        SHARE_UPDATE_EXCLUSIVE,
    ),
    **dict.fromkeys(
        ("EnableTrig", "EnableAlwaysTrig", "EnableReplicaTrig", "EnableTrigAll", "EnableTrigUser",
         "DisableTrig", "DisableTrigAll", "DisableTrigUser"),
        SHARE_ROW_EXCLUSIVE,
    ),
}  # fmt: skip


NAMED_ACTIONS = (  # of ALTER TABLE, with a name that is no column's
    "disable rule", "disable trigger", "drop constraint", "enable rule", "enable trigger",
    "validate",
)  # fmt: skip


def of_alter_table(node: nodes.AlterTableStmt) -> Iterator[Change]:
    """Yield each action of ALTER TABLE, which may also be about a view, an index or a sequence."""
    table = name_of(node.relation)
    is_table = node.objtype in (pg_query_pb2.OBJECT_TABLE, pg_query_pb2.OBJECT_FOREIGN_TABLE)
    for action in node.cmds:
        if not isinstance(action, nodes.AlterTableCmd):
            continue
        subtype = pg_query_pb2.AlterTableType.Name(action.subtype).removeprefix("AT_")
        kind = ACTIONS.get(subtype, words(subtype))
        change = Change(
            kind, {"table": table}, {table: ACTION_MODES.get(subtype, ACCESS_EXCLUSIVE)}
        )
        if not is_table and action.subtype != pg_query_pb2.AT_ChangeOwner:
            other = pg_query_pb2.ObjectType.Name(node.objtype).removeprefix("OBJECT_").lower()
            change = change._replace(kind=f"alter {other.replace('_', ' ')}")
        yield of_action(action, change)._replace(node=action)


def of_action(action: nodes.AlterTableCmd, change: Change) -> Change:
    """Return the change of one action, with its parts."""
    name, definition = quoted(action.name) if action.name else "", action.def_
    if isinstance(definition, nodes.Constraint) and change.kind == "add constraint":
        return of_constraint(definition, change)
    if isinstance(definition, nodes.PartitionCmd):
        partition = name_of(definition.name)
        concurrently = "CONCURRENTLY" if definition.concurrent else ""
        mode = SHARE_UPDATE_EXCLUSIVE if concurrently else change.mode
        locks = {change.parts["table"]: mode, partition: ACCESS_EXCLUSIVE}
        parts = change.parts | present(name=partition, concurrently=concurrently)
        return change._replace(parts=parts, locks=locks)
    if isinstance(definition, nodes.ColumnDef):
        if change.kind == "add column":
            column = quoted(definition.colname)
            sql = re.sub(r"^ADD (?:COLUMN )?(?:IF NOT EXISTS )?", "", action_sql(action))
            parts = {"column": column, "definition": sql.removeprefix(column).strip()}
            locks = dict(change.locks)
            for constraint in every(definition, nodes.Constraint):
                if constraint.pktable is not None:
                    locks.setdefault(name_of(constraint.pktable), SHARE_ROW_EXCLUSIVE)
            return change._replace(parts=change.parts | parts, locks=locks)
        parts = present(column=name, type=type_sql(definition.type_name))
        return change._replace(parts=change.parts | parts)
    if action.subtype == pg_query_pb2.AT_ColumnDefault:
        default = expression(definition)
        kind = "default" if default else "no default"
        return change._replace(
            kind=kind, parts=change.parts | present(column=name, default=default)
        )
    locks = dict(change.locks)
    if isinstance(definition, RangeVar) and change.kind == "add inherit":
        locks[name_of(definition)] = SHARE_UPDATE_EXCLUSIVE
    part = "name" if change.kind in NAMED_ACTIONS else "column"
    cascade = "CASCADE" if action.behavior == pg_query_pb2.DROP_CASCADE else ""
    parts = change.parts | present(cascade=cascade, **{part: name})
    return change._replace(parts=parts, locks=locks)


def of_constraint(node: nodes.Constraint, change: Change) -> Change:
    """Return the change that adds a constraint."""
    table = change.parts["table"]
    name = quoted(node.conname) if node.conname else ""
    not_valid = "NOT VALID" if node.skip_validation else ""
    parts = change.parts | present(name=name)
    if node.contype == pg_query_pb2.CONSTR_FOREIGN:
        actions = [
            f"ON {event} {FOREIGN_KEY_ACTIONS[action]}"
            for event, action in (("DELETE", node.fk_del_action), ("UPDATE", node.fk_upd_action))
            if action in FOREIGN_KEY_ACTIONS
        ]
        referent = name_of(node.pktable)
        parts |= present(
            columns=names(node.fk_attrs),
            referent=referent,
            remote=names(node.pk_attrs),
            rest=" ".join(filter(None, [*actions, not_valid])),
        )
        locks = {table: SHARE_ROW_EXCLUSIVE, referent: SHARE_ROW_EXCLUSIVE}
        return change._replace(kind="foreign key", parts=parts, locks=locks)
    if node.contype == pg_query_pb2.CONSTR_CHECK:
        condition = expression(node.raw_expr)
        parts |= {"condition": condition, "rest": f"({condition}) {not_valid}".strip()}
        return change._replace(kind="check", parts=parts)
    if node.contype == pg_query_pb2.CONSTR_NOTNULL:
        parts |= present(column=names(node.keys), rest=not_valid)
        return change._replace(kind="not null", parts=parts)
    if node.contype == pg_query_pb2.CONSTR_UNIQUE and not node.indexname:
        return change._replace(kind="unique", parts=parts | {"columns": names(node.keys)})
    if node.contype == pg_query_pb2.CONSTR_PRIMARY and not node.indexname:
        return change._replace(kind="primary key", parts=parts | {"columns": names(node.keys)})
    is_exclusion = node.contype == pg_query_pb2.CONSTR_EXCLUSION
    kind = "exclusion" if is_exclusion else "constraint using index"
    return change._replace(kind=kind, parts=parts)


# rows


def of_update(node: nodes.UpdateStmt) -> Iterator[Change]:
    """Yield an UPDATE."""
    table = name_of(node.relation)
    assignments = ", ".join(
        f"{quoted(target.name)} = {expression(target.val)}"
        for target in node.target_list
        if isinstance(target, nodes.ResTarget) and not isinstance(target.val, nodes.MultiAssignRef)
    )
    is_simple = not node.from_clause and not any(
        isinstance(target.val, nodes.MultiAssignRef)
        for target in node.target_list
        if isinstance(target, nodes.ResTarget)
    )
    parts = present(
        table=table,
        alias=alias_of(node.relation),
        assignments=assignments,
        where=expression(node.where_clause),
    )
    if not is_simple:
        parts["cte"] = ""
    yield Change("update", parts, {table: ROW_EXCLUSIVE})


def alias_of(relation: RangeVar | None) -> str:
    """Return the alias of a table; empty without one."""
    return quoted(relation.alias.aliasname) if relation and relation.alias else ""


def of_delete(node: nodes.DeleteStmt) -> Iterator[Change]:
    """Yield a DELETE."""
    table = name_of(node.relation)
    parts = present(table=table, alias=alias_of(node.relation), where=expression(node.where_clause))
    yield Change("delete", parts, {table: ROW_EXCLUSIVE})


def of_insert(node: nodes.InsertStmt) -> Iterator[Change]:
    """Yield an INSERT: of rows, of what a query returns, or one that updates rows as well."""
    table = name_of(node.relation)
    conflict = node.on_conflict_clause
    updates = conflict is not None and conflict.action == pg_query_pb2.ONCONFLICT_UPDATE
    is_query = isinstance(node.select_stmt, nodes.SelectStmt) and any(
        select.from_clause for select in every(node.select_stmt, nodes.SelectStmt)
    )
    kind = "upsert" if updates else "insert query" if is_query else "insert"
    yield Change(kind, {"table": table}, {table: ROW_EXCLUSIVE})


def of_merge(node: nodes.MergeStmt) -> Iterator[Change]:
    """Yield an UPDATE and a DELETE for the branches of a MERGE."""
    table = name_of(node.relation)
    commands = {clause.command_type for clause in every(node, nodes.MergeWhenClause)}
    kinds = {pg_query_pb2.CMD_UPDATE: "update", pg_query_pb2.CMD_DELETE: "delete"}
    for command, kind in kinds.items():
        if command in commands:
            yield Change(kind, {"table": table, "cte": ""}, {table: ROW_EXCLUSIVE})
    if pg_query_pb2.CMD_INSERT in commands:
        yield Change("insert query", {"table": table}, {table: ROW_EXCLUSIVE})


def of_copy(node: nodes.CopyStmt) -> Iterator[Change]:
    """Yield a COPY, and the write whose rows it copies."""
    if node.query is not None and not isinstance(node.query, nodes.SelectStmt):
        yield from changes_of(node.query)
    table = name_of(node.relation)
    if node.is_program or node.filename:
        locks = {table: ROW_EXCLUSIVE} if node.is_from else {}
        yield Change("copy file", present(table=table), locks)
    elif node.is_from:
        yield Change("insert query", {"table": table}, {table: ROW_EXCLUSIVE})
    else:
        yield Change("select", {})


def of_explain(node: nodes.ExplainStmt) -> Iterator[Change]:
    """Yield what EXPLAIN ANALYZE runs; EXPLAIN by itself runs nothing."""
    if node.query is not None and any(
        option.defname == "analyze" for option in node.options if isinstance(option, nodes.DefElem)
    ):
        yield from changes_of(node.query)
    else:
        yield Change("select", {})


def of_prepare(node: nodes.PrepareStmt) -> Iterator[Change]:
    """Yield what a prepared statement will do when it is executed."""
    if node.query is not None:
        yield from changes_of(node.query)


# types, rights, settings


def of_enum(node: nodes.AlterEnumStmt) -> Iterator[Change]:
    """Yield a label that is added to an enum or renamed."""
    name = ".".join(map(quoted, strings(node.type_name)))
    label, old = (as_literal(value) if value else "" for value in (node.new_val, node.old_val))
    kind = "rename label" if old else "add label"
    yield Change(kind, present(name=name, label=label, old=old))


def of_grant(node: nodes.GrantStmt) -> Iterator[Change]:
    """Yield rights that are granted or revoked."""
    has_columns = any(right.cols for right in every(node, nodes.AccessPriv))
    kind = "grant" if node.is_grant else "revoke"
    if has_columns and node.is_grant:
        kind = "column grant"
    tables = [name_of(item) for item in node.objects if isinstance(item, RangeVar)]
    for table in tables or [""]:
        yield Change(kind, present(table=table))


def of_setting(node: nodes.VariableSetStmt) -> Iterator[Change]:
    """Yield a setting of the session or the transaction."""
    constants = (argument for argument in node.args if isinstance(argument, nodes.A_Const))
    value = ", ".join(map(expression, constants))
    parts = present(name=node.name, value=value, local="LOCAL" if node.is_local else "")
    yield Change("lock timeout" if node.name == "lock_timeout" else "set", parts)


def of_execute(node: nodes.ExecuteStmt) -> Iterator[Change]:
    """Yield a change that only the preparation of the statement shows."""
    yield Change(UNSEEN, {"prepared": node.name})


def of_unseen(_: AstNode) -> Iterator[Change]:
    """Yield a change that the SQL doesn't show."""
    yield Change(UNSEEN, {})


READERS: dict[type[AstNode], Callable[[Any], Iterator[Change]]] = {
    nodes.AlterEnumStmt: of_enum,
    nodes.AlterObjectSchemaStmt: of_alter_object,
    nodes.AlterOwnerStmt: of_alter_object,
    nodes.AlterPolicyStmt: with_lock("alter policy", ACCESS_EXCLUSIVE),
    nodes.AlterSeqStmt: of_sequence,
    nodes.AlterTableStmt: of_alter_table,
    nodes.CallStmt: of_unseen,
    nodes.ClusterStmt: of_maintenance,
    nodes.CommentStmt: of_comment,
    nodes.CopyStmt: of_copy,
    nodes.CreatePolicyStmt: with_lock("create policy", ACCESS_EXCLUSIVE),
    nodes.CreateStatsStmt: with_lock("create statistics", SHARE_UPDATE_EXCLUSIVE),
    nodes.CreateStmt: of_create_table,
    nodes.CreateTableAsStmt: of_table_as,
    nodes.CreateTrigStmt: with_lock("create trigger", SHARE_ROW_EXCLUSIVE),
    nodes.DeleteStmt: of_delete,
    nodes.DoStmt: of_unseen,
    nodes.DropStmt: of_drop,
    nodes.ExecuteStmt: of_execute,
    nodes.ExplainStmt: of_explain,
    nodes.GrantStmt: of_grant,
    nodes.IndexStmt: of_index,
    nodes.InsertStmt: of_insert,
    nodes.LockStmt: of_lock,
    nodes.MergeStmt: of_merge,
    nodes.PrepareStmt: of_prepare,
    nodes.RefreshMatViewStmt: of_refresh,
    nodes.ReindexStmt: of_reindex,
    nodes.RenameStmt: of_rename,
    nodes.RuleStmt: with_lock("create rule", ACCESS_EXCLUSIVE),
    nodes.SelectStmt: of_select,
    nodes.TruncateStmt: of_truncate,
    nodes.UpdateStmt: of_update,
    nodes.VacuumStmt: of_maintenance,
    nodes.VariableSetStmt: of_setting,
    nodes.ViewStmt: of_view,
}
