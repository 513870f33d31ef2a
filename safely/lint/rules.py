"""What can be found, in words: what the line does, and why it hurts.

In the manner of strong_migrations: which lock, who waits, and whether that grows with the table.
`{table}`, `{column}`, … are those of the very line.
"""

from typing import NamedTuple

GROWS = "the longer, the more rows there are"


class Rule(NamedTuple):
    """A rule's two sentences."""

    message: str
    why: str


RULES = {
    # --- who waits
    "plain-index": Rule(
        "builds {name} while nobody can write to {table}",
        "CREATE INDEX holds SHARE on {table} until the index stands: every INSERT, UPDATE and "
        f"DELETE waits, {GROWS}; readers go on.",
    ),
    "plain-index-drop": Rule(
        "drops {name} under a lock on its table",
        "DROP INDEX takes ACCESS EXCLUSIVE on the table: for an instant, but it waits for whoever "
        "reads or writes there, and everybody else queues behind it.",
    ),
    "concurrently-in-transaction": Rule(
        "says CONCURRENTLY inside of a transaction",
        "PostgreSQL refuses that. Outside, a killed run leaves an INVALID index, which slows every "
        "write down and helps nobody.",
    ),
    "not-null-at-once": Rule(
        "makes {table}.{column} NOT NULL in one step",
        "SET NOT NULL holds ACCESS EXCLUSIVE on {table} while every row is looked at: readers and "
        f"writers wait, {GROWS}. And builds that still write NULL fail from then on.",
    ),
    "required-column": Rule(
        "adds {table}.{column} NOT NULL without a value for it",
        "The rows that are there have none, so it fails; and older builds, which don't know the "
        "column, could not insert any more.",
    ),
    "volatile-default": Rule(
        "adds {table}.{column} with a value that differs from row to row",
        "It is computed for every row: the whole table is written anew under ACCESS EXCLUSIVE on "
        f"{{table}}, readers and writers wait, {GROWS}.",
    ),
    "type-change": Rule(
        "changes the type of {table}.{column} in place",
        "ALTER COLUMN TYPE holds ACCESS EXCLUSIVE on {table} while every row and every index is "
        f"written anew: readers and writers wait, {GROWS}. PostgreSQL refuses it under a published "
        "version, and older builds read the old type.",
    ),
    "rewrite": Rule(
        "writes {table} anew",
        f"It holds ACCESS EXCLUSIVE on {{table}} all the while: readers and writers wait, {GROWS}.",
    ),
    "backfill-at-once": Rule(
        "changes rows of {table} in one statement",
        "Each row that it has changed stays locked until the transaction ends: who writes one "
        f"of them waits, {GROWS}. Killed, it begins again from nothing.",
    ),
    "delete-at-once": Rule(
        "deletes rows of {table} in one statement",
        "They are gone, and no downgrade brings them back. Each stays locked until the transaction "
        f"ends: who writes one of them waits, {GROWS}.",
    ),
    "check-at-once": Rule(
        "adds {name} to {table} and checks every row at once",
        "ADD CONSTRAINT holds ACCESS EXCLUSIVE on {table} while every row is checked: readers and "
        f"writers wait, {GROWS}.",
    ),
    "check-and-validate": Rule(
        "validates {name} in the transaction that adds it",
        "The ACCESS EXCLUSIVE lock on {table} (of a foreign key: SHARE ROW EXCLUSIVE on both "
        "tables), which adding takes for an instant, is kept while VALIDATE checks every row: "
        f"readers and writers wait, {GROWS}.",
    ),
    "foreign-key-at-once": Rule(
        "adds {name} to {table} and checks every row at once",
        "ADD FOREIGN KEY holds SHARE ROW EXCLUSIVE on {both} while every row is looked up: every "
        f"INSERT, UPDATE and DELETE there waits, {GROWS}; readers go on.",
    ),
    "unique-at-once": Rule(
        "makes {columns} of {table} unique while nobody can use the table",
        "ADD UNIQUE holds ACCESS EXCLUSIVE on {table} while its index is built: readers and "
        f"writers wait, {GROWS}.",
    ),
    "primary-key-at-once": Rule(
        "makes a primary key of {table} while nobody can use it",
        "ADD PRIMARY KEY holds ACCESS EXCLUSIVE on {table} while its index is built: readers and "
        f"writers wait, {GROWS}. Build a unique index with safely.create_index first; then "
        "ADD PRIMARY KEY USING INDEX takes an instant.",
    ),
    "two-tables": Rule(
        "locks {table} in the transaction that has locked {first}",
        "A lock is kept until the transaction ends: while this waits for {table}, everybody waits "
        "for {first}; and a client that has used {table} and now wants {first} meets it head on, "
        "which ends in a deadlock.",
    ),
    "table-lock": Rule(
        "locks {tables} in {mode} mode",
        "LOCK TABLE keeps it until the transaction ends, whatever else that does: {who} all the "
        "while. Leave it out: `safely` takes the locks that its steps need, each for an instant.",
    ),
    "lock-timeout": Rule(
        "sets lock_timeout by itself",
        "env.py sets it when it connects (100 ms), so that nobody queues behind a migration for "
        "longer. Set here, it holds for what comes after as well, however long somebody reads.",
    ),
    # --- what is lost
    "plain-drop": Rule(
        "drops {what} with what it holds",
        "What is dropped is gone, and no downgrade brings it back. Older builds, which go on "
        "reading and writing it, fail; PostgreSQL refuses it under their published version. "
        "ACCESS EXCLUSIVE on {table}, for an instant.",
    ),
    "lossy-downgrade": Rule(
        "loses {what} on the way down",
        "What was written there since the upgrade is gone for good, at night, when somebody rolls "
        "back in a hurry; the next upgrade begins with nothing.",
    ),
    "empty-downgrade": Rule(
        "doesn't say how this revision is undone",
        "`alembic downgrade` then says that it went down, and nothing did; or it fails at night, "
        "when somebody rolls back in a hurry.",
    ),
    "prefer-identity": Rule(
        "numbers the rows of {table} by a serial",
        "A serial is full at 2,147,483,647 unless it is big, and to widen a primary key takes a "
        "second column and two releases; its sequence is a thing of its own, with rights of its "
        "own.",
    ),
    "prefer-timestamp-tz": Rule(
        "keeps a time in {table} without its zone",
        "TIMESTAMP forgets the offset that it was given: what was written in two zones can't be "
        "told apart afterwards, and no later change of the type brings it back.",
    ),
    "drop-default": Rule(
        "drops the default of {table}.{column}",
        "Builds that don't know the column leave it out: where it is NOT NULL, they can't insert "
        "any more. ACCESS EXCLUSIVE on {table}, for an instant.",
    ),
    # --- what the file is
    "raw-op": Rule(
        "{says} a safe spelling in `safely`",
        "Plain Alembic can't be run again where a killed run stopped, doesn't bring back what was "
        "set aside, and on SQLite copies tables with losses. {lock}",
    ),
    "two-subjects": Rule(
        "has {number} subjects: {subjects}",
        "A revision that does one thing can be judged, tried again and undone by itself. Of two, "
        "the second one's trouble undoes the first, or leaves it behind half applied.",
    ),
    "imports-service": Rule(
        "imports {module}",
        "The service's code goes on changing, and this file runs on every new database for years: "
        "one day it does something else than it did, or can't be imported any more.",
    ),
    "edited-file": Rule(
        "was edited since it was applied: {words}",
        "Databases that applied the old file have another schema than those to come. `alembic "
        "upgrade` refuses to work with it.",
    ),
    "refused": Rule("is refused by `safely`: {words}", "`alembic upgrade` refuses it as well."),
    # --- what can't be seen
    "unseen": Rule(
        "does what neither this nor `--sql` can see",
        "What runs inside of a block or on the connection itself has locks and losses that nobody "
        "could check here.{stopped}",
    ),
    "unrendered": Rule(
        "can't be printed as SQL: {words}",
        "Nobody who reviews `alembic upgrade --sql` sees what it does, and what stands behind this "
        "line was not checked for locks.",
    ),
    # --- suppressions
    "no-reason": Rule(
        "suppresses {rules} without a reason",
        "Who reads it later must know why it is safe here. Without a reason it suppresses nothing.",
    ),
    "not-suppressible": Rule(
        "suppresses {rules}, which no comment can",
        "`alembic upgrade` refuses an edited file all the same, and the comment itself is an edit. "
        "Take it out, and put the file back as it was (git restore).",
    ),
    "unused-suppression": Rule(
        "suppresses {rules}, which isn't found there",
        "What it would hide one day is something that nobody has thought about.",
    ),
}
