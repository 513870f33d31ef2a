"""Other labels of an enum, while builds that know the old ones write.

PostgreSQL: SQLAlchemy can't read a label that a model lacks, and published views stay as they are.
So each column of the type gets a second one, as for `safely.change_type`: the newer builds' one,
kept in step by a trigger. Labels are added to the type and never removed from it; a CHECK on each
column of the two keeps to the labels that its builds know.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

from safely.operations.aside import hidden_name, hidden_prefix, how_to_purge, refuse_references
from safely.operations.connection import (
    Refused,
    analyze,
    catalogue_value,
    has_column,
    literal,
    offline,
    outside_transaction,
    postgresql,
    pragma_value,
    qualified,
    quoted,
    refuse_other_schema,
    refuse_rows,
    regclass,
    rows,
    run,
    scalar,
    type_sql,
    undoing,
)
from safely.operations.enum_sql import (
    ADD_LABELS,
    DEPENDENTS,
    KEEP_NEW_LABELS,
    KEEP_OLD_LABELS,
    NOTE_DOWN,
    REFUSE_ARRAY,
    REFUSE_ROWS,
    RULE,
    RULE_LABELS,
    RULE_NAME,
    SET_DEFAULT,
    SPEAKING,
    WANTED,
)
from safely.operations.enums import (
    all_labels,
    array,
    labels_of,
    oid_of,
    refuse_labels,
    visible_labels,
    write_note,
)
from safely.operations.halves import is_named_by_both
from safely.operations.keys import refuse_without_key
from safely.operations.rebuild import attachments, rebuilt
from safely.operations.required import refuse_other_trigger
from safely.operations.retype import (
    change_of,
    convert,
    copy_indexes,
    drop_invalid_indexes,
    validate_rules,
)
from safely.operations.retype_refusals import (
    STEPS,
    Change,
    refuse_broken_rules,
    refuse_impossible,
    refuse_long_names,
    refuse_offline_script,
    refuse_values_written_since,
)
from safely.operations.retype_sql import (
    COPY_RULES,
    PREPARE,
    PROBLEM,
    SHAPE,
    SWAP,
    SYNC_FUNCTION,
)
from safely.operations.table_sql import mentions


class Labels(NamedTuple):
    """The labels of an enum before and after a change, and how the ones become the others."""

    name: str
    old: tuple[str, ...]
    new: tuple[str, ...]
    renamed: Mapping[str, str]
    older_builds_see: str | None

    def newer(self, label: str) -> str | None:
        """Return the label that newer builds see in the place of an old one; None: NULL."""
        return self.renamed.get(label, label if label in self.new else None)

    def older(self, label: str) -> str | None:
        """Return the label that older builds see in the place of a new one; None: NULL."""
        if label in self.old and label not in self.renamed:
            return label
        former = (old for old, new in self.renamed.items() if new == label)
        return next(former, self.older_builds_see)

    @property
    def gone(self) -> list[str]:
        """The old labels that no new one takes the place of."""
        return [label for label in self.old if self.newer(label) is None]

    @property
    def changed(self) -> list[str]:
        """The old labels that rules of a column can't go on using."""
        return [label for label in self.old if self.newer(label) != label]


