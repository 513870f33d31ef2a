"""How Alembic meets the database: async, with the service's own settings.

`alembic upgrade head` comes by: settings -> engine -> plan -> turn -> plan again -> per step:
one transaction, tried again while a lock is in its way -> the heads read on a fresh connection.
"""

import asyncio
import logging
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from alembic import context
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy.ext.asyncio import AsyncEngine

from safely.autogenerate import is_ours, number_the_revision
from safely.backup.backup import before_migrating
from safely.database import LOCK_TIMEOUT, connected, settings_found
from safely.environment import Environment
from safely.ledger import ledger
from safely.project import Project
from safely.run.metrics import measured
from safely.run.migrate import migrate, planned, said
from safely.run.steps import command, end, noted
from safely.run.trace import Trace
from service.models import Base
from service.settings import Settings, async_url

PATIENCE = 300.0  # seconds until a step, or the wait for the turn, is given up

MIGRATING = ("upgrade", "downgrade", "do_stamp")  # what Alembic calls the work of its commands

log = logging.getLogger("migrations")


def options(settings: Settings) -> dict[str, Any]:
    """What is configured alike online and offline."""
    return {
        "on_version_apply": end,
        "include_object": is_ours,
        "app_role": settings.app_role,
        "work": None,  # how a step is going; a script can't know
        "target_metadata": Base.metadata,
        "transaction_per_migration": True,
        "transactional_ddl": True,  # SQLite too: service.database begins its transactions
        "compare_server_default": True,
        "autogenerate_plugins": ["alembic.autogenerate.*", "alembic.ext.checkconstraint_byname"],
        "alembic_module_prefix": "safely.",
        "process_revision_directives": number_the_revision,
        "lock_timeout": lock_timeout(),  # for safely, which lifts it and sets it again
    }


def migrate_offline(settings: Settings) -> None:
    """Print the SQL instead of running it; needs no database."""
    if backup_asked():
        raise CommandError("-x backup=DIR backs a database up, and --sql asks none: leave it out")
    url = async_url(settings.database_url)
    fn = command()
    context.configure(
        url=url,
        literal_binds=True,
        dialect_opts={"paramstyle": "named"},
        fn=noted(fn),
        **options(settings),
    )
    if url.get_backend_name() == "postgresql":
        context.get_context().impl.static_output(f"SET lock_timeout = '{lock_timeout()}';")
    if fn.__name__ in MIGRATING:
        ledger.create(context.get_context())
    with context.begin_transaction():
        context.run_migrations()


async def migrate_online(settings: Settings) -> None:
    """Do what the command wants; commands that only read do it while they plan."""
    fn, given = command(), options(settings)
    async with connected(settings, lock_timeout()) as engine:
        if fn.__name__ not in MIGRATING:
            await planned(engine, fn, given)
            return
        async with measured(engine, settings.metrics_textfile) as run:
            await planned(engine, fn, given)
            patience, accept = seconds("patience", PATIENCE), drift_accepted()
            trace, first = Trace(argument("trace", "")), backup_asked()
            await migrate(
                engine,
                fn,
                given,
                patience=patience,
                accept=accept,
                run=run,
                trace=trace,
                first=first,
            )


def argument(name: str, default: str) -> str:
    """A value given as `-x name=value`."""
    return str(context.get_x_argument(as_dictionary=True).get(name, default))


def lock_timeout() -> str:
    """How long a statement may wait for a lock; above a second it would meet deadlocks."""
    text = argument("lock_timeout", LOCK_TIMEOUT)
    if not re.fullmatch(r"[1-9]\d{0,2}ms", text):
        raise CommandError("-x lock_timeout=… takes 1ms to 999ms, less than deadlock_timeout")
    return text


def seconds(name: str, default: float) -> float:
    """A number of seconds given as `-x name=value`."""
    text = argument(name, str(default))
    if not re.fullmatch(r"\d{1,6}(\.\d+)?", text):
        raise CommandError(f"-x {name}=… takes a number of seconds")
    return float(text)


def backup_asked() -> Callable[[AsyncEngine], Awaitable[None]] | None:
    """What comes before the first step: `-x backup=DIR`, and with `-x verify=yes` it is tried."""
    given = context.get_x_argument(as_dictionary=True)
    directory, verify = given.get("backup"), given.get("verify", "no")
    if directory == "" or verify not in ("yes", "no") or (verify == "yes" and not directory):
        raise CommandError("say -x backup=DIRECTORY, and beside it perhaps -x verify=yes")
    if directory is None:
        return None

    async def first(engine: AsyncEngine) -> None:
        environment = Environment(
            project=Project(name="users", metadata=Base.metadata),
            config=context.config,
            script=context.script,
            engine=engine,
        )
        await before_migrating(environment, directory=Path(str(directory)), verify=verify == "yes")

    return first


def drift_accepted() -> bool:
    """Whether a schema that was edited by hand is recorded as it is: `-x drift=accept`."""
    given = argument("drift", "refuse")
    if given not in ("accept", "refuse"):
        raise CommandError("-x drift=… takes accept or refuse")
    return given == "accept"


def check_numbers(script: ScriptDirectory) -> None:
    """The history is one line: refuse two files with one number, and two heads."""
    files = (Path(__file__).parent / "versions").glob("[0-9]*_*.py")
    numbers = Counter(file.name.partition("_")[0] for file in files)
    if twice := sorted(number for number, times in numbers.items() if times > 1):
        raise CommandError(
            f"two revision files have the number {twice[0]}: give the one that is not yet applied "
            "anywhere the next free number (file name and `revision`), and make its "
            "`down_revision` the other"
        )
    if len(heads := script.get_heads()) > 1:
        raise CommandError(
            f"the history has {len(heads)} heads, {said(set(heads))}: make one of them follow the "
            "other (its `down_revision`); this project keeps one line and no merges"
        )


def is_a_step(record: logging.LogRecord) -> bool:
    """Keep the lines that say which revision runs; leave out how Alembic set itself up."""
    return str(record.msg).startswith("Running")


def main() -> None:
    """Do what the Alembic command asked for; every foreseeable failure is one line."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s [%(name)s] %(message)s")
    for chatty in ("alembic.runtime.plugins", "alembic.util.messaging"):
        logging.getLogger(chatty).setLevel(logging.CRITICAL)  # what matters is said elsewhere
    logging.getLogger("alembic.runtime.migration").addFilter(is_a_step)
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise CommandError(
            "Alembic was called inside a running event loop; "
            "call it in a thread: await asyncio.to_thread(command.upgrade, config, 'head')"
        )
    check_numbers(context.script)
    settings = settings_found()
    if context.is_offline_mode():
        migrate_offline(settings)
    else:
        asyncio.run(migrate_online(settings))


main()
