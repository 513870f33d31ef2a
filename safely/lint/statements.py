"""Statements of SQL as changes of a schema or of rows: what each changes, and what it locks.

The lock modes are those of PostgreSQL 15 to 18, as a test observes them in pg_locks.
"""

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

from postgast import nodes, pg_query_pb2, walk_typed
from postgast.nodes import AstNode, RangeVar

from safely.lint.parsing import every, message, quoted, statements, strings, with_one
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
CONCURRENT = ("concurrent", "concurrently")  # traits of a statement, see `traits`
CREATE_TABLE = ("create table", "create table as", "create temporary table")
SYNTAX_ERROR, UNSEEN = "syntax error", "unseen"
NO_LOCK, NO_TABLE = "", None
Line = TypeVar("Line")
OBJECTS = {"matview": "materialized view", "tabconstraint": "constraint"}


# Each line names traits (see `traits`) of a statement, or of an action of ALTER TABLE; `|` stands
# between alternatives. The first line that fits gives the kind of the change and the lock mode on
# its table. `{}` is the name of the statement in words, `{object}` the type of its object. Without
# a line, the kind is `{}`; an action locks ACCESS EXCLUSIVE then.
KINDS: dict[str, tuple[str, str | None]] = {
    "AlterEnumStmt old_val": ("rename label", NO_TABLE),
    "AlterEnumStmt": ("add label", NO_TABLE),
    "AlterObjectSchemaStmt": ("change schema", ACCESS_EXCLUSIVE),
    "AlterOwnerStmt": ("change owner", ACCESS_EXCLUSIVE),
    "AlterPolicyStmt|CreatePolicyStmt|TruncateStmt": ("{}", ACCESS_EXCLUSIVE),
    "AlterSeqStmt restart": ("restart sequence", SHARE_ROW_EXCLUSIVE),
    "AlterSeqStmt": ("alter sequence", SHARE_ROW_EXCLUSIVE),
    "CallStmt|DoStmt|ExecuteStmt": (UNSEEN, NO_TABLE),
    "ClusterStmt": ("rewrite", ACCESS_EXCLUSIVE),
    "CommentStmt OBJECT_COLUMN|OBJECT_TABLE": ("comment", SHARE_UPDATE_EXCLUSIVE),
    "CopyStmt filename is_from": ("copy file", ROW_EXCLUSIVE),
    "CopyStmt filename": ("copy file", NO_LOCK),
    "CopyStmt is_from": ("insert query", ROW_EXCLUSIVE),
    "CreateStatsStmt": ("create statistics", SHARE_UPDATE_EXCLUSIVE),
    "CreateStmt|CreateTableAsStmt temporary": ("create temporary table", NO_LOCK),
    "CreateStmt": ("create table", NO_LOCK),
    "CreateTableAsStmt OBJECT_MATVIEW": ("create materialized view", NO_LOCK),
    "CreateTableAsStmt": ("create table as", NO_LOCK),
    "CreateTrigStmt": ("create trigger", SHARE_ROW_EXCLUSIVE),
    "DropStmt OBJECT_INDEX concurrent": ("drop index", SHARE_UPDATE_EXCLUSIVE),
    "DropStmt OBJECT_INDEX|OBJECT_MATVIEW|OBJECT_POLICY": ("drop {object}", ACCESS_EXCLUSIVE),
    "DropStmt OBJECT_RULE|OBJECT_SEQUENCE|OBJECT_TABLE": ("drop {object}", ACCESS_EXCLUSIVE),
    "DropStmt OBJECT_TRIGGER|OBJECT_VIEW": ("drop {object}", ACCESS_EXCLUSIVE),
    "DropStmt": ("drop {object}", NO_TABLE),
    "GrantStmt is_grant cols": ("column grant", NO_LOCK),
    "GrantStmt is_grant": ("grant", NO_LOCK),
    "GrantStmt": ("revoke", NO_LOCK),
    "IndexStmt concurrent": ("create index", SHARE_UPDATE_EXCLUSIVE),
    "IndexStmt": ("create index", SHARE),
    "InsertStmt ONCONFLICT_UPDATE": ("upsert", ROW_EXCLUSIVE),
    "InsertStmt from_clause": ("insert query", ROW_EXCLUSIVE),
    "LockStmt": ("lock", NO_LOCK),  # the statement names the mode
    "MergeWhenClause CMD_DELETE": ("delete", ROW_EXCLUSIVE),
    "MergeWhenClause CMD_INSERT": ("insert query", ROW_EXCLUSIVE),
    "MergeWhenClause CMD_UPDATE": ("update", ROW_EXCLUSIVE),
    "RefreshMatViewStmt concurrent": ("refresh materialized view", EXCLUSIVE),
    "RefreshMatViewStmt": ("refresh materialized view", ACCESS_EXCLUSIVE),
    "ReindexStmt concurrently": ("reindex", SHARE_UPDATE_EXCLUSIVE),
    "ReindexStmt": ("reindex", SHARE),
    "RenameStmt OBJECT_INDEX": ("rename index", SHARE_UPDATE_EXCLUSIVE),
    "RenameStmt": ("rename {object}", ACCESS_EXCLUSIVE),
    "RuleStmt": ("create rule", ACCESS_EXCLUSIVE),
    "SelectStmt into_clause temporary": ("create temporary table", NO_LOCK),
    "SelectStmt into_clause": ("create table as", NO_LOCK),
    "SelectStmt locking_clause": ("lock rows", ROW_SHARE),
    "SelectStmt|CopyStmt|ExplainStmt|PrepareStmt": ("select", NO_TABLE),
    "DeleteStmt|InsertStmt|UpdateStmt": ("{}", ROW_EXCLUSIVE),
    "VacuumStmt full": ("rewrite", ACCESS_EXCLUSIVE),
    "VacuumStmt": ("vacuum", SHARE_UPDATE_EXCLUSIVE),
    "VariableSetStmt": ("set", NO_TABLE),
    "ViewStmt replace": ("replace view", ACCESS_EXCLUSIVE),
    "ViewStmt": ("create view", NO_LOCK),
    "AT_AddConstraint CONSTR_CHECK": ("check", ACCESS_EXCLUSIVE),
    "AT_AddConstraint CONSTR_EXCLUSION": ("exclusion", ACCESS_EXCLUSIVE),
    "AT_AddConstraint CONSTR_FOREIGN": ("foreign key", SHARE_ROW_EXCLUSIVE),
    "AT_AddConstraint indexname": ("constraint using index", ACCESS_EXCLUSIVE),
    "AT_AddConstraint CONSTR_NOTNULL": ("not null", ACCESS_EXCLUSIVE),
    "AT_AddConstraint CONSTR_PRIMARY": ("primary key", ACCESS_EXCLUSIVE),
    "AT_AddConstraint CONSTR_UNIQUE": ("unique", ACCESS_EXCLUSIVE),
    "AT_AlterColumnType": ("type", ACCESS_EXCLUSIVE),
    "AT_ColumnDefault def": ("default", ACCESS_EXCLUSIVE),
    "AT_ColumnDefault": ("no default", ACCESS_EXCLUSIVE),
    "AT_DetachPartition concurrent": ("detach partition", SHARE_UPDATE_EXCLUSIVE),
    "AT_DetachPartitionFinalize": ("detach partition", SHARE_UPDATE_EXCLUSIVE),
    "AT_DropNotNull": ("null", ACCESS_EXCLUSIVE),
    "AT_EnableAlwaysRule|AT_EnableReplicaRule": ("enable rule", ACCESS_EXCLUSIVE),
    "AT_SetIdentity": ("change identity", ACCESS_EXCLUSIVE),
    "AT_SetNotNull": ("not null", ACCESS_EXCLUSIVE),
    "AT_ValidateConstraint": ("validate", SHARE_UPDATE_EXCLUSIVE),
    "AT_DisableTrig|AT_DisableTrigAll|AT_DisableTrigUser": ("disable trigger", SHARE_ROW_EXCLUSIVE),
    "AT_EnableTrig|AT_EnableTrigAll|AT_EnableTrigUser": ("enable trigger", SHARE_ROW_EXCLUSIVE),
    "AT_EnableAlwaysTrig|AT_EnableReplicaTrig": ("enable trigger", SHARE_ROW_EXCLUSIVE),
    "AT_DisableRowSecurity|AT_EnableRowSecurity": ("row security", ACCESS_EXCLUSIVE),
    "AT_ForceRowSecurity|AT_NoForceRowSecurity": ("row security", ACCESS_EXCLUSIVE),
    "AT_SetExpression|AT_SetLogged|AT_SetUnLogged": ("rewrite", ACCESS_EXCLUSIVE),
    "AT_SetAccessMethod|AT_SetTableSpace": ("rewrite", ACCESS_EXCLUSIVE),
    "AT_AttachPartition|AT_ClusterOn|AT_DropCluster": ("{}", SHARE_UPDATE_EXCLUSIVE),
    "AT_ResetOptions|AT_ResetRelOptions|AT_SetOptions": ("{}", SHARE_UPDATE_EXCLUSIVE),
    "AT_SetRelOptions|AT_SetStatistics": ("{}", SHARE_UPDATE_EXCLUSIVE),
}
OTHER_TABLES = {  # by the attribute that names another table, and by traits: the lock mode on it
    ".def AT_AddInherit": SHARE_UPDATE_EXCLUSIVE,
    ".inh_relations partbound": ACCESS_EXCLUSIVE,
    ".inh_relations": SHARE_UPDATE_EXCLUSIVE,
    ".name": ACCESS_EXCLUSIVE,  # of a partition
    ".pktable": SHARE_ROW_EXCLUSIVE,
}
NAMES = ("idxname", "name", "policy_name", "rulename", "subname", "trigname")
OF_TABLES = ("drop policy", "drop rule", "drop trigger")  # the name of the table stands first
INDEXES = ("reindex", "rename index")  # the name of the index stands where that of the table does
SEQUENCES = ("alter sequence", "restart sequence")
TOGETHER = ("lock", "lock rows")  # one change of all tables
EACH = ("column grant", "grant", "revoke", "rewrite", "truncate", "vacuum")  # one for each table


