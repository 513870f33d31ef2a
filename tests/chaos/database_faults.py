"""Faults of PostgreSQL itself."""

import asyncio

import asyncpg

from service.models import SCHEMA_REVISION
from tests.chaos.run import BACKENDS, Run, fault
from tests.chaos.worlds import with_standby

TABLE = f"at_{SCHEMA_REVISION}.users"
TERMINATE = f"SELECT pg_terminate_backend(pid) FROM ({BACKENDS}) AS backends"
SETTING = "default_transaction_read_only"
# A deferred trigger runs within COMMIT: it lets a commit take as long as a lock is held.
SLOW_COMMIT = """
CREATE FUNCTION wait_at_commit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_advisory_xact_lock_shared(815);
  RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER wait_at_commit AFTER INSERT OR UPDATE OR DELETE ON public.users
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wait_at_commit()"""
HOLD_COMMITS = "SELECT pg_advisory_lock(815)"
LET_COMMIT = "SELECT pg_advisory_unlock(815)"
COMMITTING = (
    "FROM pg_stat_activity WHERE application_name LIKE 'users@%' "
    "AND wait_event_type = 'Lock' AND query LIKE 'COMMIT%'"
)


@fault("PostgreSQL restarted, fast", "`pg_ctl stop -m fast`; started again 3 s later")
async def restarted_fast(run: Run) -> None:
    await restart(run, "fast")


@fault("PostgreSQL restarted, immediate", "`pg_ctl stop -m immediate`; started again 3 s later")
async def restarted_immediate(run: Run) -> None:
    await restart(run, "immediate")


@fault(
    "PostgreSQL restarted, smart",
    "`pg_ctl stop -m smart` refuses new connections; 5 s later the others are terminated, "
    "and it is started again",
)
async def restarted_smart(run: Run) -> None:
    async with run.administrator() as administrator:
        stopping = asyncio.create_task(asyncio.to_thread(run.postgresql.stop, "smart"))
        await run.last(5)
        await administrator.execute(TERMINATE)
    await stopping
    await start(run)


@fault("PostgreSQL killed", "SIGKILL of its main process; started again 3 s later")
async def killed(run: Run) -> None:
    await asyncio.to_thread(run.postgresql.kill)
    await run.last(3)
    await start(run)


@fault("PostgreSQL frozen", "SIGSTOP of all its processes; SIGCONT 45 s later")
async def frozen(run: Run) -> None:
    with run.postgresql.frozen():
        await run.last(45)
    run.returned()


@fault("connections terminated", "`pg_terminate_backend` of all of them every 100 ms for 10 s")
async def terminated(run: Run) -> None:
    async with run.administrator() as administrator:
        for _ in range(max(5, round(100 * run.size.scale))):
            await administrator.execute(TERMINATE)
            await asyncio.sleep(0.1)
    run.returned()


@fault("queries cancelled", "`pg_cancel_backend` of all of them every 50 ms for 10 s")
async def cancelled(run: Run) -> None:
    async with run.administrator() as administrator:
        for _ in range(max(5, round(200 * run.size.scale))):
            await administrator.execute(TERMINATE.replace("terminate", "cancel"))
            await asyncio.sleep(0.05)
    run.returned()


@fault(
    "connections exhausted",
    "others take all connections of the server for 10 s; the service's own are terminated",
)
async def exhausted(run: Run) -> None:
    others: list[asyncpg.Connection] = []
    async with run.administrator() as administrator:
        await administrator.execute(TERMINATE)
        while len(others) < 200:
            try:
                others.append(await asyncpg.connect(run.world.url))
            except asyncpg.TooManyConnectionsError:
                if not await administrator.fetchval(BACKENDS):
                    break
                await administrator.execute(TERMINATE)
        await run.last(10)
        for other in others:
            await other.close()
    run.returned()


@fault(
    "read-only by default",
    "`ALTER SYSTEM SET default_transaction_read_only = on` and a reload; back 10 s later",
)
async def read_only(run: Run) -> None:
    async with run.administrator() as administrator:
        await administrator.execute(f"ALTER SYSTEM SET {SETTING} = on")
        await administrator.execute("SELECT pg_reload_conf()")
        await run.last(10)
        await administrator.execute(f"ALTER SYSTEM RESET {SETTING}")
        await administrator.execute("SELECT pg_reload_conf()")
    run.returned()


