"""`python -m service`, and the console command `users-service`: see `service.cli.main`."""

import sys

from service.signals import hold_stop_signals

# The imports take most of a second. A signal that comes meanwhile would end Python with a
# traceback, or be lost where this is the first process of a container; `main` releases it.
hold_stop_signals()

from service.cli.main import main  # noqa: E402  # see above

if __name__ == "__main__":
    sys.exit(main())