def change_enum(  # noqa: PLR0913  # what ALTER TYPE can't know of older builds
    name: str,
    *values: str,
    renamed: Mapping[str, str] | None = None,
    older_builds_see: str | None = None,
    existing: Sequence[str] | None = None,
    columns: Sequence[tuple[str, str]] | None = None,
    schema: str | None = None,
) -> None:
    """Give an enum other labels: `values` in their order; old rows and older builds keep theirs.

    SQL spells it ALTER TYPE … ADD VALUE, or RENAME VALUE, with which older builds read a label that
    they don't know: SQLAlchemy raises LookupError then.

    `renamed` maps old labels to new ones; two may become one. Rows get the new label, and builds
    of both sides see the one that they know. A label that only newer builds know is NULL for older
    ones, or `older_builds_see`, an old label: say that where the column is NOT NULL. A label that
    has no new one is NULL for newer builds where an older one writes it later, and refused where
    the column is NOT NULL.
    `existing` is the labels before, and `columns` the pairs (table, column) that have the type, or
    arrays of it. PostgreSQL knows both; `--sql` and SQLite need them.

    PostgreSQL: each column in turn is changed as by `safely.change_type`, with its locks, CHECKs,
    indexes and default. The type keeps labels that are gone, hidden, and a CHECK refuses them.
    SQLite: the column is text. Rows get the new labels, and a CHECK of `sa.Enum(…,
    create_constraint=True)` is made anew.
    The opposite is `safely.change_enum` with the old labels in the same revision, and `renamed` the
    other way round. It brings the old columns back; a label that they lack is NULL there, and comes
    back with the next upgrade.
    Raise Refused, before anything is changed: for rows with a label that is gone, with a query that
    shows them; for another order of the labels; where a default, a CHECK or an index names a label
    that is gone or renamed; for a domain over the type; and for what forbids `safely.change_type`.

    Example: `safely.change_enum("mood", "sad", "fine", "happy", renamed={"ok": "fine"})`
    """
    refuse_labels(name, values)
    refuse_other_schema(schema)
    if not postgresql():
        labels = labels_from(name, values, renamed, older_builds_see, existing)
        change_on_sqlite(labels, columns)
        return
    if offline():
        if existing is None or columns is None:
            raise Refused(
                f"the type {name} can't be changed by a script that was printed without "
                "knowing it: write existing=[…], its labels before, and columns=[(table, "
                "column), …]"
            )
        before, pairs = list(existing), list(columns)
    else:
        if scalar(f"SELECT {oid_of(name)}") is None and is_named_by_both(name):
            return
        pairs = columns_with(name, columns)
        before = labels_before(name, values, existing, pairs)
    if set(before) == set(values):
        if not offline():
            labels = Labels(name, tuple(before), values, {}, None)
            refuse_other_order(labels)
            for table_name, column_name in pairs:
                drop_invalid_indexes(change_for(labels, table_name, column_name))
        note_labels(name, values)  # a run that was killed has changed all, or nothing yet
        return
    labels = labels_from(name, values, renamed, older_builds_see, before)
    change_on_postgresql(labels, pairs)


def labels_from(
    name: str,
    values: Sequence[str],
    renamed: Mapping[str, str] | None,
    older_builds_see: str | None,
    existing: Sequence[str] | None,
) -> Labels:
    """Return the change of labels; raise Refused for parameters that contradict each other."""
    if existing is None:
        raise Refused(
            f"SQLite does not know the labels of {name}: write existing=[…], those before"
        )
    renamed = renamed or {}
    for old, new in renamed.items():
        if old not in existing or new not in values:
            raise Refused(
                f"{name} can't have {old} renamed to {new}: its labels are {', '.join(existing)}, "
                f"and are to be {', '.join(values)}. Correct renamed="
            )
    if older_builds_see is not None and older_builds_see not in existing:
        raise Refused(
            f"older builds can't see {older_builds_see}, which is no old label of {name}: "
            f"write one of {', '.join(existing)}"
        )
    return Labels(name, tuple(existing), tuple(values), renamed, older_builds_see)


def labels_before(
    name: str,
    values: Sequence[str],
    existing: Sequence[str] | None,
    pairs: Sequence[tuple[str, str]],
) -> list[str]:
    """Return the labels before the change; raise Refused for others than the revision says.

    Where a run of the other direction was killed, the type is noted with these already, and only
    columns have the others.
    """
    labels = visible_labels(name) or []
    if existing is not None and set(labels) in (set(existing), set(values)):
        return list(existing)
    if existing is None:
        known = [
            scalar(f"SELECT {RULE_LABELS.format(table_oid=regclass(table), rule=rule)}")
            for table, column in pairs
            for rule in [rule_name({"oid": regclass(table), "shown_text": literal(column)})]
        ]
        others = (list(one) for one in known if one is not None and set(one) != set(values))
        return next(others, labels) if set(labels) == set(values) else labels
    raise Refused(
        f"the type {name} has the labels {', '.join(labels)}, and not {', '.join(existing)}: "
        "correct existing="
    )


