"""/evolution as a page: one document, without scripts and without anything from elsewhere."""

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from service.evolution import bars, facts, formatting
from service.evolution.schemas import Evolution

if TYPE_CHECKING:
    # 13 ms and 1.3 MiB; a worker that is never asked for the page does without
    from jinja2 import Template

TEMPLATES = Path(__file__).with_name("templates")
STYLE_SHEET = Path(__file__).with_name("evolution.css")
REFRESH_CHOICES = (5, 30)  # seconds between two loads of the page; it has a link for each


def page(evolution: Evolution, refresh: int | None) -> bytes:
    """Return the page in UTF-8; the browser loads it again every `refresh` seconds if not None."""
    html = template().render(
        evolution=evolution,
        refresh=refresh,
        refresh_choices=REFRESH_CHOICES,
        style_sheet=style_sheet(),
    )
    return html.encode()


def policy() -> str:
    """Return the page's Content-Security-Policy: it may apply its own style sheet, and no more."""
    digest = base64.b64encode(hashlib.sha256(style_sheet().encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )


@cache
def style_sheet() -> str:
    """Return the style sheet, which stands in the page as it stands in its file."""
    return STYLE_SHEET.read_text(encoding="utf-8")


@cache
def template() -> "Template":
    """Return the page's template, compiled once in each process."""
    # 13 ms and 1.3 MiB; a worker that is never asked for the page does without
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,  # whatever the file's name: all of them are HTML
        undefined=StrictUndefined,  # a misspelled name is an error, not an empty place in the page
        auto_reload=False,  # otherwise each page asks for the date of each file
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "bar_width": bars.bar_width,
        "counted": formatting.counted,
        "duration": formatting.duration,
        "lag": facts.lag,
        "ordinal": formatting.ordinal,
        "space": facts.space,
    }
    environment.tests |= {
        "awaiting_migration": facts.awaits_migration,
        "measurable": bars.is_measurable,
    }
    environment.globals |= {
        "compared_to_build": facts.compared_to_build,
        "facts": facts.facts,
        "longest_bar": bars.longest_bar,
        "overall_mark": facts.overall_mark,
        "position": facts.position,
    }
    return environment.get_template("page.html.jinja")
