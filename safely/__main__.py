"""python -m safely COMMAND."""

import sys

from safely.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
