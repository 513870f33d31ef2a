"""`docker compose up`, as an operator types it, on a real engine.

The file is deployed once for all tests here, under a project name and on a port of its own:
up, create a user, stop, down, up again. The tests check what was recorded on the way, and the
deployment that is running at the end.
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
# What turns a database into one that compose.yaml made before versions were published.
UNPUBLISHED = "0008"  # the head at that time
UNPUBLISH = f"""
DROP SCHEMA {", ".join(f"at_{number}" for number in REVISIONS if number <= UNPUBLISHED)} CASCADE;
DROP TABLE migration_log;
GRANT USAGE ON SCHEMA public TO users_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO users_app;
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO users_app;
ALTER DEFAULT PRIVILEGES FOR ROLE users_owner IN SCHEMA public
  GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO users_app;
ALTER DEFAULT PRIVILEGES FOR ROLE users_owner IN SCHEMA public
  GRANT USAGE, SELECT ON SEQUENCES TO users_app"""
# Every privilege that users_app has, or will have by default.
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
        wait_until(lambda: self.health() == "healthy", logs=self.logs)

    def health(self) -> str:
        return str(self.inspect("service")["State"]["Health"]["Status"])

    def inspect(self, service: str) -> dict[str, Any]:
        container = self.compose("ps", "--all", "--quiet", service).stdout.strip()
        containers: list[dict[str, Any]] = json.loads(docker("inspect", container).stdout)
        return containers[0]

    def inside(
        self, service: str, *command: str, user: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in a running container."""
        as_user = ("--user", user) if user else ()
        return self.compose("exec", "--no-TTY", *as_user, service, *command, check=False)

    def in_backups(self, script: str) -> str:
        """Run a script in a container with the volume of backups; return its output."""
        return self.compose("run", "--rm", "--no-deps", "--no-TTY", "backup", script).stdout

    def as_app(self, sql: str) -> subprocess.CompletedProcess[str]:
        """Run a statement as the service's role; an error is printed as its SQLSTATE."""
        script = 'psql -XAtq -v VERBOSITY=sqlstate -d "$(cat /secrets/app/url)" -c "$0"'
        return self.inside("db", "bash", "-c", script, sql)

    def as_superuser(self, sql: str, *options: str, database: str = "users") -> str:
        command = ("psql", "-XAtq", "-U", "postgres", "-d", database, "-c", sql)
        return self.compose("exec", "--no-TTY", *options, "db", *command).stdout

    def apply_roles(self, database: str) -> None:
        """Run the SQL of compose.yaml that makes the roles, as its comment says."""
        script = ("-f", "/docker-entrypoint-initdb.d/roles.sql")
        command = ("psql", "-Xq", "-v", "ON_ERROR_STOP=1", "-U", "postgres", database, *script)
        self.compose("exec", "--no-TTY", "db", *command)

    def migrate(self, database: str, *command: str) -> str:
        """Run the migrator, or another command, on another database; return its log."""
        url = f"postgresql://users_owner:{self.password('owner')}@db/{database}"
        settings = ("--env", "DATABASE_URL_FILE=", "--env", f"DATABASE_URL={url}")
        options = ("--rm", "--no-deps", "--no-TTY", *settings)
        return self.compose("run", *options, "migrate", *command).stderr

    @contextmanager
    def restored(self, dump: str) -> Iterator[str]:
        """Yield the name of a database restored from a dump."""
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
        """Hold a lock on the table that blocks even readers."""
        hold = f"SET application_name = 'holder'; BEGIN; LOCK {table}; SELECT pg_sleep(600)"
        holder = "FROM pg_stat_activity WHERE application_name = 'holder'"
        self.as_superuser(hold, "--detach")
        wait_until(
            lambda: self.as_superuser(f"SELECT wait_event {holder}").strip() == "PgSleep",
            logs=self.logs,
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
class UpResult:
    """The state after one `docker compose up`."""

    migrate_code: int  # the exit code of the migration
    migrate_log: str
    ledger: list[str]
    dumps: list[str]
    ready: httpx.Response


@dataclass(frozen=True)
class History:
    """The records of a deployment that went up, down, and up again."""

    deployment: Deployment  # running
    first: UpResult
    second: UpResult
    user_path: str  # of the user created between the two
    stop_code: int  # the exit code of the service when it was stopped
    logs: str  # of all containers


@pytest.fixture(scope="module")
def history() -> Iterator[History]:
    if reason := missing_engine():
        pytest.skip(reason)
    deployment = Deployment(f"users-test-{os.getpid()}", free_port())
    try:
        deployment.up()
        first = result_of_up(deployment)
        created = httpx.post(f"{deployment.url}/users", json=ADA)
        assert created.status_code == HTTPStatus.CREATED, created.text
        deployment.compose("stop", "service")
        stop_code = deployment.inspect("service")["State"]["ExitCode"]
        logs = deployment.logs()
        deployment.compose("down")
        deployment.up()
        second = result_of_up(deployment)
        logs += deployment.logs()
        yield History(deployment, first, second, created.headers["Location"], stop_code, logs)
    finally:
        deployment.compose("down", "--volumes", "--rmi", "local")


@pytest.fixture
def deployment(history: History) -> Deployment:
    """Return the deployment, running."""
    return history.deployment


def missing_engine() -> str | None:
    """Return why nothing can be deployed here, or None."""
    if shutil.which("docker") is None:
        return "docker is not installed"
    if docker("info").returncode != 0:
        return "no docker engine answers (`docker info` fails)"
    if docker("compose", "version").returncode != 0:
        return "docker has no compose plugin (`docker compose version` fails)"
    return None


def docker(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # every argument is written in this file
        ["docker", *arguments],  # noqa: S607  # the docker on the operator's PATH
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_until(condition: Callable[[], bool], logs: Callable[[], str]) -> None:
    """Poll the condition; docker sends no event when a container becomes healthy.

    Past the deadline, fail with the logs.
    """
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, logs()
        time.sleep(0.2)


def result_of_up(deployment: Deployment) -> UpResult:
    return UpResult(
        migrate_code=deployment.inspect("migrate")["State"]["ExitCode"],
        migrate_log=deployment.compose("logs", "--no-color", "migrate").stdout,
        ledger=deployment.as_superuser(LEDGER).split(),
        dumps=deployment.dumps(),
        ready=httpx.get(f"{deployment.url}/health/ready"),
    )


def test_the_service_becomes_healthy_and_ready(history: History) -> None:
    assert history.first.ready.status_code == HTTPStatus.OK
    assert history.second.ready.json()["status"] == "ready"


def test_migrate_succeeds_every_time(history: History) -> None:
    assert (history.first.migrate_code, history.second.migrate_code) == (0, 0)


def test_a_second_run_has_nothing_to_do(history: History) -> None:
    assert "nothing to do" not in history.first.migrate_log
    assert "nothing to do" in history.second.migrate_log


def test_the_ledger_has_each_revision_once(history: History) -> None:
    assert history.first.ledger == [f"{revision}:upgrade:done" for revision in REVISIONS]
    assert history.second.ledger == history.first.ledger


def test_users_outlive_down_and_up(deployment: Deployment, history: History) -> None:
    response = httpx.get(f"{deployment.url}{history.user_path}")
    assert response.status_code == HTTPStatus.OK
    assert response.json().items() >= ADA.items()


def test_an_empty_database_is_not_backed_up(history: History) -> None:
    assert history.first.dumps == []


def test_a_database_with_tables_is_backed_up_before_it_is_migrated(
    deployment: Deployment, history: History
) -> None:
    (dump,) = history.second.dumps
    contents = deployment.in_backups(f"pg_restore --list /backups/{dump}")
    assert " TABLE DATA public users " in contents
    rows = deployment.in_backups(f"pg_restore --file=- --data-only /backups/{dump}")
    assert ADA["full_name"] in rows


def test_a_backup_restores_to_a_database_with_nothing_to_migrate(
    deployment: Deployment, history: History
) -> None:
    with deployment.restored(*history.second.dumps) as database:
        assert "nothing to do" in deployment.migrate(database)


def test_a_deployment_from_before_versions_were_published_can_be_adopted(
    deployment: Deployment, history: History
) -> None:
    with deployment.restored(*history.second.dumps) as database:
        fresh = deployment.as_superuser(RIGHTS, database=database)
        deployment.migrate(database, "alembic", "downgrade", UNPUBLISHED)
        purge = ("python", "-m", "migrations", "purge", "--undone", "--yes")
        deployment.migrate(database, *purge)
        deployment.as_superuser(UNPUBLISH, database=database)
        assert deployment.as_superuser(RIGHTS, database=database) != fresh
        deployment.apply_roles(database)
        deployment.migrate(database, "alembic", "stamp", UNPUBLISHED)
        deployment.migrate(database)
        assert deployment.as_superuser(RIGHTS, database=database) == fresh
        assert "nothing to do" in deployment.migrate(database)


def test_a_backup_that_fails_stops_the_migration(deployment: Deployment) -> None:
    before = deployment.inspect("migrate")["State"]["StartedAt"]
    deployment.as_superuser("ALTER ROLE users_owner NOLOGIN")
    try:
        process = deployment.compose("up", "--detach", check=False)
    finally:
        deployment.as_superuser("ALTER ROLE users_owner LOGIN")
    assert process.returncode != 0
    assert deployment.inspect("backup")["State"]["ExitCode"] != 0
    assert deployment.inspect("migrate")["State"]["StartedAt"] == before


def test_a_backup_that_is_killed_leaves_no_dump_that_looks_whole(deployment: Deployment) -> None:
    before = deployment.dumps()
    with deployment.locked("users"), ThreadPoolExecutor() as background:
        up = background.submit(deployment.compose, "up", "--detach", check=False)
        wait_until(lambda: deployment.dumps() != before, logs=deployment.logs)
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
        # tests/abuse/test_application_role.py tries many more, on a role made like this one
        "SET ROLE users_owner",
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "SELECT pg_read_file('PG_VERSION')",
        "TABLE pg_authid",
    ],
)
def test_the_service_may_not_change_the_schema_nor_use_the_server(
    deployment: Deployment, statement: str
) -> None:
    assert deployment.as_app(statement).stderr.strip() == DENIED


