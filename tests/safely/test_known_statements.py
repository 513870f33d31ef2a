"""Every statement that the parser knows is harmless by name, has a rule, or is unseen."""

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.script import ScriptDirectory
from postgast import nodes, parse, pg_query_pb2

from safely.lint import lint
from safely.lint.checks.kinds import CHECKED_ELSEWHERE, HARMLESS, RULE_OF_KIND
from safely.lint.checks.settings import BEGINNINGS, WITHOUT_EFFECT
from safely.lint.statement_kinds import KINDS, OTHER_TABLES
from safely.lint.statements import changes, kind_of
from tests.dangers import OPTIONS

EXAMPLES = {
    "AlterCollationStmt": "ALTER COLLATION german REFRESH VERSION",
    "AlterDatabaseRefreshCollStmt": "ALTER DATABASE shop REFRESH COLLATION VERSION",
    "AlterDatabaseSetStmt": "ALTER DATABASE shop SET work_mem = '1GB'",
    "AlterDatabaseStmt": "ALTER DATABASE shop CONNECTION LIMIT 5",
    "AlterDefaultPrivilegesStmt": "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO app",
    "AlterDomainStmt": "ALTER DOMAIN zip SET NOT NULL",
    "AlterEnumStmt": "ALTER TYPE mood ADD VALUE 'calm'",
    "AlterEventTrigStmt": "ALTER EVENT TRIGGER watch DISABLE",
    "AlterExtensionContentsStmt": "ALTER EXTENSION hstore ADD TABLE a",
    "AlterExtensionStmt": "ALTER EXTENSION hstore UPDATE",
    "AlterFdwStmt": "ALTER FOREIGN DATA WRAPPER files OPTIONS (a '1')",
    "AlterForeignServerStmt": "ALTER SERVER reports OPTIONS (SET host 'b')",
    "AlterFunctionStmt": "ALTER FUNCTION f(int) VOLATILE",
    "AlterObjectDependsStmt": "ALTER FUNCTION f(int) DEPENDS ON EXTENSION hstore",
    "AlterObjectSchemaStmt": "ALTER TABLE a SET SCHEMA b",
    "AlterOperatorStmt": "ALTER OPERATOR + (int, int) SET (RESTRICT = NONE)",
    "AlterOpFamilyStmt": "ALTER OPERATOR FAMILY f USING btree ADD OPERATOR 1 < (int, int)",
    "AlterOwnerStmt": "ALTER SCHEMA archive OWNER TO app",
    "AlterPolicyStmt": "ALTER POLICY p ON a USING (true)",
    "AlterPublicationStmt": "ALTER PUBLICATION p ADD TABLE a",
    "AlterRoleSetStmt": "ALTER ROLE app SET work_mem = '1GB'",
    "AlterRoleStmt": "ALTER ROLE app NOLOGIN",
    "AlterSeqStmt": "ALTER SEQUENCE s INCREMENT BY 2",
    "AlterStatsStmt": "ALTER STATISTICS s SET STATISTICS 100",
    "AlterSubscriptionStmt": "ALTER SUBSCRIPTION s DISABLE",
    "AlterSystemStmt": "ALTER SYSTEM SET work_mem = '1GB'",
    "AlterTableMoveAllStmt": "ALTER TABLE ALL IN TABLESPACE a SET TABLESPACE b",
    "AlterTableSpaceOptionsStmt": "ALTER TABLESPACE a SET (seq_page_cost = 2)",
    "AlterTableStmt": "ALTER TABLE a ADD COLUMN b int",
    "AlterTSConfigurationStmt": "ALTER TEXT SEARCH CONFIGURATION c DROP MAPPING FOR word",
    "AlterTSDictionaryStmt": "ALTER TEXT SEARCH DICTIONARY d (StopWords = german)",
    "AlterTypeStmt": "ALTER TYPE t SET (STORAGE = extended)",
    "AlterUserMappingStmt": "ALTER USER MAPPING FOR app SERVER reports OPTIONS (SET user 'a')",
    "CallStmt": "CALL archive_orders()",
    "CheckPointStmt": "CHECKPOINT",
    "ClosePortalStmt": "CLOSE c",
    "ClusterStmt": "CLUSTER a USING i",
    "CommentStmt": "COMMENT ON TABLE a IS 'b'",
    "CompositeTypeStmt": "CREATE TYPE t AS (a int)",
    "ConstraintsSetStmt": "SET CONSTRAINTS ALL DEFERRED",
    "CopyStmt": "COPY a FROM PROGRAM 'curl'",
    "CreateAmStmt": "CREATE ACCESS METHOD m TYPE TABLE HANDLER heap_tableam_handler",
    "CreateCastStmt": "CREATE CAST (a AS b) WITHOUT FUNCTION",
    "CreateConversionStmt": "CREATE CONVERSION c FOR 'UTF8' TO 'LATIN1' FROM f",
    "CreatedbStmt": "CREATE DATABASE shop",
    "CreateDomainStmt": "CREATE DOMAIN zip AS text",
    "CreateEnumStmt": "CREATE TYPE mood AS ENUM ('calm')",
    "CreateEventTrigStmt": "CREATE EVENT TRIGGER e ON sql_drop EXECUTE FUNCTION f()",
    "CreateExtensionStmt": "CREATE EXTENSION hstore",
    "CreateFdwStmt": "CREATE FOREIGN DATA WRAPPER files",
    "CreateForeignServerStmt": "CREATE SERVER reports FOREIGN DATA WRAPPER files",
    "CreateForeignTableStmt": "CREATE FOREIGN TABLE f (a int) SERVER reports",
    "CreateFunctionStmt": "CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CreateOpClassStmt": "CREATE OPERATOR CLASS c FOR TYPE int USING btree AS OPERATOR 1 <",
    "CreateOpFamilyStmt": "CREATE OPERATOR FAMILY f USING btree",
    "CreatePLangStmt": "CREATE LANGUAGE c HANDLER f",
    "CreatePolicyStmt": "CREATE POLICY p ON a",
    "CreatePublicationStmt": "CREATE PUBLICATION p FOR TABLE a",
    "CreateRangeStmt": "CREATE TYPE r AS RANGE (subtype = int)",
    "CreateRoleStmt": "CREATE ROLE app",
    "CreateSchemaStmt": "CREATE SCHEMA archive",
    "CreateSeqStmt": "CREATE SEQUENCE s",
    "CreateStatsStmt": "CREATE STATISTICS s ON b, c FROM a",
    "CreateStmt": "CREATE TABLE a (b int)",
    "CreateSubscriptionStmt": "CREATE SUBSCRIPTION s CONNECTION 'dbname=a' PUBLICATION p",
    "CreateTableAsStmt": "CREATE TABLE a AS SELECT * FROM b",
    "CreateTableSpaceStmt": "CREATE TABLESPACE t LOCATION '/data'",
    "CreateTransformStmt": "CREATE TRANSFORM FOR a LANGUAGE c (FROM SQL WITH FUNCTION f(internal))",
    "CreateTrigStmt": "CREATE TRIGGER t BEFORE UPDATE ON a EXECUTE FUNCTION f()",
    "CreateUserMappingStmt": "CREATE USER MAPPING FOR app SERVER reports",
    "DeallocateStmt": "DEALLOCATE p",
    "DeclareCursorStmt": "DECLARE c CURSOR FOR SELECT 1",
    "DefineStmt": "CREATE AGGREGATE a (int) (sfunc = f, stype = int)",
    "DeleteStmt": "DELETE FROM a",
    "DiscardStmt": "DISCARD ALL",
    "DoStmt": "DO 'BEGIN END'",
    "DropdbStmt": "DROP DATABASE shop",
    "DropOwnedStmt": "DROP OWNED BY app",
    "DropRoleStmt": "DROP ROLE app",
    "DropStmt": "DROP VIEW v",
    "DropSubscriptionStmt": "DROP SUBSCRIPTION s",
    "DropTableSpaceStmt": "DROP TABLESPACE t",
    "DropUserMappingStmt": "DROP USER MAPPING FOR app SERVER reports",
    "ExecuteStmt": "EXECUTE p",
    "ExplainStmt": "EXPLAIN ANALYZE DELETE FROM a",
    "FetchStmt": "FETCH ALL FROM c",
    "GrantRoleStmt": "GRANT owner TO app",
    "GrantStmt": "GRANT SELECT ON a TO PUBLIC",
    "ImportForeignSchemaStmt": "IMPORT FOREIGN SCHEMA a FROM SERVER reports INTO b",
    "IndexStmt": "CREATE INDEX i ON a (b)",
    "InsertStmt": "INSERT INTO a SELECT * FROM b",
    "ListenStmt": "LISTEN c",
    "LoadStmt": "LOAD 'auto_explain'",
    "LockStmt": "LOCK TABLE a",
    "MergeStmt": "MERGE INTO a USING b ON a.id = b.id WHEN MATCHED THEN DELETE",
    "NotifyStmt": "NOTIFY c",
    "PrepareStmt": "PREPARE p AS DELETE FROM a",
    "ReassignOwnedStmt": "REASSIGN OWNED BY a TO b",
    "RefreshMatViewStmt": "REFRESH MATERIALIZED VIEW v",
    "ReindexStmt": "REINDEX TABLE a",
    "RenameStmt": "ALTER TABLE a RENAME TO b",
    "RuleStmt": "CREATE RULE r AS ON DELETE TO a DO INSTEAD NOTHING",
    "SecLabelStmt": "SECURITY LABEL ON TABLE a IS 'secret'",
    "SelectStmt": "SELECT cleanup()",
    "TransactionStmt": "COMMIT",
    "TruncateStmt": "TRUNCATE a",
    "UnlistenStmt": "UNLISTEN c",
    "UpdateStmt": "UPDATE a SET b = 1",
    "VacuumStmt": "VACUUM FULL a",
    "VariableSetStmt": "SET search_path = b",
    "VariableShowStmt": "SHOW search_path",
    "ViewStmt": "CREATE OR REPLACE VIEW v AS SELECT 1",
}
VOLATILE = {  # functions that differ from call to call, and change nothing that others rely on
    "clock_timestamp", "gen_random_uuid", "nextval", "random", "uuidv4", "uuidv7",
}  # fmt: skip
INSIDE = {  # nodes that stand only inside of a statement
    "PLAssignStmt",
    "RawStmt",
    "ReplicaIdentityStmt",
    "ReturnStmt",
    "SetOperationStmt",
}
INTERNAL = {  # actions of ALTER TABLE that PostgreSQL makes of others, and no SQL says
    "AddColumnToView", "AddIndex", "AddIndexConstraint", "CookedColumnDefault", "DropOids",
    "ReAddComment", "ReAddConstraint", "ReAddDomainConstraint", "ReAddIndex", "ReAddStatistics",
    "ReplaceRelOptions",
}  # fmt: skip
MORE = (  # statements of which another form has a rule
    "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
    "SET TIME ZONE 'UTC'",
    "DISCARD PLANS",
    "ALTER DOMAIN zip SET DEFAULT ''",
    "ALTER DOMAIN zip ADD CONSTRAINT c CHECK (VALUE <> '') NOT VALID",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "COPY a TO STDOUT",
    "ALTER INDEX i RENAME TO j",
    "ALTER TABLE a CLUSTER ON i",
)
REVISION = """\
from alembic import op

revision = "{revision}"
down_revision = None


def upgrade():
    op.execute({sql!r})


def downgrade():
    op.execute("COMMENT ON TABLE a IS NULL")
"""


