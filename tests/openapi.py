"""The OpenAPI document and its committed snapshot: what of the old one clients can't rely on now.

`python -m tests.openapi` writes the snapshot, and refuses to where clients would break, unless it
gets `--breaking`.
"""

import asyncio
import json
import operator
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import httpx

from service.app import create_app
from service.settings import Settings
from tests.paths import ROOT

SNAPSHOT = ROOT / "docs/openapi.json"

Json = dict[str, Any]


def served() -> Json:
    """Return the document as the service serves it, without a database."""
    app = create_app(Settings(database_url="sqlite:///nowhere"))

    async def get() -> Json:
        transport = httpx.ASGITransport(cast("Any", app))  # the same calls, typed more narrowly
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            document: Json = (await client.get("/openapi.json")).json()
            return document

    return asyncio.run(get())


def as_text(document: Json) -> str:
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def breaking(old: Json, new: Json) -> list[str]:
    """Return the changes that break clients of the old document, a sentence each."""
    before, after = (operations(inlined(document, document)) for document in (old, new))
    changes: list[str] = []
    for name, operation in before.items():
        if name in after:
            changes += (f"{name}: {what}" for what in in_operation(operation, after[name]))
        else:
            changes.append(f"{name} is gone")
    return changes


def inlined(node: Any, document: Json) -> Any:
    """Return the node with its references replaced by what they refer to."""
    if isinstance(node, list):
        return [inlined(item, document) for item in node]
    if not isinstance(node, dict):
        return node
    if isinstance(reference := node.get("$ref"), str):
        target = document
        for name in reference.removeprefix("#/").split("/"):
            target = target[name]
        return inlined(target, document)
    return {name: inlined(value, document) for name, value in node.items()}


def operations(document: Json) -> dict[str, Json]:
    return {
        f"{method.upper()} {path}": operation
        for path, item in document["paths"].items()
        for method, operation in item.items()
    }


def in_operation(old: Json, new: Json) -> Iterator[str]:
    for name in ("operationId", "security"):
        if (old.get(name) or None) != (new.get(name) or None):  # no security is an empty one
            yield f"its {name} was {old.get(name)}, and is {new.get(name)}"
    yield from in_parameters(old, new)
    yield from in_body(old.get("requestBody", {}), new.get("requestBody", {}))
    for status, before in old["responses"].items():
        if status in new["responses"]:
            yield from in_answer(before, new["responses"][status], f"the answer {status}")
        else:
            yield f"the answer {status} is gone"


def in_parameters(old: Json, new: Json) -> Iterator[str]:
    before, after = (
        {f"the {one['in']} parameter {one['name']}": one for one in operation.get("parameters", [])}
        for operation in (old, new)
    )
    for what, parameter in after.items():
        if parameter.get("required") and not before.get(what, {}).get("required"):
            yield f"{what} is now required"
    for what, parameter in before.items():
        if what in after:
            yield from in_what_is_sent(parameter["schema"], after[what]["schema"], what)
        else:
            yield f"{what} is gone"


def in_body(old: Json, new: Json) -> Iterator[str]:
    if new.get("required") and not old.get("required"):
        yield "the body is now required"
    for media_type, before in old.get("content", {}).items():
        if after := new.get("content", {}).get(media_type):
            yield from in_what_is_sent(before["schema"], after["schema"], "the body")
        else:
            yield f"the body {media_type} is gone"


def in_answer(old: Json, new: Json, what: str) -> Iterator[str]:
    for name, before in old.get("headers", {}).items():
        after = new.get("headers", {}).get(name)
        if after is None:
            yield f"the header {name} of {what} is gone"
        elif before.get("required") and not after.get("required"):
            yield f"the header {name} of {what} may be missing"
    for media_type, before in old.get("content", {}).items():
        after = new.get("content", {}).get(media_type)
        if after is None:
            yield f"{what} as {media_type} is gone"
            continue
        for kind in before.get("examples", {}):  # of problems
            if kind not in after.get("examples", {}):
                yield f"the problem {kind} of {what} is gone"
        yield from in_what_is_received(before["schema"], after["schema"], what)


