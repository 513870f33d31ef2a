"""Checks of rights: to PUBLIC, and of functions that run with the rights of their owner."""

from collections.abc import Iterator

from postgast import nodes, pg_query_pb2

from safely.lint.directions import Direction
from safely.lint.findings import Finding
from safely.lint.parsing import every, strings
from safely.lint.statements import Change, changes


def check(direction: Direction) -> Iterator[Finding]:
    """Yield the findings about rights, functions, and files and programs of the server."""
    for statement in direction.statements:
        if statement.from_safely:
            continue
        for change in changes(statement.text):
            for rule in rules_of(direction, change):
                yield direction.finding(rule, statement, change, name=function_name(change))


def rules_of(direction: Direction, change: Change) -> Iterator[str]:
    """Yield the rules that a change breaks."""
    node = change.node
    if isinstance(node, nodes.GrantStmt | nodes.AlterDefaultPrivilegesStmt):
        if gives_to_public(change) and direction.up:
            yield "grant-to-public"
    elif isinstance(node, nodes.CreateFunctionStmt):
        options = {option.defname: option for option in every(node, nodes.DefElem)}
        if "security" in options and is_true(options["security"]) and "set" not in options:
            yield "security-definer"
        if node.replace and direction.up:
            yield "replace-function"
    elif isinstance(node, nodes.AlterFunctionStmt | nodes.AlterCollationStmt):
        yield "replace-function"
    elif isinstance(node, nodes.CopyStmt) and change.kind == "copy file":
        yield "server-program" if node.is_program else "server-file"


def gives_to_public(change: Change) -> bool:
    """Return whether a right is given to every role."""
    grants = [grant for grant in every(change.node, nodes.GrantStmt) if grant.is_grant]
    return any(
        role.roletype == pg_query_pb2.ROLESPEC_PUBLIC
        for grant in grants
        for role in every(grant, nodes.RoleSpec)
    )


def is_true(option: nodes.DefElem) -> bool:
    """Return whether an option of a function is switched on."""
    return bool(getattr(option.arg, "boolval", False))


def function_name(change: Change) -> str:
    """Return the name of the function that a statement creates; empty for other statements."""
    return ".".join(strings(getattr(change.node, "funcname", [])))
