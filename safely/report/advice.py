"""What whoever looks at the page may want to do, a sentence each; the most urgent first."""

from collections.abc import Iterator

from safely.ledger.drift import HOW_TO_ADOPT
from safely.run.published import schema_of
from service.evolution.schemas import Evolution


def advice(found: Evolution, *, is_closed: bool) -> Iterator[str]:
    """For what was found; nothing where all is well. `is_closed`: the ledger can't be read."""
    yield from about_the_ledger(found, is_closed=is_closed)
    yield from about_the_service(found)
    yield from about_drift(found)
    yield from about_the_chain(found)


def about_the_ledger(found: Evolution, *, is_closed: bool) -> Iterator[str]:
    """Where there is none, or none to read."""
    if is_closed:
        yield (
            "The service's role may not read the ledger. Run `alembic upgrade head` once, as the "
            "owner and with APP_ROLE set to that role: it publishes what this page reads, and "
            "changes nothing else where nothing is pending."
        )
    elif found.database.revision and not found.log_length:
        yield f"The database has no ledger. {HOW_TO_ADOPT}."


def about_the_service(found: Evolution) -> Iterator[str]:
    """Where builds are connected that can't work."""
    if found.builds is None:
        return
    if found.database.standing == "ahead" and found.build not in found.published:
        yield (
            f"{schema_of(found.build)} is not published any more, so this build can't serve: "
            "deploy one that is not older than the oldest published version."
        )
    for build in found.builds:
        if not build.published and build.revision <= (found.database.revision or ""):
            yield (
                f"users@{build.revision} is connected, and its version is not published: "
                "its queries fail."
            )


def about_drift(found: Evolution) -> Iterator[str]:
    """Where somebody has edited something."""
    if found.drift.edited:
        yield (
            "Put the edited revision files back and write a new revision instead, or record them "
            "as they are: `alembic -x drift=accept upgrade head`."
        )
    if found.drift.differences:
        yield (
            "Undo by hand what was changed by hand, or write a revision for it, or record it as "
            "it is: `alembic -x drift=accept upgrade head`. Until then nothing is migrated."
        )


def about_the_chain(found: Evolution) -> Iterator[str]:
    """Where a migration is due."""
    if found.running:
        return
    half = [link for link in found.chain if link.state == "unfinished"]
    for link in half:
        direction = link.last.direction if link.last else "step"
        yield (
            f"{direction} {link.revision} was begun and not finished, and nobody is at work on "
            "it. Run the command again, it goes on from there; or go the other way."
        )
    pending = [link for link in found.chain if link.state == "pending"]
    if found.database.standing == "empty" and not found.log_length:
        yield "Make the schema: `alembic upgrade head`."
    elif pending and not half and not found.drift.found:
        which = (
            f"{pending[0].revision} is" if len(pending) == 1 else f"{len(pending)} revisions are"
        )
        yield f"{which} pending: `alembic upgrade head`."