LIMITS = {  # a comparison that is true when a limit became narrower
    **dict.fromkeys(["maximum", "maxLength", "maxItems", "maxProperties"], operator.lt),
    **dict.fromkeys(["minimum", "minLength", "minItems", "minProperties"], operator.gt),
    **dict.fromkeys(["pattern", "format", "const"], operator.ne),
}


def in_what_is_sent(old: Json, new: Json, what: str) -> Iterator[str]:
    """Yield what a client may send by the old schema and not by the new one."""
    if gone := types(old) - types(new):
        yield f"{what} may no longer be {words(gone)}"
    old, new = value(old), value(new)
    if "enum" in new and (gone := set(old.get("enum", ["anything"])) - set(new["enum"])):
        yield f"{what} may no longer be {words(gone)}"
    for limit, narrower in LIMITS.items():
        if limit in new and (limit not in old or narrower(new[limit], old[limit])):
            yield f"the {limit} of {what} was {old.get(limit)}, and is {new[limit]}"
    if new.get("additionalProperties") is False and old.get("additionalProperties") is not False:
        yield f"unknown fields of {what} are now refused"
    for name in new.get("required", []):
        if name not in old.get("required", []):
            yield f"{name} of {what} is now required"
    for name, part in parts(old).items():
        if name in parts(new):
            yield from in_what_is_sent(part, parts(new)[name], f"{name} of {what}")
        else:
            yield f"{name} of {what} is gone"


def in_what_is_received(old: Json, new: Json, what: str) -> Iterator[str]:
    """Yield what a client receives by the new schema and does not expect by the old one."""
    if types(old) != types(new):
        yield f"{what} was {words(types(old))}, and is {words(types(new))}"
    old, new = value(old), value(new)
    if old.get("format") != new.get("format"):
        yield f"the format of {what} was {old.get('format')}, and is {new.get('format')}"
    if "enum" in old and (added := set(new.get("enum", ["anything"])) - set(old["enum"])):
        yield f"{what} may now be {words(added)}"
    for name, part in parts(old).items():
        if name not in parts(new):
            yield f"{name} of {what} is gone"
            continue
        if name in old.get("required", []) and name not in new.get("required", []):
            yield f"{name} of {what} may be missing"
        yield from in_what_is_received(part, parts(new)[name], f"{name} of {what}")


def alternatives(schema: Json) -> list[Json]:
    schemas: list[Json] = schema.get("anyOf") or schema.get("oneOf") or [schema]
    return schemas


def types(schema: Json) -> set[str]:
    names = (alternative.get("type", "anything") for alternative in alternatives(schema))
    return {name for type_ in names for name in ([type_] if isinstance(type_, str) else type_)}


def value(schema: Json) -> Json:
    """Return the alternative that is not null; our schemas have one at most."""
    return next((one for one in alternatives(schema) if one.get("type") != "null"), schema)


def parts(schema: Json) -> Json:
    """Return the schemas of an object's fields, and of an array's items."""
    inside = dict(schema.get("properties", {}))
    if "items" in schema:
        inside["each item"] = schema["items"]
    return inside


def words(names: set[str]) -> str:
    return " or ".join(sorted(map(str, names)))


def renew(snapshot: Path, *, at_any_price: bool) -> list[str]:
    """Write the document to the file; return the breaking changes, if any, and write nothing."""
    document = served()
    old = json.loads(snapshot.read_text(encoding="utf-8"))
    changes = [] if at_any_price else breaking(old, document)
    if not changes:
        snapshot.write_text(as_text(document), encoding="utf-8")
    return changes


if __name__ == "__main__":
    if problems := renew(SNAPSHOT, at_any_price="--breaking" in sys.argv):
        sys.exit("\n".join(["Clients would break; if they shall: BREAKING=1", *problems]))
