"""The safe spelling of UPDATE."""

from collections.abc import Iterator

from postgast import nodes, pg_query_pb2
from postgast.nodes import AstNode, RangeVar, TypeName

from safely.lint.parsing import copied, deparsed, every, expression, message, quoted, strings
from safely.lint.spellings.literals import safely_call, string_literal
from safely.lint.spellings.names import Unspelled, table_and_schema
from safely.lint.statements import Change
from safely.lint.volatility import is_volatile

RESUMED = "  # where: must be false for a row once it is changed, else it is changed again"
WITHOUT_EQUALITY = {"json", "xml", "point", "polygon", "circle"}


def backfill(change: Change) -> list[str]:
    """Return the spelling of UPDATE.

    Without a WHERE, it changes the rows that don't have the new value yet.
    """
    node: nodes.UpdateStmt | nodes.MergeStmt = change.node
    table, schema = table_and_schema(node.relation)
    if isinstance(node, nodes.MergeStmt):
        return [safely_call("backfill", table, "…", where="…", schema=schema) + RESUMED]
    if node.relation is None or not node.relation.inh:
        raise Unspelled
    if isinstance(node.where_clause, nodes.CurrentOfExpr):
        raise Unspelled
    own = without_alias(node)
    is_alone = change.node is change.statement and not (node.from_clause or node.with_clause)
    if own is None or not is_alone or any(every(own, nodes.ParamRef)):
        # the author must turn the other tables into subqueries
        return [safely_call("backfill", table, "…", where="…", schema=schema) + RESUMED]
    assigned = string_literal(assignments(own))
    if own.where_clause is not None:
        where, is_resumed = string_literal(expression(own.where_clause)), ends(own)
    else:
        condition = not_yet(own)
        where, is_resumed = string_literal(condition) if condition else "…", bool(condition)
    call = safely_call("backfill", table, assigned, where=where, schema=schema)
    return [call if is_resumed else call + RESUMED]


def assignments(node: nodes.UpdateStmt) -> str:
    """Return what stands after SET."""
    alone = pg_query_pb2.UpdateStmt(
        relation=pg_query_pb2.RangeVar(relname="t", inh=True, relpersistence="p"),
        target_list=message(node).target_list,
    )
    return deparsed(pg_query_pb2.Node(update_stmt=alone)).removeprefix("UPDATE t SET ")


def targets(node: nodes.UpdateStmt) -> Iterator[tuple[str, AstNode | None]]:
    """Yield each assigned column and its value; None for a value that stands not alone."""
    for target in node.target_list:
        if not isinstance(target, nodes.ResTarget):
            continue
        value = target.val
        if isinstance(value, nodes.MultiAssignRef):
            row = value.source
            value = row.args[value.colno - 1] if isinstance(row, nodes.RowExpr) else None
        yield target.name, None if target.indirection else value


def not_yet(node: nodes.UpdateStmt) -> str:
    """Return the condition that a row has not the new values yet; empty where none would do."""
    assigned = dict(targets(node))
    conditions = []
    for column, value in assigned.items():
        mentioned = {
            strings(one.fields)[-1] for one in every(value, nodes.ColumnRef) if strings(one.fields)
        }
        types = {strings(cast.names)[-1] for cast in every(value, TypeName)}
        if (
            value is None
            or isinstance(value, nodes.SetToDefault)
            or mentioned & assigned.keys()
            or is_volatile(value)
            or any(every(value, nodes.SubLink))
            or any(every(value, nodes.SQLValueFunction))
            or any(strings(call.funcname)[-1] == "now" for call in every(value, nodes.FuncCall))
            or types & WITHOUT_EQUALITY
        ):
            return ""
        conditions.append(f"{quoted(column)} IS DISTINCT FROM {operand(value)}")
    return " OR ".join(conditions)


def operand(value: AstNode) -> str:
    """Return an expression as an operand, in parentheses where it may need them."""
    sql = expression(value)
    is_simple = isinstance(
        value, nodes.A_Const | nodes.ColumnRef | nodes.FuncCall | nodes.TypeCast | nodes.ParamRef
    )
    return sql if is_simple else f"({sql})"


def without_alias(node: nodes.UpdateStmt) -> nodes.UpdateStmt | None:
    """Return an UPDATE whose columns are named without an alias.

    They lose the table too, unless a subquery could take them for its own; None where a subquery
    has a table of that name.
    """
    relation = node.relation
    if relation is None:
        return None
    alias = relation.alias.aliasname if relation.alias else relation.relname
    own = copied(node)
    subqueries = [inner for inner in every(own, nodes.SelectStmt) if inner.from_clause]
    inner_names = {
        inner.alias.aliasname if inner.alias else inner.relname
        for query in subqueries
        for inner in every(query, RangeVar)
    }
    if inner_names & {alias, relation.relname}:
        return None
    for column in every(own, nodes.ColumnRef):
        *owner, _ = column.fields
        if owner and strings(owner)[-1:] == [alias]:
            fields = message(column).fields
            del fields[:-1]
            if subqueries:
                name = pg_query_pb2.String(sval=relation.relname)
                fields.insert(0, pg_query_pb2.Node(string=name))
    return own


def overwrites(change: Change) -> bool:
    """Return whether a change overwrites values; where it only replaces NULLs, none is lost."""
    return not isinstance(change.node, nodes.UpdateStmt) or not replaces_nulls(change.node)


def ends(node: nodes.UpdateStmt) -> bool:
    """Return whether the WHERE is false for a row once it is changed, as far as can be told."""
    values = dict(targets(node))
    return any(
        isinstance(
            values.get(column), nodes.A_Const | nodes.ColumnRef | nodes.FuncCall | nodes.TypeCast
        )
        for column in tested_for_null(node)
    )


def tested_for_null(node: nodes.UpdateStmt) -> set[str]:
    """Return the columns that the WHERE demands to be NULL."""
    return {
        strings(test.arg.fields)[-1]
        for test in required_tests(node.where_clause)
        if test.nulltesttype == pg_query_pb2.IS_NULL and isinstance(test.arg, nodes.ColumnRef)
    }


def replaces_nulls(node: nodes.UpdateStmt) -> bool:
    """Return whether the WHERE demands that each column which is assigned be NULL."""
    return {column for column, _ in targets(node)} <= tested_for_null(node)


def required_tests(condition: AstNode | None) -> Iterator[nodes.NullTest]:
    """Yield the tests for NULL that a condition demands of each row, joined by AND."""
    if isinstance(condition, nodes.NullTest):
        yield condition
    elif isinstance(condition, nodes.BoolExpr) and condition.boolop == pg_query_pb2.AND_EXPR:
        for part in condition.args:
            yield from required_tests(part)
