"""Advice for the operator who reads the report: what to do, a sentence each."""

from collections.abc import Iterator

from safely.ledger.drift import HOW_TO_ADOPT
from safely.report.contents import Build, SchemaReport
from safely.run.published import schema_of


def advice(report: SchemaReport, project: str, *, is_closed: bool) -> Iterator[str]:
    """Yield what to do, the most urgent first; nothing where all is well.

    `is_closed` says that this role may not read the ledger, `project` is the project's name.
    """
    yield from about_the_ledger(report, is_closed=is_closed)
    yield from about_builds(report, project)
    yield from about_drift(report)
    yield from about_revisions(report)


def about_the_ledger(report: SchemaReport, *, is_closed: bool) -> Iterator[str]:
    """Yield what to do about a ledger that is missing or can't be read."""
    if is_closed:
        yield (
            "The application's role may not read the ledger. Run `alembic upgrade head` once, as "
            "the owner of the tables and with that role as the app_role of the Project in env.py: "
            "it publishes what this report reads, and changes nothing else where nothing is "
            "pending."
        )
    elif report.database.revision and not report.row_count:
        yield f"The database has no ledger. {HOW_TO_ADOPT}."


def about_builds(report: SchemaReport, project: str) -> Iterator[str]:
    """Yield what to do about builds whose version is not published."""
    if report.builds is None:
        return
    if report.database.standing == "ahead" and report.build not in report.published:
        yield (
            f"{schema_of(report.build)} is not published any more, so this build can't work: "
            "deploy a build that is not older than the oldest published version."
        )
    for build in report.builds:
        if not build.is_published and not awaits_migration(build, report):
            yield (
                f"{project}@{build.revision} is connected, and its version is not published: "
                "its queries fail. Deploy a newer build in its place."
            )


def awaits_migration(build: Build, report: SchemaReport) -> bool:
    """Return whether the build needs a revision that the database has not reached yet.

    A build whose revision is unknown here is newer than this one, so its revision is, too.
    """
    states = {revision.revision: revision.state for revision in report.revisions}
    state = states.get(build.revision, "pending")
    return state == "pending" or (
        state == "unfinished" and build.revision != report.database.revision
    )


def about_drift(report: SchemaReport) -> Iterator[str]:
    """Yield what to do about edited files and about a schema that was changed by hand."""
    if report.drift.edited_files:
        yield (
            "Put the edited revision files back and write a new revision instead, or record them "
            "as they are: `alembic -x drift=accept upgrade head`."
        )
    if report.drift.differences:
        yield (
            "Undo the changes that were made by hand, or write a revision for them, or record the "
            "schema as it is: `alembic -x drift=accept upgrade head`. Until then Alembic refuses "
            "to migrate."
        )


def about_revisions(report: SchemaReport) -> Iterator[str]:
    """Yield which steps are unfinished, and which revisions are pending."""
    if report.running:
        return
    unfinished = [one for one in report.revisions if one.state == "unfinished"]
    for revision in unfinished:
        direction = revision.last_row.direction if revision.last_row else "step"
        yield (
            f"{direction} {revision.revision} was begun and not finished, and no migration is "
            "running. Run the command again, which continues there, or run the opposite one."
        )
    pending = [one for one in report.revisions if one.state == "pending"]
    if report.database.standing == "empty" and not report.row_count:
        yield "Make the schema: `alembic upgrade head`."
    elif pending and not unfinished and not report.drift.is_different:
        subject = (
            f"{pending[0].revision} is" if len(pending) == 1 else f"{len(pending)} revisions are"
        )
        yield f"{subject} pending: `alembic upgrade head`."
