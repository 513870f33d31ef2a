"""docs/scaling.md: figures of `make scale` and `make bench`, and what follows for 10^9 users."""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from benchmarks import rows
from benchmarks.world import ROOT, must

DOCUMENT = ROOT / "docs/scaling.md"
README = ROOT / "README.md"  # with the figures of `make bench`
BENCH = "make bench"  # before the names of its figures
MEMORY, ALONE = "Memory of the worker", "pgbench"  # a line and a column of its table
REQUESTS, ROWS, ARITHMETIC = "requests", "rows", "arithmetic"  # parts that runs write
USERS = "10^9"
FIGURE = r"\{([^}]+)\}"  # in a line of the arithmetic: the name of a figure
FULL = "0.6"  # of a machine's cores: what is more leaves no room for a peak, or for a lost machine
MACHINE = "16"  # cores


class Sum(NamedTuple):
    """A line of the arithmetic: `how` has figures of the document by their names in braces."""

    what: str
    how: str
    unit: str


def sums(kinds: Iterable[str], rates: Iterable[str]) -> Iterable[Sum]:
    """Yield all lines; `kinds` are the kinds of requests that `make scale` measured.

    `rates` are those that `make bench` measured of PostgreSQL alone as well.
    """
    for name in (*rows.BYTES.values(), rows.ALL):
        what = name.partition(",")[0]
        yield Sum(f"disk: {what}", f"{USERS} x {{{name}}} / 10^9", "GB")
    key = f"{{{rows.BYTES['pk_users']}}}"
    table = f"{{{rows.BYTES['users']}}}"
    yield Sum("memory: primary key, all of it", f"{USERS} x {key} / 10^9", "GB")
    yield Sum("memory: the rows of a tenth, side by side", f"{USERS} x 0.1 x {table} / 10^9", "GB")
    for rate in ("10,000", "100,000"):
        for kind in kinds:
            for group in ("service", "primary"):
                figure = f"{{{kind}: {group}}}"
                yield Sum(f"{kind}, {rate}/s: cores, {group}", f"{rate} / {figure}", "cores")
            figure = f"{{{kind}: replicas}}"
            yield Sum(f"{kind}, {rate}/s: cores, replicas", f"{rate} / {figure}", "cores")
            machines = f"{rate} / {{{kind}: service}} / {MACHINE} / {FULL}"
            yield Sum(f"{kind}, {rate}/s: machines, service", machines, f"of {MACHINE} cores")
    for name in rates:
        workers = f"{{{BENCH}: {name}: {ALONE}}} / {{{BENCH}: {name}}}"
        yield Sum(f"{name}: workers that fill a PostgreSQL of two cores", workers, "workers")
    memory = f"100,000 / {{{BENCH}: {next(iter(rates))}}} x {{{BENCH}: {MEMORY}}} / 1,024"
    yield Sum(f"{next(iter(rates))}, 100,000/s: memory of the workers", memory, "GiB")
    for what, figure in (
        ("import", rows.IMPORT),
        ("all three indexes", rows.INDEXES),
        ("backfill of a new column", rows.BACKFILL),
        ("backup", rows.BACKUP),
        ("restore", rows.RESTORE),
        ("VACUUM (FREEZE)", rows.FREEZE),
    ):
        yield Sum(f"time: {what}", f"{USERS} / {{{figure}}} / 3,600", "hours")
    copied = f"{USERS} x {{{rows.ALL}}} / 1,048,576 / {{{rows.COPY}}} / 3,600"
    yield Sum("time: base backup for a replica", copied, "hours")
    yield Sum("disk: a backup", f"{USERS} x {{{rows.BACKUP_BYTES}}} / 10^9", "GB")
    yield Sum("WAL: the backfill", f"{USERS} x {{{rows.BACKFILL_WAL}}} / 10^9", "GB")
    wal = f"{{{rows.CREATE_WAL}}}"
    for rate in ("1,000", "10,000"):
        yield Sum(f"WAL: {rate} creates/s", f"{rate} x {wal} / 10^6", "MB/s")
        yield Sum(f"network to a replica, {rate} creates/s", f"{rate} x {wal} x 8 / 10^6", "Mbit/s")
    spent = f"{USERS} / {{{rows.BACKFILL_TRANSACTIONS}}}"
    yield Sum("transaction ids: the backfill", f"{spent} / 10^6", "millions")
    for rate in ("1,000", "10,000"):
        days = f"200 x 10^6 / {rate} / 86,400"
        yield Sum(f"until all is frozen again, {rate} writing transactions/s", days, "days")


