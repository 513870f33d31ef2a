"""An env.py that does not keep to the contract, revisions of odd kinds, and what is not printed."""

from pathlib import Path
from urllib.parse import quote

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.chain import HEAD, NEXT, PREVIOUS
from tests.commands import run_alembic, run_migrations
from tests.databases import query, revision_of, write
from tests.migrated import leftovers
from tests.revisions import Revision

RUN_SYNC = "await connection.run_sync(do_run_migrations, step.options)"


def change_env(clone: Path, old: str, new: str) -> None:
    """Replace a text in env.py."""
    path = clone / "migrations/env.py"
    source = path.read_text(encoding="utf-8")
    assert old in source
    path.write_text(source.replace(old, new), encoding="utf-8")


@pytest.mark.parametrize(
    "case",
    [
        (RUN_SYNC, "pass", "took a step without running it"),
        ("**compared, **options)", "**compared)", "does not pass the options of the step"),
        (
            "        context.run_migrations()\n\n\nasync def",
            "        pass\n\n\nasync def",
            "took a step without running it",
        ),
        (
            "context.configure(connection=connection,",
            "context.configure(connection=connection, target_metadata=Base.metadata,",
            "env.py gives 'target_metadata' to context.configure()",
        ),
        (RUN_SYNC, f"{RUN_SYNC}\n            break", "left the loop"),
        ("create_engine(settings", "__import__('sqlalchemy.ext.asyncio').ext.asyncio."
         "create_async_engine(settings", "needs an engine of safely.env.create_engine"),
    ],
)  # fmt: skip
async def test_an_env_py_that_breaks_the_contract_migrates_nothing(
    url: str, engine: AsyncEngine, clone: Path, case: tuple[str, str, str]
) -> None:
    old, new, words = case
    change_env(clone, old, new)
    if "create_async_engine" in new:
        address = {"postgresql": "postgresql+asyncpg", "sqlite": "sqlite+aiosqlite"}
        change_env(clone, "settings.database_address", f"{with_driver(url, address)!r}")
    process = run_alembic(url, "downgrade", "-1", cwd=clone, check=False)
    assert process.returncode != 0
    assert words in process.stdout
    assert await revision_of(engine) == HEAD


def with_driver(url: str, drivers: dict[str, str]) -> str:
    scheme, _, rest = url.partition("://")
    return f"{drivers[scheme]}://{rest}"


async def test_an_env_py_that_raises_is_told_apart_from_a_finding(url: str, clone: Path) -> None:
    change_env(clone, "project = Project(", "raise RuntimeError('no settings')\nproject = Project(")
    process = run_migrations(url, "drift", cwd=clone)
    assert process.returncode == 2
    assert "no settings" in process.stderr


async def test_a_stamp_that_would_empty_the_version_table_first_is_refused(
    url: str, engine: AsyncEngine
) -> None:
    process = run_alembic(url, "stamp", "--purge", "no_such_revision", check=False)
    assert process.returncode != 0
    assert await revision_of(engine) == HEAD


ASK = """\
import asyncio, asyncpg, threading
errors = []
async def ask():
    try:
        await asyncpg.connect({arguments})
    except Exception as error:
        errors.append(error)
thread = threading.Thread(target=lambda: asyncio.run(ask()))
thread.start()
thread.join()
raise errors[0]"""
OWN_FAILURES = {  # bodies of a revision, and the error that is shown
    "open('no_such_file.csv')": "FileNotFoundError",
    "raise ConnectionResetError('by the peer')": "ConnectionResetError: by the peer",
    "raise TimeoutError('no answer')": "TimeoutError: no answer",
    "import socket\nsocket.create_connection(('127.0.0.1', 1))": "ConnectionRefusedError",
    "import socket\nsocket.getaddrinfo('no-such-host.invalid', 1)": "gaierror",
    "import sqlite3\nsqlite3.connect('/no/such/directory/x')": "OperationalError",
    "import errno\nraise OSError(errno.ENOSPC, 'No space left')": "OSError",
    ASK.format(arguments="host='127.0.0.1', port=1, user='x'"): "ConnectionRefusedError",
    ASK.format(arguments="URL + '_of_nobody'"): "InvalidCatalogNameError",
}


