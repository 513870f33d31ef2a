"""The rules: what each reports about a line of a revision, and why that hurts.

The messages name the lock, the clients that wait for it, and whether the wait grows with the table.
`{table}`, `{column}`, … stand for the names in the reported line.
"""

from enum import IntEnum
from typing import NamedTuple

GROWS = "and the wait grows with the table"


class Severity(IntEnum):
    """How much a finding hurts; the greater, the graver."""

    NOTE = 1
    """Nothing has to be done."""
    WARNING = 2
    """A question of style, or harm that begins later."""
    ERROR = 3
    """Harm; `lint` exits with 1."""
    GRAVE = 4
    """Data is lost for good, clients wait for a time that grows with the table, or builds that are
    deployed fail; `alembic upgrade` stops."""

    def __str__(self) -> str:
        return self.name.lower()


class Rule(NamedTuple):
    """A rule: how much it hurts to break it, and its texts."""

    severity: Severity
    message: str
    why: str
    speed: int | None = None
    """The megabytes of the table that PostgreSQL is assumed to work through in a second, where the
    wait is the only harm; None: the size of the table makes no difference."""
    loses: bool = False
    """Whether data is lost for good, which hurts on every database."""


RULES = {
    # clients wait
    "plain-index": Rule(
        Severity.GRAVE,
        "creating the index {name} blocks writes to {table} until it is built",
        "CREATE INDEX holds SHARE on {table} until the index is built: every INSERT, UPDATE and "
        f"DELETE waits, {GROWS}. Reads go on.",
        speed=50,
    ),
    "plain-index-drop": Rule(
        Severity.WARNING,
        "dropping the index {name} blocks reads and writes of its table",
        "DROP INDEX takes ACCESS EXCLUSIVE on the table. It needs the lock for an instant only, "
        "but it waits for every transaction that uses the table, and all later queries queue "
        "behind it.",
    ),
    "concurrently-in-transaction": Rule(
        Severity.ERROR,
        "CONCURRENTLY can't run inside a transaction",
        "PostgreSQL refuses it. Outside of a transaction, an interrupted run leaves an INVALID "
        "index, which slows down every write and serves no query.",
    ),
    "not-in-transaction": Rule(
        Severity.ERROR,
        "the statement can't run inside a transaction",
        "PostgreSQL refuses it, and the step fails. Put it into op.get_context()."
        "autocommit_block().",
    ),
    "not-null-at-once": Rule(
        Severity.GRAVE,
        "making {table}.{column} NOT NULL in one step blocks reads and writes of {table}",
        "SET NOT NULL holds ACCESS EXCLUSIVE on {table} while PostgreSQL checks every row: reads "
        f"and writes wait, {GROWS}. Builds that still write NULL fail from then on.",
    ),
    "required-column": Rule(
        Severity.GRAVE,
        "adding {table}.{column} as NOT NULL without a default fails if {table} has rows",
        "The existing rows have no value for the column. Older builds don't know it, so they could "
        "no longer insert rows.",
    ),
    "volatile-default": Rule(
        Severity.GRAVE,
        "adding {table}.{column} with a default that differs from row to row rewrites {table}",
        "PostgreSQL computes the value for every row and rewrites the whole table under ACCESS "
        f"EXCLUSIVE on {{table}}: reads and writes wait, {GROWS}.",
        speed=10,
    ),
    "type-change": Rule(
        Severity.GRAVE,
        "changing the type of {table}.{column} in place rewrites {table}",
        "ALTER COLUMN TYPE holds ACCESS EXCLUSIVE on {table} while PostgreSQL rewrites every row "
        f"and every index: reads and writes wait, {GROWS}. PostgreSQL refuses it while a published "
        "version shows the column, and older builds expect the old type.",
    ),
    "rewrite": Rule(
        Severity.GRAVE,
        "the statement rewrites {table}",
        "It holds ACCESS EXCLUSIVE on {table} until every row is rewritten: reads and writes wait, "
        f"{GROWS}.",
        speed=10,
    ),
    "batch-rewrite": Rule(
        Severity.GRAVE,
        'recreate="always" copies {table}, and loses the rows that are written meanwhile',
        "The batch makes a new table, copies every row into it and drops the old table, which "
        "takes ACCESS EXCLUSIVE on {table}. Rows that clients write between the copy and the drop "
        "are lost, and so are triggers, rights and policies of the table. A foreign key that "
        "refers to it makes the drop fail. Without `recreate`, each operation of the batch is an "
        "ALTER TABLE of its own.",
        loses=True,
    ),
    "backfill-at-once": Rule(
        Severity.GRAVE,
        "changing rows of {table} in one transaction blocks other writes to them",
        "Each changed row stays locked until the transaction ends: other writes to it wait, "
        f"{GROWS}. An interrupted run starts again from nothing.",
        speed=5,
    ),
    "delete-at-once": Rule(
        Severity.GRAVE,
        "deleting rows of {table} loses them, and blocks other writes to them",
        "No downgrade brings the rows back. Each row stays locked until the transaction ends: "
        f"other writes to it wait, {GROWS}.",
        loses=True,
    ),
    "check-at-once": Rule(
        Severity.GRAVE,
        "adding {name} to {table} checks every row, and blocks reads and writes meanwhile",
        "ADD CONSTRAINT holds ACCESS EXCLUSIVE on {table} while PostgreSQL checks every row: reads "
        f"and writes wait, {GROWS}.",
        speed=200,
    ),
    "check-and-validate": Rule(
        Severity.GRAVE,
        "validating {name} in the transaction that adds it keeps {table} locked",
        "Adding the constraint takes ACCESS EXCLUSIVE on {table} (a foreign key: SHARE ROW "
        "EXCLUSIVE on both tables). The transaction keeps this lock while VALIDATE checks every "
        f"row: reads and writes wait, {GROWS}.",
        speed=200,
    ),
    "foreign-key-at-once": Rule(
        Severity.GRAVE,
        "adding {name} to {table} checks every row, and blocks writes meanwhile",
        "ADD FOREIGN KEY holds SHARE ROW EXCLUSIVE on {both} while PostgreSQL looks up every row: "
        f"every INSERT, UPDATE and DELETE there waits, {GROWS}. Reads go on.",
        speed=50,
    ),
    "unique-at-once": Rule(
        Severity.GRAVE,
        "making {columns} of {table} unique blocks reads and writes until the index is built",
        "ADD UNIQUE holds ACCESS EXCLUSIVE on {table} while PostgreSQL builds the index: reads and "
        f"writes wait, {GROWS}.",
        speed=50,
    ),
    "primary-key-at-once": Rule(
        Severity.GRAVE,
        "adding a primary key to {table} blocks reads and writes until its index is built",
        "ADD PRIMARY KEY holds ACCESS EXCLUSIVE on {table} while PostgreSQL builds the index: "
        f"reads and writes wait, {GROWS}. Create a unique index with safely.create_index first: "
        "then ADD PRIMARY KEY USING INDEX takes an instant.",
        speed=50,
    ),
    "two-tables": Rule(
        Severity.ERROR,
        "locking {table} in the transaction that has locked {first} can block both",
        "The transaction keeps its locks until it ends: while it waits for {table}, every client "
        "waits for {first}. A client that has used {table} and then needs {first} causes a "
        "deadlock.",
    ),
    "table-lock": Rule(
        Severity.ERROR,
        "LOCK TABLE locks {tables} in {mode} mode",
        "The transaction keeps the lock until it ends, whatever else it does: {blocked} all that "
        "time. Remove the statement: `safely` takes the locks that its steps need, each for an "
        "instant.",
    ),
    "lock-timeout": Rule(
        Severity.ERROR,
        "the revision sets lock_timeout itself",
        "The migration's connection has a lock_timeout already, so that clients queue behind a "
        "migration for a fraction of a second only. A value that is set here stays for all later "
        "statements, and clients may queue behind them for longer.",
    ),
    "exclusion-at-once": Rule(
        Severity.GRAVE,
        "adding the exclusion constraint {name} blocks reads and writes until its index is built",
        "ADD EXCLUDE holds ACCESS EXCLUSIVE on {table} while PostgreSQL builds the index and "
        f"compares every row: reads and writes wait, {GROWS}. It can't be added NOT VALID.",
        speed=10,
    ),
    "reindex": Rule(
        Severity.GRAVE,
        "building indexes anew blocks writes to their table until it is done",
        "REINDEX holds SHARE on the table and ACCESS EXCLUSIVE on the index: every INSERT, UPDATE "
        f"and DELETE waits, and so does every query that could use the index, {GROWS}. "
        "REINDEX … CONCURRENTLY, in an autocommit_block(), doesn't.",
        speed=50,
    ),
    "refresh": Rule(
        Severity.GRAVE,
        "refreshing {table} blocks its readers until the query has run",
        "REFRESH MATERIALIZED VIEW holds ACCESS EXCLUSIVE on {table} while its query runs: every "
        f"reader waits, {GROWS}. With CONCURRENTLY, which needs a unique index, readers go on.",
    ),
    "brief-lock": Rule(
        Severity.WARNING,
        "the statement blocks {blocked} of {table} for an instant",
        "It takes {mode} on {table}. It needs the lock for an instant only, but it waits for every "
        "transaction that uses the table, and all later queries queue behind it.",
    ),
    "attach-partition": Rule(
        Severity.GRAVE,
        "attaching {name} to {table} checks every row of {name}",
        "ATTACH PARTITION holds ACCESS EXCLUSIVE on {name} while PostgreSQL checks that its rows "
        f"fit: reads and writes of it wait, {GROWS}. A validated CHECK on {{name}} that implies "
        "the bounds spares the look at the rows. A default partition is searched as well.",
    ),
    "detach-partition": Rule(
        Severity.ERROR,
        "detaching {name} hides its rows from every client of {table}",
        "Queries of {table} no longer see the rows of {name}. Without CONCURRENTLY, the statement "
        "takes ACCESS EXCLUSIVE on both: it waits for every transaction that uses {table}, and all "
        "later queries queue behind it.",
    ),
    "create-partition": Rule(
        Severity.ERROR,
        "creating a partition in place blocks reads and writes of {parent}",
        "CREATE TABLE … PARTITION OF takes ACCESS EXCLUSIVE on {parent}: it waits for every "
        "transaction that uses the table, and all later queries queue behind it; where there is a "
        "default partition, it holds the lock while that is searched. Create the table by itself, "
        "and attach it: ATTACH PARTITION takes SHARE UPDATE EXCLUSIVE on {parent}.",
    ),
    "inherit": Rule(
        Severity.ERROR,
        "the statement changes which rows queries of the parent table return",
        "It takes ACCESS EXCLUSIVE on {table} for an instant. From then on, queries of the parent "
        "return the rows of {table} as well, or no longer.",
    ),
    "domain-constraint": Rule(
        Severity.GRAVE,
        "the constraint on the domain {name} is checked in every row of every table that uses it",
        "ALTER DOMAIN holds SHARE on all these tables while PostgreSQL looks at their rows: every "
        f"INSERT, UPDATE and DELETE there waits, {GROWS}. Add a CHECK as NOT VALID, and validate "
        "it in another revision.",
    ),
    "row-locks": Rule(
        Severity.ERROR,
        "the query locks rows of {table} until the transaction ends",
        "Other writes to these rows wait, and a migration that waits for rows of a slow client "
        "keeps all its own locks meanwhile.",
    ),
    "advisory-lock": Rule(
        Severity.ERROR,
        "{function}() waits for a lock that clients may hold",
        "The migration waits with all its locks, and lock_timeout doesn't cut off the wait for a "
        "client that keeps the advisory lock but is idle. `safely` has a migration lock of its "
        "own: no second migration runs meanwhile.",
    ),
    "sleep": Rule(
        Severity.ERROR,
        "{function}() sleeps while the transaction holds its locks",
        "Every client that waits for one of these locks sleeps as well.",
    ),
    "terminate-backend": Rule(
        Severity.ERROR,
        "{function}() cuts off what clients are doing",
        "Their transactions are rolled back and their requests fail. A step that can't get its "
        "lock gives up by itself after lock_timeout, and `alembic upgrade` tries it again.",
    ),
    "wide-index": Rule(
        Severity.WARNING,
        "the index {name} on {table} has {number} columns",
        "Every write has to maintain it, and hardly a query can use more than its first columns. "
        "INCLUDE carries columns that are only read.",
    ),
    "duplicate-index": Rule(
        Severity.WARNING,
        "the index {name} on {table} serves no query that {other} doesn't serve",
        "{other} begins with the same columns. Every write has to maintain both.",
    ),
    "foreign-key-without-index": Rule(
        Severity.WARNING,
        "no index begins with {columns} of {table}, which refer to {referent}",
        "Whenever a row of {referent} is deleted or gets another key, PostgreSQL reads the whole "
        f"of {{table}}, and the row stays locked meanwhile, {GROWS}. Create the index first.",
    ),
    "notify": Rule(
        Severity.WARNING,
        "the revision notifies listeners",
        "A transaction that has notified takes a lock of the whole server while it commits: "
        "commits with notifications wait for each other. Listeners act before the other steps of "
        "the upgrade have run.",
    ),
    "insert-select": Rule(
        Severity.ERROR,
        "inserting {rows} into {table} is one long transaction",
        "Until it ends, its rows are invisible, inserts of the same keys wait, and rows that it "
        f"refers to stay locked, {GROWS}. An interrupted run starts again from nothing. A copy of "
        "rows lacks those that clients write meanwhile.",
    ),
    "create-table-as": Rule(
        Severity.WARNING,
        "{table} gets a copy of rows, without keys, constraints and defaults",
        "Rows that clients write meanwhile are missing in the copy. The models don't know the "
        "table, and no older build keeps the copy up to date.",
    ),
    "statement-timeout": Rule(
        Severity.ERROR,
        "the revision sets {name} itself",
        "It cancels later statements of the migration, such as a long index build, or lets them "
        "run without a limit. The migration's connection has the limits that its steps need.",
    ),
    # more is shown than somebody meant
    "grant-to-public": Rule(
        Severity.ERROR,
        "the revision gives a right to every role",
        "PUBLIC stands for all roles of the server, those of other applications and those to come. "
        "Grant the right to the role that needs it.",
    ),
    "security-definer": Rule(
        Severity.ERROR,
        "the function {name} runs with the rights of its owner, and the caller's search_path",
        "A caller can put objects of his own in the place of those that the function names, and "
        "has them run with the owner's rights. Add SET search_path to the function.",
    ),
    "row-security": Rule(
        Severity.GRAVE,
        "the statement changes which rows {table} shows, and to whom",
        "ENABLE hides all rows that no policy shows, so that deployed builds find nothing; DISABLE "
        "shows every row to everybody. FORCE binds the owner as well, through whom published "
        "versions read. It takes ACCESS EXCLUSIVE on {table} for an instant.",
    ),
    "policy": Rule(
        Severity.ERROR,
        "the policy {name} changes which rows of {table} are shown",
        "Deployed builds see other rows at once, and may write others than they can read. The "
        "statement takes ACCESS EXCLUSIVE on {table} for an instant.",
    ),
    "default-privileges": Rule(
        Severity.WARNING,
        "the revision changes the rights on tables that do not exist yet",
        "ALTER DEFAULT PRIVILEGES applies to what the same role creates later, and to nothing that "
        "exists: what a role may read depends on when a table was created, and by whom.",
    ),
    # rights are lost, or go beyond the database
    "revoke": Rule(
        Severity.ERROR,
        "the revision takes a right from a role that deployed builds may use",
        "Their queries fail at once, and rolling a deployment back doesn't bring the right back. "
        "Revoke it when no build needs it any more.",
    ),
    "owner": Rule(
        Severity.ERROR,
        "{object} gets another owner",
        "Only the owner may alter a table: the next migration fails if its role is not a member of "
        "the new one. The owner's rights decide what views and SECURITY DEFINER functions may "
        "read. On a table, the statement takes ACCESS EXCLUSIVE for an instant.",
    ),
    "alter-role": Rule(
        Severity.ERROR,
        "the revision changes a role, which all databases of the server share",
        "Another database of the server may rely on the role, and a second one that runs this "
        "revision fails or changes it again. A password in the file is no longer secret.",
    ),
    "drop-owned": Rule(
        Severity.GRAVE,
        "DROP OWNED drops everything that the role owns in this database, with its data",
        "No line of the file says which tables these are, and no downgrade brings their data back.",
        loses=True,
    ),
    "alter-system": Rule(
        Severity.ERROR,
        "the revision changes the server or the whole database",
        "Every client gets the new setting, also those of other applications. No rollback undoes "
        "it, and a copy of the database doesn't bring it along. Leave it to the server's operator.",
    ),
    "extension": Rule(
        Severity.WARNING,
        "the revision runs the scripts of an extension",
        "Nobody sees in the file what they do. The server must have the extension in the right "
        "version, and the role of the migration the right to install it.",
    ),
    "server-program": Rule(
        Severity.ERROR,
        "the server runs a program or a library that the revision names",
        "It runs with the rights of the server's account on the server's machine, where no "
        "rollback undoes what it did.",
    ),
    "server-file": Rule(
        Severity.ERROR,
        "the revision reads or writes a file of the server's",
        "The file must be there on each server that runs the revision, and no rollback undoes what "
        "was written.",
    ),
    "outside-database": Rule(
        Severity.ERROR,
        "the revision reaches into another database",
        "No rollback undoes there what this transaction did, and while the other server doesn't "
        "answer, the migration waits with all its locks.",
    ),
    "replication": Rule(
        Severity.ERROR,
        "the revision changes what other servers replicate",
        "A slot that nobody reads from keeps the write-ahead log until the disk is full; tables "
        "without a primary key refuse UPDATE and DELETE once they are published.",
    ),
    # settings of the session
    "replication-role": Rule(
        Severity.GRAVE,
        "session_replication_role switches off triggers and foreign keys",
        "The rows that are written meanwhile break the promises of the schema, and the triggers "
        "that keep older builds' columns in step don't run.",
    ),
    "session-setting": Rule(
        Severity.WARNING,
        "{name} changes what later statements of the migration do",
        "A setting of the session stays until the migration ends: a read-only transaction lets its "
        "next step fail, and tables may be created where nobody looks for them.",
    ),
    "autovacuum-off": Rule(
        Severity.WARNING,
        "autovacuum no longer works on {table}",
        "Dead rows stay, the statistics get old, and every query gets slower, until PostgreSQL has "
        "to vacuum the whole table at once, against a wraparound of transaction ids.",
    ),
    "row-security-off": Rule(
        Severity.ERROR,
        "the revision sets row_security",
        "When it is off, a query fails where a policy would hide rows; later statements of the "
        "migration get the same setting.",
    ),
    "search-path": Rule(
        Severity.ERROR,
        "the revision changes search_path",
        "Later statements of the migration find other tables under the same names, or none.",
    ),
    "session-role": Rule(
        Severity.ERROR,
        "the revision goes on as another role",
        "What it creates belongs to that role, and later steps of the migration may lack rights.",
    ),
    "durability": Rule(
        Severity.ERROR,
        "{name} lets the server lose commits that it has acknowledged",
        "After a crash, rows and steps that were reported as done are gone.",
    ),
    # triggers
    "trigger": Rule(
        Severity.ERROR,
        "{trigger} runs code of the database in every write to {table}",
        "Writes of deployed builds change or fail at once, and each gets slower. The statement "
        "takes SHARE ROW EXCLUSIVE on {table} for an instant: it waits for every writer, and later "
        "writers queue behind it.",
    ),
    "drop-trigger": Rule(
        Severity.ERROR,
        "dropping the trigger {name} ends what it did for deployed builds",
        "They rely on what it wrote or refused. DROP TRIGGER takes ACCESS EXCLUSIVE on {table}: it "
        "waits for every transaction that uses the table, and all later queries queue behind it.",
    ),
    "disable-trigger": Rule(
        Severity.GRAVE,
        "disabling triggers of {table} lets writes through that they would change or refuse",
        "Nothing makes up for it when they are enabled again: with ALL, not even foreign keys are "
        "checked later. The triggers of `safely` keep older builds' columns in step. The statement "
        "takes SHARE ROW EXCLUSIVE on {table} for an instant.",
    ),
    "rewrite-rule": Rule(
        Severity.ERROR,
        "a rule makes other statements of those that clients send to {table}",
        "Writes may change nothing and still succeed, and RETURNING and ON CONFLICT behave in "
        "other ways. The statement takes ACCESS EXCLUSIVE on {table} for an instant.",
    ),
    "event-trigger": Rule(
        Severity.ERROR,
        "an event trigger runs code in each change of the schema, and in each migration",
        "If it fails, no migration runs any more, and only a superuser can drop it.",
    ),
    "column-grant": Rule(
        Severity.ERROR,
        "the revision grants a right on single columns of {table}",
        "A published version shows the table with the rights of its owner, and so gives all its "
        "columns to the application's role. `alembic upgrade` refuses such a right of that role: "
        "grant it the table, and move what it must not see to a table of its own.",
    ),
    # data is lost
    "plain-drop": Rule(
        Severity.GRAVE,
        "dropping {what} deletes its data for good",
        "No downgrade brings the data back, and older builds still read and write it. PostgreSQL "
        "refuses to drop a table or a column that a published version shows. The statement takes "
        "ACCESS EXCLUSIVE on {table} for an instant.",
        loses=True,
    ),
    "cascade": Rule(
        Severity.GRAVE,
        "CASCADE reaches everything that depends on {object}",
        "The file doesn't say what that is: views that older builds read, foreign keys and rows of "
        "other tables, columns. It takes ACCESS EXCLUSIVE on each of them. Name what has to go.",
        loses=True,
    ),
    "drop-object": Rule(
        Severity.ERROR,
        "dropping {object} breaks the builds that use it",
        "Deployed builds fail at once, and bringing it back means creating it anew. Drop it when "
        "no build needs it any more.",
    ),
    "drop-constraint": Rule(
        Severity.WARNING,
        "dropping {name} lets values in that deployed builds may not expect",
        "If it is a primary key or a unique constraint, upserts and logical replication may need "
        "it. The statement takes ACCESS EXCLUSIVE on {locked}: it waits for every transaction that "
        "uses it, and all later queries queue behind it.",
    ),
    "drop-database": Rule(
        Severity.GRAVE,
        "DROP DATABASE deletes a whole database for good",
        "No downgrade and no rollback brings it back.",
        loses=True,
    ),
    "drop-and-create": Rule(
        Severity.GRAVE,
        "dropping {what} and creating it anew loses its data",
        "The new one is empty, and no downgrade brings the data back. The statement takes ACCESS "
        "EXCLUSIVE on {table}. Change what is there instead.",
        loses=True,
    ),
    "catalogue-write": Rule(
        Severity.GRAVE,
        "the statement writes to {table}, a catalogue of PostgreSQL's own",
        "PostgreSQL checks nothing there: one wrong row can make tables unreadable, and neither "
        "caches nor dependencies follow.",
    ),
    "upsert": Rule(
        Severity.ERROR,
        "ON CONFLICT DO UPDATE overwrites values of {table} that clients may have written",
        "No downgrade brings the old values back, and the changed rows stay locked until the "
        "transaction ends.",
    ),
    "rename": Rule(
        Severity.WARNING,
        "renaming {object} breaks every client that uses the old name",
        "Older builds that read a published version keep the old name; reports, functions and "
        "clients that use the tables themselves don't. On a table, the statement takes ACCESS "
        "EXCLUSIVE for an instant.",
    ),
    "replace-view": Rule(
        Severity.WARNING,
        "replacing the view {table} changes what deployed builds read",
        "They get the new definition at once. The statement takes ACCESS EXCLUSIVE on {table}: "
        "it waits for every reader. Create a view under a new name.",
    ),
    "replace-function": Rule(
        Severity.WARNING,
        "replacing the function {name} changes what deployed builds call",
        "They get the new body at once, also where an index or a generated column has stored what "
        "the old one returned. Create a function under a new name.",
    ),
    "not-null-not-valid": Rule(
        Severity.ERROR,
        "from now on, {table}.{column} takes no NULL",
        "NOT VALID spares the look at the rows, but builds that still write NULL fail at once. The "
        "statement takes ACCESS EXCLUSIVE on {table} for an instant.",
    ),
    "identity": Rule(
        Severity.ERROR,
        "the statement changes how {table}.{column} gets its numbers",
        "Without an identity, inserts of deployed builds fail; with GENERATED ALWAYS, those that "
        "bring a number along do; a new identity begins at 1, among the ids that exist. The "
        "statement takes ACCESS EXCLUSIVE on {table} for an instant.",
    ),
    "drop-expression": Rule(
        Severity.ERROR,
        "from now on nobody computes {table}.{column}",
        "Builds that don't write the column leave it empty, and its values no longer follow those "
        "of the other columns. The statement takes ACCESS EXCLUSIVE on {table} for an instant.",
    ),
    "alter-type": Rule(
        Severity.ERROR,
        "changing the attributes of the type {table} changes every column of this type",
        "Deployed builds read and write values of another shape; a dropped attribute loses its "
        "values for good. The statement takes ACCESS EXCLUSIVE on the type.",
    ),
    "sequence-restart": Rule(
        Severity.ERROR,
        "the statement sets a sequence to another number",
        "Ids that exist are handed out again: inserts fail, or ids of deleted rows come back. "
        "setval() isn't rolled back, and max(id) doesn't see ids that open transactions took.",
    ),
    "alter-sequence": Rule(
        Severity.WARNING,
        "the statement changes the numbers that {name} hands out",
        "Deployed builds that compute ids from its step or its cache go on with the old ones. It "
        "takes SHARE ROW EXCLUSIVE on {name}: nextval() waits for an instant.",
    ),
    "enum-value-in-transaction": Rule(
        Severity.ERROR,
        "the label {label} is used in the transaction that adds it",
        "PostgreSQL refuses it. Add the label in a revision of its own.",
    ),
    "prefer-jsonb": Rule(
        Severity.WARNING,
        "{table} stores a document as JSON",
        "JSON has no equality: SELECT DISTINCT, GROUP BY and UNION fail on it, and no index finds "
        "what is in it. Changing the type later rewrites the table.",
    ),
    "if-not-exists": Rule(
        Severity.WARNING,
        "IF NOT EXISTS takes whatever has the name {name} for the right one",
        "Another column, table or index of this name stays as it is, and the revision is recorded "
        "as done: also the INVALID index of an interrupted CONCURRENTLY, which serves no query.",
    ),
    "lossy-downgrade": Rule(
        Severity.GRAVE,
        "the downgrade loses {what} for good",
        "Data that was written since the upgrade is lost when somebody rolls back in a hurry, and "
        "the next upgrade starts without it.",
        loses=True,
    ),
    "empty-downgrade": Rule(
        Severity.ERROR,
        "the revision doesn't say how to undo it",
        "`alembic downgrade` reports success and changes nothing, or it fails when somebody rolls "
        "back in a hurry.",
    ),
    "prefer-identity": Rule(
        Severity.WARNING,
        "{table} numbers its rows with a serial",
        "A serial ends at 2,147,483,647 unless it is a bigserial, and widening a primary key takes "
        "a second column and two releases. The sequence of a serial is a separate object with "
        "privileges of its own.",
    ),
    "prefer-timestamp-tz": Rule(
        Severity.WARNING,
        "{table} stores a time without its time zone",
        "TIMESTAMP ignores the offset of a value. Values from two time zones can't be told apart "
        "later, and no change of the type brings the offset back.",
    ),
    "drop-default": Rule(
        Severity.GRAVE,
        "dropping the default of {table}.{column} breaks builds that don't know the column",
        "Older builds leave the column out. Where it is NOT NULL, their inserts fail from then on. "
        "The statement takes ACCESS EXCLUSIVE on {table} for an instant.",
    ),
    # the file
    "raw-op": Rule(
        Severity.WARNING,
        "{code} has a safe spelling in `safely`",
        "Plain Alembic can't resume an interrupted run, doesn't bring back data that was set "
        "aside, and on SQLite loses parts of the tables that it copies. {lock}",
    ),
    "two-subjects": Rule(
        Severity.WARNING,
        "the revision has {number} subjects: {subjects}",
        "A revision with one subject can be judged, retried and undone by itself. In a revision "
        "with two, a failure of the second undoes the first or leaves it half applied.",
    ),
    "imports-application": Rule(
        Severity.WARNING,
        "the revision imports {module}",
        "The application's code keeps changing, and this file runs on every new database for "
        "years: one day it does something else, or the import fails.",
    ),
    "edited-file": Rule(
        Severity.ERROR,
        "the file was edited after it was applied: {edit}",
        "Databases to which the old file was applied have another schema than databases to come. "
        "`alembic upgrade` refuses to run.",
    ),
    "refused": Rule(
        Severity.ERROR, "`safely` refuses this: {error}", "`alembic upgrade` refuses it as well."
    ),
    "transaction-control": Rule(
        Severity.GRAVE,
        "the revision ends or begins a transaction by itself",
        "A step is one transaction, with the row that records it. After a COMMIT, a failure leaves "
        "the revision half applied; after a ROLLBACK, it is recorded as done and did nothing. Use "
        "op.get_context().autocommit_block().",
    ),
    # lint can't check it
    "syntax-error": Rule(
        Severity.ERROR,
        "PostgreSQL can't read the statement: {error}",
        "The migration fails there, and its step is rolled back. The other statements of the file "
        "were checked.",
    ),
    "unseen": Rule(
        Severity.ERROR,
        "neither lint nor `--sql` can see what this does",
        "Statements in a block or on the connection itself may lock tables or lose data, and "
        "nobody could check that here.{stopped}",
    ),
    "acts-outside": Rule(
        Severity.ERROR,
        "the revision acts outside of its database: {act}",
        "That isn't undone when the step fails, and is done again when the step is tried again. "
        "Lint ran the body and prevented it, and judged each later statement by itself.",
    ),
    "unrendered": Rule(
        Severity.ERROR,
        "the revision can't be printed as SQL: {error}",
        "Nobody who reviews `alembic upgrade --sql` sees what the revision does from this line on. "
        "Lint judged each later statement of the file by itself.",
    ),
    "reads-database": Rule(
        Severity.NOTE,
        "the revision reads the database, which `alembic upgrade --sql` can't do",
        "The script of `--sql` ends here with an error, or isn't what a database gets. {how}",
    ),
    # suppressions
    "no-reason": Rule(
        Severity.ERROR,
        "the comment suppresses {rules} without a reason",
        "Later readers must know why the line is safe here. A comment without a reason suppresses "
        "nothing.",
    ),
    "not-suppressible": Rule(
        Severity.ERROR,
        "no comment can suppress {rules}",
        "`alembic upgrade` refuses an edited file all the same, and the comment itself is an edit. "
        "Remove the comment, and put the file back as it was (git restore).",
    ),
    "unused-suppression": Rule(
        Severity.WARNING,
        "the comment suppresses {rules}, but the line has no such finding",
        "Some day the comment would hide a finding that nobody has thought about.",
    ),
}
