"""`docker compose up`, as an operator types it, on a real engine.

The file is deployed once for all the tests here, under a project name and on a port of its own:
up, a user is created, stop, down, up again. What was seen on the way is asserted below.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.models import SCHEMA_REVISION

ROOT = Path(__file__).parent.parent.parent
DEADLINE = 120.0  # seconds for the service to become healthy once it was started
ROLES = ("postgres", "owner", "app")
REVISIONS = sorted(path.name[:4] for path in (ROOT / "migrations/versions").glob("[0-9]*_*.py"))
PUBLISHED = f"at_{SCHEMA_REVISION}"  # the schema that the service works in
LEDGER = "SELECT concat_ws(':', revision, direction, state) FROM migration_log ORDER BY id"
DENIED = "ERROR:  42501"  # insufficient_privilege
# A database as compose.yaml left it before versions were published, and who may do what in one.
UNPUBLISHED = "0008"  # the head of those days
AS_IT_WAS = f"""
DROP SCHEMA {", ".join(f"at_{number}" for number in REVISIONS if number <= UNPUBLISHED)} CASCADE;
DROP TABLE migration_log;
GRANT USAGE ON SCHEMA public TO users_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO users_app;
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO users_app;
ALTER DEFAULT PRIVILEGES FOR ROLE users_owner IN SCHEMA public
  GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO users_app;
ALTER DEFAULT PRIVILEGES FOR ROLE users_owner IN SCHEMA public
  GRANT USAGE, SELECT ON SEQUENCES TO users_app"""
RIGHTS = """
SELECT 'public', nspacl FROM pg_namespace WHERE nspname = 'public'
UNION ALL SELECT relname, relacl FROM pg_class
  WHERE relnamespace = 'public'::regnamespace AND relacl::text ~ 'users_app'