async def test_a_failure_of_a_revision_is_not_one_of_the_database(
    url: str, engine: AsyncEngine, clone: Path, revision: Revision
) -> None:
    is_postgresql = engine.dialect.name == "postgresql"
    for body, words in OWN_FAILURES.items():
        if "URL" in body and not is_postgresql:
            continue
        place, _, query = url.partition("?")
        revision(body.replace("URL + '_of_nobody'", repr(f"{place}_of_nobody?{query}")))
        process = run_alembic(url, "upgrade", "head", cwd=clone, check=False)
        assert process.returncode == 255, body
        [line] = process.stdout.splitlines()
        assert f"{NEXT}_scratch.py failed: {words}" in line
        assert "can't reach" not in line
        assert "Traceback" not in process.stderr
    assert await revision_of(engine) == HEAD


REFUSED = {  # statements of a revision, and what is shown of the answer
    "SELECT * FROM nowhere": "nowhere",
    "INSERT INTO users (email, full_name, age) VALUES ('a@example.org', 'A', -1)": "ck_users_age",
    "INSERT INTO users (email, full_name) "
    "VALUES ('nobody-may-see@x', 'A'), ('nobody-may-see@x', 'A')": "email",
    "SELEC 1": "SELEC",
    "CREATE TABLE later (a BIGINT REFERENCES users DEFERRABLE INITIALLY DEFERRED);"
    "INSERT INTO later VALUES (99999)": "later",
}  # fmt: skip


async def test_what_a_database_refuses_is_one_line_and_leaves_nothing(
    url: str, engine: AsyncEngine, clone: Path, revision: Revision
) -> None:
    for statements, words in REFUSED.items():
        calls = [f"op.execute({statement!r})" for statement in statements.split(";")]
        revision("\n".join(["from alembic import op", *calls]))
        process = run_alembic(url, "upgrade", "head", cwd=clone, check=False)
        assert process.returncode == 255
        [line] = process.stdout.splitlines()
        assert words in line
        assert ("(line " in line) is (words != "later")  # which is found out at the end
        assert "nobody-may-see" not in process.stdout + process.stderr
        assert "Traceback" not in process.stderr
    assert await revision_of(engine) == HEAD
    assert await leftovers(engine.dialect.name, url) == []


@pytest.mark.only("postgresql")
async def test_a_schema_that_is_missing_is_not_a_right_that_is_missing(url: str) -> None:
    for path in ("nowhere", '"$user",Nowhere', ""):
        address = f"{url}&options={quote(f'-c search_path={path}')}"
        process = run_alembic(address, "upgrade", "head", check=False)
        assert process.returncode == 255
        assert "there is no schema to migrate" in process.stdout
        assert "this role may not" not in process.stdout
        assert process.stderr == ""


async def test_warnings_of_revision_files_stop_nothing(
    url: str, clone: Path, revision: Revision
) -> None:
    revision('safely.add_column("users", sa.Column("phone", sa.Text()))')
    path = clone / f"migrations/versions/{NEXT}_scratch.py"
    text = path.read_text("utf-8")
    path.write_text(f"import warnings\nwarnings.warn('an old package')\n{text}", encoding="utf-8")
    run_alembic(url, "upgrade", "head", cwd=clone)


async def test_a_revision_file_may_have_another_encoding(
    url: str, clone: Path, revision: Revision
) -> None:
    revision('safely.backfill("users", "full_name = \'Zoë\'", where="full_name = \'Zoe\'")')
    path = clone / f"migrations/versions/{NEXT}_scratch.py"
    text = path.read_text("utf-8")
    path.write_text(f"# -*- coding: latin-1 -*-\n{text}", encoding="latin-1")
    run_alembic(url, "upgrade", "head", cwd=clone)
    assert run_migrations(url, "drift", cwd=clone).returncode == 0


@pytest.mark.only("postgresql")
async def test_purge_leaves_alone_what_others_have_put_under_such_a_name(
    url: str, engine: AsyncEngine
) -> None:
    await write(engine, "CREATE SCHEMA aside_notes")
    await write(engine, "CREATE TABLE aside_notes.kept (id int)")
    run_alembic(url, "downgrade", PREVIOUS)
    process = run_migrations(url, "purge", "--undone", "--yes")
    assert process.returncode == 0, process.stderr
    assert await query(engine, "SELECT to_regclass('aside_notes.kept')::text") == [
        ("aside_notes.kept",)
    ]


@pytest.mark.parametrize("query", ["password=s3cret", "passfile=s3cret&ssl=disable"])
def test_no_parameter_of_an_address_is_printed(query: str) -> None:
    url = f"postgresql://u@127.0.0.1:1/db?{query}"
    for process in (
        run_alembic(url, "upgrade", "head", check=False),
        run_migrations(url, "drift"),
        run_migrations(url, "lint"),
    ):
        assert "s3cret" not in process.stdout + process.stderr