class Change(NamedTuple):
    """A change that a statement makes."""

    kind: str
    """What it does, such as `create index` or `drop column`; `unseen` where SQL doesn't show it."""
    parts: dict[str, str]
    """Names in the SQL: `table`, `column`, `name`, and others; a missing one has no key."""
    locks: dict[str, str] = {}  # noqa: RUF012  # nobody changes it
    """The lock mode by table; the table is empty where the SQL doesn't name it."""
    node: Any = None
    """The node of the change: the statement, with one of its objects, or an action of it."""
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

    def has(self, *wanted: str) -> bool:
        """Return whether the node has one of these traits, such as `skip_validation`."""
        return self.node is not None and not traits(self.node).isdisjoint(wanted)


@lru_cache(maxsize=4096)  # several checks read the same statements
def changes(text: str) -> tuple[Change, ...]:
    """Return the changes that the statements of a text make."""
    every_change: list[Change] = []
    for statement in statements(text):
        if statement.node is not None:
            every_change += changes_of(statement.node)
        elif statement.error:
            every_change.append(Change(SYNTAX_ERROR, {"error": statement.error}))
    return tuple(every_change)


def changes_of(node: AstNode) -> Iterator[Change]:
    """Yield the changes of one statement, those of the statements inside it first."""
    inside = [change for inner in inner_statements(node) for change in changes_of(inner)]
    for change in [*inside, *own_changes(node)]:
        yield change._replace(statement=node)


