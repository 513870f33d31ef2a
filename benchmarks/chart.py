"""A chart for eyes by day and by night: a panel for each work, a bar for each who did it."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from itertools import chain, repeat
from textwrap import wrap

WIDTH = 860
MARGIN = 28
GAP = 36  # between the panels
PANEL = (WIDTH - 2 * MARGIN - GAP) // 2  # wide; there are two in a row
TOP = 84  # where the panels begin
TITLE = 30  # of a panel
BAR = 18
STEP = 26  # from bar to bar
NAMES = 146  # wide
FIGURES = 62  # wide
LINE = 18  # of small print, high
LETTERS = 125  # of small print in a line
LEAST = 2  # of a bar that is seen

STYLE = """
  text { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #1f2328; }
  .paper { fill: #ffffff; stroke: #d1d9e0; }
  .headline { font-size: 18px; font-weight: 600; }
  .title { font-size: 14px; font-weight: 600; }
  .small { font-size: 11.5px; fill: #59636e; }
  .figure { font-variant-numeric: tabular-nums; }
  .first { font-weight: 600; }
  .bar { fill: #c3cad3; }
  .bar.first { fill: #0969da; }
  .bar.second { fill: #92c1f5; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; }
    .paper { fill: #0d1117; stroke: #30363d; }
    .small { fill: #9198a1; }
    .bar { fill: #4a525c; }
    .bar.first { fill: #4493f8; }
    .bar.second { fill: #26528c; }
  }
"""


def chart(headline: str, panels: Mapping[str, Mapping[str, float]], lines: Sequence[str]) -> str:
    """An SVG; the first two of each panel are whom it is about, the first most of all."""
    lines = [part for line in lines for part in wrap(line, LETTERS)]
    tall = TITLE + STEP * max(map(len, panels.values())) + GAP
    height = TOP + tall * -(-len(panels) // 2) + LINE * len(lines)
    drawn = [
        f'<rect class="paper" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="6"/>',
        text(headline, MARGIN, 42, "headline"),
    ]
    for number, (title, bars) in enumerate(panels.items()):
        left = MARGIN + number % 2 * (PANEL + GAP)
        drawn += panel(title, bars, left, TOP + number // 2 * tall)
    for number, line in enumerate(reversed(lines), 1):
        drawn.append(text(line, MARGIN, height - LINE * number, "small"))
    inside = "".join(f"  {element}\n" for element in drawn)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(headline)}">\n'
        f"  <style>{STYLE}  </style>\n{inside}</svg>\n"
    )


def panel(title: str, bars: Mapping[str, float], left: int, top: int) -> Iterator[str]:
    """A bar for each, as long as its figure is large."""
    yield text(title, left, top, "title")
    unit = (PANEL - NAMES - FIGURES) / max(bars.values())
    looks = chain(("first", "second"), repeat("other"))
    for number, ((name, figure), look) in enumerate(zip(bars.items(), looks, strict=False)):
        middle = top + TITLE + number * STEP
        long = max(LEAST, figure * unit)
        start = left + NAMES
        yield text(name, left, middle + 5, look)
        yield (
            f'<rect class="bar {look}" x="{start}" y="{middle - BAR / 2:g}" '
            f'width="{long:.1f}" height="{BAR}" rx="2"/>'
        )
        yield text(f"{figure:,.0f}", round(start + long + 7), middle + 5, look)


def text(words: str, x: int, y: int, look: str) -> str:
    """Words that begin there."""
    return f'<text class="{look}" x="{x}" y="{y}">{escape(words)}</text>'
