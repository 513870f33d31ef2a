"""The safe spelling of CREATE INDEX."""

from collections.abc import Sequence

from postgast import nodes, pg_query_pb2
from postgast.nodes import AstNode, TypeName

from safely.lint.parsing import as_node, deparsed, expression, quoted, strings
from safely.lint.spellings.literals import (
    literal_dict,
    name_list,
    optional_literal,
    safely_call,
    string_literal,
    text_literal,
    yes,
)
from safely.lint.spellings.names import Unspelled, automatic_name, table_and_schema
from safely.lint.statements import Change


def create_index(change: Change) -> list[str]:
    """Return the spelling of CREATE INDEX."""
    node: nodes.IndexStmt = change.node
    table, schema = table_and_schema(node.relation)
    if node.relation is None or not node.relation.inh:  # ON ONLY, of a partitioned table
        raise Unspelled
    elements = [item for item in node.index_params if isinstance(item, nodes.IndexElem)]
    classes = {
        item.name: ".".join(strings(item.opclass)) for item in elements if is_only_classed(item)
    }
    where = text_literal(expression(node.where_clause)) if node.where_clause else None
    included = [
        item.name for item in node.index_including_params if isinstance(item, nodes.IndexElem)
    ]
    is_portable = (
        node.access_method == "btree"
        and not any(item.opclass for item in elements)
        and not (included or node.options or node.nulls_not_distinct or node.table_space)
    )
    call = safely_call(
        "create_index",
        automatic_index_name(node),
        table,
        f"[{', '.join(index_column(item, node) for item in elements)}]",
        schema=schema,
        unique=yes(node.unique),
        postgresql_using=None
        if node.access_method == "btree"
        else string_literal(node.access_method),
        postgresql_ops=literal_dict(classes),
        postgresql_include=name_list(included) if included else None,
        postgresql_nulls_not_distinct=yes(node.nulls_not_distinct),
        postgresql_with=storage(node.options),
        postgresql_tablespace=optional_literal(node.table_space),
        postgresql_where=where,
        sqlite_where=where if is_portable else None,
    )
    return [call]


def automatic_index_name(node: nodes.IndexStmt) -> str:
    """Return the name of an index; without one, that which PostgreSQL takes, or `…`."""
    table = node.relation.relname if node.relation else ""
    items = [*node.index_params, *node.index_including_params]
    names = [word_for(item) for item in items if isinstance(item, nodes.IndexElem)]
    if not node.idxname and ("" in names or len(set(names)) < len(names)):
        return "…"
    return automatic_name(node.idxname, table, names, "idx")


def word_for(item: nodes.IndexElem) -> str:
    """Return the word for a column in the name that PostgreSQL takes for an index.

    Empty for an expression for which it has a rule of its own.
    """
    if isinstance(item.expr, nodes.FuncCall):
        return strings(item.expr.funcname)[-1]
    return item.name or ("expr" if isinstance(item.expr, nodes.A_Expr) else "")


def is_only_classed(item: nodes.IndexElem) -> bool:
    """Return whether a column of an index has an operator class, and nothing else."""
    return bool(item.name and item.opclass) and not (
        item.collation
        or item.opclassopts
        or item.ordering != pg_query_pb2.SORTBY_DEFAULT
        or item.nulls_ordering != pg_query_pb2.SORTBY_NULLS_DEFAULT
    )


def index_column(item: nodes.IndexElem, index: nodes.IndexStmt) -> str:
    """Return a column of an index: its name, or sa.text() for all that is more than a name."""
    if is_only_classed(item):
        return string_literal(item.name)
    alone = pg_query_pb2.IndexStmt(
        relation=pg_query_pb2.RangeVar(relname="t", inh=True, relpersistence="p"),
        access_method="btree",
        index_params=[as_node(item)],
    )
    sql = deparsed(pg_query_pb2.Node(index_stmt=alone))
    sql = sql.partition("(")[2].rpartition(")")[0]
    if item.name and sql == quoted(item.name):
        return string_literal(item.name)
    if index.unique and item.opclass:
        raise Unspelled  # the search for duplicates would take the operator class for SQL
    return text_literal(sql)


def storage(options: Sequence[AstNode]) -> str | None:
    """Return storage parameters, in WITH, as a Python dictionary; None without one."""
    pairs = []
    for option in options:
        if not isinstance(option, nodes.DefElem) or option.defnamespace:
            raise Unspelled
        pairs.append(f"{string_literal(option.defname)}: {storage_value(option.arg)}")
    return f"{{{', '.join(pairs)}}}" if pairs else None


def storage_value(node: AstNode | None) -> str:
    """Return the value of a storage parameter as Python."""
    if node is None:
        return "True"
    if isinstance(node, nodes.Integer):
        return str(node.ival)
    if isinstance(node, nodes.Float):
        return node.fval
    if isinstance(node, nodes.String):
        return string_literal(node.sval)
    if isinstance(node, TypeName):  # a word, such as off
        return string_literal(strings(node.names)[-1])
    raise Unspelled
