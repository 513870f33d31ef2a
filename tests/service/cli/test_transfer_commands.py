"""`python -m service import` and `export`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import run_module
from tests.paths import ROOT

PEOPLE = ROOT / "tests/data/people.csv"


def run(url: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return run_module("service", url, *map(str, arguments), cwd=ROOT)


def test_a_file_is_imported_exported_and_imported_again(url: str, tmp_path: Path) -> None:
    rejected, out = tmp_path / "rejected.ndjson", tmp_path / "out.csv"
    first = run(url, "import", PEOPLE, "--on-conflict", "skip", "--rejected", rejected)
    assert first.stdout == "1377 created, 0 updated, 6 skipped, 152 rejected\n"
    assert first.returncode == 1  # not every line is a user now
    lines = [json.loads(line) for line in rejected.read_text("utf-8").splitlines()]
    assert len(lines) == 152
    assert lines[0]["line"] == 2

    exported = run(url, "export", "--output", out)
    assert (exported.returncode, exported.stdout, exported.stderr) == (0, "", "")
    assert len(out.read_text("utf-8").splitlines()) == 1378
    again = run(url, "import", out, "--on-conflict", "update")
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout == "0 created, 1377 updated, 0 skipped, 0 rejected\n"


def test_a_file_of_a_spreadsheet_is_imported_and_exported_for_one(url: str, tmp_path: Path) -> None:
    file = tmp_path / "saved.csv"
    file.write_bytes("full_name;age;\r\nZoë;36;\r\n=1+1;;\r\n".encode("cp1252"))
    refused = run(url, "import", file)
    assert "is not UTF-8: save the file as UTF-8, or name its charset" in refused.stderr
    assert run(url, "import", file, "--charset", "windows-1252").returncode == 0
    exported = run(url, "export", "--format", "csv", "--formulas", "text").stdout
    assert exported == "id,full_name,email,age\n1,Zoë,,36\n2,'=1+1,,\n"
    for wrong in (["import", file, "--charset", "x"], ["export", "--formulas", "text"]):
        assert run(url, *wrong).stderr.count("\n") == 1


def test_an_import_that_is_refused_prints_why_and_stores_nothing(url: str) -> None:
    refused = run(url, "import", PEOPLE)
    assert refused.returncode == 2
    first, *_, last = refused.stderr.splitlines()
    assert first == "line 2: age must be between 0 and 150"
    assert last == "can't import: 152 lines can't be users"
    assert run(url, "export").stdout == ""


def test_an_export_goes_to_standard_output_and_can_be_filtered(url: str) -> None:
    run(url, "import", PEOPLE, "--on-conflict", "skip")
    lines = run(url, "export", "--name", "ada e").stdout.splitlines()
    assert [json.loads(line)["full_name"] for line in lines] == ["Ada E. Yonath"]
    assert run(url, "export", "--format", "csv").stdout.startswith("id,full_name,email,age\n")


def test_commands_end_quietly_where_nobody_reads_their_output_any_more(url: str) -> None:
    """As in `export | head`."""
    run(url, "import", PEOPLE, "--on-conflict", "skip")
    for command in (
        ["service", "export"],
        ["migrations", "log"],
        ["migrations", "log", "--json"],
        ["alembic", "upgrade", "head", "--sql"],
    ):
        reader, writer = os.pipe()
        os.close(reader)
        process = subprocess.run(
            [sys.executable, "-m", *command],
            check=False,
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "DATABASE_URL": url},
        )
        os.close(writer)
        assert (process.returncode, process.stderr) == (141, ""), command


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["import", "nowhere.csv"], "can't import: nowhere.csv: No such file or directory"),
        (["import", "users.xml"], "can't import: users.xml does not end in .csv, .ndjson, .jsonl"),
        (["export", "--output", "/nowhere/a.csv"], "can't export: /nowhere/a.csv.part: No such"),
        (["export", "--name", "a\tb"], "can't export: name must have at most 254 characters"),
    ],
)
def test_a_command_that_fails_prints_one_line(url: str, arguments: list[str], message: str) -> None:
    process = run(url, *arguments)
    assert process.returncode == 2
    assert process.stderr.startswith(message)
    assert len(process.stderr.splitlines()) == 1


def test_an_outage_prints_one_line(tmp_path: Path) -> None:
    process = run("postgresql://u:hunter2@127.0.0.1:1/d", "export", "--output", tmp_path / "a.csv")
    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr == "can't export: nothing listens there\n"
    assert not (tmp_path / "a.csv").exists()
