"""The kinds of statements and of actions of ALTER TABLE, and the lock modes that they take.

The lock modes are those of PostgreSQL 15 to 18, as a test observes them in pg_locks.
"""

ACCESS_SHARE, ROW_SHARE, ROW_EXCLUSIVE = "ACCESS SHARE", "ROW SHARE", "ROW EXCLUSIVE"
SHARE_UPDATE_EXCLUSIVE, SHARE = "SHARE UPDATE EXCLUSIVE", "SHARE"
SHARE_ROW_EXCLUSIVE, EXCLUSIVE = "SHARE ROW EXCLUSIVE", "EXCLUSIVE"
ACCESS_EXCLUSIVE = "ACCESS EXCLUSIVE"
MODES = (  # by strength; those after the fourth block writes, the last blocks reads as well
    ACCESS_SHARE, ROW_SHARE, ROW_EXCLUSIVE, SHARE_UPDATE_EXCLUSIVE,
    SHARE, SHARE_ROW_EXCLUSIVE, EXCLUSIVE, ACCESS_EXCLUSIVE,
)  # fmt: skip
WITHOUT_WAITING = MODES[:4]
CONCURRENT = ("concurrent", "concurrently")  # traits of a statement, see `traits`
CREATE_TABLE = ("create table", "create table as", "create temporary table")
SYNTAX_ERROR, UNSEEN = "syntax error", "unseen"
NO_LOCK, NO_TABLE = "", None
OBJECTS = {"matview": "materialized view", "tabconstraint": "constraint"}


