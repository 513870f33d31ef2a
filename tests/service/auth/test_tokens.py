"""Tokens: their file, its changes while a service runs, and its commands."""

import asyncio
import logging
import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from service.auth import tokens
from service.auth.tokens import TokenRefused, Tokens, check_access
from service.cli.main import main
from service.settings import Settings, SettingsError
from tests.commands import run_service_command
from tests.paths import ROOT

HASH = "0dcda8cf3fa92e84280d59c9d84b840ac373b9d6f5e9d1d377243fee59743f30"


class Clock:
    """A clock that the test advances."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tokens.json"


def test_only_the_secret_finds_a_token(file: Path) -> None:
    secret = tokens.create(str(file), "shop", ["write", "read"])
    tokens.create(str(file), "mill", ["operate"])
    token = Tokens(str(file)).find(secret)
    assert token
    assert (token.name, token.scopes) == ("shop", ("read", "write"))
    for other in ("", secret[:-1], secret + "A", secret.removeprefix("usr_"), token.hash):
        assert Tokens(str(file)).find(other) is None


def test_a_secret_is_prefixed_random_and_not_in_the_file(file: Path) -> None:
    secrets = {tokens.create(str(file), f"t{number}", ["read"]) for number in range(5)}
    assert len(secrets) == 5
    content = file.read_text(encoding="utf-8")
    for secret in secrets:
        assert re.fullmatch(r"usr_[A-Za-z0-9_-]{43}", secret)
        assert secret.removeprefix("usr_") not in content


def test_the_file_is_legible_and_only_its_owner_can_read_it(file: Path) -> None:
    tokens.create(str(file), "shop", ["read"], datetime(2040, 1, 31, tzinfo=UTC))
    assert file.stat().st_mode & 0o777 == 0o600
    lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    assert '"name": "shop",' in lines
    assert '"expires": "2040-01-31T00:00:00Z"' in lines


def test_a_change_keeps_the_files_mode_and_owner(file: Path) -> None:
    tokens.create(str(file), "shop", ["read"])
    file.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(file, 10001, 10002)
    before = file.stat()
    tokens.create(str(file), "mill", ["read"])
    after = file.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (
        before.st_mode,
        before.st_uid,
        before.st_gid,
    )


def test_a_link_to_the_file_stays_a_link(tmp_path: Path, file: Path) -> None:
    """Kubernetes mounts a secret as a chain of links."""
    (tmp_path / "..2026").mkdir()
    (tmp_path / "..data").symlink_to("..2026")
    file.symlink_to("..data/tokens.json")
    secret = tokens.create(str(file), "shop", ["read"])
    tokens.create(str(file), "mill", ["read"])
    assert file.is_symlink()
    assert Tokens(str(file)).find(secret)
    assert len(tokens.read(tmp_path / "..2026/tokens.json")) == 2


def test_a_replaced_link_is_noticed(tmp_path: Path, file: Path) -> None:
    data = tmp_path / "..data"
    for year in ("..2026", "..2027"):
        (tmp_path / year).mkdir()
    old = tokens.create(str(tmp_path / "..2026/tokens.json"), "shop", ["read"])
    new = tokens.create(str(tmp_path / "..2027/tokens.json"), "shop", ["read"])
    data.symlink_to("..2026")
    file.symlink_to("..data/tokens.json")
    store = Tokens(str(file), clock := Clock())
    assert store.find(old)
    (tmp_path / "next").symlink_to("..2027")
    (tmp_path / "next").replace(data)
    clock.now += 1
    assert (store.find(old) is None, store.find(new) is None) == (True, False)


def test_an_expired_token_is_found_and_marked_expired(file: Path) -> None:
    now = datetime.now(UTC)
    secret = tokens.create(str(file), "shop", ["read"], now)
    token = Tokens(str(file)).find(secret)
    assert token
    assert token.expired(now)
    assert not token.expired(now - timedelta(seconds=1))


def test_changes_are_seen_within_a_second(file: Path) -> None:
    first = tokens.create(str(file), "shop", ["read"])
    store = Tokens(str(file), clock := Clock())
    second = tokens.create(str(file), "mill", ["read"])
    tokens.revoke(str(file), "shop")
    clock.now += 0.5  # too soon for another check
    assert (store.find(first) is None, store.find(second) is None) == (False, True)
    clock.now += 0.5
    assert (store.find(first) is None, store.find(second) is None) == (True, False)


@pytest.mark.parametrize("damage", ["vanished", "malformed"])
def test_a_damaged_file_keeps_the_old_tokens_and_is_logged_once(
    file: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    secret = tokens.create(str(file), "shop", ["read"])
    store = Tokens(str(file), clock := Clock())
    content = file.read_bytes()
    if damage == "vanished":
        file.unlink()
    else:
        file.write_bytes(content[:50])
    for _ in range(3):
        clock.now += 1
        assert store.find(secret)
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
    assert str(file) in errors[0].getMessage()
    file.write_bytes(content)
    other = tokens.create(str(file), "mill", ["read"])
    clock.now += 1
    assert store.find(other)


MALFORMED = {
    "": "malformed: Input data was truncated",
    "[]": "malformed: Expected `object`",
    "{}": "malformed: Object missing required field `tokens`",
    f'{{"{HASH}": ["read"]}}': "malformed: Object contains unknown field `…`",
    '{"tokens": [{"name": "a b", "hash": "%s", "scopes": []}]}': "regex",
    '{"tokens": [{"name": "a", "hash": "%sF", "scopes": []}]}': "regex",
    '{"tokens": [{"name": "a", "hash": "%s", "scopes": ["admin"]}]}': "'admin'",
    '{"tokens": [{"name": "a", "hash": "%s", "scopes": ["%s"]}]}': "Invalid enum value",
    '{"tokens": [{"name": "a", "hash": "%s", "scopes": [], "expire": null}]}': "`expire`",
    '{"tokens": [{"name": "a", "hash": "%s", "scopes": [], "created": "2026-01-01"}]}': "datetime",
    '{"tokens": [{"name": "a", "hash": "%s", "scopes": [], "created": "2026-01-01T00:00:00"}]}': (
        "timezone"
    ),
    '{"tokens": [{"name": "a", "hash": "%s", "scopes": [], "created": "2026-01-01T00:00:00Z"},'
    ' {"name": "a", "hash": "%s", "scopes": [], "created": "2026-01-01T00:00:00Z"}]}': (
        "two tokens of the name a"
    ),
}


@pytest.mark.parametrize("content", MALFORMED)
def test_a_malformed_file_is_refused_in_one_line_without_hashes(file: Path, content: str) -> None:
    file.write_text(content.replace("%s", HASH), encoding="utf-8")
    with pytest.raises(SettingsError, match=re.escape(MALFORMED[content])) as refusal:
        Tokens(str(file))
    message = str(refusal.value)
    assert str(file) in message
    assert "\n" not in message
    assert HASH not in message
    with pytest.raises(SettingsError):  # nor does `create` overwrite it
        tokens.create(str(file), "shop", ["read"])
    assert file.read_text(encoding="utf-8") == content.replace("%s", HASH)


def test_a_missing_file_is_refused(file: Path) -> None:
    with pytest.raises(SettingsError, match=f"can't read the token file {file}: No such file"):
        Tokens(str(file))


@pytest.mark.parametrize("name", ["", "x" * 65, "two words", "ünique", "a\n", "a/b", '"', "a,b"])
def test_an_invalid_name_is_refused(file: Path, name: str) -> None:
    with pytest.raises(TokenRefused, match="a name has"):
        tokens.create(str(file), name, ["read"])
    assert not file.exists()


def test_a_name_is_unique_until_it_is_revoked(file: Path) -> None:
    old = tokens.create(str(file), "shop", ["read"])
    with pytest.raises(TokenRefused, match="there is a token of the name shop"):
        tokens.create(str(file), "shop", ["read"])
    tokens.revoke(str(file), "shop")
    with pytest.raises(TokenRefused, match="there is no token of the name shop"):
        tokens.revoke(str(file), "shop")
    tokens.create(str(file), "shop", ["read"])
    assert Tokens(str(file)).find(old) is None


WITHOUT_DISK_SPACE = """
import resource, sys
from service.cli.main import main
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
sys.exit(main())
"""


def test_a_change_that_fails_leaves_the_file_as_it_was(file: Path) -> None:
    tokens.create(str(file), "shop", ["read"])
    content, siblings = file.read_bytes(), set(file.parent.iterdir())
    command = [sys.executable, "-c", WITHOUT_DISK_SPACE, "token", "revoke", "--name", "shop"]
    process = subprocess.run(
        [*command, "--file", str(file)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert process.returncode == 2
    message = f"can't revoke the token: can't change the token file {file}: File too large\n"
    assert process.stderr == message
    assert (file.read_bytes(), set(file.parent.iterdir())) == (content, siblings)


def test_a_missing_directory_is_reported(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"can't change the token file .*: No such file"):
        tokens.create(str(tmp_path / "missing/tokens.json"), "shop", ["read"])


async def test_tokens_created_by_several_processes_at_once_are_all_stored(file: Path) -> None:
    results = await asyncio.gather(
        *(
            run_service_command(
                "token", "create", "--name", f"t{n}", "--scope", "read", "--file", str(file)
            )
            for n in range(3)
        )
    )
    store = Tokens(str(file))
    for code, out, _ in results:
        assert code == 0
        assert store.find(out.strip())
    assert {token.name for token in tokens.read(file)} == {"t0", "t1", "t2"}


async def test_the_commands_create_list_and_revoke(file: Path) -> None:
    environment = {"TOKENS_FILE": str(file)}
    code, secret, message = await run_service_command(
        "token", "create", "--name", "shop", "--scope", "write", "--scope", "read",
        "--expires", "90d", **environment,
    )  # fmt: skip
    assert code == 0
    assert re.fullmatch(r"usr_[A-Za-z0-9_-]{43}\n", secret)
    assert message == "This is shown once, and kept nowhere.\n"

    code, out, err = await run_service_command("token", "list", **environment)
    day = f"{datetime.now(UTC) + timedelta(days=90):%Y-%m-%d}"
    assert (code, err) == (0, "")
    assert re.search(rf"^shop +read,write +.* {day} \d\d:\d\d$", out, re.MULTILINE)
    assert not re.search(r"[0-9a-f]{8}", out)  # no hash, no secret

    code, out, err = await run_service_command("token", "revoke", "--name", "shop", **environment)
    assert (code, out) == (0, "")
    assert tokens.read(file) == ()


def test_the_list_marks_expired_tokens(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tokens.create(str(file), "old", ["read"], datetime(2020, 1, 31, tzinfo=UTC))
    assert main(["token", "list", "--file", str(file)]) == 0
    assert capsys.readouterr().out.splitlines()[1].endswith("2020-01-31 00:00, over")


REFUSED = {
    ("list",): "can't list the tokens: say where: set TOKENS_FILE, or give --file",
    ("revoke", "--name", "x"): "can't revoke the token: say where: ",
    ("create", "--name", "x", "--scope", "read"): "can't create the token: say where: ",
    ("list", "--file", "/no/such"): "can't list the tokens: can't read the token file /no/such",
}


@pytest.mark.parametrize("arguments", REFUSED, ids=" ".join)
def test_a_command_that_fails_prints_one_line(
    arguments: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("TOKENS_FILE", raising=False)
    assert main(["token", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(REFUSED[arguments])
    assert err.count("\n") == 1


WRONG_USAGE = {
    ("--scope", "admin"): "invalid choice: 'admin'",
    ("--scope", "read", "--expires", "tomorrow"): "write a day, 2027-01-31, or days, 90d",
    ("--scope", "read", "--expires", "2020-01-01"): "that is over already",
    ("--scope", "read", "--expires", "0d"): "that is over already",
    (): "the following arguments are required: --scope",
}


@pytest.mark.parametrize("arguments", WRONG_USAGE, ids=" ".join)
def test_wrong_usage_is_reported_and_creates_no_file(
    file: Path, arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["token", "create", "--name", "x", "--file", str(file), *arguments])
    assert WRONG_USAGE[arguments] in capsys.readouterr().err
    assert not file.exists()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_on_loopback_no_access_setting_is_required(host: str) -> None:
    check_access(Settings(host=host))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org"])  # noqa: S104  # these hosts are refused
def test_on_other_hosts_an_access_setting_is_required(file: Path, host: str) -> None:
    with pytest.raises(SettingsError, match="set TOKENS_FILE, or say ALLOW_ANONYMOUS=1"):
        check_access(Settings(host=host))
    check_access(Settings(host=host, allow_anonymous=True))
    tokens.create(str(file), "shop", ["read"])
    check_access(Settings(host=host, tokens_file=str(file)))


def test_tokens_and_anonymity_exclude_each_other(file: Path) -> None:
    tokens.create(str(file), "shop", ["read"])
    with pytest.raises(SettingsError, match="both set; keep one"):
        check_access(Settings(tokens_file=str(file), allow_anonymous=True))


def test_an_unusable_token_file_is_refused_at_start(file: Path) -> None:
    with pytest.raises(SettingsError, match="can't read the token file"):
        check_access(Settings(tokens_file=str(file)))
    file.write_text('{"tokens": 3}', encoding="utf-8")
    with pytest.raises(SettingsError, match="malformed"):
        check_access(Settings(tokens_file=str(file)))