def inner_statements(node: AstNode) -> Iterator[AstNode]:
    """Yield the statements that a statement runs: what it explains or prepares, and its CTEs."""
    if isinstance(node, nodes.CopyStmt | nodes.ExplainStmt | nodes.PrepareStmt):
        is_run = not isinstance(node, nodes.ExplainStmt) or "analyze" in traits(node)
        yield from [node.query] if is_run and node.query is not None else []
    else:
        for inner in every(node, nodes.CommonTableExpr):
            if inner.ctequery is not None and not isinstance(inner.ctequery, nodes.SelectStmt):
                yield inner.ctequery


def traits(node: AstNode) -> set[str]:
    """Return the type of a node, all fields that are set in it, their enums, and its options."""
    names = {type(node).__name__}
    for _, inner in walk_typed(node):
        for field, value in message(inner).ListFields():
            names.add(field.name)
            if field.enum_type is not None:
                names.add(field.enum_type.values_by_number[value].name)
        if isinstance(inner, nodes.DefElem):
            names.add(inner.defname)
        if isinstance(inner, RangeVar) and inner.relpersistence == "t":
            names.add("temporary")
    return names


def look_up(table: dict[str, Line], own: set[str], default: Line) -> Line:
    """Return the value of the first line of which each word, or an alternative, is a trait."""
    for line, value in table.items():
        if not any(own.isdisjoint(word.split("|")) for word in line.split()):
            return value
    return default


