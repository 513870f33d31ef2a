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
        speed=20,
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
        speed=20,
    ),
    "batch-rewrite": Rule(
        Severity.GRAVE,
        'recreate="always" copies {table}, and loses the rows that are written meanwhile',
        "The batch makes a new table, copies every row into it and drops the old table, which "
        "takes ACCESS EXCLUSIVE on {table}. Rows that clients write between the copy and the drop "
        "are lost, and so are triggers, rights and policies of the table. A foreign key that "
        "refers to it makes the drop fail. Without `recreate`, each operation of the batch is an "
        "ALTER TABLE of its own.",
    ),
    "backfill-at-once": Rule(
        Severity.GRAVE,
        "changing rows of {table} in one statement blocks other writes to them",
        "Each changed row stays locked until the transaction ends: other writes to it wait, "
        f"{GROWS}. An interrupted run starts again from nothing.",
        speed=10,
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
    # more is shown than somebody meant
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
        "No downgrade brings the data back. Older builds, which still read and write it, fail; "
        "PostgreSQL refuses the statement while a published version shows the data. The statement "
        "takes ACCESS EXCLUSIVE on {table} for an instant.",
        loses=True,
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
