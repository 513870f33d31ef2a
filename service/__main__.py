"""`python -m service`: serve, or do what the command says."""

import sys

from service.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