@fault(
    "failover, the old primary read-only",
    "the primary becomes read-only and keeps its connections; 3 s later its standby is promoted, "
    "and new connections lead there",
    world=with_standby,
)
async def failover(run: Run) -> None:
    async with run.administrator() as administrator:
        await administrator.execute(f"ALTER SYSTEM SET {SETTING} = on")
        await administrator.execute("SELECT pg_reload_conf()")
    await run.last(3)
    await promote(run)
    run.returned()


@fault(
    "failover, the old primary killed",
    "SIGKILL of the primary; 3 s later its standby is promoted, and new connections lead there",
    world=with_standby,
)
async def failover_after_kill(run: Run) -> None:
    await asyncio.to_thread(run.postgresql.kill)
    await run.last(3)
    await promote(run)
    run.returned()


@fault(
    "the table locked, `POOL_SIZE=2`",
    "`LOCK TABLE users IN ACCESS EXCLUSIVE MODE` for 25 s",
    POOL_SIZE="2",
)
async def locked(run: Run) -> None:
    async with run.administrator() as administrator, administrator.transaction():
        await administrator.execute(f"LOCK TABLE {TABLE} IN ACCESS EXCLUSIVE MODE")
        await run.last(25)
    run.returned()


@fault("writes locked, `POOL_SIZE=2`", "`LOCK TABLE users IN SHARE MODE` for 25 s", POOL_SIZE="2")
async def writes_locked(run: Run) -> None:
    async with run.administrator() as administrator, administrator.transaction():
        await administrator.execute(f"LOCK TABLE {TABLE} IN SHARE MODE")
        await run.last(25)
    run.returned()


@fault(
    "COMMIT cancelled",
    "a deferred trigger holds all commits for 0.5 s, then `pg_cancel_backend` of them; ten times",
)
async def commit_cancelled(run: Run) -> None:
    async with run.administrator() as administrator:
        await administrator.execute(SLOW_COMMIT)
        for _ in range(max(1, round(10 * run.size.scale))):
            await administrator.execute(HOLD_COMMITS)
            await asyncio.sleep(0.5)
            await administrator.execute(f"SELECT pg_cancel_backend(pid) {COMMITTING}")
            await administrator.execute(LET_COMMIT)
            await asyncio.sleep(0.5)
    run.returned()


@fault("COMMIT takes 15 s", "a deferred trigger holds all commits")
async def commit_held(run: Run) -> None:
    async with run.administrator() as administrator:
        await administrator.execute(SLOW_COMMIT)
        await administrator.execute(HOLD_COMMITS)
        await run.last(15)
        await administrator.execute(LET_COMMIT)
    run.returned()


@fault(
    "PostgreSQL frozen within COMMIT",
    "a deferred trigger holds all commits; SIGSTOP of all processes; SIGCONT 12 s later",
)
async def frozen_at_commit(run: Run) -> None:
    async with run.administrator() as administrator:
        await administrator.execute(SLOW_COMMIT)
        await administrator.execute(HOLD_COMMITS)
        await asyncio.sleep(0.5)
        with run.postgresql.frozen():
            await run.last(12)
        await administrator.execute(LET_COMMIT)
    run.returned()


async def restart(run: Run, mode: str) -> None:
    """Stop PostgreSQL, and start it again 3 s later."""
    await asyncio.to_thread(run.postgresql.stop, mode)
    await run.last(3)
    await start(run)


async def start(run: Run) -> None:
    """Start PostgreSQL again."""
    await asyncio.to_thread(run.postgresql.start)
    run.returned()


async def promote(run: Run) -> None:
    """Make the standby the primary, and lead new connections there."""
    old, new = run.postgresql, run.world.standby
    assert new is not None
    await asyncio.to_thread(new.promote)
    run.proxy.target = new.socket
    run.world.url = new.url(run.world.url.partition("?")[0].rpartition("/")[2])
    run.world.postgresql, run.world.standby = new, old
