"""The safe spelling of a call of `op`, with the arguments of the call.

`…` stands for what only the author knows. An argument that `safely` has no parameter for stays in
view: there is no spelling, or a comment says what becomes of it.
"""

import ast
import copy
import inspect
import io
import tokenize
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import sqlalchemy as sa
from alembic import op
from alembic.operations import BatchOperations, Operations

import safely
from safely.lint.findings import LOOP
from safely.lint.source import OP, Call, Source, full_name
from safely.lint.spellings.columns import require_column
from safely.lint.spellings.constraints import rule_name
from safely.lint.spellings.literals import safely_call, string_literal
from safely.lint.spellings.plain_sql import of_change, steps_of
from safely.lint.statements import Change
from safely.operations.options import OTHER_DATABASES

# the operations of `op` for which `safely` has its own, unless Alembic's is as safe
COUNTERPARTS = {name for name in safely.__all__ if hasattr(op, name)} - {
    "create_table_comment",
    "drop_table_comment",
    "f",
}
KNOWN = {*COUNTERPARTS, "alter_column"}
SUPERFLUOUS = {  # keywords whose work `safely` does by itself
    "if_exists",
    "if_not_exists",
    "postgresql_concurrently",
}
PLACES = {"insert_after", "insert_before"}  # of a column, where SQLite copies the table
LAST = "  # insert_after and insert_before: a new column stands last"
NOT_CHANGED = {  # for each keyword of alter_column: the constant with which it changes nothing
    "comment": False,
    "new_column_name": None,
    "nullable": None,
    "server_default": False,
    "type_": None,
}
INFORMATION = "existing_"  # what keywords of alter_column begin with that only describe the column
COMPUTED = ("Computed", "FetchedValue", "Identity", "Sequence")  # no plain defaults
REFUSED_IN_COLUMNS = {"autoincrement", "onupdate", "primary_key", "server_onupdate", "system"}
OF_COLUMNS = ("add column", "foreign key", "unique", "create index")  # what add_column emits
LATER_STEPS = ("unique", "index")  # of a column, which `safely` adds in calls of their own
NAMED_KINDS = {  # the kind of change of which an operation takes the name first
    "create_check_constraint": "check",
    "create_foreign_key": "foreign key",
    "create_index": "create index",
    "create_unique_constraint": "unique",
    "drop_constraint": "drop constraint",
}


class Bound(NamedTuple):
    """The arguments of a call by the names of the parameters of `safely`."""

    values: dict[str, ast.expr]
    positional: list[str]
    """The parameters whose values stand without a name, such as the table of an index to drop."""
    others: list[ast.expr]
    """The arguments that `*columns` takes."""
    unpacked: list[ast.keyword]
    """The arguments that `**options` takes."""


def of_call(
    source: Source, call: Call, metadata: sa.MetaData, changes: Iterable[Change] = ()
) -> str | None:
    """Return the code to write instead of a call of `op`; None where plain Alembic is fine.

    `changes` are those of the SQL that the call has emitted, which tells the names that a naming
    convention makes. None as well for a call with an argument that `safely` has no parameter for.
    """
    if not is_known(call):
        return None
    bound = bind(call)
    if call.name == "alter_column":
        return (
            None
            if bound is None or bound.unpacked
            else alter_column(source, bound.values, up=call.up)
        )
    if bound is None:
        return starred(source, call)
    note = LAST if bound.values.keys() & PLACES else ""
    superfluous = SUPERFLUOUS | PLACES
    values = {name: node for name, node in bound.values.items() if name not in superfluous}
    parameters = inspect.signature(getattr(safely, call.name)).parameters
    if any(not name.startswith(OTHER_DATABASES) for name in values.keys() - parameters.keys()):
        return None
    if call.name == "add_column":
        return add_column(source, values, list(changes), note)
    first = [
        name
        for name in parameters
        if name in values
        and parameters[name].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        and (is_required(parameters[name]) or name in bound.positional)
    ]
    arguments = [code(source, values[name]) for name in first]
    if call.name in NAMED_KINDS and first:
        arguments[0] = name_in_database(source, call, values[first[0]], metadata, changes)
    arguments += [code(source, node) for node in bound.others]
    arguments += [
        f"{name}={code(source, node)}" for name, node in values.items() if name not in first
    ]
    arguments += [f"**{code(source, keyword.value)}" for keyword in bound.unpacked]
    return f"safely.{call.name}({', '.join(arguments)}){note}"


def is_known(call: Call) -> bool:
    """Return whether `safely` has its own operation for a call of `op` or of a batch.

    Its own add_column may have to be several calls as well.
    """
    is_own = call.owner == "safely" and call.name == "add_column"
    return is_own or (call.owner in ("op", "batch") and call.name in KNOWN)


def is_required(parameter: inspect.Parameter) -> bool:
    """Return whether every call sets the parameter."""
    return (
        parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    )


