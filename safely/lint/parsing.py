"""SQL as PostgreSQL's own parser reads it, and pieces of it written as SQL again."""

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

from postgast import PgQueryError, deparse, parse, pg_query_pb2, split, walk_typed
from postgast.nodes import AlterTableCmd, AstNode, ParseResult, String, TypeName

Node = TypeVar("Node", bound=AstNode)

BOUND_VALUE = re.compile(r"(?<![:\w]):(?=[A-Za-z_])\w+")  # of SQLAlchemy's text(), such as :name
QUOTED = re.compile(r"""\bE'(?:[^'\\]|''|\\.)*'|'(?:[^']|'')*'|"(?:[^"]|"")*\"""", re.DOTALL)
UNKNOWN = "…"  # stands in SQL for what only a database knows, or the author
PLAIN_NAME = re.compile(r"[a-z_][a-z0-9_$]*")
FIELDS = {  # the field of pg_query_pb2.Node that holds a message of each type
    field.message_type.name: field.name for field in pg_query_pb2.Node.DESCRIPTOR.fields
}


class Parsed(NamedTuple):
    """A statement, parsed."""

    text: str
    """The statement as it is written, without its semicolon."""
    node: AstNode | None
    """The node that the parser makes of it, such as an `IndexStmt`; None for a syntax error."""
    error: str = ""
    """The parser's message about a syntax error."""


@lru_cache(maxsize=4096)  # several checks read the same statements
def statements(text: str) -> tuple[Parsed, ...]:
    """Return the statements of a text; a syntax error in one hides no other."""
    try:
        tree = ParseResult(parse(text))
    except PgQueryError as error:
        try:
            pieces = split(text, method="scanner")
        except PgQueryError:  # a string or a comment that doesn't end
            return (Parsed(text.strip(), None, error.message),)
        found = [parsed(piece.strip()) for piece in pieces if piece.strip()]
        if not any(statement.error for statement in found) and (failure := parsed(text)).error:
            found.append(failure)  # the scanner leaves out pieces without a keyword
        return tuple(found)
    encoded = text.encode()
    found = []
    for statement in tree.stmts:
        start, length = statement.stmt_location, statement.stmt_len
        end = start + length if length else len(encoded)
        found.append(Parsed(encoded[start:end].decode().strip(" \n\t;"), statement.stmt))
    return tuple(found)


def parsed(text: str) -> Parsed:
    """Parse one statement, in which a bound value such as `:name` stands for any value."""
    error = ""
    for attempt in (text, BOUND_VALUE.sub("$1", text)):
        try:
            tree = ParseResult(parse(attempt))
        except PgQueryError as failure:
            error = error or failure.message
        else:
            return Parsed(text, tree.stmts[0].stmt if tree.stmts else None)
    return Parsed(text, None, error)


def every(node: AstNode | None, type_: type[Node]) -> Iterator[Node]:
    """Yield the node and the nodes inside it that have a type, from the outside in."""
    if node is not None:
        for _, inner in walk_typed(node):
            if isinstance(inner, type_):
                yield inner


def expression(node: AstNode | None) -> str:
    """Return an expression as SQL; empty without one, `…` for a piece that only WHERE may have."""
    if node is None:
        return ""
    target = pg_query_pb2.ResTarget(val=as_node(node))
    try:
        return select_of(target).removeprefix("SELECT ")
    except PgQueryError:  # CURRENT OF
        return "…"


def type_sql(type_: TypeName | None) -> str:
    """Return a type as SQL, such as `numeric(10, 2)`; empty without one."""
    if type_ is None:
        return ""
    null = pg_query_pb2.Node(a_const=pg_query_pb2.A_Const(isnull=True))
    cast = pg_query_pb2.TypeCast(arg=null, type_name=message(type_))
    return select_of(pg_query_pb2.ResTarget(val=pg_query_pb2.Node(type_cast=cast))).removeprefix(
        "SELECT NULL::"
    )


def action_sql(action: AlterTableCmd) -> str:
    """Return an action of ALTER TABLE as SQL, such as `ADD COLUMN age int`."""
    statement = pg_query_pb2.AlterTableStmt(
        relation=pg_query_pb2.RangeVar(relname="t", inh=True, relpersistence="p"),
        cmds=[as_node(action)],
        objtype=pg_query_pb2.OBJECT_TABLE,
    )
    return deparsed(pg_query_pb2.Node(alter_table_stmt=statement)).removeprefix("ALTER TABLE t ")


def select_of(target: Any) -> str:
    """Return a SELECT of one target as SQL."""
    select = pg_query_pb2.SelectStmt(
        target_list=[pg_query_pb2.Node(res_target=target)],
        limit_option=pg_query_pb2.LIMIT_OPTION_DEFAULT,
        op=pg_query_pb2.SETOP_NONE,
    )
    return deparsed(pg_query_pb2.Node(select_stmt=select))


def deparsed(statement: Any) -> str:
    """Return a statement as SQL, whose strings SQLite reads as well."""
    sql = deparse(pg_query_pb2.ParseResult(stmts=[pg_query_pb2.RawStmt(stmt=statement)]))
    return QUOTED.sub(lambda match: plain_string(match.group()), sql).replace(
        f'"{UNKNOWN}"', UNKNOWN
    )


def plain_string(quoted_text: str) -> str:
    """Return a string without E before it, unless it has other escapes than that of a backslash."""
    if not quoted_text.startswith("E"):
        return quoted_text
    plain = quoted_text[1:].replace(r"\\", "\0")
    return quoted_text if "\\" in plain else plain.replace("\0", "\\")


def message(node: AstNode) -> Any:
    """Return the message behind a node, which postgast's own functions read as well."""
    return node._pb  # noqa: SLF001  # deparse() takes only messages of whole statements


def as_node(node: AstNode) -> Any:
    """Return the message of a node as a field of another message wants it."""
    inner = message(node)
    return pg_query_pb2.Node(**{FIELDS[inner.DESCRIPTOR.name]: inner})


def copied(node: Node) -> Node:
    """Return a copy of a node, whose message may be changed."""
    copy = type(message(node))()
    copy.CopyFrom(message(node))
    return type(node)(copy)


def with_one(node: Node, attribute: str, item: AstNode) -> Node:
    """Return a copy of a statement with a single item in one of its lists."""
    copy = copied(node)
    items = getattr(message(copy), attribute)
    del items[:]
    items.append(as_node(item))
    return copy


def strings(nodes: Iterable[AstNode]) -> list[str]:
    """Return the strings in a list of nodes, such as the parts of a qualified name."""
    return [node.sval for node in nodes if isinstance(node, String)]


def quoted(name: str) -> str:
    """Return a name as SQL needs it: in double quotes, unless it is plain lower case or empty."""
    if name in ("", UNKNOWN):
        return name
    return name if PLAIN_NAME.fullmatch(name) else '"{}"'.format(name.replace('"', '""'))
