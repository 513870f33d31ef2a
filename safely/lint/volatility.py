"""Which expressions may have another value for each row."""

from postgast import nodes
from postgast.nodes import AstNode

from safely.lint.parsing import every, strings

STABLE_FUNCTIONS = {
    "abs", "btrim", "concat", "current_setting", "date_trunc", "extract", "format",
    "json_build_array", "json_build_object", "jsonb_build_array", "jsonb_build_object", "left",
    "length", "lower", "ltrim", "make_date", "make_interval", "md5", "now", "overlay", "position",
    "repeat", "replace", "right", "round", "rtrim", "split_part", "statement_timestamp",
    "substring", "timezone", "to_char", "to_json", "to_jsonb", "to_timestamp",
    "transaction_timestamp", "upper",
}  # fmt: skip


def is_volatile(default: AstNode | None) -> bool:
    """Return whether a default may have another value for each row."""
    calls = every(default, nodes.FuncCall)
    return any(strings(call.funcname)[-1] not in STABLE_FUNCTIONS for call in calls)
