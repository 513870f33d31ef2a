"""What came out of a comparison: for the terminal, and for the README."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from statistics import median
from typing import NamedTuple

from benchmarks.load import Figures
from benchmarks.world import MIB

LOOKUP, ALONE, HOT, RANDOM, CREATE = WORKS = (
    "lookup",
    "lookup, one connection",
    "hot page",
    "random pages",
    "create",
)
AT_ONCE = {  # what many ask at once, in a reader's words
    LOOKUP: "Look a user up",
    HOT: "List the first 50",
    RANDOM: "List 50 from anywhere",
    CREATE: "Create a user",
}
TITLES = {  # who takes part, in a reader's words
    "everything": "users service",
    "plain": "all that switched off",
    "bare": "asyncpg alone",
    "unreset": "asyncpg, without its reset",
    "litestar": "Litestar, repository",
    "fastapi": "FastAPI, ORM",
    "pgbench": "pgbench",
}
OWN = ("everything", "plain")
TIMES = "\N{MULTIPLICATION SIGN}"


class Aim(NamedTuple):
    """The ratio that a figure of the service, with everything on, should have to its peers."""

    work: str
    figure: str
    peers: Mapping[str, float]

    def holds(self, ratio: float, wanted: float) -> bool:
        """Return whether the ratio is reached; of a time less is better."""
        return ratio >= wanted if self.figure == "rate" else ratio <= wanted


AIMS = (
    Aim(LOOKUP, "rate", {"fastapi": 7, "litestar": 5.5, "bare": 0.9}),
    Aim(HOT, "rate", {"fastapi": 11, "bare": 1.7}),
    Aim(RANDOM, "rate", {"fastapi": 4.5}),
    Aim(CREATE, "rate", {"fastapi": 6, "bare": 1}),
    Aim(LOOKUP, "p99", {"bare": 1}),
)


class Results:
    """Of each who took part, for each work, a round after the other."""

    def __init__(self) -> None:
        self.figures: defaultdict[tuple[str, str], list[Figures]] = defaultdict(list)
        self.peaks: defaultdict[str, list[int]] = defaultdict(list)  # bytes of the worker

    def note(self, name: str, work: str, figures: Figures) -> None:
        """Remember, and say at once."""
        self.figures[name, work].append(figures)
        print(f"{name:12}{work:24}{figures.rate:>10,.0f}/s", flush=True)

    def took_part(self, work: str) -> Iterator[str]:
        """Who did that work."""
        return (name for name in TITLES if (name, work) in self.figures)

    def each(self, name: str, work: str, figure: str) -> list[float]:
        """A figure in every round."""
        return [getattr(found, figure) for found in self.figures.get((name, work), [])]

    def middle(self, name: str, work: str, figure: str) -> float:
        """The median of the rounds; 0 where nothing is known."""
        return median(self.each(name, work, figure) or [0])

    def peak(self, name: str) -> float:
        """The most memory that the worker took, in MiB."""
        return max(self.peaks[name], default=0) / MIB

    def ratios(self, own: str, peer: str, work: str, figure: str) -> list[float]:
        """What ours is to the peer, in every round; nothing where one of them is not known."""
        pairs = zip(self.each(own, work, figure), self.each(peer, work, figure), strict=False)
        return [mine / theirs for mine, theirs in pairs if theirs]


def report(results: Results) -> None:
    """Print all of it."""
    to_each = "".join(f"{f'{own} to it':>26}" for own in OWN)
    for work in WORKS:
        print(f"\n{work:24}{'rate/s':>10}{'p50 ms':>10}{'p99 ms':>10}{to_each}")
        for name in results.took_part(work):
            rate, p50, p99 = (results.middle(name, work, each) for each in ("rate", "p50", "p99"))
            times = f"{p50:>10.2f}{p99:>10.2f}" if p99 else " " * 20
            print(f"  {name:22}{rate:>10,.0f}{times}{spreads(results, name, work, 'rate')}")
    print(f"\n{'p99 of lookup':54}{to_each}")
    for name in results.took_part(LOOKUP):
        if found := spreads(results, name, LOOKUP, "p99").rstrip():
            print(f"  {name:52}{found}")
    print(f"\n{'worker at its peak':24}{'MiB':>10}")
    for name in results.peaks:
        print(f"  {name:22}{results.peak(name):>10.0f}")
    print("\naims")
    for aim in AIMS:
        for peer, wanted in aim.peers.items():
            if ratios := results.ratios("everything", peer, aim.work, aim.figure):
                what = f"{aim.figure} of {aim.work}, to {peer}"
                word = "holds" if aim.holds(median(ratios), wanted) else "short"
                print(f"  {what:52}{median(ratios):>8.2f}, wanted {wanted:<6g}{word}")


def spreads(results: Results, peer: str, work: str, figure: str) -> str:
    """What both of ours are to the peer: the median, and how far the rounds lie apart."""
    if peer in OWN:
        return ""
    found = [results.ratios(own, peer, work, figure) for own in OWN]
    return "".join(
        f"{f'{median(each):.2f} ({min(each):.2f}-{max(each):.2f})' if each else '':>26}"
        for each in found
    )


def table(results: Results) -> str:
    """In Markdown: what each reached, and how many times that the service reaches."""
    rows = [["Requests a second", *TITLES.values()], ["---", *("---:" for _ in TITLES)]]
    for work, words in AT_ONCE.items():
        rows.append([words, *(rate(results, name, work) for name in TITLES)])
    for words, work, figure in (
        ("Look up: 99 of 100 take at most", LOOKUP, "p99"),
        ("Look up, nobody else there: half take at most", ALONE, "p50"),
    ):
        times = (results.middle(name, work, figure) for name in TITLES)
        rows.append([words, *(f"{brief(time)} ms" if time else "" for time in times)])
    peaks = (results.peak(name) for name in TITLES)
    rows.append(["Memory of the worker", *(f"{peak:.0f} MiB" if peak else "" for peak in peaks)])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def rate(results: Results, name: str, work: str) -> str:
    """A cell."""
    found = f"{results.middle(name, work, 'rate'):,.0f}" if name in results.took_part(work) else ""
    if name == "everything":
        return f"**{found}**"
    ratios = [] if name in OWN else results.ratios("everything", name, work, "rate")
    return f"{found} ({TIMES}{brief(median(ratios))})" if ratios else found


def brief(number: float) -> str:
    """With the two digits that say something."""
    return f"{float(f'{number:.2g}'):g}"