def arithmetic(document: str) -> str:
    """Return the lines as a table, with the figures that stand in the document.

    A line is left out if one of its figures is, because a process used too little of a core.
    """
    figures = figures_of(document)
    kinds = [name.removesuffix(": service") for name in figures if name.endswith(": service")]
    alone = f": {ALONE}"
    rates = [
        name.removeprefix(f"{BENCH}: ").removesuffix(alone)
        for name in figures
        if name.endswith(alone)
    ]
    lines = [["what", "how", "result", "unit"]]
    for line in sums(kinds, rates):
        if all(figures[name] for name in re.findall(FIGURE, line.how)):
            how = re.sub(FIGURE, lambda match: figures[match[1]], line.how)
            lines.append([line.what, how, rounded(value(how)), line.unit])
    return table(lines)


def figures_of(document: str) -> dict[str, str]:
    """Return the figures of a document and those of `make bench`, as they stand there.

    Of the requests they are those of one worker, which shares the cores with the fewest others;
    those of replicas are of one worker that reads from one. Of several numbers of users the last
    one counts for which there is a figure.
    """
    figures = bench(README.read_text(encoding="utf-8"))
    for title, (way, *cells) in tables(part(document, REQUESTS)):
        *_, service, primary, replica = cells
        if way == "1":
            figures |= {f"{title}: service": service, f"{title}: primary": primary}
        if way == "1, replica":
            figures[f"{title}: replicas"] = replica
    for _, (name, *values) in tables(part(document, ROWS)):
        figures[name] = next(filter(None, reversed(values)))
    return figures


def bench(readme: str) -> dict[str, str]:
    """Return the figures of `make bench`: of the service, and of PostgreSQL alone by pgbench."""
    table = readme.partition("<!-- benchmark -->")[2].partition("<!-- /benchmark -->")[0]
    (_, (_, *head)), _, *lines = tables(table)
    figures = {}
    for _, (name, *cells) in lines:
        figures[f"{BENCH}: {name}"] = cells[0].strip("*").removesuffix(" MiB")
        if cells[-1]:  # of pgbench, which has no figure in some lines
            figures[f"{BENCH}: {name}: {head[-1]}"] = cells[-1].partition(" ")[0]
    return figures


def tables(text: str) -> Iterable[tuple[str, list[str]]]:
    """Yield the lines of all tables, each with the title above its table."""
    title = ""
    for line in text.splitlines():
        if line.startswith("|"):
            yield title, [cell.strip() for cell in line.strip()[1:-1].split("|")]
        elif line.endswith(":"):
            title = line.removesuffix(":").partition(":")[0]


def value(text: str) -> float:
    """Return the value of numbers with x and / between them, from left to right."""
    result, operator = 1.0, "x"
    for word in text.split():
        if word in {"x", "/"}:
            operator = word
            continue
        base, _, power = word.replace(",", "").partition("^")
        number = float(base) ** float(power or 1)
        result = result * number if operator == "x" else result / number
    return result


def rounded(number: float) -> str:
    """Return three digits of a number."""
    rough = float(f"{number:.3g}")
    return f"{rough:,.0f}" if rough >= 100 else f"{rough:g}"  # noqa: PLR2004  # the three digits


def table(lines: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown whose columns are aligned, so that a terminal shows it as well."""
    head, *rest = lines
    widths = [max(map(len, column)) for column in zip(head, *rest, strict=True)]
    rules = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(
        "| "
        + " | ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        + " |"
        for line in (head, rules, *rest)
    )


def markers(name: str) -> tuple[str, str]:
    """Return what stands before and after a part of the document that a run writes."""
    return f"<!-- {name} by `make scale` -->\n", f"<!-- end of {name} -->"


def part(document: str, name: str) -> str:
    """Return a part of the document."""
    begin, end = markers(name)
    return document.partition(begin)[2].partition(end)[0]


def with_part(document: str, name: str, text: str) -> str:
    """Return the document with another text in one of its parts."""
    begin, end = markers(name)
    must(begin in document and end in document, f"{DOCUMENT.name} has no place for {name}")
    before, _, rest = document.partition(begin)
    return f"{before}{begin}\n{text}\n\n{end}{rest.partition(end)[2]}"


def write(parts: dict[str, str]) -> None:
    """Write parts into the document, and the arithmetic with their figures."""
    document = DOCUMENT.read_text(encoding="utf-8")
    for name, text in parts.items():
        document = with_part(document, name, text)
    document = with_part(document, ARITHMETIC, arithmetic(document))
    DOCUMENT.write_text(document, encoding="utf-8")
