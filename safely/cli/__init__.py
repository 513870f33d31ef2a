"""The commands of `python -m safely`: their arguments and their output.

A module has `WHAT` (its line in the help), `NEEDS_DATABASE`, `arguments(parser)` and
`run(options, environment)`, which returns one of the exit codes below.
"""

WELL, NO, UNKNOWN = 0, 1, 2
CODES = (
    "Exit codes: 0 all is well; 1 it is not: drift, a finding, a budget exceeded, a refusal by "
    "whoever was asked; 2 it can't be told or done."
)