# Each line names traits (see `traits`) of a statement, or of an action of ALTER TABLE; `|` stands
# between alternatives. The first line that fits gives the kind of the change and the lock mode on
# its table. `{}` is the name of the statement in words, `{object}` the type of its object. Without
# a line, the kind is `{}`; an action locks ACCESS EXCLUSIVE then.
KINDS: dict[str, tuple[str, str | None]] = {
    "AlterEnumStmt old_val": ("rename label", NO_TABLE),
    "AlterEnumStmt": ("add label", NO_TABLE),
    "AlterObjectSchemaStmt": ("change schema", ACCESS_EXCLUSIVE),
    "AlterOwnerStmt": ("change owner", ACCESS_EXCLUSIVE),
    "AlterPolicyStmt|CreatePolicyStmt|TruncateStmt": ("{}", ACCESS_EXCLUSIVE),
    "AlterSeqStmt restart": ("restart sequence", SHARE_ROW_EXCLUSIVE),
    "AlterSeqStmt": ("alter sequence", SHARE_ROW_EXCLUSIVE),
    "CallStmt|DoStmt|ExecuteStmt": (UNSEEN, NO_TABLE),
    "ClusterStmt": ("rewrite", ACCESS_EXCLUSIVE),
    "CommentStmt OBJECT_COLUMN|OBJECT_TABLE": ("comment", SHARE_UPDATE_EXCLUSIVE),
    "CopyStmt filename is_from": ("copy file", ROW_EXCLUSIVE),
    "CopyStmt filename": ("copy file", NO_LOCK),
    "CopyStmt is_from": ("insert query", ROW_EXCLUSIVE),
    "CreateStatsStmt": ("create statistics", SHARE_UPDATE_EXCLUSIVE),
    "CreateStmt|CreateTableAsStmt temporary": ("create temporary table", NO_LOCK),
    "CreateStmt": ("create table", NO_LOCK),
    "CreateTableAsStmt OBJECT_MATVIEW": ("create materialized view", NO_LOCK),
    "CreateTableAsStmt": ("create table as", NO_LOCK),
    "CreateTrigStmt": ("create trigger", SHARE_ROW_EXCLUSIVE),
    "DropStmt OBJECT_INDEX concurrent": ("drop index", SHARE_UPDATE_EXCLUSIVE),
    "DropStmt OBJECT_INDEX|OBJECT_MATVIEW|OBJECT_POLICY": ("drop {object}", ACCESS_EXCLUSIVE),
    "DropStmt OBJECT_RULE|OBJECT_SEQUENCE|OBJECT_TABLE": ("drop {object}", ACCESS_EXCLUSIVE),
    "DropStmt OBJECT_TRIGGER|OBJECT_VIEW": ("drop {object}", ACCESS_EXCLUSIVE),
    "DropStmt": ("drop {object}", NO_TABLE),
    "GrantStmt is_grant cols": ("column grant", NO_LOCK),
    "GrantStmt is_grant": ("grant", NO_LOCK),
    "GrantStmt": ("revoke", NO_LOCK),
    "IndexStmt concurrent": ("create index", SHARE_UPDATE_EXCLUSIVE),
    "IndexStmt": ("create index", SHARE),
    "InsertStmt ONCONFLICT_UPDATE": ("upsert", ROW_EXCLUSIVE),
    "InsertStmt from_clause": ("insert query", ROW_EXCLUSIVE),
    "LockStmt": ("lock", NO_LOCK),  # the statement names the mode
    "MergeWhenClause CMD_DELETE": ("delete", ROW_EXCLUSIVE),
    "MergeWhenClause CMD_INSERT": ("insert query", ROW_EXCLUSIVE),
    "MergeWhenClause CMD_UPDATE": ("update", ROW_EXCLUSIVE),
    "RefreshMatViewStmt concurrent": ("refresh materialized view", EXCLUSIVE),
    "RefreshMatViewStmt": ("refresh materialized view", ACCESS_EXCLUSIVE),
    "ReindexStmt concurrently": ("reindex", SHARE_UPDATE_EXCLUSIVE),
    "ReindexStmt": ("reindex", SHARE),
    "RenameStmt OBJECT_INDEX": ("rename index", SHARE_UPDATE_EXCLUSIVE),
    "RenameStmt": ("rename {object}", ACCESS_EXCLUSIVE),
    "RuleStmt": ("create rule", ACCESS_EXCLUSIVE),
    "SelectStmt into_clause temporary": ("create temporary table", NO_LOCK),
    "SelectStmt into_clause": ("create table as", NO_LOCK),
    "SelectStmt locking_clause": ("lock rows", ROW_SHARE),
    "SelectStmt|CopyStmt|ExplainStmt|PrepareStmt": ("select", NO_TABLE),
    "DeleteStmt|InsertStmt|UpdateStmt": ("{}", ROW_EXCLUSIVE),
    "VacuumStmt full": ("rewrite", ACCESS_EXCLUSIVE),
    "VacuumStmt": ("vacuum", SHARE_UPDATE_EXCLUSIVE),
    "VariableSetStmt": ("set", NO_TABLE),
    "ViewStmt replace": ("replace view", ACCESS_EXCLUSIVE),
    "ViewStmt": ("create view", NO_LOCK),
    "AT_AddConstraint CONSTR_CHECK": ("check", ACCESS_EXCLUSIVE),
    "AT_AddConstraint CONSTR_EXCLUSION": ("exclusion", ACCESS_EXCLUSIVE),
    "AT_AddConstraint CONSTR_FOREIGN": ("foreign key", SHARE_ROW_EXCLUSIVE),
    "AT_AddConstraint indexname": ("constraint using index", ACCESS_EXCLUSIVE),
    "AT_AddConstraint CONSTR_NOTNULL": ("not null", ACCESS_EXCLUSIVE),
    "AT_AddConstraint CONSTR_PRIMARY": ("primary key", ACCESS_EXCLUSIVE),
    "AT_AddConstraint CONSTR_UNIQUE": ("unique", ACCESS_EXCLUSIVE),
    "AT_AlterColumnType": ("type", ACCESS_EXCLUSIVE),
    "AT_ColumnDefault def": ("default", ACCESS_EXCLUSIVE),
    "AT_ColumnDefault": ("no default", ACCESS_EXCLUSIVE),
    "AT_DetachPartition concurrent": ("detach partition", SHARE_UPDATE_EXCLUSIVE),
    "AT_DetachPartitionFinalize": ("detach partition", SHARE_UPDATE_EXCLUSIVE),
    "AT_DropNotNull": ("null", ACCESS_EXCLUSIVE),
    "AT_EnableAlwaysRule|AT_EnableReplicaRule": ("enable rule", ACCESS_EXCLUSIVE),
    "AT_SetIdentity": ("change identity", ACCESS_EXCLUSIVE),
    "AT_SetNotNull": ("not null", ACCESS_EXCLUSIVE),
    "AT_ValidateConstraint": ("validate", SHARE_UPDATE_EXCLUSIVE),
    "AT_DisableTrig|AT_DisableTrigAll|AT_DisableTrigUser": ("disable trigger", SHARE_ROW_EXCLUSIVE),
    "AT_EnableTrig|AT_EnableTrigAll|AT_EnableTrigUser": ("enable trigger", SHARE_ROW_EXCLUSIVE),
    "AT_EnableAlwaysTrig|AT_EnableReplicaTrig": ("enable trigger", SHARE_ROW_EXCLUSIVE),
    "AT_DisableRowSecurity|AT_EnableRowSecurity": ("row security", ACCESS_EXCLUSIVE),
    "AT_ForceRowSecurity|AT_NoForceRowSecurity": ("row security", ACCESS_EXCLUSIVE),
    "AT_SetExpression|AT_SetLogged|AT_SetUnLogged": ("rewrite", ACCESS_EXCLUSIVE),
    "AT_SetAccessMethod|AT_SetTableSpace": ("rewrite", ACCESS_EXCLUSIVE),
    "AT_AttachPartition|AT_ClusterOn|AT_DropCluster": ("{}", SHARE_UPDATE_EXCLUSIVE),
    "AT_ResetOptions|AT_ResetRelOptions|AT_SetOptions": ("{}", SHARE_UPDATE_EXCLUSIVE),
    "AT_SetRelOptions|AT_SetStatistics": ("{}", SHARE_UPDATE_EXCLUSIVE),
}
OTHER_TABLES = {  # by the attribute that names another table, and by traits: the lock mode on it
    ".def AT_AddInherit": SHARE_UPDATE_EXCLUSIVE,
    ".inh_relations partbound": ACCESS_EXCLUSIVE,
    ".inh_relations": SHARE_UPDATE_EXCLUSIVE,
    ".name": ACCESS_EXCLUSIVE,  # of a partition
    ".pktable": SHARE_ROW_EXCLUSIVE,
}
