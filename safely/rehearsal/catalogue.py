"""The catalogue of the copy at some moment: definitions, identities, rights, roles, settings."""

import json
import re
from collections.abc import Collection
from typing import NamedTuple

import asyncpg

from safely.ledger import snapshot

VERSION = re.compile(r"(?:\S+ )+\"?at_")  # an object of a published version

# By name, what the ledger's snapshot of the schema leaves out.
BEYOND_SCHEMA = r"""
WITH places AS MATERIALIZED (
  SELECT oid, nspname FROM pg_namespace
  WHERE nspname !~ '^(pg_|information_schema$|at_|aside_)'),
extended AS MATERIALIZED (SELECT classid, objid FROM pg_depend WHERE deptype = 'e')
SELECT coalesce(json_object_agg(name, definition), '{}')::text FROM (
SELECT 'role ' || rolname AS name, concat_ws(' ',
  CASE WHEN rolsuper THEN 'SUPERUSER' END, CASE WHEN rolcreaterole THEN 'CREATEROLE' END,
  CASE WHEN rolcreatedb THEN 'CREATEDB' END, CASE WHEN rolcanlogin THEN 'LOGIN' END,
  CASE WHEN rolreplication THEN 'REPLICATION' END, CASE WHEN rolbypassrls THEN 'BYPASSRLS' END,
  CASE WHEN NOT rolinherit THEN 'NOINHERIT' END, 'CONNECTION LIMIT ' || nullif(rolconnlimit, -1),
  'member of ' || (SELECT string_agg(roleid::regrole::text, ', ' ORDER BY roleid)
                   FROM pg_auth_members WHERE member = pg_roles.oid)) AS definition
FROM pg_roles WHERE rolname !~ '^pg_'
UNION ALL SELECT concat_ws(' ', 'settings of', 'role ' || nullif(setrole, 0)::regrole,
  'database ' || (SELECT datname FROM pg_database WHERE oid = setdatabase)),
  array_to_string(setconfig, ', ') FROM pg_db_role_setting
UNION ALL SELECT 'setting ' || name, max(setting) FROM pg_file_settings
WHERE sourcefile ~ 'postgresql[.]auto[.]conf$' GROUP BY name
UNION ALL SELECT 'database ' || datname, array_to_string(datacl, ', ') FROM pg_database
UNION ALL SELECT 'tablespace ' || spcname, '' FROM pg_tablespace
UNION ALL SELECT 'extension ' || extname, extversion FROM pg_extension
UNION ALL SELECT 'language ' || lanname, '' FROM pg_language
UNION ALL SELECT 'event trigger ' || evtname, concat_ws(' ', evtevent, evtfoid::regproc,
  evtenabled) FROM pg_event_trigger
UNION ALL SELECT 'publication ' || pubname, concat(puballtables, pubinsert, pubupdate, pubdelete)
FROM pg_publication
UNION ALL SELECT 'subscription ' || subname, subenabled::text FROM pg_subscription
UNION ALL SELECT 'replication slot ' || slot_name, slot_type FROM pg_replication_slots
UNION ALL SELECT 'foreign server ' || srvname, array_to_string(srvoptions, ', ')
FROM pg_foreign_server
UNION ALL SELECT format('user mapping of %s for %s', srvname, usename), '' FROM pg_user_mappings
UNION ALL SELECT 'prepared transaction ' || gid, '' FROM pg_prepared_xacts
UNION ALL SELECT 'large objects', count(*)::text FROM pg_largeobject_metadata
UNION ALL SELECT format('owner of %I.%I', nspname, relname), relowner::regrole::text
FROM pg_class JOIN places ON places.oid = relnamespace
WHERE relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
UNION ALL SELECT format('owner of %s', pg_proc.oid::regprocedure), proowner::regrole::text
FROM pg_proc JOIN places ON places.oid = pronamespace
WHERE ('pg_proc'::regclass, pg_proc.oid) NOT IN (TABLE extended)
UNION ALL SELECT format('owner of schema %I', nspname), nspowner::regrole::text
FROM pg_namespace JOIN places USING (oid, nspname)
UNION ALL SELECT format('parents of %s', inhrelid::regclass),
  string_agg(inhparent::regclass::text, ', ' ORDER BY inhseqno)
FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid JOIN places ON places.oid = relnamespace
WHERE relkind IN ('r', 'f') AND NOT relispartition GROUP BY inhrelid
UNION ALL SELECT format('foreign key %I on %s without an index', conname, conrelid::regclass),
  pg_get_constraintdef(pg_constraint.oid)
FROM pg_constraint JOIN places ON places.oid = connamespace
WHERE contype = 'f' AND conparentid = 0 AND NOT EXISTS (
  SELECT FROM pg_index WHERE indrelid = conrelid AND indisvalid AND indpred IS NULL
    AND (indkey::int2[])[0:cardinality(conkey) - 1] @> conkey)
UNION ALL SELECT format('index %s is a duplicate of %s', new.indexrelid::regclass,
  old.indexrelid::regclass), pg_get_indexdef(new.indexrelid)
FROM pg_index AS new
JOIN pg_index AS old USING (indrelid, indkey, indclass, indcollation, indoption)
JOIN pg_class ON pg_class.oid = indrelid JOIN places ON places.oid = relnamespace
WHERE new.indexrelid > old.indexrelid AND (old.indisunique OR NOT new.indisunique)
  AND pg_get_expr(new.indexprs, indrelid) IS NOT DISTINCT FROM pg_get_expr(old.indexprs, indrelid)
  AND pg_get_expr(new.indpred, indrelid) IS NOT DISTINCT FROM pg_get_expr(old.indpred, indrelid)
UNION ALL SELECT format('query of view %s', ev_class::regclass), left(md5(ev_action::text), 8)
FROM pg_rewrite JOIN pg_class ON pg_class.oid = ev_class JOIN places ON places.oid = relnamespace
WHERE relkind IN ('v', 'm') AND rulename = '_RETURN'
UNION ALL SELECT format('contents of %s', pg_class.oid::regclass),
  CASE WHEN relispopulated THEN 'populated' ELSE 'not populated' END
FROM pg_class JOIN places ON places.oid = relnamespace WHERE relkind = 'm'
) AS objects (name, definition)"""

