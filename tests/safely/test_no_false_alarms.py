"""Drops with their table, types that keep their rows, and empty revisions are no alarm for lint."""

from pathlib import Path

import pytest

from safely.lint import lint, select
from safely.lint.findings import Finding
from tests.dangers import MODELS, OPTIONS, script_directory
from tests.revisions import indented

REVISION = """\
import sqlalchemy as sa
from alembic import op
import safely

revision = "{name}"
down_revision = {before!r}


def upgrade() -> None:
{up}


def downgrade() -> None:
{down}
"""
KEPT = 'safely.nothing_to_undo("a test")'
DROPS = (
    'op.drop_index("ix_orders_product_id", table_name="orders")\n'
    'op.drop_constraint("fk_orders_customer_id", "orders")\n'
    'op.drop_column(\n    "orders", "note"\n)\n'
)
ALL_IN_SQL = "DROP INDEX ix_orders_product_id", "ALTER TABLE orders DROP COLUMN note"
RECEIPT = 'op.alter_column("payments", "receipt", existing_type={}, type_={})'
WIDER = {  # existing and new type of what keeps its rows
    "sa.String(20)": "sa.String(200)",
    "sa.VARCHAR(length=20)": "sa.Text()",
    "sa.Text()": "sa.String()",
    "sa.Numeric(10, 2)": "sa.Numeric(precision=12, scale=2)",
    "sa.NUMERIC(precision=10, scale=2)": "sa.Numeric()",
    "sa.Numeric(10)": "sa.Numeric(12, 0)",
}
OTHER = {
    "sa.String(200)": "sa.String(20)",
    "sa.String()": "sa.String(20)",
    "sa.Text()": "sa.String(20)",
    "sa.Integer()": "sa.BigInteger()",
    "sa.Numeric(10, 2)": "sa.Numeric(12, 3)",
    "sa.Numeric()": "sa.Numeric(12, 2)",
    'sa.String(20, collation="C")': "sa.String(200)",
    "sa.String(SIZE)": "sa.String(200)",
}


def rules(
    directory: Path, up: str, down: str = KEPT, before: str | tuple[str, ...] = "schema"
) -> list[str]:
    """Return the rules that a revision with these bodies breaks, but for plain Alembic."""
    return [finding.rule for finding in findings(directory, up, down, before)]


def findings(
    directory: Path, up: str, down: str = KEPT, before: str | tuple[str, ...] = "schema"
) -> list[Finding]:
    """Return the findings about a revision with these bodies, but for plain Alembic."""
    names = {"up": indented(up), "down": indented(down), "before": before}
    (directory / "one.py").write_text(REVISION.format(name="one", **names), encoding="utf-8")
    script = script_directory(directory)
    found = lint(script, select(script, ["one"]), MODELS, OPTIONS, with_squawk=False)["one"]
    return [finding for finding in found if finding.rule != "raw-op"]


def test_drops_in_a_body_that_drops_the_table_are_no_alarm_of_their_own(tmp_path: Path) -> None:
    assert rules(tmp_path, f'{DROPS}op.drop_table("orders")') == ["plain-drop"]
    in_sql = "\n".join(f"op.execute({sql!r})" for sql in (*ALL_IN_SQL, "DROP TABLE orders"))
    assert rules(tmp_path, in_sql) == ["plain-drop"]
    new = 'safely.create_table("plants", sa.Column("id", sa.BigInteger(), sa.Identity()))'
    down = 'op.drop_index("ix_plants_id", table_name="plants")\nop.drop_table("plants")'
    assert rules(tmp_path, new, down) == ["lossy-downgrade"]


def test_drops_that_the_table_outlives_are_alarms(tmp_path: Path) -> None:
    dropped = {"plain-index-drop", "drop-constraint", "plain-drop"}
    assert dropped <= set(rules(tmp_path, DROPS))
    other = f'{DROPS}op.drop_table("payments")'
    assert dropped <= set(rules(tmp_path, other))
    # safely.drop_table keeps the table, without the column that is lost before
    assert dropped <= set(rules(tmp_path, f'{DROPS}safely.drop_table("orders")'))
    # the table that is dropped first is another one than the one that is made
    assert "plain-index-drop" in rules(tmp_path, f'op.drop_table("payments")\n{DROPS}')


def test_a_column_that_is_brought_back_is_no_alarm(tmp_path: Path) -> None:
    column = 'sa.Column("note", sa.Text(), nullable=False)'
    back = f'safely.add_column("orders", {column})'
    assert rules(tmp_path, 'safely.drop_column("orders", "note")', back) == []
    plain = f'op.add_column("orders", {column})'
    assert rules(tmp_path, 'safely.drop_column("orders", "note")', plain) == ["required-column"]