def columns_with(name: str, columns: Sequence[tuple[str, str]] | None) -> list[tuple[str, str]]:
    """Return the columns that have the type; raise Refused for what can't be changed with them."""
    if not scalar(f"SELECT {oid_of(name)}") or visible_labels(name) is None:
        raise Refused(f"there is no enum {name}: create it first, with safely.create_enum")
    pairs = []
    for kind, relation, column in rows(DEPENDENTS.format(oid=oid_of(name))):
        if kind == "other":
            raise Refused(
                f"the type {name} can't get other labels while {column} uses it: create a second "
                "type with safely.create_enum, and move over with safely.change_type"
            )
        pairs.append((str(relation), str(column)))
    if columns is not None and {tuple(pair) for pair in columns} != set(pairs):
        missing = {tuple(pair) for pair in columns} ^ set(pairs)
        raise Refused(
            f"the type {name} is that of {', '.join(map('.'.join, pairs)) or 'no column'}: correct "
            f"columns=[…], which differs in {', '.join(map('.'.join, sorted(missing)))}"
        )
    return pairs


def change_on_postgresql(labels: Labels, pairs: Sequence[tuple[str, str]]) -> None:
    """Refuse what can be foreseen, add labels to the type, then change column by column."""
    changes = [change_for(labels, table, column) for table, column in pairs]
    if not offline():
        refuse_other_order(labels)
        for change in filter(is_done, changes):
            drop_invalid_indexes(change)
        changes = [change for change in changes if not is_done(change)]
        refuse_shared_rules(labels, changes)
        for change in changes:
            refuse_before(labels, change)
    for change in changes if offline() else ():
        run(refuse_array(change))
        refuse_offline_script(change)
        run(refuse_lost_rows(labels, change))
    for change in changes:
        rule = rule_parts(change.placeholders, labels_of(oid_of(labels.name)))
        with outside_transaction():
            run(KEEP_OLD_LABELS.format(**rule))
    if statements := added(labels):
        with outside_transaction():
            run(
                ADD_LABELS.format(
                    labels=labels_of(oid_of(labels.name)),
                    statements=";\n  ".join(statements),
                    write_note=write_note(labels.name, "shown"),
                )
            )
    for change in changes:
        change_column(labels, change)
    note_labels(labels.name, labels.new)


def note_labels(name: str, values: Sequence[str]) -> None:
    """Note which labels of a type the newest build knows; the others are hidden."""
    run(NOTE_DOWN.format(oid=oid_of(name), write_note=write_note(name, array(values))))


def change_column(labels: Labels, change: Change) -> None:
    """Give a column its second one, fill it in, and exchange the two."""
    column = change.placeholders
    if offline():
        refuse_offline_script(change)  # tells the statements that follow whether it is done
    with outside_transaction():
        run(SYNC_FUNCTION)
        run(PREPARE.format(**column))
    convert(change)
    refuse_values_written_since(change)
    if not offline():
        refuse_lost(labels, change)
    with outside_transaction():
        run(COPY_RULES.format(**column))
        run(
            KEEP_NEW_LABELS.format(
                **rule_parts(column, array(labels.new), column["hidden_text"]),
                wanted=column["wanted"],
                table_text=column["table_text"],
                prefix=column["prefix"],
            )
        )
    validate_rules(change)
    copy_indexes(change)
    with outside_transaction(patient=True):
        analyze(change.table_name)
    run(SWAP.format(**column))
    if labels.changed:
        # in the transaction of the swap, since the CHECK refuses the old default from then on
        run(SET_DEFAULT.format(**column))