def bind(call: Call) -> Bound | None:
    """Return the arguments of a call by name; None where a starred one hides them."""
    owner = BatchOperations if call.owner == "batch" else Operations
    signature = inspect.signature(getattr(owner, call.name)).parameters.values()
    names = [
        parameter.name
        for parameter in signature
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD and parameter.name != "self"
    ]
    takes_more = any(parameter.kind is parameter.VAR_POSITIONAL for parameter in signature)
    is_starred = any(isinstance(node, ast.Starred) for node in call.node.args[: len(names)])
    if is_starred or (len(call.node.args) > len(names) and not takes_more):
        return None
    values = dict(zip(names, call.node.args, strict=False))
    if call.batch_table is not None:
        is_key = call.name == "create_foreign_key"
        values["source_table" if is_key else "table_name"] = call.batch_table
        if schema := schema_of_batch(call):
            values["source_schema" if is_key else "schema"] = schema
    named = {keyword.arg: keyword.value for keyword in call.node.keywords if keyword.arg}
    unpacked = [keyword for keyword in call.node.keywords if keyword.arg is None]
    positional = [*values, "table_name"]
    return Bound(values | named, positional, call.node.args[len(names) :], unpacked)


def schema_of_batch(call: Call) -> ast.expr | None:
    """Return the schema of a batch; None without one."""
    keywords = call.batch.keywords if call.batch is not None else []
    return next((keyword.value for keyword in keywords if keyword.arg == "schema"), None)


def starred(source: Source, call: Call) -> str | None:
    """Return a call whose arguments a starred one hides, as it is; None for one of a batch."""
    if call.owner == "batch":
        return None
    arguments = [code(source, node) for node in call.node.args]
    arguments += [
        f"{keyword.arg}={code(source, keyword.value)}"
        if keyword.arg
        else f"**{code(source, keyword.value)}"
        for keyword in call.node.keywords
    ]
    return safely_call(call.name, *arguments)


def name_in_database(
    source: Source,
    call: Call,
    name: ast.expr,
    metadata: sa.MetaData,
    changes: Iterable[Change],
) -> str:
    """Return the name as the database has it, which is what `safely` takes.

    Alembic's operations apply the naming convention of the metadata to None, and to the name of a
    CHECK without op.f().
    """
    if not isinstance(name, ast.Constant) or (call.name == "create_index" and name.value):
        return code(source, name)
    kind = NAMED_KINDS[call.name]
    rendered = [rule_name(change) for change in changes if change.kind == kind]
    if len(rendered) == 1:
        return rendered[0]
    table = source.table(call)
    if not is_check(call) or table is None or not isinstance(name.value, str):
        return code(source, name) if name.value else "…"
    check = sa.CheckConstraint("true", name=name.value)
    # attaching the CHECK to a table applies the convention, if there is one for CHECKs
    sa.Table(table, sa.MetaData(naming_convention=metadata.naming_convention), check)
    return string_literal(str(check.name))


def is_check(call: Call) -> bool:
    """Return whether a call adds or drops a CHECK."""
    if call.name != "drop_constraint":
        return call.name == "create_check_constraint"
    types = [keyword.value for keyword in call.options() if keyword.arg == "type_"]
    return "'check'" in map(ast.unparse, [*call.arguments()[2:], *types])


# columns


def alter_column(source: Source, originals: dict[str, ast.expr], *, up: bool) -> str | None:
    """Return one line for each change that alter_column makes; None if one has no spelling.

    The name changes last, and in a downgrade first: what is set aside is found by the name before.
    """
    values = {
        name: resolved
        for name, node in originals.items()
        for resolved in [source.resolve(node)]
        if not name.startswith((INFORMATION, *OTHER_DATABASES)) and resolved is not None
        if not (
            name in NOT_CHANGED
            and isinstance(resolved, ast.Constant)
            and resolved.value is NOT_CHANGED[name]
        )
    }
    known = {*NOT_CHANGED, "table_name", "column_name", "schema", "postgresql_using"}
    place = values.keys() & PLACES
    if values.keys() - known - place - {"autoincrement"}:
        return None
    table, column = (code(source, originals[name]) for name in ("table_name", "column_name"))
    schema = code(source, originals["schema"]) if "schema" in values else None
    if schema == "None":
        schema = None
    renames = []
    if "new_column_name" in values:
        new_name = code(source, originals["new_column_name"])
        renames = [safely_call("rename_column", table, column, new_name, schema=schema)]
        column = column if up else new_name
    others = list(altered(source, values, originals, (table, column), schema))
    lines = [*others, *renames] if up else [*renames, *others]
    return None if "" in lines else "\n".join(lines) or None


