"""Checks of settings, by SET and by set_config(), and of the other functions that SQL calls."""

from collections.abc import Iterator
from typing import Any

from postgast import nodes, pg_query_pb2

from safely.lint.directions import Direction
from safely.lint.findings import Finding
from safely.lint.parsing import every, statements, strings
from safely.lint.rendering import Statement
from safely.lint.sql_text import unqualified
from safely.lint.statement_kinds import UNSEEN
from safely.lint.statements import Change, changes, inner_statements
from safely.lint.volatility import STABLE_FUNCTIONS

RULE_OF_SETTING = {
    "allow_system_table_mods": "session-setting",
    "default_table_access_method": "session-setting",
    "default_tablespace": "session-setting",
    "default_transaction_read_only": "session-setting",
    "fsync": "durability",
    "full_page_writes": "durability",
    "idle_in_transaction_session_timeout": "statement-timeout",
    "ignore_system_indexes": "session-setting",
    "lock_timeout": "lock-timeout",
    "role": "session-role",
    "row_security": "row-security-off",
    "search_path": "search-path",
    "session characteristics": "session-setting",
    "session_authorization": "session-role",
    "session_replication_role": "replication-role",
    "standard_conforming_strings": "session-setting",
    "statement_timeout": "statement-timeout",
    "synchronous_commit": "durability",
    "transaction_read_only": "session-setting",
    "transaction_timeout": "statement-timeout",
    "zero_damaged_pages": "session-setting",
}
RULE_OF_FUNCTION = {  # by the beginning of the name
    "dblink": "outside-database",
    "lo_export": "server-file",
    "lo_import": "server-file",
    "pg_advisory_lock": "advisory-lock",
    "pg_advisory_xact_lock": "advisory-lock",
    "pg_cancel_backend": "terminate-backend",
    "pg_create_logical_replication_slot": "replication",
    "pg_create_physical_replication_slot": "replication",
    "pg_ls_dir": "server-file",
    "pg_notify": "notify",
    "pg_read_binary_file": "server-file",
    "pg_read_file": "server-file",
    "pg_reload_conf": "alter-system",
    "pg_sleep": "sleep",
    "pg_terminate_backend": "terminate-backend",
    "setval": "sequence-restart",
}
# functions of PostgreSQL's own that change nothing, which a test asks it about: these, and those
# whose names begin so; a SELECT of any other function may do anything
WITHOUT_EFFECT = STABLE_FUNCTIONS | {
    "age", "avg", "bool_and", "bool_or", "ceil", "char_length", "clock_timestamp",
    "col_description", "concat_ws", "count", "dense_rank", "every", "first_value", "floor",
    "format_type", "gen_random_uuid", "generate_series", "generate_subscripts",
    "hashtext", "initcap", "lag", "last_value", "lead", "lpad", "max", "min", "mod", "nextval",
    "obj_description", "power", "quote_ident", "quote_literal", "quote_nullable", "random", "rank",
    "row_number", "row_to_json", "rpad", "sqrt", "starts_with", "string_agg", "string_to_array",
    "strpos", "substr", "sum", "translate", "unnest", "uuidv4", "uuidv7", "version",
}  # fmt: skip
BEGINNINGS = (
    "array_", "current_", "date_", "has_", "json_", "jsonb_", "pg_get_", "pg_is_", "pg_size_",
    "pg_table_is_visible", "pg_total_relation_size", "pg_try_advisory_", "regexp_", "to_",
)  # fmt: skip


def check(direction: Direction) -> Iterator[Finding]:
    """Yield the findings about the settings and the functions of the statements."""
    for statement in direction.statements:
        if statement.from_safely:
            continue
        for parsed in statements(statement.text):
            if parsed.node is not None:
                yield from functions(direction, statement, parsed.node)
        for change in changes(statement.text):
            if change.kind in ("set", "discard"):
                yield from setting(direction, statement, change)


def setting(direction: Direction, statement: Statement, change: Change) -> Iterator[Finding]:
    """Yield a finding about SET, RESET and DISCARD."""
    name = unqualified(change.parts.get("name", "")).lower()
    node = change.node
    resets_all = (
        node.kind == pg_query_pb2.VAR_RESET_ALL
        if isinstance(node, nodes.VariableSetStmt)
        else node.target == pg_query_pb2.DISCARD_ALL
    )
    rule = "lock-timeout" if resets_all else RULE_OF_SETTING.get(name)
    if rule is not None:
        yield direction.finding(rule, statement, change)


def functions(direction: Direction, statement: Statement, node: Any) -> Iterator[Finding]:
    """Yield a finding about each function that has an effect of its own, or may have one."""
    names = []
    for call in every(node, nodes.FuncCall):
        name = strings(call.funcname)[-1]
        names.append(name)
        rule = rule_of_call(name, call)
        if rule is not None and not is_about_new_table(direction, rule, call):
            parts = {"function": name, **argument(call)}
            yield direction.finding(rule, statement, Change("call", {}), **parts)
    if runs_query(node) and not all(map(known, names)):
        change = Change(UNSEEN, {})
        yield direction.finding(UNSEEN, statement, change, stopped="")


def runs_query(node: Any) -> bool:
    """Return whether a statement is a query, or keeps the result of one, or runs it to explain it.

    The functions of other statements compute values, which is what these are judged by.
    """
    if isinstance(node, nodes.ExplainStmt):
        return any(map(runs_query, inner_statements(node)))
    return isinstance(node, nodes.SelectStmt | nodes.CreateTableAsStmt | nodes.DeclareCursorStmt)


def known(name: str) -> bool:
    """Return whether a function changes nothing, or has a rule."""
    has_rule = name == "set_config" or name.startswith(tuple(RULE_OF_FUNCTION))
    return has_rule or name in WITHOUT_EFFECT or name.startswith(BEGINNINGS)


def is_about_new_table(direction: Direction, rule: str, call: nodes.FuncCall) -> bool:
    """Return whether a sequence is set to another number that a new table has."""
    texts = (
        constant.val.sval
        for constant in every(call, nodes.A_Const)
        if isinstance(constant.val, nodes.String)
    )
    return rule == "sequence-restart" and any(
        unqualified(text).startswith(table) for text in texts for table in direction.new_tables
    )


def rule_of_call(name: str, call: nodes.FuncCall) -> str | None:
    """Return the rule that a call breaks."""
    if name == "set_config":
        return RULE_OF_SETTING.get(argument(call).get("name", ""))
    return next(
        (rule for prefix, rule in RULE_OF_FUNCTION.items() if name.startswith(prefix)), None
    )


def argument(call: nodes.FuncCall) -> dict[str, str]:
    """Return the first argument of a call, where it is a string, as a name in lower case."""
    first = call.args[0] if call.args else None
    if isinstance(first, nodes.A_Const) and isinstance(first.val, nodes.String):
        return {"name": first.val.sval.lower()}
    return {}