def change_for(labels: Labels, table_name: str, column_name: str) -> Change:
    """Return the change of one column, for the statements of retype_sql.py."""
    enum: Any = sa.Enum(*labels.new, name=labels.name)
    is_array = not offline() and bool(
        scalar(
            "SELECT typcategory = 'A' FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid "
            f"WHERE attrelid = {regclass(table_name)} AND attname = {literal(column_name)}"
        )
    )
    shown = quoted(column_name)
    convert_ = array_conversion if is_array else conversion
    forward = convert_(shown, {old: labels.newer(old) for old in labels.old})
    back = convert_(shown, {new: labels.older(new) for new in labels.new})
    type_ = ARRAY(enum) if is_array else enum
    change = change_of(table_name, column_name, type_, forward, back)
    column = change.placeholders
    done = done_sql(labels, column)
    return change._replace(
        placeholders=column
        | {
            # undone, the trigger keeps the expressions of the upgrade
            "back_text": "NULL" if undoing() else literal(back),
            "expression": literal(back),
            "done": done,
            "wanted": WANTED.format(
                shape=SHAPE, oid=column["oid"], shown_text=column["shown_text"], is_done=done
            ),
        }
    )


def conversion(shown: str, labels: Mapping[str, str | None]) -> str:
    """Return SQL for the label in the place of another one."""
    cases = "".join(
        f" WHEN {literal(label)} THEN {literal(other)}"
        for label, other in labels.items()
        if other is not None
    )
    return f"CASE {shown}::text{cases} END" if cases else "NULL::text"


def array_conversion(shown: str, labels: Mapping[str, str | None]) -> str:
    """Return SQL for an array with other labels; USING takes no subquery.

    In two turns, since a label may take the name of another one.
    """
    changed = {label: other for label, other in labels.items() if other != label}
    sql = f"{shown}::text[]"
    for number, label in enumerate(changed):
        sql = f"array_replace({sql}, {literal(label)}, {literal(f'{number} {label}')})"
    for number, (label, other) in enumerate(changed.items()):
        replacement = "NULL" if other is None else literal(other)
        sql = f"array_replace({sql}, {literal(f'{number} {label}')}, {replacement})"
    return sql


def done_sql(labels: Labels, column: Mapping[str, str]) -> str:
    """Return SQL that tells whether a column has its new labels."""
    wanted = array(labels.new)

    def same(existing: str) -> str:
        return f"({existing} @> {wanted} AND {existing} <@ {wanted})"

    by_rule = same(RULE_LABELS.format(table_oid=column["oid"], rule=rule_name(column)))
    hidden = (
        f"EXISTS (SELECT FROM pg_attribute WHERE attrelid = {column['oid']} "
        f"AND attname = {column['hidden_text']} AND NOT attisdropped)"
    )
    untouched = f"NOT {hidden} AND {same(labels_of(oid_of(labels.name)))}"
    return f"coalesce({by_rule}, {untouched})"


def is_done(change: Change) -> bool:
    """Return whether a column has its new labels: a run that was killed has changed it."""
    return bool(scalar(f"SELECT {change.placeholders['done']}"))


def rule_name(column: Mapping[str, str], *, of: str = "shown_text", prefix: str = "") -> str:
    """Return SQL for the name of the CHECK that keeps other labels out of a column."""
    pattern = literal(f"^{re.escape(prefix)}_aside_labels_")
    return RULE_NAME.format(table_oid=column["oid"], column=column[of], pattern=pattern)


def rule_parts(
    column: Mapping[str, str], labels: str, of_column: str | None = None
) -> dict[str, str]:
    """Return what the statements about that CHECK need."""
    of_column = of_column or column["shown_text"]
    rule = RULE.format(table_oid=column["oid"], column=of_column, labels=labels)
    return {
        "table": column["table_text"],
        "table_oid": column["oid"],
        "column": of_column,
        "rule": rule,
        "rule_name": rule_name(column),
        "is_done": column["done"],
    }


