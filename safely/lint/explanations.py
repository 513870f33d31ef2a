"""`lint --explain RULE`: what a rule is about, why it hurts, and what to write instead."""

from textwrap import indent, wrap

from safely.lint.configuration import known_rule
from safely.lint.rules import RULES

WIDTH = 90


def explain(name: str) -> str:
    """Return the explanation of a rule; raise CommandError for a name that is no rule."""
    known_rule(name, "--explain")
    if name not in RULES:
        return f"{name} is a rule of squawk: https://squawkhq.com/docs/{name}"
    rule = RULES[name]
    texts = map(in_general, (rule.message, rule.why))
    message, why = (indent("\n".join(wrap(text, WIDTH)), "    ") for text in texts)
    return f"{name} ({rule.severity})\n{message}\n\nwhy:\n{why}"


def in_general(text: str) -> str:
    """Return the text of a rule about no line in particular, such as `dropping <what> …`."""
    return text.replace("{", "<").replace("}", ">").strip()
