"""python -m migrations COMMAND: python -m safely on the alembic.ini beside this directory."""

import sys
from pathlib import Path

from safely.cli.main import main

if __name__ == "__main__":
    ini = Path(__file__).parent.parent / "alembic.ini"
    sys.exit(main(["-c", str(ini), *sys.argv[1:]], prog="python -m migrations"))
