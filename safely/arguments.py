"""The arguments of `alembic -x name=value …`."""

import difflib
import re
from dataclasses import dataclass
from pathlib import Path

from alembic.runtime.environment import EnvironmentContext
from alembic.util import CommandError

from safely.database import LOCK_TIMEOUT
from safely.words import parse_duration

PATIENCE = 300.0  # seconds
MAX_LAG = 10.0  # seconds
NAMES = (
    "backup", "drift", "ignore_standbys", "lock_timeout", "max_lag", "patience", "trace", "unsafe",
    "verify",
)  # fmt: skip
SIMILAR = 0.8  # how alike an unknown name and one of ours are, of 1, so that it is a slip


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """The arguments that `safely` knows; a project may have others of its own."""

    patience: float = PATIENCE
    """Seconds until a step, or the wait for the migration lock, is given up."""
    lock_timeout: str = LOCK_TIMEOUT
    """How long a statement may wait for a lock, such as `100ms`."""
    max_lag: float | None = MAX_LAG
    """Seconds that a standby may be behind while a migration goes on; None: it never waits."""
    is_max_lag_given: bool = False
    """Whether that was set: then a lag that can't be read is refused."""
    ignore_standbys: frozenset[str] = frozenset()
    """The names of standbys that are never waited for."""
    accept_drift: bool = False
    """Whether a schema that was edited by hand is recorded as it is, instead of refused."""
    backup: Path | None = None
    """The directory of a backup that is made before the first step."""
    verify: bool = False
    """Whether that backup is restored elsewhere and compared."""
    unsafe: str = ""
    """Why steps with grave findings are run all the same; empty: they aren't."""
    trace: str = ""
    """The file that gets each statement with the locks that it took; empty: none."""


def of(environment: EnvironmentContext) -> Arguments:
    """Return the arguments of the command that runs; raise CommandError for a wrong one."""
    values = environment.get_x_argument(as_dictionary=True)
    refuse_slips(set(values))
    patience = str(values.get("patience", PATIENCE))
    if not re.fullmatch(r"\d{1,6}(\.\d+)?", patience):
        raise CommandError("-x patience=… takes a number of seconds")
    drift = str(values.get("drift", "refuse"))
    if drift not in ("accept", "refuse"):
        raise CommandError("-x drift=… takes accept or refuse")
    if not re.search(r"[^\W_]", str(values.get("unsafe", "a reason is not needed"))):
        raise CommandError('say why: -x unsafe="REASON"')
    backup, verify = values.get("backup"), values.get("verify", "no")
    if backup == "" or verify not in ("yes", "no") or (verify == "yes" and not backup):
        raise CommandError("say -x backup=DIRECTORY, and beside it perhaps -x verify=yes")
    return Arguments(
        patience=float(patience),
        lock_timeout=lock_timeout(environment),
        max_lag=max_lag(str(values.get("max_lag", f"{MAX_LAG}s"))),
        is_max_lag_given=values.get("max_lag", "off") != "off",
        ignore_standbys=standby_names(str(values.get("ignore_standbys", ""))),
        accept_drift=drift == "accept",
        backup=Path(str(backup)) if backup else None,
        verify=verify == "yes",
        unsafe=str(values.get("unsafe", "")).strip(),
        trace=str(values.get("trace", "")),
    )


def lock_timeout(environment: EnvironmentContext) -> str:
    """Return the lock timeout; raise CommandError for one that is out of bounds.

    A second or more would meet PostgreSQL's deadlock_timeout.
    """
    text = str(environment.get_x_argument(as_dictionary=True).get("lock_timeout", LOCK_TIMEOUT))
    if not re.fullmatch(r"[1-9]\d{0,2}ms", text):
        raise CommandError("-x lock_timeout=… takes 1ms to 999ms, less than deadlock_timeout")
    return text


def max_lag(text: str) -> float | None:
    """Return the seconds, or None for off; raise CommandError for anything else."""
    if text == "off":
        return None
    try:
        if seconds := parse_duration(text):
            return seconds
    except ValueError:
        pass
    raise CommandError("-x max_lag=… takes off, or a time above 0, such as 500ms, 10s or 2min")


def standby_names(text: str) -> frozenset[str]:
    """Return the names that stand between commas."""
    return frozenset(name for part in text.split(",") if (name := part.strip()))


def refuse_slips(names: set[str]) -> None:
    """Raise CommandError for a name that looks like a misspelt one of ours."""
    for name in sorted(names - set(NAMES)):
        if similar := difflib.get_close_matches(name, NAMES, n=1, cutoff=SIMILAR):
            raise CommandError(f"-x {name}=… is unknown: did you mean -x {similar[0]}=…?")