@pytest.mark.parametrize("table", ["users", "alembic_version", "migration_log"])
def test_the_service_may_not_read_the_tables_themselves(deployment: Deployment, table: str) -> None:
    assert deployment.as_app(f"TABLE public.{table}").stderr.strip() == DENIED


def test_the_service_may_read_and_write_its_own_published_version(deployment: Deployment) -> None:
    users = f"{PUBLISHED}.users"
    process = deployment.as_app(
        f"INSERT INTO {users} (full_name) VALUES ('Grace');"
        f"UPDATE {users} SET age = 85 WHERE full_name = 'Grace';"
        f"DELETE FROM {users} WHERE full_name = 'Grace' RETURNING age"
    )
    assert process.stdout == "85\n", process.stderr


def test_an_older_build_may_write_rows_without_a_name(deployment: Deployment) -> None:
    # a name was not required then; the trigger that gives one runs with the service's rights
    nameless = "BEGIN; INSERT INTO at_0004.users (name) VALUES (NULL) RETURNING name; ROLLBACK"
    process = deployment.as_app(nameless)
    assert process.stdout == "Unknown\n", process.stderr


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
def test_the_service_may_not_change_the_recorded_revision(
    deployment: Deployment, statement: str
) -> None:
    process = deployment.as_app(statement)
    assert process.stderr.strip() == "ERROR:  55000"  # a view that nobody can write through
    assert deployment.as_app(f"TABLE {PUBLISHED}.schema_state").stdout == f"{REVISIONS[-1]}\n"


