"""The chain as a timeline, and the log below it."""

from collections.abc import Iterator

from service.evolution.html import Html, joined, tag, with_code
from service.evolution.schemas import Entry, Evolution, Revision
from service.evolution.words import counted, duration, moment, ordinal

SHORTEST = 0.0005  # seconds; less is nothing
LONGEST = 300  # characters of a message in the log

SHAPES = {  # what a state looks like, beside its words
    "applied": '<circle cx="8" cy="8" r="6"/>',
    "here": '<circle cx="8" cy="8" r="7" class="ring"/><circle cx="8" cy="8" r="4"/>',
    "unfinished": '<circle cx="8" cy="8" r="6" class="ring"/><path d="M8 2a6 6 0 0 1 0 12z"/>',
    "pending": '<circle cx="8" cy="8" r="6" class="ring dashed"/>',
    "well": '<circle cx="8" cy="8" r="6"/>',
    "moving": '<path d="M8 1l7 7-7 7-7-7z"/>',
    "attention": '<path d="M8 1.5l7 13H1z"/>',
    "unknown": '<circle cx="8" cy="8" r="6" class="ring dashed"/>',
}


def shape(name: str) -> Html:
    """A mark; words beside it say the same."""
    drawn = Html(SHAPES[name])
    return tag("svg", drawn, class_=f"mark {name}", viewBox="0 0 16 16", aria_hidden="true")


def chain(found: Evolution) -> Html:
    """The timeline, what comes next on top."""
    most = max((cost for link in found.chain for cost in costs(link)), default=0.0)
    links = [step(link, found, most) for link in reversed(found.chain)]
    names = (tag("span", name) for name in ("took", "lock wait", "tries"))
    scale = tag("p", *names, class_="cost scale", aria_hidden="true")
    is_measured = any(link.state == "applied" for link in found.chain)
    return tag(
        "section",
        tag("h2", "The chain", id="chain"),
        scale if is_measured else "",
        tag("ol", *links, class_="chain", reversed="reversed"),
        class_="timeline",
        aria_labelledby="chain",
    )


def costs(link: Revision) -> Iterator[float]:
    """What a link took, in seconds: to be drawn on one scale."""
    if link.last and link.state == "applied":
        yield link.last.seconds or 0.0
        yield link.last.longest_lock_wait or 0.0


def step(link: Revision, found: Evolution, most: float) -> Html:
    """One link."""
    is_here = link.revision == found.database.revision
    state = "here" if is_here and link.state == "applied" else link.state
    title = tag("h3", tag("span", link.revision, class_="number"), " ", link.message or "no file")
    here = joined([" ", tag("strong", "the database is here", class_="badge")] if is_here else [])
    about = [
        joined([tag("dt", p.heading or "Note"), tag("dd", with_code(p.text))]) for p in link.about
    ]
    head = joined([title, here])
    if about:
        head = tag("details", tag("summary", head), tag("dl", *about, class_="about"))
    return tag(
        "li",
        shape(state),
        tag("div", head, tag("p", *story(link, found)), class_="what"),
        measured(link.last, most) if link.last and link.state == "applied" else Html(""),
        class_=state,
    )


def story(link: Revision, found: Evolution) -> Iterator[str]:
    """What became of it, in words."""
    last = link.last
    if link.state == "pending":
        yield tag("strong", "Pending")
        if last:
            yield joined([". Undone ", moment(last.started), by(last)])
    elif link.state == "unfinished":
        yield tag("strong", "Under way" if found.running else "Not finished")
        if last:
            yield joined([f": {last.direction} begun ", moment(last.started), by(last)])
    elif last is None:
        yield "Applied; the ledger does not know when"
    else:
        verb = "Applied" if last.direction == "upgrade" else "Said to be there"
        yield joined([f"{verb} ", moment(last.started), by(last)])
    if link.state == "applied" and link.times > 1:
        yield f", for the {ordinal(link.times)} time"
    if not link.known:
        yield tag("strong", "; this build has no file of it")


def by(entry: Entry) -> Html:
    """By whom it was done."""
    return joined([" by ", who(entry)] if who(entry) else [])


def who(entry: Entry) -> str:
    """Who did it, and where."""
    return "@".join(name for name in (entry.username, entry.host) if name)


def measured(entry: Entry, most: float) -> Html:
    """What it took, in words and as bars of one scale."""
    values = [
        ("took", entry.seconds, None),
        ("lock wait", entry.longest_lock_wait, "wait"),
    ]
    cells = [
        joined([tag("dt", name), tag("dd", duration(seconds), bar(seconds, most, kind))])
        if seconds and seconds > SHORTEST
        else joined([tag("dt", name), tag("dd", "none" if seconds is not None else "not known")])
        for name, seconds, kind in values
    ]
    tries = str(entry.attempts or "not known")
    tries = tag("strong", tries) if (entry.attempts or 0) > 1 else tries
    cells.append(joined([tag("dt", "tries"), tag("dd", tries)]))
    return tag("dl", *(tag("div", cell) for cell in cells), class_="cost")


def bar(seconds: float, most: float, kind: str | None) -> Html:
    """A length on the scale of the longest."""
    share = f"{100 * seconds / most:.1f}%" if most else "0"
    drawn = tag("rect", width=share, height="100%", rx="1")
    return tag("svg", drawn, class_=f"bar {kind or ''}".strip(), aria_hidden="true")


def log(found: Evolution) -> Html:
    """What was done last."""
    rows = [log_row(entry) for entry in found.log]
    hidden = found.log_length - len(found.log)
    rest = f"{counted(hidden, 'older entry', 'older entries')} not shown: "
    more = [tag("p", rest, tag("code", "python -m migrations log"), class_="quiet")]
    names = ("When, and by whom", "What", "How it went")
    head = tag("thead", tag("tr", *(tag("th", name, scope="col") for name in names)))
    table = tag("table", head, tag("tbody", *rows), class_="log")
    return tag(
        "section",
        tag("h2", "The log", id="log"),
        table if rows else tag("p", "Nothing was done yet.", class_="quiet"),
        *(more if hidden else ()),
        class_="history",
        aria_labelledby="log",
    )


def log_row(entry: Entry) -> Html:
    """One row of the ledger."""
    title = tag("strong", f"{entry.direction} {entry.revision}")
    state = "" if entry.state == "done" else f" ({'not finished' if is_open(entry) else 'undone'})"
    waited = entry.longest_lock_wait or 0.0
    went = [
        f"{duration(entry.seconds)}" if entry.seconds is not None else "",
        counted(entry.attempts, "try", "tries") if entry.attempts else "",
        f"{duration(waited)} lock wait" if waited > SHORTEST else "",
    ]
    cells = (
        joined([moment(entry.started), " ", tag("span", who(entry))]),
        joined([title, state, " ", tag("span", shortened(entry.message or ""))]),
        ", ".join(part for part in went if part),
    )
    return tag("tr", *(tag("td", cell) for cell in cells))


def shortened(message: str) -> str:
    """The beginning of a message that is long."""
    return message if len(message) <= LONGEST else f"{message[:LONGEST]} …"


def is_open(entry: Entry) -> bool:
    """Whether it was begun and not finished."""
    return entry.state == "started"