def kind_of(node: Any) -> tuple[str, str | None]:
    """Return the kind of a change and the lock mode on its table; None for one without a table."""
    name, mode = type(node).__name__.removesuffix("Stmt"), NO_TABLE
    if isinstance(node, nodes.AlterTableCmd):
        name, mode = pg_query_pb2.AlterTableType.Name(node.subtype), ACCESS_EXCLUSIVE
    kind, mode = look_up(KINDS, traits(node), ("{}", mode))
    return kind.format(words(name.removeprefix("AT_")), object=object_of(node)), mode


def words(name: str) -> str:
    """Return a name such as `AlterSystem` as lower-case words."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()


def object_of(node: Any) -> str:
    """Return the type of the object that a statement alters, renames or drops, in words."""
    attributes = ("rename_type", "remove_type", "objtype")
    number = next(filter(None, (getattr(node, name, 0) for name in attributes)), 0)
    name = str(pg_query_pb2.ObjectType.Name(number)).removeprefix("OBJECT_").lower()
    return OBJECTS.get(name, name.replace("_", " "))


def name_of(relation: RangeVar | None) -> str:
    """Return the name of a table as SQL; empty without one."""
    return sql_name([relation.schemaname, relation.relname]) if relation else ""


def sql_name(path: Iterable[str]) -> str:
    """Return a name as SQL, such as `public.plans`, without its empty parts."""
    return ".".join(quoted(part) for part in path if part)


def path_of(node: Any) -> list[str]:
    """Return the parts of the name of an object, such as in DROP; empty for another node."""
    items = (getattr(node, attribute, None) for attribute in ("items", "names", "objname"))
    return strings(next(filter(None, items), [node]))


def present(**parts: str) -> dict[str, str]:
    """Return the parts that aren't empty."""
    return {name: part for name, part in parts.items() if part}


def own_changes(node: Any) -> Iterator[Change]:
    """Yield the changes of one statement, apart from those of the statements inside it."""
    kind, mode = kind_of(node)
    if isinstance(node, nodes.AlterTableStmt):
        yield from (of_action(action, node) for action in every(node, nodes.AlterTableCmd))
    elif isinstance(node, nodes.DropStmt):
        for item in node.objects:
            path = path_of(item)
            end = len(path) if mode and kind != "drop index" else 0  # of the name of the table
            end = -1 if kind in OF_TABLES else end
            table, name = sql_name(path[:end]), sql_name(path[end:])
            locks = {table: mode} if mode else {}
            alone = with_one(node, "objects", item)
            yield Change(kind, present(table=table, name=name), locks, alone)
    elif isinstance(node, nodes.MergeStmt):
        table = name_of(node.relation)
        for kind, mode in dict.fromkeys(map(kind_of, every(node, nodes.MergeWhenClause))):
            if mode:
                yield Change(kind, {"table": table}, {table: mode}, node)
    elif kind in TOGETHER:
        tables = targets(node)
        mode = MODES[node.mode - 1] if kind == "lock" else mode
        yield Change(kind, {"table": tables[0]}, dict.fromkeys(tables, mode or ""), node)
    else:
        yield from of_statement(node, kind, mode)