def test_the_evolution_page_works_for_a_role_that_may_not_read_the_tables(
    deployment: Deployment,
) -> None:
    evolution = httpx.get(f"{deployment.url}/evolution.json").json()
    assert evolution["database"]["revision"] == REVISIONS[-1]
    assert [revision["state"] for revision in evolution["chain"]] == ["applied"] * len(REVISIONS)
    assert evolution["drift"]["found"] is False
    assert evolution["builds"] == [
        {
            "revision": REVISIONS[-1],
            "connections": evolution["builds"][0]["connections"],
            "published": True,
        }
    ]
    page = httpx.get(f"{deployment.url}/evolution")
    assert page.status_code == HTTPStatus.OK
    assert "the database is here" in page.text


def test_the_service_cannot_see_the_credentials_of_the_owner(deployment: Deployment) -> None:
    script = "import os; print(*os.listdir('/secrets'))"
    assert deployment.inside("service", "python", "-c", script).stdout.split() == ["app"]


def test_users_service_is_a_command_in_the_image(deployment: Deployment) -> None:
    process = deployment.inside("service", "users-service", "--help")
    assert process.returncode == 0, process.stderr


def test_the_image_has_no_shell_and_no_package_tools(deployment: Deployment) -> None:
    script = """
import importlib.util, os, pathlib
names = {path.name for place in os.environ["PATH"].split(":") + ["/bin", "/sbin", "/usr/bin"]
         for path in pathlib.Path(place).glob("*")}
print(names & {"sh", "bash", "dash", "apt", "apt-get", "dpkg", "pip", "perl", "mount", "su"},
      importlib.util.find_spec("pip"), importlib.util.find_spec("ensurepip"))
"""
    assert deployment.inside("service", "python", "-c", script).stdout == "set() None None\n"
    assert deployment.inside("service", "sh", "-c", "true").returncode != 0


