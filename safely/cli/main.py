"""python -m safely COMMAND: what Alembic lacks, on the project whose alembic.ini is found."""

import argparse
import asyncio
import os
import sys
import traceback
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from safely import alembic_ini, closed_output, invocation
from safely.cli import CODES, UNKNOWN
from safely.database import Outage
from safely.invocation import Invocation

INTERRUPTED = 130  # as shells have it
COMMANDS = ("log", "drift", "rehearse", "lint", "stats", "backup", "restore", "purge")


class Parser(argparse.ArgumentParser):
    """Parses arguments; of a wrong one it says in one line what is wrong."""

    def error(self, message: str) -> NoReturn:
        """Print the message and exit."""
        self.exit(UNKNOWN, f"FAILED: {self.prog}: {message} (--help lists what there is)\n")


def main(arguments: Sequence[str] | None = None, *, prog: str = "python -m safely") -> int:
    """Run a command; return the exit code."""
    options = parser(prog).parse_args(arguments)
    try:
        with closed_output.quiet():
            code = run(options)
            sys.stdout.flush()
            return code
    except Outage as error:
        print(f"FAILED: {error}. Run the same command again when that is mended", file=sys.stderr)
        return UNKNOWN
    except CommandError as error:
        print(f"FAILED: {error}", file=sys.stderr)
        return UNKNOWN
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception:  # noqa: BLE001  # it may come from env.py or a revision, and 1 means a finding
        traceback.print_exc()
        return UNKNOWN


def run(options: argparse.Namespace) -> int:
    """Let the project's env.py run the command; raise CommandError where it does not."""
    command: Any = options.module
    call = Invocation(partial(command.run, options), needs_database=command.NEEDS_DATABASE)
    config = configuration(options)
    config.attributes[invocation.KEY] = call
    script = ScriptDirectory.from_config(config)
    with EnvironmentContext(config, script, fn=unused, dont_mutate=True):
        script.run_env()
    if call.exit_code is None:
        raise CommandError(
            f"{Path(script.dir) / 'env.py'} does not run its steps in safely.env.guarded(…), which "
            "all commands of safely need: its docstring shows how"
        )
    return call.exit_code


def unused(*_: object) -> list[NoReturn]:
    """Plan nothing: guarded() runs the command in the place of Alembic's."""
    return []


def configuration(options: argparse.Namespace) -> Config:
    """Return the configuration that Alembic would use: -c, ALEMBIC_CONFIG or alembic.ini."""
    named = options.config or os.environ.get(alembic_ini.VARIABLE)
    if named and not Path(named).exists():
        raise CommandError(f"there is no {named}: name the project's configuration with -c FILE")
    if not named and alembic_ini.configuration_in(Path.cwd()) is None:
        file = alembic_ini.above(Path.cwd())
        way = f"type `cd {file.parent}` first" if file else "name the project's with -c FILE"
        raise CommandError(f"there is no alembic.ini here: {way}")
    candidates = [named] if named else ["alembic.ini", "pyproject.toml"]
    files = {Path(file).suffix: file for file in candidates if Path(file).exists()}
    toml = files.pop(".toml", None)
    ini = next(iter(files.values()), None)
    return Config(ini, toml_file=toml, ini_section=options.name, cmd_opts=options)


def parser(prog: str) -> argparse.ArgumentParser:
    """Return the parser of the commands; a command's module is imported when it is named."""
    top = Parser(prog=prog, description=__doc__, epilog=CODES)
    top.add_argument("-c", "--config", metavar="FILE", help="alembic.ini or pyproject.toml")
    top.add_argument("-n", "--name", default="alembic", help="its section; default: alembic")
    top.add_argument(
        "-x", action="append", metavar="NAME=VALUE", help="for env.py, as with alembic"
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    for name in COMMANDS:
        try:
            module = import_module(f"safely.cli.{name}")
        except ModuleNotFoundError as error:
            if not str(error.name).startswith("safely."):
                raise
            continue  # a production image leaves it out
        command = commands.add_parser(name, help=module.WHAT, description=module.WHAT, epilog=CODES)
        command.set_defaults(module=module)
        command.add_argument("--json", action="store_true", help="for machines")
        module.arguments(command)
    return top