def added(labels: Labels) -> list[str]:
    """Return the statements that add labels to the type, each at its place in the order."""
    existing = set(labels.old if offline() else all_labels(labels.name))
    following = next((label for label in labels.new if label in existing), None)
    if following is None and existing:
        following = labels.old[0] if offline() else all_labels(labels.name)[0]
    statements, before = [], None
    for label in labels.new:
        place = ""
        if before is not None:
            place = f" AFTER {literal(before)}"
        elif following is not None:
            place = f" BEFORE {literal(following)}"
        if label not in existing:
            add = (
                f"ALTER TYPE {quoted(labels.name)} ADD VALUE IF NOT EXISTS {literal(label)}{place}"
            )
            statements.append(add)
        before = label
    return statements


def refuse_other_order(labels: Labels) -> None:
    """Raise Refused for labels in another order: PostgreSQL sorts by it, in each index too."""
    kept = [label for label in labels.new if label in labels.old]
    everywhere = [label for label in all_labels(labels.name) if label in labels.new]
    if kept != [label for label in labels.old if label in kept] or everywhere != [
        label for label in labels.new if label in everywhere
    ]:
        raise Refused(
            f"{labels.name} has its labels in the order {', '.join(all_labels(labels.name))}, and "
            "PostgreSQL can't change that: keep to it, or create a second type with "
            "safely.create_enum and move over with safely.change_type"
        )


def refuse_shared_rules(labels: Labels, changes: Sequence[Change]) -> None:
    """Raise Refused for a rule over two columns, which change one after the other."""
    seen: set[tuple[str, str]] = set()
    for change in changes:
        for rule, _ in rows(SPEAKING.format(**change.placeholders)):
            if (change.table_name, rule) in seen:
                raise Refused(
                    f"{change.table_name} can't get other labels of {labels.name}: {rule} spans "
                    "two columns of that type. Drop it before, and create it after"
                )
            seen.add((change.table_name, rule))


def refuse_as_it_stands(
    name: str,
    values: Sequence[str],
    existing: Sequence[str],
    columns: Sequence[tuple[str, str]],
) -> None:
    """Raise Refused where `change_enum` would refuse these arguments whatever rows there are.

    Autogenerate calls it (PostgreSQL), in a transaction that is rolled back afterwards.
    """
    labels = labels_from(name, values, None, None, existing)
    refuse_other_order(labels)
    columns_with(name, columns)
    changes = [change_for(labels, table, column) for table, column in columns]
    refuse_shared_rules(labels, changes)
    for change in changes:
        refuse_whatever_rows(labels, change)


def refuse_before(labels: Labels, change: Change) -> None:
    """Raise Refused for all that can be foreseen of one column."""
    refuse_whatever_rows(labels, change)
    refuse_lost(labels, change)
    if labels.changed:
        # as text, since the type lacks the new labels yet
        as_text = change.placeholders | {"hidden": f"{change.placeholders['hidden']}::text"}
        refuse_broken_rules(change._replace(type="text", placeholders=as_text), [])


def refuse_whatever_rows(labels: Labels, change: Change) -> None:
    """Raise Refused for all that can be foreseen of one column without reading its rows."""
    table_name, column_name, column = change.table_name, change.column_name, change.placeholders
    refuse_references(table_name, column_name)
    refuse_other_trigger(table_name, column_name)
    refuse_without_key(table_name)
    if problem := scalar(PROBLEM.format(**column)):
        raise Refused(f"{table_name}.{column_name} can't get other labels: {problem}. {STEPS}")
    refuse_long_names(change)
    refuse_other_draft(labels, change)
    refuse_speaking(labels, change)
    refuse_impossible(change)


def refuse_other_draft(labels: Labels, change: Change) -> None:
    """Raise Refused where this revision has begun, or was undone, with other labels."""
    table_name, column_name, column = change.table_name, change.column_name, change.placeholders
    hidden = hidden_name(column_name)
    if not has_column(table_name, hidden):
        return
    begun = catalogue_value(SHAPE, table_name, hidden)
    rule = rule_name(column, of="hidden_text", prefix=hidden_prefix())
    known = scalar(f"SELECT {RULE_LABELS.format(table_oid=column['oid'], rule=rule)}")
    if begun == catalogue_value(SHAPE, table_name, column_name):
        if known is None or set(known) == set(labels.new):
            return
        begun = ", ".join(known)
    raise Refused(
        f"{table_name}.{column_name} was to become {begun} when this revision began, and is now to "
        f"become {', '.join(labels.new)}: {how_to_purge()}"
    )


