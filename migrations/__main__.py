"""Run `python -m safely` on the revisions beside this file: python -m migrations COMMAND."""

import sys

from safely.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