def of_statement(node: Any, kind: str, mode: str | None) -> Iterator[Change]:
    """Yield the changes of a statement of which a line of KINDS says all but the names."""
    tables = [] if mode is None else targets(node)
    name = {"column" if kind == "rename column" else "name": name_in(node)}
    for table in (tables if kind in EACH else tables[:1]) or [""]:
        parts = present(table=table, new=quoted(getattr(node, "newname", "")), **name)
        locks = {table: mode} if mode and (table or kind in EACH) else {}
        if kind in SEQUENCES:
            parts = {"name": table}
        elif kind in INDEXES and "REINDEX_OBJECT_TABLE" not in traits(node):
            parts["name"] = parts.pop("table", parts.get("name", ""))
            locks = {"": mode or ""}
        yield Change(kind, parts, locks | other_locks(node, table), node)


def name_in(node: Any) -> str:
    """Return the name of the object of a statement that is no table; empty without one."""
    name = next(filter(None, (getattr(node, attribute, "") for attribute in NAMES)), "")
    if isinstance(node, nodes.AlterEnumStmt):
        return sql_name(strings(node.type_name))
    return quoted(name) if name else sql_name(path_of(getattr(node, "object", None)))


def targets(node: AstNode) -> list[str]:
    """Return the tables that a statement changes or locks; the first one is that of its lock."""
    if isinstance(node, nodes.CommentStmt):
        path = path_of(node.object)
        return [sql_name(path[:-1] if node.objtype == pg_query_pb2.OBJECT_COLUMN else path)]
    places: list[AstNode] = [*every(node, nodes.IntoClause)] or [node]
    if isinstance(node, nodes.SelectStmt) and places == [node]:
        selects = every(node, nodes.SelectStmt)
        places = [item for one in selects if one.locking_clause for item in one.from_clause]
    return [name_of(relation) for place in places for relation in every(place, RangeVar)]


def other_locks(node: AstNode, table: str) -> dict[str, str]:
    """Return the lock modes on the other tables to which a definition refers."""
    own = traits(node)
    return {
        name: mode
        for attribute, inner in walk_typed(node)
        if isinstance(inner, RangeVar)
        and (mode := look_up(OTHER_TABLES, own | {f".{attribute}"}, ""))
        and (name := name_of(inner)) != table
    }


def of_action(action: nodes.AlterTableCmd, statement: nodes.AlterTableStmt) -> Change:
    """Return the change of an action of ALTER TABLE, which may also alter a view or an index."""
    kind, mode = kind_of(action)
    object_ = object_of(statement)
    if object_ not in ("table", "foreign table") and kind != "change owner":
        kind, mode = f"alter {object_}", ACCESS_EXCLUSIVE if object_ == "view" else mode
    table, definition = name_of(statement.relation), action.def_
    if isinstance(definition, nodes.Constraint) and not action.name:
        keys = ", ".join(map(quoted, strings(definition.fk_attrs or definition.keys)))
        parts = {
            "name": quoted(definition.conname),
            "referent": name_of(definition.pktable),
            "column" if kind == "not null" else "columns": keys,
        }
    elif isinstance(definition, nodes.PartitionCmd):
        parts = {"name": name_of(definition.name)}
    else:
        is_named = kind.endswith((" constraint", " rule", " trigger", "validate"))
        name = quoted(action.name or getattr(definition, "colname", ""))
        parts = {"name" if is_named else "column": name}
    locks = {table: mode or ""} | other_locks(action, table)
    return Change(kind, {"table": table} | present(**parts), locks, action)
