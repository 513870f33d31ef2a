"""The command line: which commands there are, and what the program is called."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import run_module
from tests.paths import ROOT

SCRIPT = f"""\
#!{sys.executable}
import sys
from service.cli.main import main
sys.exit(main())
"""
NOWHERE = "sqlite:////nowhere/users.sqlite"


def test_help_lists_all_commands() -> None:
    process = run_module("service", NOWHERE, "--help", cwd=ROOT)
    assert process.returncode == 0
    assert process.stdout.startswith("usage: python -m service [-h] COMMAND ...\n")
    for command in ("serve", "token", "import", "export"):
        assert f"\n    {command} " in process.stdout


def test_serve_serves_as_no_command_does() -> None:
    for arguments in ([], ["serve"]):
        process = run_module("service", NOWHERE, *arguments, cwd=ROOT, PORT="http")
        assert process.returncode == 2
        assert process.stderr.startswith("can't start: PORT: ")


def test_the_console_script_calls_itself_by_its_own_name(tmp_path: Path) -> None:
    script = tmp_path / "users-service"
    script.write_text(SCRIPT, encoding="utf-8")
    for arguments, usage in (
        (["--help"], "usage: users-service [-h] COMMAND ..."),
        (["token", "list", "--help"], "usage: users-service token list [-h] [--file FILE]"),
    ):
        process = subprocess.run(
            [sys.executable, script, *arguments],
            check=True,
            capture_output=True,
            text=True,
            env={"PYTHONPATH": str(ROOT)},
        )
        assert process.stdout.splitlines()[0] == usage


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is full")
def test_a_token_that_can_not_be_shown_is_not_made(tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    command = ["token", "create", "--name", "billing", "--scope", "read", "--file", str(file)]
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        process = subprocess.run(
            [sys.executable, "-m", "service", *command],
            check=False,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
    assert process.returncode == 2
    assert process.stderr == "can't create the token: No space left on device\n"
    assert json.loads(file.read_text(encoding="utf-8")) == {"tokens": []}
