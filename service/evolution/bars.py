"""The bars beside the revisions: durations and lock waits, drawn to one scale."""

from service.evolution.schemas import Evolution

SHORTEST = 0.0005  # seconds; a shorter time would read "0 ms"


def is_measurable(seconds: float | None) -> bool:
    """Return whether a time is known and long enough to be shown."""
    return seconds is not None and seconds > SHORTEST


def longest_bar(evolution: Evolution) -> float:
    """Return the longest duration or lock wait among the applied revisions, in seconds."""
    return max(
        (
            seconds or 0.0
            for link in evolution.chain
            if link.last and link.state == "applied"
            for seconds in (link.last.seconds, link.last.longest_lock_wait)
        ),
        default=0.0,
    )


def bar_width(seconds: float, longest: float) -> str:
    """Return a bar's width as SVG has it; the bar of the longest time fills its column."""
    return f"{100 * seconds / longest:.1f}%" if longest else "0"
