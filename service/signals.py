"""The signals that stop the service, and when they are obeyed."""

import signal

STOP_SIGNALS = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})


def hold_stop_signals() -> None:
    """Let these signals wait, in this thread and in those that it starts."""
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)


def release_stop_signals() -> None:
    """Obey these signals again, also those that have waited."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
