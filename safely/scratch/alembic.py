"""Alembic's command line on a scratch database: python -m safely.scratch.alembic ARGUMENTS.

The address comes by standard input, since command lines and environments can be read by others.
"""

import json
import sys

from alembic.config import CommandLine, Config

from safely import invocation
from safely.invocation import Invocation


def main() -> None:
    """Run the project's alembic as `alembic ARGUMENTS` would, on another database."""
    line = CommandLine(prog="alembic")
    options = line.parser.parse_args()
    sections = json.load(sys.stdin)
    config = Config(
        sections["ini"], toml_file=sections["toml"], ini_section=sections["name"], cmd_opts=options
    )
    config.attributes[invocation.KEY] = Invocation(
        address=sections["address"], app_role=sections["app_role"]
    )
    line.run_cmd(config, options)


if __name__ == "__main__":
    main()