def altered(
    source: Source,
    values: dict[str, ast.expr],
    originals: dict[str, ast.expr],
    column: tuple[str, str],
    schema: str | None,
) -> Iterator[str]:
    """Yield the calls for the changes of a column, and an empty text for one without a spelling."""
    new = {name: code(source, originals[name]) for name in values}
    if "type_" in values:
        using = new.get("postgresql_using")
        yield safely_call("change_type", *column, new["type_"], using=using, schema=schema)
    if "server_default" in values:
        is_computed = is_call_of(values["server_default"], COMPUTED)
        call = safely_call("change_default", *column, new["server_default"], schema=schema)
        yield "" if is_computed else call
    if "nullable" in values:
        nullable = values["nullable"]
        if not isinstance(nullable, ast.Constant):
            yield ""
        elif nullable.value:
            yield safely_call("allow_null", *column, schema=schema)
        else:
            yield require_column(*column, schema)
    if "comment" in values:
        yield safely_call("change_comment", *column, new["comment"], schema=schema)


def is_call_of(node: ast.expr, names: tuple[str, ...]) -> bool:
    """Return whether an expression is a call of a function with one of these names."""
    return isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in names


def add_column(
    source: Source, values: dict[str, ast.expr], changes: list[Change], note: str
) -> str | None:
    """Return the calls that add a column, and what it gets in steps of its own.

    The column is that of the source code, without what `safely.add_column` refuses; the other steps
    are made from the SQL.
    """
    column = source.resolve(values["column"])
    added = [change for change in changes if change.kind == "add column"]
    is_call = isinstance(column, ast.Call) and is_call_of(column, ("Column",))
    if not isinstance(column, ast.Call) or not is_call or len(added) != 1:
        if any(map(is_refused_whole, added)):
            return from_sql(changes)
        # behind a function, or not rendered: nothing is known of the column
        return whole_column(source, values, note)
    steps = steps_of(added[0])
    refused = any(
        keyword.arg in REFUSED_IN_COLUMNS and not is_false(keyword.value)
        for keyword in column.keywords
    )
    if steps is None or refused:
        return None
    others = [of_change(change) for change in changes if change.kind in OF_COLUMNS[1:]]
    lines = [*steps.then, *filter(None, others)]
    plain = plain_column(column, steps.then)
    is_same = ast.dump(plain) == ast.dump(column)
    shown = code(source, values["column"]) if is_same else code(source, plain)
    schema = code(source, values["schema"]) if "schema" in values else None
    call = safely_call("add_column", code(source, values["table_name"]), shown, schema=schema)
    return "\n".join([call + note, *lines])


def from_sql(changes: list[Change]) -> str | None:
    """Return the calls that add the columns of a statement, or of each round of a loop."""
    pieces = [of_change(change) for change in changes if change.kind in OF_COLUMNS]
    if None in pieces:
        return None
    is_loop = [change.kind for change in changes].count("add column") > 1
    return "\n".join([*([LOOP] if is_loop else []), *map(str, pieces)])


def is_refused_whole(change: Change) -> bool:
    """Return whether `safely.add_column` refuses a column as it stands, by the SQL that adds it."""
    steps = steps_of(change)
    return steps is None or bool(steps.then)


def whole_column(source: Source, values: dict[str, ast.expr], note: str) -> str:
    """Return the call that adds a column as it stands."""
    options = {
        name: code(source, node)
        for name, node in values.items()
        if name not in ("column", "table_name")
    }
    table, column = (code(source, values[name]) for name in ("table_name", "column"))
    return safely_call("add_column", table, column, **options) + note


def is_false(node: ast.expr) -> bool:
    """Return whether an expression is the constant False or None."""
    return isinstance(node, ast.Constant) and not node.value


def plain_column(column: ast.Call, later: list[str]) -> ast.Call:
    """Return a column without what the later steps give it."""
    left_out = set(LATER_STEPS)
    if any(step.startswith("safely.require_column(") for step in later):
        left_out.add("nullable")
    if any(step.startswith("safely.change_default(") for step in later):
        left_out |= {"nullable", "server_default"}
    options = [keyword for keyword in column.keywords if keyword.arg not in left_out]
    parts = [
        part for part in column.args if not is_call_of(part, ("CheckConstraint", "ForeignKey"))
    ]
    return ast.Call(column.func, parts, options)


# source code


class WithOwnNames(ast.NodeTransformer):
    """Replaces op.f(), and that of a batch, by safely.f()."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Return the call of `safely` for one of `op`; any other call as it is."""
        self.generic_visit(node)
        name = full_name(node.func, self.source.names)
        batches = {f"{batch}.f" for batch in self.source.batches}
        if name == f"{OP}.f" or name in batches:
            own = ast.Attribute(ast.Name("safely", ast.Load()), "f", ast.Load())
            return ast.Call(own, node.args, node.keywords)
        return node


def code(source: Source, node: ast.expr) -> str:
    """Return an expression as source code, in double quotes where they need no escape."""
    own = WithOwnNames(source).visit(copy.deepcopy(node))
    text = ast.unparse(own)
    tokens = [
        token._replace(string=f'"{token.string[1:-1]}"')
        if token.string.startswith("'") and not set('"\\') & set(token.string)
        else token
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
    ]
    return tokenize.untokenize(tokens).strip()