def test_an_identity_is_spelled_with_the_name_and_the_key_of_its_column(tmp_path: Path) -> None:
    columns = 'sa.Column("number", sa.Integer, primary_key=True), sa.Column("name", sa.Text)'
    (finding,) = findings(tmp_path, f'op.create_table("plants", {columns})')
    number = 'sa.BigInteger().with_variant(sa.Integer(), "sqlite"), sa.Identity()'
    assert finding.safe == f'sa.Column("number", {number}, primary_key=True)'
    (finding,) = findings(tmp_path, 'op.execute("CREATE TABLE plants (place serial)")')
    assert finding.safe == f'sa.Column("place", {number})'
    # safely.add_column takes no identity
    added = findings(tmp_path, 'op.execute("ALTER TABLE orders ADD COLUMN place serial UNIQUE")')
    assert {finding.rule: "Identity" in str(finding.safe) for finding in added} == {
        "prefer-identity": False,
        "unique-at-once": False,
        "volatile-default": False,
    }
    assert not any("Computed" in finding.why for finding in added)


def test_a_column_that_safely_would_refuse_as_it_stands_is_spelled_by_its_sql(
    tmp_path: Path,
) -> None:
    columns = 'sa.Column("a", sa.Text), sa.Column("b", sa.Text, nullable=False)'
    (finding,) = findings(tmp_path, f'for c in ({columns}):\n    op.add_column("orders", c)')
    a = 'safely.add_column("orders", sa.Column("a", sa.Text()))'
    b = 'safely.add_column("orders", sa.Column("b", sa.Text()))'
    assert str(finding.safe).startswith(f"# in the place of the loop\n{a}\n{b}\n")
    made = 'made = lambda: sa.Column("b", sa.Text, nullable=False)\nop.add_column("orders", made())'
    (finding,) = findings(tmp_path, made)
    assert str(finding.safe).startswith(f'{b}\nsafely.require_column("orders", "b", fill=…)')


@pytest.mark.parametrize("between", ["", "op.execute('SELECT 1')\n"])
def test_a_default_that_is_set_again_is_no_alarm(tmp_path: Path, between: str) -> None:
    drop = "op.execute('ALTER TABLE orders ALTER state DROP DEFAULT')\n"
    again = "op.execute(\"ALTER TABLE orders ALTER COLUMN state SET DEFAULT 'open'\")"
    assert rules(tmp_path, f"{drop}{between}{again}") == []
    both = "ALTER TABLE orders ALTER state DROP DEFAULT, ALTER state SET DEFAULT 'open'"
    assert rules(tmp_path, f'op.execute("{both}")') == []
    assert rules(tmp_path, f"{again}\n{between}{drop}") == ["drop-default"]
    other = "op.execute(\"ALTER TABLE orders ALTER COLUMN note SET DEFAULT 'open'\")"
    assert "drop-default" in rules(tmp_path, f"{drop}{between}{other}")


@pytest.mark.parametrize("existing", WIDER)
def test_a_type_that_keeps_the_rows_is_no_alarm(tmp_path: Path, existing: str) -> None:
    assert rules(tmp_path, RECEIPT.format(existing, WIDER[existing])) == []


@pytest.mark.parametrize("existing", OTHER)
def test_a_type_that_rewrites_the_rows_is_an_alarm(tmp_path: Path, existing: str) -> None:
    body = RECEIPT.format(existing, OTHER[existing])
    assert rules(tmp_path, f"SIZE = 20\n{body}") == ["type-change"]


def test_a_conversion_is_an_alarm(tmp_path: Path) -> None:
    body = RECEIPT.format("sa.String(20)", 'sa.Text(), postgresql_using="lower(receipt)"')
    assert rules(tmp_path, body) == ["type-change"]


@pytest.mark.parametrize("body", ["pass", '"""Nothing."""', "return"])
def test_an_empty_revision_and_an_empty_merge_are_no_alarm(tmp_path: Path, body: str) -> None:
    assert rules(tmp_path, body, body) == []
    other = REVISION.format(name="two", before="schema", up="    pass", down="    pass")
    (tmp_path / "two.py").write_text(other, encoding="utf-8")
    assert rules(tmp_path, body, body, before=("schema", "two")) == []


@pytest.mark.parametrize(
    ("type_", "words"),
    [
        ("varchar(200)", "in place may rewrite payments"),
        ("numeric(12, 2)", "in place may rewrite payments"),
        ("integer", "in place rewrites payments"),
        ("text USING receipt::text", "in place rewrites payments"),
    ],
)
def test_a_rewrite_that_depends_on_the_old_type_is_no_certainty(
    tmp_path: Path, type_: str, words: str
) -> None:
    sql = f"ALTER TABLE payments ALTER COLUMN receipt TYPE {type_}"
    (finding,) = findings(tmp_path, f'op.execute("{sql}")')
    assert finding.rule == "type-change"
    assert finding.message.endswith(words)
    assert ("doesn't know the old type" in finding.why) == ("may" in words)
