"""The schema as one JSON object {"<kind> <name>": "<definition>"}, and the difference of two.

Each query gives one text and takes no parameters, so it can also stand as `(…)` in an INSERT.
Databases with the same schema give the same object: after a dump and a restore, under other
owners, whatever the session's settings. Left out: what is set aside, the tables that tell of
migrations, objects of extensions, comments, owners, aggregates, operators, objects outside of
schemas, and what a partition has from its table. Names are bare in the schema that is migrated.
"""

import re
from collections import Counter
from collections.abc import Iterator
from difflib import SequenceMatcher

# pg_get_…def depends on the session's settings. As pg_dump does, the query sets those that matter;
# its last line sets them back. The order holds because each CTE needs rows of the one before, and
# because no function that depends on the settings stands in a WHERE, which might run earlier.
QUERY = r"""
WITH settings (name, steady) AS (VALUES ('search_path', 'pg_catalog, pg_temp'), ('TimeZone', 'UTC'),
  ('DateStyle', 'ISO'), ('IntervalStyle', 'postgres'), ('extra_float_digits', '1'),
  ('bytea_output', 'hex'), ('quote_all_identifiers', 'off')),
session AS MATERIALIZED (
  SELECT {home} AS home, jsonb_object_agg(name, current_setting(name)) AS own
  FROM settings),
steadied AS MATERIALIZED (
  SELECT home, count(set_config(name, steady, true)) FROM session, settings GROUP BY home),
places AS MATERIALIZED (
  SELECT n.*, CASE WHEN nspname = home THEN '' ELSE quote_ident(nspname) || '.' END AS prefix
  FROM pg_namespace n, steadied WHERE nspname = home OR starts_with(nspname, 'at_')),
extensions AS MATERIALIZED (SELECT classid, objid FROM pg_depend WHERE deptype = 'e'),
relations AS MATERIALIZED (
  SELECT c.*, c.tableoid AS classid, prefix, prefix || quote_ident(relname) AS name
  FROM pg_class c JOIN places p ON p.oid = relnamespace
  WHERE relkind IN ('r', 'p', 'f', 'v', 'm', 'S') AND relname !~ '^_aside_'
    AND NOT (prefix = '' AND relname IN ('alembic_version', 'migration_log'))
    AND (c.tableoid, c.oid) NOT IN (TABLE extensions)),
columns AS MATERIALIZED (
  SELECT a.*, relkind, relowner, name || '.' || quote_ident(attname) AS name
  FROM pg_attribute a JOIN relations r ON r.oid = attrelid
  WHERE relkind <> 'S' AND attnum > 0 AND NOT attisdropped AND attname !~ '^_aside_'),
functions AS MATERIALIZED (  -- OFFSET 0: first the few of our schemas, then the dearer questions
  SELECT p.*, prefix || quote_ident(proname) || '(' || oidvectortypes(proargtypes) || ')' AS name
  FROM (SELECT p.tableoid AS classid, p.*, prefix
        FROM pg_proc p JOIN places n ON n.oid = pronamespace OFFSET 0) AS p
  WHERE prokind <> 'a' AND proname !~ '^_aside_' AND (classid, oid) NOT IN (TABLE extensions)),
types AS MATERIALIZED (  -- not those that each table and each type bring along
  SELECT t.*, prefix || quote_ident(typname) AS name
  FROM (SELECT t.tableoid AS classid, t.*, prefix, (regexp_match(
          obj_description(t.oid, 'pg_type'), 'safely: ([^\n]*)$'))[1]::jsonb AS note
        FROM pg_type t JOIN places n ON n.oid = typnamespace OFFSET 0) AS t
  LEFT JOIN pg_class c ON c.oid = typrelid WHERE (typtype IN ('e', 'd') OR relkind = 'c')
    AND typname !~ '^_aside_' AND (note ? 'set aside by') IS NOT TRUE
    AND (classid, t.oid) NOT IN (TABLE extensions)),
rights (thing, owner, held, usual) AS (
  SELECT 'grant on ' || name, relowner, relacl,
    acldefault(CASE relkind WHEN 'S' THEN 's'::"char" ELSE 'r' END, relowner) FROM relations
  UNION ALL SELECT 'grant on ' || name, relowner, attacl, acldefault('c', relowner) FROM columns
  UNION ALL SELECT 'grant on function ' || name, proowner, proacl, acldefault('f', proowner)
  FROM functions
  UNION ALL SELECT 'grant on type ' || name, typowner, typacl, acldefault('T', typowner) FROM types
  UNION ALL SELECT 'grant on schema ' || quote_ident(nspname), nspowner, nspacl,
    acldefault('n', nspowner) FROM places
  UNION ALL SELECT concat_ws(' ', 'default grant on', split_part(
      'tables,sequences,functions,types,schemas,large objects', ',',
      strpos('rSfTnL', defaclobjtype::text)), 'in schema ' || quote_ident(nspname),
      'by', defaclrole::regrole), defaclrole, defaclacl,
    -- those for all schemas replace the usual ones, those for one come on top: like a column's
    acldefault(CASE WHEN defaclnamespace <> 0 THEN 'c' WHEN defaclobjtype = 'S' THEN 's'
      ELSE defaclobjtype END, defaclrole)
  FROM pg_default_acl LEFT JOIN places p ON p.oid = defaclnamespace
  WHERE defaclnamespace = 0 OR p.oid IS NOT NULL),
grants (name, privilege) AS (
  SELECT thing || ' to ' || CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END,
    concat(CASE WHEN sum(times) < 0 THEN 'no ' END,  -- what everybody may, unless it is revoked
      privilege_type, CASE WHEN is_grantable THEN ' WITH GRANT OPTION' END)
  FROM rights, LATERAL (SELECT 1 AS times, * FROM aclexplode(held)
                        UNION ALL SELECT -1, * FROM aclexplode(usual)) AS entries
  WHERE held IS NOT NULL AND grantee <> owner
  GROUP BY thing, grantee, privilege_type, is_grantable HAVING sum(times) <> 0),
told (name, definition) AS (
  SELECT 'schema ' || quote_ident(nspname), 'schema' FROM places WHERE prefix <> ''
  UNION ALL SELECT 'table ' || name, concat_ws(' ',
    CASE relpersistence WHEN 'u' THEN 'unlogged' END, CASE relkind WHEN 'f' THEN 'foreign' END,
    'table', 'PARTITION BY ' || pg_get_partkeydef(oid), pg_get_expr(relpartbound, oid),
    'WITH (' || array_to_string(reloptions, ', ') || ')', 'TOAST WITH (' || (
      SELECT array_to_string(t.reloptions, ', ') FROM pg_class t WHERE t.oid = r.reltoastrelid)
    || ')', CASE WHEN relrowsecurity THEN 'ROW SECURITY' END,
    CASE WHEN relforcerowsecurity THEN 'FORCE ROW SECURITY' END,
    'REPLICA IDENTITY ' || CASE relreplident WHEN 'n' THEN 'NOTHING' WHEN 'f' THEN 'FULL' END)
  FROM relations r WHERE relkind IN ('r', 'p', 'f')
  UNION ALL SELECT 'column ' || name, concat_ws(' ', format_type(atttypid, atttypmod),
    CASE WHEN attcollation <> typcollation THEN 'COLLATE ' || attcollation::regcollation END,
    CASE WHEN attnotnull THEN 'NOT NULL' END, CASE WHEN NOT convalidated THEN 'NOT VALID' END,
    'GENERATED ' || CASE attidentity WHEN 'a' THEN 'ALWAYS' WHEN 'd' THEN 'BY DEFAULT' END
      || ' AS IDENTITY', CASE attgenerated WHEN '' THEN 'DEFAULT ' ELSE 'GENERATED ALWAYS AS ' END
      || pg_get_expr(adbin, adrelid), CASE attgenerated WHEN 's' THEN 'STORED' END,
    CASE WHEN attstorage <> typstorage THEN 'STORAGE ' || split_part(
      'PLAIN,EXTERNAL,MAIN,EXTENDED', ',', strpos('pemx', attstorage::text)) END,
    'COMPRESSION ' || CASE attcompression WHEN 'p' THEN 'pglz' WHEN 'l' THEN 'lz4' END,
    'STATISTICS ' || CASE WHEN attstattarget >= 0 THEN attstattarget END,
    'WITH (' || array_to_string(attoptions, ', ') || ')')
  FROM columns JOIN pg_type t ON t.oid = atttypid
  LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
  LEFT JOIN pg_constraint ON conrelid = attrelid AND contype = 'n' AND conkey[1] = attnum
  WHERE relkind IN ('r', 'p', 'f') OR atthasdef  -- which a view's column may have
  UNION ALL SELECT 'constraint ' || quote_ident(conname) || ' on ' || name,
    pg_get_constraintdef(c.oid)  -- but NOT NULL, and what a constraint trigger checks
  FROM pg_constraint c JOIN relations r ON r.oid = conrelid
  WHERE contype NOT IN ('n', 't') AND conparentid = 0 AND conname !~ '^_aside_'
  UNION ALL SELECT 'index ' || prefix || quote_ident(i.relname), concat(
    pg_get_indexdef(i.oid), CASE WHEN indisreplident THEN ' REPLICA IDENTITY' END,
    CASE WHEN NOT indisvalid THEN ' INVALID' END)
  FROM pg_index JOIN relations r ON r.oid = indrelid JOIN pg_class i ON i.oid = indexrelid
  WHERE i.relname !~ '^_aside_'
  UNION ALL SELECT 'trigger ' || quote_ident(tgname) || ' on ' || name, concat(
    pg_get_triggerdef(t.oid), CASE tgenabled WHEN 'D' THEN ' DISABLED'
      WHEN 'R' THEN ' ENABLED REPLICA' WHEN 'A' THEN ' ENABLED ALWAYS' END)
  FROM pg_trigger t JOIN relations r ON r.oid = tgrelid
  WHERE NOT tgisinternal AND tgparentid = 0 AND tgname !~ '^_aside_'
  UNION ALL SELECT 'function ' || name, pg_get_functiondef(oid) FROM functions
  UNION ALL SELECT 'sequence ' || s.name, concat_ws(' ', format_type(seqtypid, NULL), 'START',
    seqstart, 'INCREMENT', seqincrement, 'MINVALUE', seqmin, 'MAXVALUE', seqmax, 'CACHE', seqcache,
    CASE WHEN seqcycle THEN 'CYCLE' END, 'owned by ' || c.name)
  FROM relations s JOIN pg_sequence ON seqrelid = s.oid
  LEFT JOIN pg_depend d ON d.classid = s.classid AND d.objid = s.oid AND d.deptype IN ('a', 'i')
    AND d.refclassid = s.classid AND d.refobjsubid > 0
  LEFT JOIN columns c ON c.attrelid = d.refobjid AND c.attnum = d.refobjsubid
  WHERE d.objid IS NULL OR c.attrelid IS NOT NULL  -- not that of a column which is left out
  UNION ALL SELECT 'view ' || name, concat_ws(' ', CASE relkind WHEN 'm' THEN 'MATERIALIZED' END,
    'WITH (' || array_to_string(reloptions, ', ') || ')', pg_get_viewdef(oid))
  FROM relations WHERE relkind IN ('v', 'm')
  UNION ALL SELECT 'type ' || name, CASE typtype
    WHEN 'e' THEN concat('ENUM (', (
      SELECT string_agg(quote_literal(enumlabel), ', ' ORDER BY enumsortorder)
      FROM pg_enum WHERE enumtypid = t.oid AND (note -> 'hidden' ? enumlabel) IS NOT TRUE), ')')
    WHEN 'd' THEN concat_ws(' ', 'DOMAIN', format_type(typbasetype, typtypmod),
      CASE WHEN typnotnull THEN 'NOT NULL' END, 'DEFAULT ' || pg_get_expr(typdefaultbin, 0), (
      SELECT string_agg(conname || ' ' || pg_get_constraintdef(oid), ' ' ORDER BY conname)
      FROM pg_constraint WHERE contypid = t.oid AND contype = 'c'))
    ELSE concat('(', (
      SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attnum)
      FROM pg_attribute WHERE attrelid = typrelid AND NOT attisdropped), ')') END FROM types t
  UNION ALL SELECT 'policy ' || quote_ident(polname) || ' on ' || name, concat_ws(' ',
    CASE WHEN NOT polpermissive THEN 'RESTRICTIVE' END, 'FOR',
    split_part('SELECT,INSERT,UPDATE,DELETE,ALL', ',', strpos('rawd*', polcmd::text)), 'TO', (
      SELECT string_agg(coalesce(rolname, 'PUBLIC'), ', ' ORDER BY rolname)
      FROM unnest(polroles) AS role LEFT JOIN pg_roles ON pg_roles.oid = role),
    'USING (' || pg_get_expr(polqual, polrelid) || ')',
    'WITH CHECK (' || pg_get_expr(polwithcheck, polrelid) || ')')
  FROM pg_policy JOIN relations r ON r.oid = polrelid
  UNION ALL SELECT 'rule ' || quote_ident(rulename) || ' on ' || name, concat(
    pg_get_ruledef(w.oid), CASE WHEN ev_enabled <> 'O' THEN ' ENABLED ' || ev_enabled::text END)
  FROM pg_rewrite w JOIN relations r ON r.oid = ev_class WHERE rulename <> '_RETURN'
  UNION ALL SELECT 'statistics ' || quote_ident(stxname) || ' on ' || name,
    pg_get_statisticsobjdef(s.oid)
  FROM pg_statistic_ext s JOIN relations r ON r.oid = stxrelid WHERE stxname !~ '^_aside_'
  UNION ALL SELECT name, string_agg(DISTINCT privilege COLLATE "C", ', ') FROM grants GROUP BY 1),
schema AS MATERIALIZED (  -- of a varchar, x IN ('a', 'b') comes back from a dump in other words
  SELECT jsonb_object_agg(name, CASE WHEN name ~ '^function ' THEN definition ELSE regexp_replace(
    regexp_replace(definition, '[(]ARRAY([[](''[^'']*''|[^]''])*[]])[)]::text[[][]]', 'ARRAY\1',
    'g'), '[(]((''[^'']*'')+::character varying)[)]::text', '\1', 'g') END)
    FILTER (WHERE definition IS NOT NULL)::text AS json  -- NULL: it was dropped meanwhile
  FROM told)
SELECT CASE WHEN (SELECT count(set_config(key, value, true)) FROM jsonb_each_text(own)) > 0
  THEN coalesce(json, '{{}}') END FROM schema, session
"""


