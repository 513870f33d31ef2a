"""/evolution as a page: one document, without scripts and without anything from elsewhere."""

import base64
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from service.evolution.beside import beside, held, waits
from service.evolution.chain import chain, log, shape
from service.evolution.html import Html, joined, tag, with_code
from service.evolution.schemas import Evolution
from service.evolution.words import counted, duration, exactly

STYLE = Path(__file__).with_name("evolution.css")
SLOW, FAST = 30, 5  # seconds between two looks, that the page offers


@cache
def style() -> Html:
    """The style sheet, which stands in the page."""
    return Html(STYLE.read_text(encoding="utf-8"))


@cache
def policy() -> str:
    """What the page may load and do (Content-Security-Policy): show its own style."""
    digest = base64.b64encode(hashlib.sha256(style().encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )


def page(found: Evolution, refresh: int | None) -> bytes:
    """The whole page; `refresh` is how many seconds it stays, None for ever."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        *([tag("meta", http_equiv="refresh", content=str(refresh))] if refresh else ()),
        tag("title", f"{where(found)} - evolution of {found.database.name}"),
        tag("style", style()),
    )
    body = tag(
        "body",
        tag("header", *masthead(found)),
        tag(
            "main",
            facts(found),
            *advice(found),
            tag(
                "div",
                chain(found),
                tag("div", *beside(found), class_="beside"),
                log(found),
                class_="sheet",
            ),
        ),
        tag("footer", *colophon(refresh)),
    )
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n".encode()


def where(found: Evolution) -> str:
    """Where the database stands, in a word."""
    if found.database.revision:
        return found.database.revision
    if found.database.standing == "unknown":
        return "not known"
    return "base" if found.log_length else "empty"


def masthead(found: Evolution) -> Iterator[Html]:
    """What there is to see at a glance."""
    place = tag("b", where(found))
    standing = {
        "empty": ["The database is ", "at " if found.log_length else "", place],
        "unknown": ["Where the database is can't be told"],
    }.get(found.database.standing, ["The database is at ", place])
    about = f"{found.database.name} on {found.database.server}"
    yield tag("p", about, " · ", exactly(found.looked), class_="place")
    yield tag("h1", shape(mood(found)), tag("span", *standing))
    yield tag("p", beside_build(found), class_="standing")


def mood(found: Evolution) -> str:
    """What the shape beside the heading says."""
    if found.running:
        return "moving"
    if found.drift.found or found.advice:
        return "attention"
    return "well" if found.database.standing == "current" else "unknown"


def beside_build(found: Evolution) -> str:
    """The database beside the build that tells of it."""
    build, pending = f"users@{found.build}", pending_of(found)
    due = f"{counted(len(pending), 'revision')} {'is' if len(pending) == 1 else 'are'} pending"
    return {
        "current": f"This build, {build}, was made for it.",
        "behind": f"This build, {build}, waits for {found.build}: {due}.",
        "ahead": f"It is ahead of this build, {build}.",
        "empty": f"This build, {build}, waits for {found.build}: {due}.",
        "unknown": f"This build is {build}.",
    }[found.database.standing]


def pending_of(found: Evolution) -> list[str]:
    """The revisions that are still to be applied."""
    return [link.revision for link in found.chain if link.state == "pending"]


def facts(found: Evolution) -> Html:
    """Everything in a word each."""
    told = (migration(found), pending(found), drift(found), builds(found), aside(found))
    return tag("dl", *(fact(*each) for each in told), class_="facts")


def fact(name: str, look: str, answer: str, more: str) -> Html:
    """A question with its answer."""
    answered = joined([shape(look), tag("b", answer)])
    return tag("div", tag("dt", name), tag("dd", answered, " ", tag("span", more, class_="more")))


def migration(found: Evolution) -> tuple[str, str, str, str]:
    """Whether somebody migrates."""
    running = found.running
    if running is None:
        if found.builds is None:
            return "Migration", "unknown", "Not told", "SQLite does not tell"
        return "Migration", "well", "None", "nobody is migrating"
    answer = "At work"
    if running.since:
        answer = f"At work for {duration((found.looked - running.since).total_seconds())}"
    waits = "" if running.waiting is None else f"waiting {duration(running.waiting)} for a lock"
    return "Migration", "moving", answer, waits


def pending(found: Evolution) -> tuple[str, str, str, str]:
    """What is still to be applied."""
    left = pending_of(found)
    if not left:
        return "Pending", "well", "None", "every revision is applied"
    which = left[0] if len(left) == 1 else f"{left[0]} to {left[-1]}"
    return "Pending", "attention", counted(len(left), "revision"), which


def drift(found: Evolution) -> tuple[str, str, str, str]:
    """Whether anything differs from what was recorded."""
    told = found.drift
    since = f"since {told.since}" if told.since else ""
    if told.found is None:
        return "Drift", "unknown", "Not known", told.unknown or ""
    if not told.found:
        return "Drift", "well", "No", since
    parts = (
        counted(len(told.differences) + told.more, "difference") if told.differences else "",
        counted(len(told.edited), "edited file") if told.edited else "",
    )
    return "Drift", "attention", "Yes", ", ".join(part for part in parts if part)


def builds(found: Evolution) -> tuple[str, str, str, str]:
    """Who is connected."""
    if found.builds is None:
        return "Connected", "unknown", "Not told", "SQLite does not tell"
    names = ", ".join(f"users@{build.revision}" for build in found.builds)
    lost = any(not build.published and not waits(build, found) for build in found.builds)
    look = "attention" if lost else "well"
    return "Connected", look, counted(len(found.builds), "build"), names


def aside(found: Evolution) -> tuple[str, str, str, str]:
    """What is kept of what was dropped."""
    if not found.aside:
        return "Set aside", "well", "Nothing", "nothing waits to be purged"
    kinds = [item.kind for item in found.aside]
    there = ", ".join(
        counted(kinds.count(kind), kind) for kind in ("table", "column") if kind in kinds
    )
    return "Set aside", "well", held(found.aside), there


def advice(found: Evolution) -> Iterator[Html]:
    """What to do, if anything."""
    if found.advice:
        todo = (tag("li", with_code(sentence)) for sentence in found.advice)
        yield tag(
            "section",
            tag("h2", "What to do", id="advice"),
            tag("ul", *todo),
            class_="advice",
            aria_labelledby="advice",
        )


def colophon(refresh: int | None) -> Iterator[Html]:
    """How the page was made, and how to see it again."""
    again = [tag("a", "look again", href="evolution")]
    again += [
        tag("a", f"every {seconds} s", href=f"evolution?refresh={seconds}")
        for seconds in (FAST, SLOW)
        if seconds != refresh
    ]
    said = f"It looks again every {refresh} s; " if refresh else "It stays as it is; "
    machines = tag("a", "evolution.json", href="evolution.json")
    yield tag(
        "p", "Times are of UTC. ", said, joined(again, ", "), ". Machines read ", machines, "."
    )