# By identity, so that what is renamed or set aside is not taken for gone: its parent, if it goes
# with one, its kind and its name. $1: tables that only migrations use.
OBJECTS = """
WITH places AS MATERIALIZED (
  SELECT oid, nspname, CASE WHEN nspname = current_schema THEN '' ELSE quote_ident(nspname) || '.'
    END AS prefix
  FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema$|at_)'),
extended AS MATERIALIZED (SELECT classid, objid FROM pg_depend WHERE deptype = 'e'),
relations AS MATERIALIZED (
  SELECT pg_class.oid, relkind, prefix || quote_ident(relname) AS name
  FROM pg_class JOIN places ON places.oid = relnamespace
  WHERE relkind IN ('r', 'p', 'f', 'v', 'm', 'S') AND relname <> ALL ($1::text[])
    AND ('pg_class'::regclass, pg_class.oid) NOT IN (TABLE extended))
SELECT 'relation ' || oid AS key, '' AS parent, CASE relkind WHEN 'v' THEN 'view'
  WHEN 'm' THEN 'materialized view' WHEN 'S' THEN 'sequence' ELSE 'table' END AS kind, name
FROM relations
UNION ALL SELECT format('column %s %s', attrelid, attnum), 'relation ' || attrelid, 'column',
  name || '.' || quote_ident(attname)
FROM pg_attribute JOIN relations ON relations.oid = attrelid
WHERE relkind IN ('r', 'p', 'f') AND attnum > 0 AND NOT attisdropped
UNION ALL SELECT 'trigger ' || pg_trigger.oid, 'relation ' || tgrelid, 'trigger',
  format('%I on %s', tgname, name)
FROM pg_trigger JOIN relations ON relations.oid = tgrelid WHERE NOT tgisinternal
UNION ALL SELECT 'policy ' || pg_policy.oid, 'relation ' || polrelid, 'policy',
  format('%I on %s', polname, name) FROM pg_policy JOIN relations ON relations.oid = polrelid
UNION ALL SELECT 'rule ' || pg_rewrite.oid, 'relation ' || ev_class, 'rule',
  format('%I on %s', rulename, name)
FROM pg_rewrite JOIN relations ON relations.oid = ev_class WHERE rulename <> '_RETURN'
UNION ALL SELECT 'statistics ' || pg_statistic_ext.oid, 'relation ' || stxrelid, 'statistics',
  quote_ident(stxname) FROM pg_statistic_ext JOIN relations ON relations.oid = stxrelid
UNION ALL SELECT 'function ' || pg_proc.oid, '', 'function', pg_proc.oid::regprocedure::text
FROM pg_proc JOIN places ON places.oid = pronamespace
WHERE ('pg_proc'::regclass, pg_proc.oid) NOT IN (TABLE extended)
UNION ALL SELECT 'type ' || pg_type.oid, '', 'type', prefix || quote_ident(typname)
FROM pg_type JOIN places ON places.oid = typnamespace LEFT JOIN pg_class ON pg_class.oid = typrelid
WHERE (typtype IN ('e', 'd') OR relkind = 'c')
  AND ('pg_type'::regclass, pg_type.oid) NOT IN (TABLE extended)
UNION ALL SELECT 'label ' || pg_enum.oid, 'type ' || enumtypid, 'label',
  format('%L of %s', enumlabel, enumtypid::regtype) FROM pg_enum
UNION ALL SELECT 'schema ' || oid, '', 'schema', quote_ident(nspname) FROM places"""
SEQUENCES = """
SELECT format('%I.%I', schemaname, sequencename), last_value FROM pg_sequences"""


class Catalogue(NamedTuple):
    """The content of the copy's catalogue at one moment: definitions, objects, sequences."""

    definitions: dict[str, str]
    """By name, of the schema and of what is beyond it."""
    objects: dict[str, tuple[str, str, str]]
    """By identity: the parent's identity, the kind and the name."""
    sequences: dict[str, int | None]
    """By sequence, the last number that it gave; None: it gave none since it was made or reset."""


async def catalogue_of(connection: asyncpg.Connection, bookkeeping: Collection[str]) -> Catalogue:
    """Return what the catalogue says now; `bookkeeping`: tables that only migrations use."""
    schema = json.loads(await connection.fetchval(snapshot.POSTGRESQL) or "{}")
    beyond = json.loads(await connection.fetchval(BEYOND_SCHEMA))
    objects = await connection.fetch(OBJECTS, list(bookkeeping))
    definitions = {name: text or "" for name, text in (schema | beyond).items()}
    return Catalogue(
        {name: text for name, text in definitions.items() if not VERSION.match(name)},
        {key: (parent, kind, name) for key, parent, kind, name in objects},
        dict(await connection.fetch(SEQUENCES)),
    )