def postgresql(home: str) -> str:
    """Return the query for PostgreSQL; `home` is the schema that is migrated, as an expression."""
    return QUERY.format(home=home)


POSTGRESQL = postgresql("current_schema")

SQLITE = """
SELECT json_group_object(name, sql) FROM (
  SELECT type || ' ' || name || iif(type = 'trigger', ' on ' || tbl_name, '') AS name, sql
  FROM sqlite_master WHERE name NOT GLOB 'sqlite_*' AND name NOT GLOB '_aside_*'
    AND tbl_name NOT GLOB '_aside_*' AND tbl_name NOT IN ('alembic_version', 'migration_log')
  ORDER BY 1
)
"""

LONG = 160  # characters; a sentence shows a part of a longer definition
PLURALS = {"index": "indexes", "policy": "policies", "statistics": "statistics"}
PART_OF = {  # by kind: how name and definition tell the object that it is part of
    "column": r"(.+)\.",
    "grant": r"on (.+) to ",
    "sequence": r"(?s:.+) owned by (.+)",
    "index": r'(?s:.+?)\sON\s+(?:ONLY\s+)?(?:(?!"?at_[^.]*\.)\w+\.)?("[^"]*"|[^\s("]+)',
}

PARTITION = re.compile(r"table (PARTITION BY .+ )?(FOR VALUES (IN|FROM|WITH) |DEFAULT\b)")