@pytest.mark.parametrize("part", ["rehearsal", "scratch"])
def test_the_image_has_no_code_for_developers(deployment: Deployment, part: str) -> None:
    script = f"import os; print('run' in os.listdir('safely'), '{part}' in os.listdir('safely'))"
    assert deployment.inside("service", "python", "-c", script).stdout == "True False\n"


def test_every_module_in_the_image_is_compiled(deployment: Deployment) -> None:
    script = """
import pathlib
from importlib.util import cache_from_source

files = [path for place in ("/app", "/venv") for path in pathlib.Path(place).rglob("*.py")]
print(len(files) > 1000, [str(f) for f in files if not pathlib.Path(cache_from_source(f)).exists()])
"""
    assert deployment.inside("service", "python", "-c", script).stdout == "True []\n"


def test_the_root_filesystem_is_read_only(deployment: Deployment) -> None:
    # as root, whom permissions alone would not stop
    script = "open('/app/new', 'w')"
    process = deployment.inside("service", "python", "-c", script, user="root")
    assert "Read-only file system" in process.stderr


def test_no_process_of_the_service_is_root(deployment: Deployment) -> None:
    owners = "import glob, os; print({os.stat(p).st_uid for p in glob.glob('/proc/[0-9]*')})"
    assert deployment.inside("service", "python", "-c", owners).stdout == "{10001}\n"


def test_the_database_is_not_published(deployment: Deployment) -> None:
    ports = deployment.inspect("db")["NetworkSettings"]["Ports"]
    assert ports == {"5432/tcp": None}


def test_the_service_is_published_to_this_machine_only(deployment: Deployment) -> None:
    ports = deployment.inspect("service")["NetworkSettings"]["Ports"]
    (place,) = ports["8000/tcp"]
    assert place["HostIp"] == "127.0.0.1"


@pytest.mark.parametrize("service", ["secrets", "db", "backup", "migrate", "service"])
def test_every_step_logs_what_it_does(history: History, service: str) -> None:
    assert f"{service}-1 " in history.logs


@pytest.mark.parametrize("role", ROLES)
def test_no_password_is_logged(deployment: Deployment, history: History, role: str) -> None:
    password = deployment.password(role)
    assert len(password) == 32
    assert password not in history.logs


def test_every_role_has_a_password_of_its_own(deployment: Deployment) -> None:
    assert len({deployment.password(role) for role in ROLES}) == len(ROLES)


def test_the_service_stops_within_its_grace_period(history: History) -> None:
    assert history.stop_code == 0  # killed at the end of its grace period it would be 137


def test_a_backup_is_restored_as_the_documentation_says(deployment: Deployment) -> None:
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


def test_tokens_are_required_when_the_operator_sets_a_token_file(deployment: Deployment) -> None:
    """Follow compose.yaml: create a token, name its file, and no longer allow anonymous clients."""
    create = "python -m service token create --file /tokens/tokens.json --name me --scope read"
    run = ("run", "--rm", "--no-deps", "--no-TTY", "service", *create.split())
    token = deployment.compose(*run).stdout.strip()
    up = ("up", "--detach", "--no-deps", "--wait", "service")
    deployment.compose(*up, TOKENS_FILE="/tokens/tokens.json", ALLOW_ANONYMOUS="0")
    users = f"{deployment.url}/users"
    assert httpx.get(users).status_code == HTTPStatus.UNAUTHORIZED
    response = httpx.get(users, headers={"Authorization": f"Bearer {token}"})
    assert response.status_code == HTTPStatus.OK
    assert token not in deployment.compose("logs", "service").stdout
