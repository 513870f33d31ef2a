"""Alembic's command line on a scratch database: python -m safely.scratch.alembic ARGUMENTS.

The target comes by standard input: command lines and environments can be read by others, and its
address may contain a password.
"""

import json
import logging
import sys
from typing import NamedTuple

from alembic.config import CommandLine, Config

from safely import invocation
from safely.invocation import Invocation


class Target(NamedTuple):
    """The configuration to use, and the database that takes the place of the project's own."""

    ini: str | None  # the path of alembic.ini
    toml: str | None  # the path of pyproject.toml
    section: str
    address: str
    app_role: str


def main() -> None:
    """Run the project's alembic as `alembic ARGUMENTS` would, on the target."""
    command_line = CommandLine(prog="alembic")
    options = command_line.parser.parse_args()
    target = Target(**json.load(sys.stdin))
    config = Config(target.ini, toml_file=target.toml, ini_section=target.section, cmd_opts=options)
    # a rehearsal reads it, whatever logging the project sets up
    logging.getLogger("safely").addHandler(logging.StreamHandler())
    config.attributes[invocation.KEY] = Invocation(address=target.address, app_role=target.app_role)
    command_line.run_cmd(config, options)


if __name__ == "__main__":
    main()
