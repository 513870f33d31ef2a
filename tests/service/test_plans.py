"""The plans of the frequent queries on PostgreSQL: the right index, and no sort.

The plans are generic, made without the values of the parameters: a prepared statement may get
one after a few executions.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from itertools import product, starmap
from typing import Any, get_args

import asyncpg
import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncSession

from service import users
from service.database import Database
from service.schemas import Sort
from service.settings import Settings
from service.user_lists import Cursor, Listing, Shape, read_pages
from tests.chain import HEAD
from tests.databases import Databases
from tests.statements import recorded_statements

USERS = """
    INSERT INTO users (full_name, email, age)
    SELECT 'Name ' || number % 7000, 'user' || number || '@example.org', number % 100
    FROM generate_series(1, 20000) AS number
"""
SHAPES = [  # those of valid requests: a filter by name requires the order by name
    shape
    for shape in starmap(Shape, product(get_args(Sort), *[(False, True)] * 3))
    if shape.by_name or not shape.name
]

Query = Callable[[AsyncSession], Awaitable[object]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def url(all_databases: dict[str, Databases]) -> AsyncIterator[str]:
    """Return the URL of a database with many users; all tests share it, since they only read."""
    databases = all_databases["postgresql"]
    url = await databases.at_head()
    connection = await asyncpg.connect(url)
    await connection.execute(USERS)
    await connection.execute("ANALYZE users")
    await connection.close()
    yield url
    await databases.drop(url)


async def plan_of(url: str, query: Query) -> dict[str, Any]:
    """Return the generic plan of the one statement that the query sends."""
    settings = Settings(database_url=url)
    database = Database(settings, HEAD)
    with recorded_statements() as statements:
        async with database.read() as session:
            await query(session)
    await database.close()
    [(text, values)] = statements
    connection = await asyncpg.connect(url)
    await connection.execute("SET plan_cache_mode = force_generic_plan")
    await connection.execute(f"PREPARE hot AS {text}")
    arguments = ", ".join(literal(value) for value in values)
    explanation = await connection.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE hot ({arguments})")
    await connection.close()
    [document] = json.loads(explanation)
    plan: dict[str, Any] = document["Plan"]
    return plan


def literal(value: object) -> str:
    """Return the value as an SQL literal."""
    if isinstance(value, list):
        return f"ARRAY[{', '.join(literal(element) for element in value)}]"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return "NULL" if value is None else str(value)


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield all nodes of a plan, from the top."""
    yield plan
    for part in plan.get("Plans", ()):
        yield from nodes(part)


def check(plan: dict[str, Any], *, index: str, single: bool = False) -> None:
    """Check that the plan reads users by this index alone, without a filter or sort.

    A plan that reads a `single` user may filter and sort.
    """
    explanation = json.dumps(plan, indent=2)
    scans = [node for node in nodes(plan) if node.get("Relation Name") == "users"]
    assert scans, explanation
    for node in scans:
        assert node["Node Type"] in {"Index Scan", "Index Only Scan"}, explanation
        assert node["Index Name"] == index, explanation
        assert single or "Filter" not in node, explanation
    assert single or not any("Sort" in node["Node Type"] for node in nodes(plan)), explanation


def listing(shape: Shape, number: int) -> Listing:
    """Return a list of this shape, whose values depend on the number."""
    name = f"name {number % 10}" if shape.name else None
    email = f"user{number}@example.org" if shape.email else None
    key = f"name {number}" if shape.by_name else None
    after = Cursor(shape.sort, name, email, number, key) if shape.after else None
    return Listing(shape.sort, 50, after, name, email)


def shape_id(shape: Shape) -> str:
    """Return the shape as part of a test's name."""
    fields = (field for field in ("after", "name", "email") if getattr(shape, field))
    return " ".join([shape.sort, *fields])


def check_page(plan: dict[str, Any], shape: Shape) -> None:
    """Check the index: that of the address where the list has one, which is one user at most."""
    index = "idx_user_full_name" if shape.by_name else "pk_users"
    check(plan, index="idx_user_email" if shape.email else index, single=shape.email)


@pytest.mark.parametrize("ids", [[42], [*range(1, 20_000, 40)]], ids=["one", "many"])
async def test_users_are_looked_up_by_their_primary_key(url: str, ids: list[int]) -> None:
    check(await plan_of(url, lambda session: users.find(session, ids)), index="pk_users")


@pytest.mark.parametrize("shape", SHAPES, ids=shape_id)
async def test_a_page_is_read_in_the_order_of_an_index(url: str, shape: Shape) -> None:
    page = [listing(shape, 1234)]
    check_page(await plan_of(url, lambda session: read_pages(session, page)), shape)


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape.parameters], ids=shape_id)
async def test_each_of_several_pages_is_read_in_the_order_of_an_index(
    url: str, shape: Shape
) -> None:
    pages = [listing(shape, 1234), listing(shape, 5679)]
    check_page(await plan_of(url, lambda session: read_pages(session, pages)), shape)