UNION ALL SELECT 'default', defaclacl FROM pg_default_acl
ORDER BY 1"""
ADA: dict[str, Any] = {"full_name": "Ada Lovelace", "email": "ada@example.org", "age": 36}


class Deployment:
    """The project's compose file under a name of its own."""

    def __init__(self, project: str, port: int) -> None:
        self.project = project
        self.url = f"http://127.0.0.1:{port}"
        self.port = str(port)

    def compose(
        self, *arguments: str, check: bool = True, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        options = ("--project-name", self.project, "--file", str(ROOT / "compose.yaml"))
        process = docker("compose", *options, *arguments, PORT=self.port, **environment)
        if check:
            assert process.returncode == 0, process.stdout + process.stderr
        return process

    def up(self) -> None:
        process = self.compose("up", "--detach", "--build", check=False)
        assert process.returncode == 0, process.stderr + self.logs()
        awaited(lambda: self.health() == "healthy", or_else=self.logs)

    def health(self) -> str:
        return str(self.inspect("service")["State"]["Health"]["Status"])

    def inspect(self, service: str) -> dict[str, Any]:
        container = self.compose("ps", "--all", "--quiet", service).stdout.strip()
        found: list[dict[str, Any]] = json.loads(docker("inspect", container).stdout)
        return found[0]

    def inside(
        self, service: str, *command: str, user: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """What a command says in a running container."""
        as_user = ("--user", user) if user else ()
        return self.compose("exec", "--no-TTY", *as_user, service, *command, check=False)

    def in_backups(self, script: str) -> str:
        """What a script says that sees the volume of backups."""
        return self.compose("run", "--rm", "--no-deps", "--no-TTY", "backup", script).stdout

    def as_app(self, sql: str) -> subprocess.CompletedProcess[str]:
        """What the service's role gets for a statement; errors come as their SQLSTATE."""
        script = 'psql -XAtq -v VERBOSITY=sqlstate -d "$(cat /secrets/app/url)" -c "$0"'
        return self.inside("db", "bash", "-c", script, sql)

    def as_superuser(self, sql: str, *options: str, database: str = "users") -> str:
        command = ("psql", "-XAtq", "-U", "postgres", "-d", database, "-c", sql)
        return self.compose("exec", "--no-TTY", *options, "db", *command).stdout

    def roles_again(self, database: str) -> None:
        """What compose.yaml tells an operator to type for a database with other roles."""
        script = ("-f", "/docker-entrypoint-initdb.d/roles.sql")
        command = ("psql", "-Xq", "-v", "ON_ERROR_STOP=1", "-U", "postgres", database, *script)
        self.compose("exec", "--no-TTY", "db", *command)

    def migrate(self, database: str, *command: str) -> str:
        """What the migrator says of another database."""
        url = f"postgresql://users_owner:{self.password('owner')}@db/{database}"
        settings = ("--env", "DATABASE_URL_FILE=", "--env", f"DATABASE_URL={url}")
        options = ("--rm", "--no-deps", "--no-TTY", *settings)
        return self.compose("run", *options, "migrate", *command).stderr

    @contextmanager
    def restored(self, dump: str) -> Iterator[str]:
        """A database made from a dump."""
        database = "restored"
        self.as_superuser(f"CREATE DATABASE {database} OWNER users_owner")
        try:
            self.in_backups(
                "PGPASSWORD=$(cat /secrets/owner/password) "
                f"pg_restore --exit-on-error --dbname={database} /backups/{dump}"
            )
            yield database
        finally:
            self.as_superuser(f"DROP DATABASE {database}")

    @contextmanager
    def locked(self, table: str) -> Iterator[None]:
        """Let nobody read the table."""
        hold = f"SET application_name = 'holder'; BEGIN; LOCK {table}; SELECT pg_sleep(600)"
        holder = "FROM pg_stat_activity WHERE application_name = 'holder'"
        self.as_superuser(hold, "--detach")
        awaited(
            lambda: self.as_superuser(f"SELECT wait_event {holder}").strip() == "PgSleep",
            or_else=self.logs,
        )
        try:
            yield
        finally:
            self.as_superuser(f"SELECT pg_terminate_backend(pid) {holder}")

    def password(self, role: str) -> str:
        return self.inside("db", "cat", f"/secrets/{role}/password").stdout

    def dumps(self) -> list[str]:
        return self.in_backups("ls /backups").split()

    def logs(self) -> str:
        process = self.compose("logs", "--no-color")
        return process.stdout + process.stderr


@dataclass(frozen=True)
class Seen:
    """What `up` left behind."""

    migrate: int
    migrated: str  # what the migration said
    ledger: list[str]
    dumps: list[str]
    ready: httpx.Response


@dataclass(frozen=True)
class Story:
    """One deployment's life so far; it runs."""

    deployment: Deployment
    first: Seen
    second: Seen
    ada: str  # the path of the user created between the two
    stopped: int  # the exit code of the service when it was stopped
    logs: str  # all that was said


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    if reason := why_not():
        pytest.skip(reason)
    deployment = Deployment(f"users-test-{os.getpid()}", free_port())
    try:
        deployment.up()
        first = seen(deployment)
        created = httpx.post(f"{deployment.url}/users", json=ADA)
        assert created.status_code == HTTPStatus.CREATED, created.text
        deployment.compose("stop", "service")
        stopped = deployment.inspect("service")["State"]["ExitCode"]
        logs = deployment.logs()
        deployment.compose("down")
        deployment.up()
        second = seen(deployment)
        logs += deployment.logs()
        yield Story(deployment, first, second, created.headers["Location"], stopped, logs)
    finally:
        deployment.compose("down", "--volumes", "--rmi", "local")


def why_not() -> str | None:
    """The reason why nothing can be deployed here."""
    if shutil.which("docker") is None:
        return "docker is not installed"
    if docker("info").returncode != 0:
        return "no docker engine answers (`docker info` fails)"
    if docker("compose", "version").returncode != 0:
        return "docker has no compose plugin (`docker compose version` fails)"
    return None


def docker(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # every argument is written in this file
        ["docker", *arguments],  # noqa: S607  # whichever docker the operator has
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def awaited(fact: Callable[[], bool], or_else: Callable[[], str]) -> None:
    """Ask until it is so; docker tells nobody when a container becomes healthy."""
    deadline = time.monotonic() + DEADLINE
    while not fact():
        assert time.monotonic() < deadline, or_else()
        time.sleep(0.2)


def seen(deployment: Deployment) -> Seen:
    return Seen(
        migrate=deployment.inspect("migrate")["State"]["ExitCode"],
        migrated=deployment.compose("logs", "--no-color", "migrate").stdout,
        ledger=deployment.as_superuser(LEDGER).split(),
        dumps=deployment.dumps(),
        ready=httpx.get(f"{deployment.url}/health/ready"),
    )


def test_the_service_becomes_healthy_and_ready(story: Story) -> None:
    assert story.first.ready.status_code == HTTPStatus.OK
    assert story.second.ready.json()["status"] == "ready"


def test_migrate_succeeds_every_time(story: Story) -> None:
    assert (story.first.migrate, story.second.migrate) == (0, 0)


def test_a_second_run_has_nothing_to_do(story: Story) -> None:
    assert "nothing to do" not in story.first.migrated
    assert "nothing to do" in story.second.migrated


def test_the_ledger_has_each_revision_once(story: Story) -> None:
    assert story.first.ledger == [f"{revision}:upgrade:done" for revision in REVISIONS]
    assert story.second.ledger == story.first.ledger


def test_users_outlive_down_and_up(story: Story) -> None:
    response = httpx.get(f"{story.deployment.url}{story.ada}")
    assert response.status_code == HTTPStatus.OK
    assert response.json().items() >= ADA.items()


def test_an_empty_database_is_not_backed_up(story: Story) -> None:
    assert story.first.dumps == []


def test_a_database_with_tables_is_backed_up_before_it_is_migrated(story: Story) -> None:
    (dump,) = story.second.dumps
    contents = story.deployment.in_backups(f"pg_restore --list /backups/{dump}")
    assert " TABLE DATA public users " in contents
    rows = story.deployment.in_backups(f"pg_restore --file=- --data-only /backups/{dump}")
    assert ADA["full_name"] in rows


def test_a_backup_restores_to_a_database_with_nothing_to_migrate(story: Story) -> None:
    with story.deployment.restored(*story.second.dumps) as database:
        assert "nothing to do" in story.deployment.migrate(database)


def test_a_deployment_from_before_versions_were_published_can_be_adopted(story: Story) -> None:
    deployment = story.deployment
    with deployment.restored(*story.second.dumps) as database:
        fresh = deployment.as_superuser(RIGHTS, database=database)
        deployment.migrate(database, "alembic", "downgrade", UNPUBLISHED)
        purge = ("python", "-m", "migrations", "purge", "--undone", "--yes")
        deployment.migrate(database, *purge)
        deployment.as_superuser(AS_IT_WAS, database=database)
        assert deployment.as_superuser(RIGHTS, database=database) != fresh
        deployment.roles_again(database)
        deployment.migrate(database, "alembic", "stamp", UNPUBLISHED)
        deployment.migrate(database)
        assert deployment.as_superuser(RIGHTS, database=database) == fresh
        assert "nothing to do" in deployment.migrate(database)


def test_a_backup_that_fails_stops_the_migration(story: Story) -> None:
    deployment = story.deployment
    before = deployment.inspect("migrate")["State"]["StartedAt"]
    deployment.as_superuser("ALTER ROLE users_owner NOLOGIN")
    try:
        process = deployment.compose("up", "--detach", check=False)
    finally:
        deployment.as_superuser("ALTER ROLE users_owner LOGIN")
    assert process.returncode != 0
    assert deployment.inspect("backup")["State"]["ExitCode"] != 0
    assert deployment.inspect("migrate")["State"]["StartedAt"] == before


def test_a_backup_that_is_killed_leaves_no_dump_that_looks_whole(story: Story) -> None:
    deployment = story.deployment
    before = deployment.dumps()
    with deployment.locked("users"), ThreadPoolExecutor() as background:
        up = background.submit(deployment.compose, "up", "--detach", check=False)
        awaited(lambda: deployment.dumps() != before, or_else=deployment.logs)
        deployment.compose("kill", "backup")
    (unfinished,) = set(deployment.dumps()) - set(before)
    assert unfinished.endswith(".part")
    assert up.result().returncode != 0


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE public.mine (id int)",
        f"CREATE TABLE {PUBLISHED}.mine (id int)",
        "CREATE SCHEMA mine",
        "ALTER TABLE public.users ADD COLUMN mine int",
        f"ALTER VIEW {PUBLISHED}.users RENAME TO mine",
        f"DROP VIEW {PUBLISHED}.users",
        "DROP TABLE public.users",
        "TRUNCATE public.users",
    ],
)
def test_the_service_may_not_change_the_schema(story: Story, statement: str) -> None:
    assert story.deployment.as_app(statement).stderr.strip() == DENIED


@pytest.mark.parametrize("table", ["users", "alembic_version", "migration_log"])
def test_the_service_may_not_read_the_tables_themselves(story: Story, table: str) -> None:
    assert story.deployment.as_app(f"TABLE public.{table}").stderr.strip() == DENIED


def test_the_service_may_read_and_write_the_version_it_was_made_for(story: Story) -> None:
    users = f"{PUBLISHED}.users"
    found = story.deployment.as_app(
        f"INSERT INTO {users} (full_name) VALUES ('Grace');"
        f"UPDATE {users} SET age = 85 WHERE full_name = 'Grace';"
        f"DELETE FROM {users} WHERE full_name = 'Grace' RETURNING age"
    )
    assert found.stdout == "85\n", found.stderr


def test_an_older_build_may_write_as_it_always_did(story: Story) -> None:
    # a name was not required then; the trigger that gives one runs with the service's rights
    nameless = "BEGIN; INSERT INTO at_0004.users (name) VALUES (NULL) RETURNING name; ROLLBACK"
    found = story.deployment.as_app(nameless)
    assert found.stdout == "Unknown\n", found.stderr


@pytest.mark.parametrize(
    "statement",
    [
        f"INSERT INTO {PUBLISHED}.schema_state VALUES ('9999')",
        f"UPDATE {PUBLISHED}.schema_state SET revision = '9999'",
        f"DELETE FROM {PUBLISHED}.schema_state",
        f"DELETE FROM {PUBLISHED}.migration_log",
        f"UPDATE {PUBLISHED}.migration_log SET revision = '9999'",
    ],
)
def test_the_service_may_not_say_where_the_schema_is(story: Story, statement: str) -> None:
    refused = story.deployment.as_app(statement)
    assert refused.stderr.strip() == "ERROR:  55000"  # a view that nobody can write through
    assert story.deployment.as_app(f"TABLE {PUBLISHED}.schema_state").stdout == f"{REVISIONS[-1]}\n"


def test_the_service_tells_the_evolution_of_a_schema_whose_tables_it_may_not_see(
    story: Story,
) -> None:
    told = httpx.get(f"{story.deployment.url}/evolution.json").json()
    assert told["database"]["revision"] == REVISIONS[-1]
    assert [revision["state"] for revision in told["chain"]] == ["applied"] * len(REVISIONS)
    assert told["drift"]["found"] is False
    assert told["builds"] == [
        {
            "revision": REVISIONS[-1],
            "connections": told["builds"][0]["connections"],
            "published": True,
        }
    ]
    page = httpx.get(f"{story.deployment.url}/evolution")
    assert page.status_code == HTTPStatus.OK
    assert "the database is here" in page.text


def test_the_service_cannot_see_the_credentials_of_the_owner(story: Story) -> None:
    assert story.deployment.inside("service", "ls", "/secrets").stdout.split() == ["app"]


def test_the_root_filesystem_is_read_only(story: Story) -> None:
    # as root, whom no permission keeps from writing
    refused = story.deployment.inside("service", "touch", "/app/new", user="root")
    assert "Read-only file system" in refused.stderr


def test_no_process_of_the_service_is_root(story: Story) -> None:
    owners = "import glob, os; print({os.stat(p).st_uid for p in glob.glob('/proc/[0-9]*')})"
    assert story.deployment.inside("service", "python", "-c", owners).stdout == "{10001}\n"


def test_the_database_is_not_published(story: Story) -> None:
    ports = story.deployment.inspect("db")["NetworkSettings"]["Ports"]
    assert ports == {"5432/tcp": None}


def test_the_service_is_published_to_this_machine_only(story: Story) -> None:
    ports = story.deployment.inspect("service")["NetworkSettings"]["Ports"]
    (place,) = ports["8000/tcp"]
    assert place["HostIp"] == "127.0.0.1"


@pytest.mark.parametrize("service", ["secrets", "db", "backup", "migrate", "service"])
def test_every_step_says_what_it_does(story: Story, service: str) -> None:
    assert f"{service}-1 " in story.logs


@pytest.mark.parametrize("role", ROLES)
def test_no_password_is_logged(story: Story, role: str) -> None:
    password = story.deployment.password(role)
    assert len(password) == 32
    assert password not in story.logs


def test_every_role_has_a_password_of_its_own(story: Story) -> None:
    assert len({story.deployment.password(role) for role in ROLES}) == len(ROLES)


def test_the_service_stops_by_itself_when_told_to(story: Story) -> None:
    assert story.stopped == 0  # killed at the end of its grace period it would be 137


def test_a_backup_is_restored_as_the_documentation_says(story: Story) -> None:
    deployment = story.deployment
    text = (ROOT / "docs/operating.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"--env DUMP=\S+ backup '\n(.*?)'\n", text, re.DOTALL)
    run = ("run", "--rm", "--no-deps", "--no-TTY")

    before = httpx.get(f"{deployment.url}/users").json()
    deployment.compose(*run, "backup")
    dump = deployment.dumps()[-1]
    lost = httpx.post(f"{deployment.url}/users", json={"full_name": "Written afterwards"})
    assert lost.status_code == HTTPStatus.CREATED

    deployment.compose("stop", "service")
    deployment.compose(*run, "--env", f"DUMP={dump}", "backup", script)
    deployment.up()
    assert httpx.get(f"{deployment.url}/users").json() == before
    assert httpx.get(f"{deployment.url}/evolution.json").json()["drift"]["found"] is False
    again = httpx.post(f"{deployment.url}/users", json={"full_name": "Again"})
    assert again.status_code == HTTPStatus.CREATED  # its role has its rights again


def test_tokens_are_asked_for_when_the_operator_says_so(story: Story) -> None:
    """As compose.yaml says: make one, name the file, and no longer allow anybody."""
    deployment = story.deployment
    create = "python -m service token create --file /tokens/tokens.json --name me --scope read"
    run = ("run", "--rm", "--no-deps", "--no-TTY", "service", *create.split())
    token = deployment.compose(*run).stdout.strip()
    up = ("up", "--detach", "--no-deps", "--wait", "service")
    deployment.compose(*up, TOKENS_FILE="/tokens/tokens.json", ALLOW_ANONYMOUS="0")
    users = f"{deployment.url}/users"
    assert httpx.get(users).status_code == HTTPStatus.UNAUTHORIZED
    known = httpx.get(users, headers={"Authorization": f"Bearer {token}"})
    assert known.status_code == HTTPStatus.OK
    assert token not in deployment.compose("logs", "service").stdout
