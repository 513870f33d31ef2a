"""The Makefile says where the locked dependencies can't be installed."""

import subprocess
import sys

import pytest

from tests.paths import ROOT

CHECK = ((ROOT / "Makefile").read_text(encoding="utf-8").split("define CHECK_PYTHON\n")[1]).split(
    "\nendef\n"
)[0]


def check(*changes: str) -> tuple[int, str]:
    """Run the check on a Python that is another in some way; return its exit code and line."""
    code = "\n".join(["import platform, sys, sysconfig", *changes, CHECK])
    process = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True
    )
    return process.returncode, process.stdout + process.stderr


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("sys.version_info = (3, 10, 4)", "Python 3.11 or later, and this is CPython 3.10; try"),
        ("platform.python_implementation = lambda: 'PyPy'", "PyPy"),
        ("sysconfig.get_config_var = lambda name: name == 'Py_GIL_DISABLED'", "without GIL"),
        ("sys.platform = 'win32'", "use WSL"),
    ],
)
def test_a_python_on_which_nothing_can_be_installed_is_refused_in_one_line(
    change: str, words: str
) -> None:
    code, line = check(change)
    assert (code, line.count("\n")) == (1, 1)
    assert words in line


def test_a_newer_python_is_tried_with_a_word_about_what_may_fail() -> None:
    code, line = check("sys.version_info = (3, 16, 0)")
    assert (code, line.count("\n")) == (0, 1)
    assert "CPython 3.16 is newer than the locked dependencies" in line


def test_nothing_is_said_on_this_python() -> None:
    assert check() == (0, "")
