"""Settings: accepted and refused values; the README lists them all."""

import re
from pathlib import Path

import pytest

from service.settings import Settings, SettingsError
from tests.commands import run_alembic
from tests.databases import Databases
from tests.paths import ROOT


@pytest.mark.parametrize(
    ("name", "value"),
    [("PORT", "http"), ("PORT", "70000"), ("WORKERS", "0"), ("LOG_FORMAT", "xml"),
     ("POOL_TIMEOUT", "-1"), ("MAX_BODY", "1MB")],
)  # fmt: skip
def test_a_wrong_value_is_refused_with_the_name_of_its_variable(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name}: "):
        Settings.from_environment({name: value})


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [("RATE_LIMIT", "600", "requests per seconds, such as 600/60"),
     ("RATE_LIMIT", "0/60", "requests per seconds"),
     ("CORS_ORIGINS", "https://a.example/", "origins without a path"),
     ("CORS_ORIGINS", "nonsense", "origins without a path"),
     ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318", "a URL"),
     ("TRANSFER_TIMEOUT", "2592000", "<= 2147483"),
     ("WORKERS", "1000000000", "<= 512")],
)  # fmt: skip
def test_a_value_of_the_wrong_form_is_refused_with_a_description(
    name: str, value: str, words: str
) -> None:
    with pytest.raises(SettingsError, match=f"^{name}.*{re.escape(words)}"):
        Settings.from_environment({name: value})


def test_several_origins_are_accepted() -> None:
    origins = "https://a.example, http://localhost:3000,https://[::1]:8443"
    assert Settings.from_environment({"CORS_ORIGINS": origins}).cors_origins == origins


def test_empty_variables_count_as_absent() -> None:
    assert Settings.from_environment({"PORT": "", "DATABASE_URL": ""}) == Settings()


def test_a_secret_can_come_from_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "url"
    secret.write_text("postgresql://u:p@h/d\n", encoding="utf-8")
    settings = Settings.from_environment({"DATABASE_URL_FILE": str(secret)})
    assert settings.database_url == "postgresql://u:p@h/d"
    with pytest.raises(SettingsError, match="both set"):
        Settings.from_environment({"DATABASE_URL_FILE": str(secret), "DATABASE_URL": "sqlite:///x"})
    with pytest.raises(SettingsError, match="can't read"):
        Settings.from_environment({"DATABASE_URL_FILE": str(tmp_path / "missing")})


def test_a_representation_of_the_settings_shows_no_secret() -> None:
    settings = Settings.from_environment({"DATABASE_URL": "postgresql://u:hunter2@h/d"})
    assert "hunter2" not in repr(settings)
    assert "port=8000" in repr(settings)


def test_the_readme_has_every_setting_with_its_default() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([A-Z_]+)` \| `?([^|`]*?)`? \|", readme, re.MULTILINE))
    expected = {
        name.upper(): f"{default:g}" if isinstance(default, float) else str(default)
        for name, default in zip(
            Settings.__struct_fields__, Settings.__struct_defaults__, strict=True
        )
    }
    assert rows == expected


WRONG = {
    "mysql://someone:hunter2@h/d": "unknown scheme",
    "postgresql://someone:hunter2@no-such-host.invalid/d": "there is no host of that name",
    "postgresql://someone:hunter2@127.0.0.1:1/d": "nothing listens there",
    "sqlite:////no/such/directory/users.sqlite": "the file can't be opened",
}


@pytest.mark.parametrize("url", WRONG)
def test_alembic_stops_at_a_wrong_url_with_check_one_clear_line(url: str) -> None:
    check_one_clear_line(url, WRONG[url])


async def test_alembic_stops_at_a_wrong_password_and_at_a_missing_database(
    all_databases: dict[str, Databases],
) -> None:
    server = all_databases["postgresql"].server
    check_one_clear_line(server.url("no_such_database"), "there is no database of that name")

    hba = server.directory / "pg_hba.conf"
    before = hba.read_text(encoding="utf-8")
    await all_databases["postgresql"].execute("CREATE ROLE careful LOGIN PASSWORD 'right'")
    hba.write_text("local all careful scram-sha-256\n" + before, encoding="utf-8")
    await all_databases["postgresql"].execute("SELECT pg_reload_conf()")
    try:
        url = server.url("postgres").replace("postgres@", "careful:hunter2@")
        check_one_clear_line(url, "the password is wrong")
    finally:
        hba.write_text(before, encoding="utf-8")
        await all_databases["postgresql"].execute("DROP ROLE careful; SELECT pg_reload_conf()")


def check_one_clear_line(url: str, expected: str) -> None:
    process = run_alembic(url, "upgrade", "head", check=False)
    assert process.returncode != 0
    assert expected in process.stdout
    assert len(process.stdout.strip().splitlines()) == 1
    assert process.stderr == ""
    assert "hunter2" not in process.stdout


def test_alembic_ini_holds_no_database_url() -> None:
    """A `%` in a password would have to be doubled there."""
    assert "sqlalchemy.url" not in (ROOT / "alembic.ini").read_text(encoding="utf-8")