def test_each_statement_has_an_example() -> None:
    names = {name for name in vars(nodes) if name.endswith("Stmt")}
    assert set(EXAMPLES) == names - INSIDE
    for name, sql in EXAMPLES.items():
        assert type(nodes.ParseResult(parse(sql)).stmts[0].stmt).__name__ == name, sql


def test_each_statement_has_a_finding_or_is_harmless_by_name(tmp_path: Path) -> None:
    (tmp_path / "versions").mkdir()
    statements = {**EXAMPLES, **{f"more{number}": sql for number, sql in enumerate(MORE)}}
    for name, sql in statements.items():
        path = tmp_path / f"versions/{name}.py"
        path.write_text(REVISION.format(revision=name, sql=sql), encoding="utf-8")
    script = ScriptDirectory(str(tmp_path))
    findings = lint(script, list(script.walk_revisions()), sa.MetaData(), OPTIONS)
    silent = {name for name in EXAMPLES if not findings[name]}
    assert {change.kind for name in silent for change in changes(EXAMPLES[name])} <= HARMLESS | {
        "create table"  # of a table with nothing to say about
    }
    assert silent >= {"CommentStmt", "CreateSchemaStmt", "FetchStmt"}


@pytest.mark.only("postgresql")
async def test_postgresql_knows_the_functions_without_effect(driver: Any) -> None:
    rows = await driver.fetch(
        "SELECT proname, bool_or(provolatile = 'v') AS volatile FROM pg_proc "
        "WHERE pronamespace = 'pg_catalog'::regnamespace GROUP BY 1"
    )
    volatile = {row["proname"]: row["volatile"] for row in rows}
    assert volatile.keys() >= WITHOUT_EFFECT
    assert {name for name in WITHOUT_EFFECT if volatile[name]} == VOLATILE
    for beginning in BEGINNINGS:
        assert any(name.startswith(beginning) for name in volatile), beginning


@pytest.mark.parametrize("name", pg_query_pb2.AlterTableType.keys()[1:])
def test_each_action_of_alter_table_is_known(name: str) -> None:
    if name.removeprefix("AT_") not in INTERNAL:
        action = pg_query_pb2.AlterTableCmd(subtype=pg_query_pb2.AlterTableType.Value(name))
        kind, _ = kind_of(nodes.AlterTableCmd(action))
        # `add constraint` has a line for each type of a constraint
        assert kind in {*RULE_OF_KIND, *HARMLESS, *CHECKED_ELSEWHERE, "add constraint"}, kind


def test_the_tables_of_kinds_name_what_the_parser_has() -> None:
    messages = pg_query_pb2.DESCRIPTOR.message_types_by_name.values()
    fields = [field for message in messages for field in message.fields]
    enums = [field.enum_type for field in fields if field.enum_type is not None]
    parsers = {
        *(message.name for message in messages),
        *(field.name for field in fields),
        *(value.name for enum in enums for value in enum.values),
    }
    words = {word for line in KINDS for word in line.replace("|", " ").split()}
    options = {"concurrently", "full", "restart", "temporary"}
    assert words - parsers == options
    assert {word.lstrip(".") for line in OTHER_TABLES for word in line.split()} <= parsers
