"""What is told beside the chain: who migrates, who is connected, what is set aside, drift."""

from collections.abc import Iterator, Sequence

from service.evolution.chain import shape
from service.evolution.html import Html, joined, tag, with_code
from service.evolution.schemas import Aside, Build, Evolution
from service.evolution.words import counted, duration, exactly, size


def beside(found: Evolution) -> Iterator[Html]:
    """All of it."""
    if found.running:
        yield section("At work", "running", *running(found))
    yield section("Drift", "drift", *drift(found))
    yield section("Connected", "connected", *connected(found))
    yield section("Set aside", "aside", *aside(found))


def section(title: str, name: str, *content: str) -> Html:
    """A part with its heading."""
    heading = tag("h2", title, id=name)
    return tag("section", heading, *content, class_=name, aria_labelledby=name)


def running(found: Evolution) -> Iterator[Html]:
    """The migration that is under way."""
    if found.running is None:
        return
    half = [link.last for link in found.chain if link.state == "unfinished" and link.last]
    for entry in half:
        step = tag("b", f"{entry.direction} {entry.revision}")
        yield tag("p", step, f", {entry.message}, since ", exactly(entry.started), ".")
    if not half:
        since = [", connected since ", exactly(found.running.since)] if found.running.since else []
        yield tag("p", "Somebody migrates", *since, ".")
        yield tag("p", "A step is only seen once it commits, most at their end.", class_="quiet")
    if found.running.waiting is not None:
        waiting = duration(found.running.waiting)
        yield tag("p", f"It has been waiting for a lock for {waiting}. In its way:")
        yield tag("ul", *(tag("li", blocker) for blocker in found.running.blockers))


def drift(found: Evolution) -> Iterator[Html]:
    """What differs, in sentences."""
    told = found.drift
    if told.unknown:
        yield tag("p", shape("unknown"), f"It can't be told: {told.unknown}.")
    elif told.found:
        yield tag("p", shape("attention"), tag("strong", f"Not as {told.since} left it:"))
    else:
        yield tag("p", shape("well"), f"None. Schema and files are as {told.since} left them.")
    sentences = [*told.edited, *told.differences]
    if sentences:
        yield tag("ul", *(tag("li", sentence) for sentence in sentences), class_="differences")
    if told.more:
        yield tag("p", f"… and {counted(told.more, 'more difference')}", class_="quiet")


def connected(found: Evolution) -> Iterator[Html]:
    """Which builds are connected, and through which versions."""
    if found.builds is None:
        yield tag("p", "SQLite does not tell who is connected; builds use the tables themselves.")
        return
    if found.builds:
        rows = [build_row(build, found) for build in found.builds]
        head = ("Build", "Connections", "Through")
        yield table(head, rows)
    else:
        yield tag("p", "Nobody.")
    used = {build.revision for build in found.builds}
    unused = [f"at_{revision}" for revision in found.published if revision not in used]
    if unused:
        yield tag("p", "Published, and used by nobody: ", ", ".join(unused), ".", class_="quiet")
    yield tag(
        "p", "Builds behind a pooler that shares connections may not be seen.", class_="quiet"
    )


def build_row(build: Build, found: Evolution) -> Sequence[str]:
    """One build."""
    own = " (this one)" if build.revision == found.build else ""
    version = f"at_{build.revision}"
    through = joined([shape("well"), f"{version}, published"])
    if waits(build, found):
        through = joined([shape("unknown"), f"waits for {version}"])
    elif not build.published:
        through = joined([shape("attention"), tag("b", f"{version} is not published")])
    return joined([tag("b", f"users@{build.revision}"), own]), str(build.connections), through


def waits(build: Build, found: Evolution) -> bool:
    """Whether the migration that it needs is still to come."""
    return build.revision > (found.database.revision or "")


def aside(found: Evolution) -> Iterator[Html]:
    """What is set aside."""
    if not found.aside:
        yield tag("p", "Nothing.")
        return
    rows = [
        (joined([f"{item.kind} ", tag("b", item.name)]), item.revision, space(item))
        for item in found.aside
    ]
    yield table(("What", "By", "Space"), rows)
    how = "It stays until `python -m migrations purge`, and comes back when its revision does."
    yield tag("p", with_code(how), class_="quiet")


def space(item: Aside) -> str:
    """What one thing holds; a column's share of its table is an estimate."""
    if item.bytes is None:
        return "not known"
    return f"{'about ' if item.kind == 'column' else ''}{size(item.bytes)}"


def held(items: Sequence[Aside]) -> str:
    """What they hold together."""
    known = [item.bytes for item in items if item.bytes is not None]
    if not known:
        return counted(len(items), "thing")
    exact = len(known) == len(items) and all(item.kind == "table" for item in items)
    return f"{'' if exact else 'about '}{size(sum(known))}"


def table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> Html:
    """A table with a heading for each column."""
    head = tag("thead", tag("tr", *(tag("th", name, scope="col") for name in names)))
    body = tag("tbody", *(tag("tr", *(tag("td", cell) for cell in row)) for row in rows))
    return tag("table", head, body)