def differences(recorded: dict[str, str], actual: dict[str, str]) -> list[str]:
    """Return a sentence for each object that differs, sorted.

    An object that comes or goes with a table, a view, a schema or a column is part of its sentence.
    """
    gone = {name: recorded[name] for name in recorded.keys() - actual.keys()}
    added = {name: actual[name] for name in actual.keys() - recorded.keys()}
    common = {name: (recorded[name], actual[name]) for name in recorded.keys() & actual.keys()}
    sentences = [f"{name}: is gone{details}" for name, details in gathered(gone, gone=True)]
    sentences += [f"{name}: was added{details}" for name, details in gathered(added, gone=False)]
    sentences += [f"{name}: {change(*both)}" for name, both in common.items() if both[0] != both[1]]
    return sorted(sentences)


def undeclared_differences(recorded: dict[str, str], actual: dict[str, str]) -> list[str]:
    """Return the `differences` that no revision and no purge has made.

    Partitions are made, dropped, attached and detached outside of revisions: that is none.
    """
    moved = moved_partitions(recorded, actual)
    return differences(without(recorded, moved), without(actual, moved))


def moved_partitions(recorded: dict[str, str], actual: dict[str, str]) -> set[str]:
    """Return the partitions, on either side, that the other side lacks or has elsewhere."""
    return {
        name
        for name in recorded.keys() | actual.keys()
        if name.startswith("table ")
        and recorded.get(name) != actual.get(name)
        and any(PARTITION.search(side.get(name, "")) for side in (recorded, actual))
    }