def refuse_speaking(labels: Labels, change: Change) -> None:
    """Raise Refused where a rule names a label that newer builds don't have any more."""
    column = change.placeholders
    for rule, condition in rows(SPEAKING.format(**column)):
        for label in labels.changed:
            if f"{literal(label)}::" in condition:
                raise Refused(named_by(change.table_name, change.column_name, label, rule))
    default = scalar(
        "SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef JOIN pg_attribute ON "
        f"attrelid = adrelid AND attnum = adnum WHERE adrelid = {column['oid']} "
        f"AND attname = {column['shown_text']}"
    )
    if default is not None and scalar(
        f"SELECT ({column['forward']}) IS NULL AND {column['shown']} IS NOT NULL "
        f"FROM (SELECT {default} AS {column['shown']}) AS d"
    ):
        raise Refused(default_of_gone(change.table_name, change.column_name, default))


def named_by(table_name: str, column_name: str, label: str, rule: str) -> str:
    """Return the message for a rule that names a label which is gone or renamed."""
    return (
        f"{table_name}.{column_name} can't lose the label {label}, which {rule} names: drop that "
        "before, and create it after with the new label"
    )


def default_of_gone(table_name: str, column_name: str, default: str) -> str:
    """Return the message for a default that is a label which is gone."""
    return (
        f"{table_name}.{column_name} can't lose its default, {default}: drop that before, with "
        "safely.change_default(…, None), and give it its new one after"
    )


def lost(labels: Labels, change: Change) -> str:
    """Return the condition for rows with a label that has no counterpart."""
    shown, gone = change.placeholders["shown"], array(labels.gone)
    if change.type.endswith("[]"):
        return f"{shown}::text[] && {gone}"
    return f"{shown}::text = ANY ({gone})"


def refuse_lost(labels: Labels, change: Change) -> None:
    """Raise Refused for rows with a label that is gone.

    Undone, the column that comes back has NULL there, if it may: the label is kept aside.
    """
    table_name, column_name = change.table_name, change.column_name
    if not labels.gone:
        return
    if undoing() and not catalogue_value("attnotnull", table_name, column_name):
        return
    condition = lost(labels, change)
    if has_column(table_name, hidden_name(column_name)):
        condition += f" AND {change.placeholders['hidden']} IS NULL"
    refuse_rows(
        f"SELECT * FROM {qualified(table_name)} WHERE {condition}",
        f"{table_name}.{column_name} can't lose {', '.join(labels.gone)}",
        "hold that",
        remedy(labels),
    )


def remedy(labels: Labels) -> str:
    """Return what to do about rows with a label that is gone."""
    return (
        f'Write renamed={{"{labels.gone[0]}": …}} with the label that takes its place, or change '
        "those rows first"
    )


def refuse_array(change: Change) -> str:
    """Return the statement of a script that refuses an array: its labels are replaced otherwise."""
    column = change.placeholders
    message = (
        f"{change.table_name}.{change.column_name} is an array of the type, and a script was "
        "printed without knowing that: run `alembic upgrade`"
    )
    return REFUSE_ARRAY.format(
        oid=column["oid"], shown_text=column["shown_text"], message=literal(message)
    )


def refuse_lost_rows(labels: Labels, change: Change) -> str:
    """Return the statement of a script that refuses such rows, and arrays."""
    column = change.placeholders
    message = (
        f"{change.table_name}.{change.column_name} can't lose {', '.join(labels.gone)}: rows hold "
        f"that. {remedy(labels) if labels.gone else ''}"
    )
    condition = lost(labels, change) if labels.gone else "false"
    return REFUSE_ROWS.format(
        wanted=column["wanted"],
        oid=column["oid"],
        hidden_text=column["hidden_text"],
        query=literal(f"SELECT EXISTS (SELECT FROM {column['table']} WHERE {condition}"),
        unless_kept=literal(f" AND {column['hidden']} IS NULL)"),
        always="false" if undoing() else "true",
        message=literal(message),
    )


