"""Statements of SQL as changes of a schema or of rows: what each changes, and what it locks."""

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

from postgast import nodes, pg_query_pb2, walk_typed
from postgast.nodes import AstNode, RangeVar

from safely.lint.parsing import every, message, quoted, statements, strings, with_one
from safely.lint.sql_text import unqualified
from safely.lint.statement_kinds import (
    ACCESS_EXCLUSIVE,
    KINDS,
    MODES,
    NO_TABLE,
    OBJECTS,
    OTHER_TABLES,
    SYNTAX_ERROR,
    WITHOUT_WAITING,
)

Line = TypeVar("Line")
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