def without(objects: dict[str, str], tables: set[str]) -> dict[str, str]:
    """Return the objects but for those that are part of the tables."""
    if not tables:
        return objects
    return {
        name: definition
        for name, definition in objects.items()
        if whole(name, objects, gone=False) not in tables
    }


def gathered(objects: dict[str, str], *, gone: bool) -> Iterator[tuple[str, str]]:
    """Yield the objects that are part of no other one, each with details in brackets."""
    wholes = {name: whole(name, objects, gone=gone) for name in sorted(objects)}
    for name in set(wholes.values()):
        kind, parts = name.split()[0], [part for part in wholes if wholes[part] == name != part]
        details = [] if objects[name] == kind else ["was " * gone + cut(words(objects[name]))]
        if kind in {"schema", "table", "view"}:
            counts = Counter(part.split()[0] for part in parts)
            details += [
                f"{n} {k if n == 1 else PLURALS.get(k, k + 's')}" for k, n in counts.items()
            ]
        elif parts:
            details += [f"with {', '.join(parts)}"]
        yield name, f" ({', '.join(details)})" if details else ""


def whole(name: str, objects: dict[str, str], *, gone: bool) -> str:
    """Return the outermost of the objects that this one is part of, or itself."""
    kind, _, own = name.partition(" ")
    match = re.match(PART_OF.get(kind, ".+ on (.+)"), f"{own}\n{objects[name]}")
    place = match[1] if match else ""
    nearest = [f"constraint {own} on {place}"]  # an index of that name serves it
    if gone and kind in {"constraint", "index", "statistics"}:
        # these go with a column that their definition mentions
        mentioned = re.findall(r'"[^"]+"|\w+', objects[name])
        nearest += (f"column {place}.{word}" for word in mentioned)
    nearest += (f"{kind} {place}" for kind in ("column", "table", "view", "sequence"))
    nearest += (place, f"schema {own.partition('.')[0]}")
    above = next((other for other in nearest if other in objects and other != name), None)
    return whole(above, objects, gone=gone) if above else name


def change(old: str, new: str) -> str:
    """Return old and new definition in words; of long ones only where they differ, and around."""
    was, now = words(old), words(new)
    if was == now:
        return "only its white space changed"
    around = len(old) if max(len(old), len(new)) <= LONG else 4
    groups = SequenceMatcher(None, was, now, autojunk=False).get_grouped_opcodes(around)
    ends = [(group[0], group[-1]) for group in groups]
    return "; ".join(f"was {cut(was, a[1], z[2])}, is now {cut(now, a[3], z[4])}" for a, z in ends)


def words(text: str) -> list[str]:
    """Return the text's words, each with the blank, comma or bracket that follows."""
    return re.findall(r"[^ ,(]+[ ,(]*|[ ,(]+", " ".join(text.split()))


def cut(parts: list[str], start: int = 0, end: int | None = None) -> str:
    """Return some of the words in quotes, with dots where others were left out."""
    text = "".join(parts[start:end]).strip()
    more = len(text) > LONG or end not in {None, len(parts)}
    return f'"{"… " * (start > 0)}{text[:LONG]}{" …" * more}"'
