"""`lint --explain RULE`: what a rule is about, why it hurts, and what to write instead."""

import tomllib
from pathlib import Path
from textwrap import indent, wrap
from typing import NamedTuple

from safely.lint.configuration import known_rule
from safely.lint.rules import RULES

EXAMPLES = Path(__file__).with_name("examples.toml")
WIDTH = 90  # columns
MARGIN = "    "


class Example(NamedTuple):
    """Code that breaks a rule, and code that doesn't."""

    bad: str
    safe: str
    lock: str = ""
    """The locks that the bad code takes; empty: none on a table."""
    in_downgrade: bool = False
    """Whether the code is the body of a downgrade."""


def examples() -> dict[str, Example]:
    """Return the example of each rule."""
    content = tomllib.loads(EXAMPLES.read_text(encoding="utf-8"))
    for entry in content.values():
        entry |= {name: entry[name].strip("\n") for name in ("bad", "safe")}
    return {name: Example(**entry) for name, entry in content.items()}


def explain(name: str) -> str:
    """Return the explanation of a rule; raise CommandError for a name that is no rule."""
    known_rule(name, "--explain")
    if name not in RULES:
        return f"{name} is a rule of squawk: https://squawkhq.com/docs/{name}"
    rule, example = RULES[name], examples()[name]
    message, why = ("\n".join(wrap(in_general(text), WIDTH)) for text in (rule.message, rule.why))
    parts = {f"{name} ({rule.severity})": message, "why": why}
    if example.lock:
        parts["lock, in the example"] = example.lock
    where = "in a downgrade" if example.in_downgrade else "for example"
    parts |= {f"bad, {where}": example.bad, "safe": example.safe}
    return "\n\n".join(f"{title}:\n{indent(text, MARGIN)}" for title, text in parts.items())


def in_general(text: str) -> str:
    """Return the text of a rule about no line in particular, such as `dropping <what> …`."""
    text = text.replace("{stopped}", "")  # what stopped lint is about one line
    return text.replace("{", "<").replace("}", ">").strip()
