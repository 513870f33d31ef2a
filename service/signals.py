"""The signals that stop the service, and when they are obeyed."""

import signal
from collections.abc import Callable

STOP_SIGNALS = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})


def handle_stop_signals(handler: Callable[..., object]) -> None:
    """Let the handler obey these signals; SIGHUP stays ignored where it is, as below nohup."""
    for number in STOP_SIGNALS:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handler)


def hold_stop_signals() -> None:
    """Let these signals wait, in this thread and in those that it starts."""
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)


def release_stop_signals() -> None:
    """Obey these signals again, also those that have waited."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
