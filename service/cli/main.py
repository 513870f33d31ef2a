"""The commands of `python -m service`, and of the console script `users-service`."""

import argparse
import os
import re
import select
import signal
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from service.auth import tokens
from service.cli.serve import serve
from service.cli.transfer import TransferError, add_transfer_commands
from service.database_errors import why_unavailable
from service.errors import OutcomeUnknown, Refusal
from service.observability.logs import printable
from service.settings import Settings, SettingsError
from service.signals import STOP_SIGNALS, handle_stop_signals, release_stop_signals

DONE, CANNOT, INTERRUPTED, OUTPUT_CLOSED = 0, 2, 130, 141  # exit codes; the last as SIGPIPE's
SCRIPT = "users-service"
DESCRIPTION = "Serve, which is the default, or do what another command says."
DAYS = re.compile(r"(\d{1,5})d", re.ASCII)


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit code; print one line where it can't be done."""
    options = parser().parse_args(arguments)
    if options.run is start:
        handle_stop_signals(end_at_once)  # until the workers' parent takes over
    try:
        release_stop_signals()
        return output_written(options)
    except OutcomeUnknown:
        print(
            f"{options.task}: the database was lost during the commit; everything is stored or"
            " nothing: look for a user of the file before you try again",
            file=sys.stderr,
        )
    except (SettingsError, tokens.TokenRefused, TransferError, Refusal) as error:
        # printable: a refusal repeats what is in the file
        print(f"can't {options.task}: {printable(str(error))}", file=sys.stderr)
    except KeyboardInterrupt:
        print(f"{options.task} was interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        reason = why_unavailable(error)
        if reason is None and isinstance(error, DBAPIError):
            reason = f"the database refused it: {kind_of(error)}"
        if reason is None:
            raise
        print(f"can't {options.task}: {reason}", file=sys.stderr)
    return CANNOT


def output_written(options: argparse.Namespace) -> int:
    """Run a command and return its exit code, also where nobody reads its output any more."""
    try:
        code = options.run(options) or DONE
        sys.stdout.flush()
    except BrokenPipeError as error:
        if output_has_reader():
            print(f"can't {options.task}: {error.strerror}", file=sys.stderr)
            return CANNOT
        # otherwise Python would report at its exit that the rest can't be written
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OUTPUT_CLOSED
    return code


def end_at_once(*_: object) -> None:
    """End the process with exit code 0 (signal handler)."""
    for number in STOP_SIGNALS:  # one more would end Python with another code while it cleans up
        signal.signal(number, signal.SIG_IGN)
    sys.exit(DONE)


def output_has_reader() -> bool:
    """Return whether standard output can be written: not where it is a pipe to an ended `head`."""
    output = select.poll()
    output.register(sys.stdout, 0)
    return not output.poll(0)


def kind_of(error: DBAPIError) -> str:
    """Return the driver's class of the error and its constraint, if any; no values of rows."""
    cause = getattr(error.orig, "driver_exception", None) or error.orig
    return " ".join(filter(None, (type(cause).__name__, getattr(cause, "constraint_name", None))))


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; without a command it serves."""
    top = argparse.ArgumentParser(prog=program_name(sys.argv[0]), description=DESCRIPTION)
    serving = {"run": start, "task": "start"}
    top.set_defaults(**serving)
    commands = top.add_subparsers(metavar="COMMAND", title="commands")
    commands.add_parser("serve", help="serve until a signal says stop").set_defaults(**serving)
    add_token_commands(commands.add_parser("token", help="make, list and revoke tokens"))
    add_transfer_commands(commands)
    return top


def program_name(path: str) -> str:
    """Return how the user started the program, given the path that was run."""
    return SCRIPT if Path(path).stem == SCRIPT else "python -m service"


def start(_: argparse.Namespace) -> None:
    """Serve until a signal stops the process."""
    serve(Settings.from_environment(os.environ))


def add_token_commands(token: argparse.ArgumentParser) -> None:
    """Add `token create`, `token list` and `token revoke`."""
    commands = token.add_subparsers(required=True, metavar="COMMAND")
    file = argparse.ArgumentParser(add_help=False)
    file.add_argument("--file", metavar="FILE", help="the token file, if not TOKENS_FILE")

    command = commands.add_parser("create", parents=[file], help="make a token, and show it once")
    command.set_defaults(run=create_token, task="create the token")
    command.add_argument("--name", required=True, help="whose it is; logs and metrics show it")
    command.add_argument(
        "--scope",
        required=True,
        action="append",
        choices=tokens.SCOPES,
        help="what it may do; give it again for more",
    )
    command.add_argument(
        "--expires",
        type=moment,
        metavar="WHEN",
        help="the day on which it is no longer good (2027-01-31, from midnight UTC), or 90d",
    )

    command = commands.add_parser("list", parents=[file], help="what tokens there are")
    command.set_defaults(run=list_tokens, task="list the tokens")

    command = commands.add_parser("revoke", parents=[file], help="make a token useless")
    command.set_defaults(run=revoke_token, task="revoke the token")
    command.add_argument("--name", required=True, help="whose it is")


def moment(text: str) -> datetime:
    """Return the moment at which a day begins (UTC), or at which a number of days has passed."""
    now = datetime.now(UTC).replace(microsecond=0)
    try:
        if days := DAYS.fullmatch(text):
            when = now + timedelta(days=int(days.group(1)))
        else:
            when = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise argparse.ArgumentTypeError("write a day, 2027-01-31, or days, 90d") from None
    if when <= now:
        raise argparse.ArgumentTypeError("that is over already")
    return when


def create_token(options: argparse.Namespace) -> None:
    """Print a new token: alone on standard output, so that it can be piped into a file.

    A token that can't be printed is revoked, since nobody has its secret.
    """
    file = token_file(options)
    secret = tokens.create(file, options.name, options.scope, options.expires)
    try:
        print(secret, flush=True)
    except OSError:
        tokens.revoke(file, options.name)
        raise
    print("This is shown once, and kept nowhere.", file=sys.stderr)


def list_tokens(options: argparse.Namespace) -> None:
    """Print all that the file says of each token, except its hash."""
    rows = [("NAME", "SCOPES", "CREATED (UTC)", "EXPIRES")]
    now = datetime.now(UTC)
    for token in tokens.read(Path(token_file(options))):
        expires = to_the_minute(token.expires) if token.expires else "never"
        rows.append(
            (
                token.name,
                ",".join(token.scopes),
                to_the_minute(token.created),
                f"{expires}, over" if token.expired(now) else expires,
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(map(str.ljust, row, widths)).rstrip())


def to_the_minute(when: datetime) -> str:
    """Return a moment as the list of tokens shows it, in UTC."""
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M}"


def revoke_token(options: argparse.Namespace) -> None:
    """Remove a token from the file."""
    tokens.revoke(token_file(options), options.name)
    print("Services that run refuse it within a second.", file=sys.stderr)


def token_file(options: argparse.Namespace) -> str:
    """Return the path of the token file; raise SettingsError where neither names it."""
    file: str = options.file or os.environ.get("TOKENS_FILE", "")
    if not file:
        raise SettingsError("say where: set TOKENS_FILE, or give --file")
    return file
