"""Draws a rehearsal as an SVG: latency over time, with the revisions marked."""

import math
from collections.abc import Callable, Iterator, Sequence
from html import escape

from safely.rehearsal.report import MOMENT, Moment, Report, StepResult
from safely.words import duration

WIDTH, HEIGHT = 1200, 420
LEFT, RIGHT, TOP, FLOOR = 64, 24, 92, 366
FASTEST, SLOWEST = 0.0002, 10.0  # seconds, at the ends of the scale
MARKS = (0.001, 0.01, 0.1, 1.0, 10.0)
INTERVALS = (
    1,
    2,
    5,
    10,
    20,
    30,
    60,
    120,
    300,
    600,
    1200,
    3600,
)  # seconds between two times at the bottom
MOST_TIMES = 12
LEGEND = (  # style, words, pixels to the next
    ("p50", "half of the queries", 160),
    ("p99", "99 of 100", 105),
    ("longest", "the slowest", 115),
    ("failed", "failed", 85),
    ("upgrade", "a revision goes up", 155),
    ("downgrade", "and down", 100),
)

Across = Callable[[float], float]

STYLE = """
  text { font: 12px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #1f2328; }
  .paper { fill: #ffffff; stroke: #d1d9e0; }
  .headline { font-size: 18px; font-weight: 600; }
  .end { text-anchor: end; }
  .middle { text-anchor: middle; }
  .name { font-weight: 600; }
  .small { fill: #59636e; }
  .grid { stroke: #d1d9e0; stroke-width: 1; }
  .budget { stroke: #bc4c00; stroke-width: 1; stroke-dasharray: 5 4; }
  .over { fill: #bc4c00; }
  .upgrade { fill: #0969da; fill-opacity: 0.20; }
  .downgrade { fill: #8250df; fill-opacity: 0.14; }
  .longest { fill: #59636e; fill-opacity: 0.35; }
  .p99 { fill: none; stroke: #0969da; stroke-width: 1.6; stroke-linejoin: round; }
  .p50 { fill: none; stroke: #1a7f37; stroke-width: 1.6; stroke-linejoin: round; }
  .failed { fill: #cf222e; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; }
    .paper { fill: #0d1117; stroke: #30363d; }
    .small { fill: #9198a1; }
    .grid { stroke: #30363d; }
    .budget { stroke: #f0883e; }
    .over { fill: #f0883e; }
    .upgrade { fill: #4493f8; fill-opacity: 0.28; }
    .downgrade { fill: #a371f7; fill-opacity: 0.22; }
    .longest { fill: #9198a1; fill-opacity: 0.35; }
    .p99 { stroke: #4493f8; }
    .p50 { stroke: #3fb950; }
    .failed { fill: #f85149; }
  }
"""


def picture(report: Report) -> str:
    """Return a rehearsal as an SVG, which follows the reader's choice of a light or dark page."""
    began = report.strip[0].at if report.strip else report.began
    ended = report.strip[-1].at + MOMENT if report.strip else began + 1
    across = placed(began, ended)
    steps = [
        (one.revision, step) for one in report.revisions for step in one.steps if step.ended > began
    ]
    headline = f"What queries took while {len(report.revisions)} revisions went up, down, and up"
    drawn = [
        f'<rect class="paper" x="0.5" y="0.5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="6"/>',
        text(headline, LEFT, 34, "headline"),
        text(f"on {report.source}, by a reader and a writer of every published version", LEFT, 54),
        *legend(),
        *(band(across, step) for _, step in steps),
        *names(across, steps),
        *scale(),
        *budget(report),
        *(longest(across, moment) for moment in report.strip),
        curve(across, report.strip, "p99"),
        curve(across, report.strip, "p50"),
        *(failure(across, moment) for moment in report.strip if moment.failed),
        *clock(across, began, ended),
    ]
    inside = "".join(f"  {element}\n" for element in drawn)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(headline)}">\n'
        f"  <style>{STYLE}  </style>\n{inside}</svg>\n"
    )


