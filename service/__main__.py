"""`python -m service`, and the console command `users-service`: see `service.cli.main`."""

import os
import sys

from service.signals import handle_stop_signals, hold_stop_signals

# The imports take most of a second. A signal that comes meanwhile would end Python with a
# traceback, or be lost where this is the first process of a container.
if sys.argv[1:] in ([], ["serve"]):
    handle_stop_signals(lambda *_: os._exit(0))  # nothing has begun
else:
    hold_stop_signals()  # until `main` knows the command

from service.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
