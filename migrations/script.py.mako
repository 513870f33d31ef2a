"""${message}.

What:   …
Why:    …
Lock:   …
Older builds: …
Undone: …
"""
<%
    def is_empty(body):
        lines = [line.strip() for line in body.splitlines()]
        return all(line in ("", "pass") or line.startswith("# ###") for line in lines)

    up, down = upgrades or "", downgrades or ""
    if is_empty(up):
        up = 'raise NotImplementedError("write what this revision does")'
    if is_empty(down):
        down = 'raise NotImplementedError("write how it is undone, or safely.nothing_to_undo(why)")'
%>
% if "sa." in up + down:
import sqlalchemy as sa

% endif
${imports + "\n" if imports else ""}import safely

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def upgrade() -> None:
    ${up}


def downgrade() -> None:
    ${down}
