"""The key of a table: the columns that tell its rows apart, along which batches walk."""

from safely.operations.connection import Refused, offline, postgresql, qualified, regclass, rows

# The primary key, or else the unique index of NOT NULL columns with the fewest columns. Its order
# must be the one in which `>` compares: that of another operator class, of another collation, or
# of a type whose operators the search_path does not lead to would make the walk skip rows.
KEY = """\
SELECT attname, format_type(atttypid, atttypmod) AS type, place
FROM (
  SELECT indexrelid, indrelid, indkey, indnkeyatts
  FROM pg_index
  WHERE indrelid = {oid} AND indisunique AND indisvalid AND indpred IS NULL AND indexprs IS NULL
    AND NOT EXISTS (
      SELECT FROM unnest(indkey::smallint[]) WITH ORDINALITY AS part (number, place)
      JOIN pg_attribute ON attrelid = indrelid AND attnum = number
      JOIN pg_opclass ON pg_opclass.oid = indclass[place - 1]
      JOIN pg_amop ON amopfamily = opcfamily AND amopstrategy = 5
        AND amoplefttype = opcintype AND amoprighttype = opcintype
      WHERE place <= indnkeyatts
        AND NOT (attnotnull AND opcdefault AND pg_operator_is_visible(amopopr)
                 AND indcollation[place - 1] = attcollation))
  ORDER BY indisprimary DESC, indnkeyatts, indexrelid LIMIT 1
) AS best
CROSS JOIN unnest(indkey::smallint[]) WITH ORDINALITY AS part (number, place)
JOIN pg_attribute ON attrelid = indrelid AND attnum = number
WHERE place <= indnkeyatts"""

# the primary key, or else the first unique index of NOT NULL columns
KEY_ON_SQLITE = """\
SELECT name FROM pragma_table_info(?1) WHERE pk > 0
UNION ALL
SELECT part.name FROM pragma_index_info((
  SELECT list.name FROM pragma_index_list(?1) AS list
  WHERE list."unique" AND NOT list.partial
    AND NOT EXISTS (SELECT 1 FROM pragma_table_info(?1) WHERE pk > 0)
    AND NOT EXISTS (SELECT 1 FROM pragma_index_info(list.name) AS part
                    LEFT JOIN pragma_table_info(?1) AS info ON info.name = part.name
                    WHERE info."notnull" IS NOT 1)
  ORDER BY list.seq LIMIT 1)) AS part"""


def key_columns(table_name: str) -> list[str]:
    """Return the columns of the table's key; none where it has no key."""
    if postgresql():
        query = (
            f"SELECT attname FROM ({KEY.format(oid=regclass(table_name))}) AS key ORDER BY place"
        )
        return [name for (name,) in rows(query)]
    return [name for (name,) in rows(KEY_ON_SQLITE, table_name)]


def refuse_without_key(table_name: str) -> None:
    """Raise Refused for a table without a key to walk along."""
    if not offline() and not key_columns(table_name):
        raise Refused(no_key(table_name))


def no_key(table_name: str) -> str:
    """Return the message for a table without a key."""
    return (
        f"{qualified(table_name)} has no primary key, and no unique index whose columns are all "
        "NOT NULL: its rows can't be changed in batches, and in one statement they would be "
        "locked for long. Give it a primary key, or create such an index with safely.create_index "
        "in a revision before this one"
    )