def placed(began: float, ended: float) -> Across:
    """Return the function that gives the x of a time, in seconds since 1970."""
    unit = (WIDTH - LEFT - RIGHT) / (ended - began)
    return lambda at: round(LEFT + max(0.0, at - began) * unit, 1)


def up(latency: float) -> float:
    """Return the y of a latency in seconds, on a logarithmic scale."""
    share = math.log(max(latency, FASTEST) / FASTEST) / math.log(SLOWEST / FASTEST)
    return round(FLOOR - min(1.0, share) * (FLOOR - TOP), 1)


def scale() -> Iterator[str]:
    """Yield the lines of the grid, with their latencies."""
    for mark in MARKS:
        yield level("grid", up(mark))
        yield text(duration(mark), LEFT - 8, up(mark) + 4, "small end")


def level(style: str, at: float) -> str:
    """Return a line from left to right."""
    return f'<line class="{style}" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at}" y2="{at}"/>'


def budget(report: Report) -> Iterator[str]:
    """Yield the line of the longest wait that the budget allows, and its words."""
    at = up(report.budgets.max_wait)
    yield level("budget", at)
    words = f"a wait for the migrator may take {duration(report.budgets.max_wait)}"
    yield text(words, WIDTH - RIGHT - 4, at - 5, "over end")


def band(across: Across, step: StepResult) -> str:
    """Return the area of a step."""
    wide = max(2.0, round(across(step.ended) - across(step.began), 1))
    return (
        f'<rect class="{step.direction}" x="{across(step.began)}" y="{TOP}" '
        f'width="{wide}" height="{FLOOR - TOP}"/>'
    )


def names(across: Across, steps: Sequence[tuple[str, StepResult]]) -> Iterator[str]:
    """Yield the name of each revision, above its first upgrade."""
    for number, (revision, step) in enumerate(steps):
        if number == 0 or steps[number - 1][0] != revision:
            yield text(revision, across(step.began), TOP - 8, "name")


def longest(across: Across, moment: Moment) -> str:
    """Return the dot of the slowest query of a moment."""
    x, y = across(moment.at + MOMENT / 2), up(moment.latency.longest)
    return f'<circle class="longest" cx="{x}" cy="{y}" r="2"/>'


def curve(across: Across, strip: Sequence[Moment], name: str) -> str:
    """Return the line of a percentile over time."""
    points = (
        f"{across(moment.at + MOMENT / 2)},{up(getattr(moment.latency, name))}" for moment in strip
    )
    return f'<polyline class="{name}" points="{" ".join(points)}"/>'


def failure(across: Across, moment: Moment) -> str:
    """Return the dot of a moment in which queries failed."""
    return f'<circle class="failed" cx="{across(moment.at)}" cy="{FLOOR - 6}" r="4"/>'


def clock(across: Across, began: float, ended: float) -> Iterator[str]:
    """Yield the times at the bottom, from 0:00."""
    every = next((one for one in INTERVALS if (ended - began) / one <= MOST_TIMES), INTERVALS[-1])
    for number in range(int((ended - began) / every) + 1):
        at = number * every
        yield text(f"{at // 60}:{at % 60:02}", across(began + at), FLOOR + 18, "small middle")


def legend() -> Iterator[str]:
    """Yield a sample of each style, with what it means."""
    left, y = LEFT, HEIGHT - 16
    for style, words, wide in LEGEND:
        if style in {"upgrade", "downgrade"}:
            yield f'<rect class="{style}" x="{left}" y="{y - 10}" width="14" height="12"/>'
        elif style in {"longest", "failed"}:
            yield f'<circle class="{style}" cx="{left + 7}" cy="{y - 4}" r="4"/>'
        else:
            yield f'<line class="{style}" x1="{left}" x2="{left + 14}" y1="{y - 4}" y2="{y - 4}"/>'
        yield text(words, left + 20, y, "small")
        left += wide


def text(words: str, x: float, y: float, style: str = "small") -> str:
    """Return words at a point; their style says whether they begin, end or are centred there."""
    return f'<text class="{style}" x="{x}" y="{y}">{escape(words)}</text>'