def change_on_sqlite(labels: Labels, columns: Sequence[tuple[str, str]] | None) -> None:
    """Give rows their new labels, and make the CHECK of the labels anew where there is one."""
    if columns is None:
        raise Refused(
            f"SQLite does not know which columns have the labels of {labels.name}: write "
            "columns=[(table, column), …]"
        )
    if offline():
        raise Refused(
            f"the labels of {labels.name} can't be changed by a script on SQLite, which copies "
            "tables: run `alembic upgrade` on the file itself"
        )
    for table_name, column_name in columns if labels.gone else ():
        refuse_rows(
            f"SELECT * FROM {quoted(table_name)} WHERE {quoted(column_name)} "
            f"IN ({', '.join(map(literal, labels.gone))})",
            f"{table_name}.{column_name} can't lose {', '.join(labels.gone)}",
            "hold that",
            remedy(labels),
        )
    for table_name, column_name in columns:
        refuse_speaking_on_sqlite(labels, table_name, column_name)
    for table_name, column_name in columns:
        relabel_on_sqlite(labels, table_name, column_name)


def refuse_speaking_on_sqlite(labels: Labels, table_name: str, column_name: str) -> None:
    """Raise Refused where a rule, or the default, names a label that is gone or renamed."""
    own = label_check(table_name, column_name)
    rules = [(entry.name, entry.sql) for entry in attachments(table_name)] + [
        (str(check["name"]), str(check["sqltext"]))
        for check in sa.inspect(op.get_bind()).get_check_constraints(table_name)
        if check["name"] is None or check["name"] != own
    ]
    for label in labels.changed:
        for rule, sql in rules:
            if mentions(sql, column_name) and literal(label) in sql:
                raise Refused(named_by(table_name, column_name, label, rule))
        default = pragma_value("dflt_value", table_name, column_name)
        if default == literal(label) and labels.newer(label) is None:
            raise Refused(default_of_gone(table_name, column_name, default))


def label_check(table_name: str, column_name: str) -> str | None:
    """Return the name of the CHECK of `sa.Enum(…, create_constraint=True)`; None without one."""
    form = re.compile(rf"\W*{re.escape(column_name)}\W* IN \(.*\)", re.DOTALL)
    for check in sa.inspect(op.get_bind()).get_check_constraints(table_name):
        if check["name"] and form.fullmatch(str(check["sqltext"])):
            return str(check["name"])
    return None


def relabel_on_sqlite(labels: Labels, table_name: str, column_name: str) -> None:
    """Change one column: without its CHECK first, since a renamed label would break it."""
    column, name = quoted(column_name), label_check(table_name, column_name)
    if name is not None:
        with rebuilt(table_name) as table:
            table.drop_constraint(name, "check")
    if cases := {old: new for old, new in labels.renamed.items() if old != new}:
        run(
            f"UPDATE {quoted(table_name)} SET {column} = {conversion_on_sqlite(column, cases)} "
            f"WHERE {column} IN ({', '.join(map(literal, cases))})"
        )
    default = pragma_value("dflt_value", table_name, column_name)
    defaults = {literal(old): new for old, new in cases.items()}
    with rebuilt(table_name) as table:
        table.set_type(column_name, type_sql(sa.Enum(*labels.new, name=labels.name)))
        if default in defaults:
            table.set_default(column_name, f"DEFAULT {literal(defaults[default])}")
        if name is not None:
            values = ", ".join(map(literal, labels.new))
            table.add_constraint(f"CONSTRAINT {quoted(name)} CHECK ({column} IN ({values}))")


def conversion_on_sqlite(column: str, labels: Mapping[str, str]) -> str:
    """Return SQL for the label in the place of another one."""
    cases = " ".join(f"WHEN {literal(old)} THEN {literal(new)}" for old, new in labels.items())
    return f"CASE {column} {cases} END"
