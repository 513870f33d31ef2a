"""Names in pieces of SQL."""

import re

QUOTED_NAME = r'("[^"]*")'
COMMENT = r"--[^\n]*|/\*.*?\*/"
STRING = r"(\$\w*\$).*?\2|'(?:[^']|'')*'"
NO_NAME = re.compile(f"{QUOTED_NAME}|{COMMENT}|{STRING}", re.DOTALL)


def unqualified(name: str) -> str:
    """Return a name without schema and quotes."""
    return (
        name[-1 - name[::-1].find('"', 1) :].strip('"')
        if name.endswith('"')
        else name.rpartition(".")[2]
    )


def identifiers(text: str) -> set[str]:
    """Return the names and keywords in an expression, in lower case."""
    without_strings = NO_NAME.sub(r"\1 ", text)  # what stands in a quoted name is no comment
    return set(re.findall(r"[a-z_][a-z0-9_$]*", without_strings.lower()))
