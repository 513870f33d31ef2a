"""How PostgreSQL answers what is asked all the time: by the right index, and sorting nothing.

The plans are the generic ones, made without knowing the values: those that a prepared statement
may get once it was run a few times.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from itertools import product, starmap
from typing import Any, get_args

import asyncpg
import pytest
import pytest_asyncio

from service.database import Database
from service.schemas import Sort
from service.settings import Settings
from service.user_batches import UserBatches
from service.user_lists import Cursor, Listing, Shape
from tests.chain import HEAD
from tests.databases import Databases
from tests.statements import recorded_statements

USERS = """
    INSERT INTO users (full_name, email, age)
    SELECT 'Name ' || number % 7000, 'user' || number || '@example.org', number % 100
    FROM generate_series(1, 20000) AS number
"""
SHAPES = [  # that a request can ask for: where the name is given, names decide the order
    shape
    for shape in starmap(Shape, product(get_args(Sort), *[(False, True)] * 3))
    if shape.by_name or not shape.name
]

Asking = Callable[[UserBatches], Awaitable[object]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def url(all_databases: dict[str, Databases]) -> AsyncIterator[str]:
    """The address of a database with many users, for all tests here: they only read."""
    databases = all_databases["postgresql"]
    url = await databases.at_head()
    connection = await asyncpg.connect(url)
    await connection.execute(USERS)
    await connection.execute("ANALYZE users")
    await connection.close()
    yield url
    await databases.drop(url)


async def plan_of(url: str, asking: Asking) -> dict[str, Any]:
    """The generic plan of the one statement that the service sends."""
    settings = Settings(database_url=url)
    database = Database(settings, HEAD)
    with recorded_statements() as sent:
        await asking(UserBatches(settings, database))
    await database.engine.dispose()
    [(text, values)] = sent
    connection = await asyncpg.connect(url)
    await connection.execute("SET plan_cache_mode = force_generic_plan")
    await connection.execute(f"PREPARE hot AS {text}")
    given = ", ".join(quoted(value) for value in values)
    told = await connection.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE hot ({given})")
    await connection.close()
    [explained] = json.loads(told)
    plan: dict[str, Any] = explained["Plan"]
    return plan


def quoted(value: object) -> str:
    """A value as SQL has it."""
    if isinstance(value, list):
        return f"ARRAY[{', '.join(quoted(element) for element in value)}]"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return "NULL" if value is None else str(value)


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All steps of a plan."""
    yield plan
    for part in plan.get("Plans", ()):
        yield from nodes(part)


def check(plan: dict[str, Any], *, index: str, one: bool = False) -> None:
    """Users are found by this index alone; none is left out again or sorted, unless `one` is."""
    told = json.dumps(plan, indent=2)
    reading = [node for node in nodes(plan) if node.get("Relation Name") == "users"]
    assert reading, told
    for node in reading:
        assert node["Node Type"] in {"Index Scan", "Index Only Scan"}, told
        assert node["Index Name"] == index, told
        assert one or "Filter" not in node, told
    assert one or not any("Sort" in node["Node Type"] for node in nodes(plan)), told


def listing(shape: Shape, number: int) -> Listing:
    """A list of the shape; that of another number has other values, if it has any."""
    name = f"name {number % 10}" if shape.name else None
    email = f"user{number}@example.org" if shape.email else None
    key = f"name {number}" if shape.by_name else None
    after = Cursor(shape.sort, name, email, number, key) if shape.after else None
    return Listing(shape.sort, 50, after, name, email)


def words(shape: Shape) -> str:
    """The shape as a test's name has it."""
    given = (field for field in ("after", "name", "email") if getattr(shape, field))
    return " ".join([shape.sort, *given])


def check_pages(plan: dict[str, Any], shape: Shape) -> None:
    """By the address, where one is given: one user has it at most, and may be sorted."""
    index = "idx_user_full_name" if shape.by_name else "pk_users"
    check(plan, index="idx_user_email" if shape.email else index, one=shape.email)


@pytest.mark.parametrize("ids", [[42], [*range(1, 20_000, 40)]], ids=["one", "many"])
async def test_users_are_looked_up_by_their_primary_key(url: str, ids: list[int]) -> None:
    check(await plan_of(url, lambda batches: batches.find(ids)), index="pk_users")


@pytest.mark.parametrize("shape", SHAPES, ids=words)
async def test_a_page_is_read_in_the_order_of_an_index(url: str, shape: Shape) -> None:
    page = [listing(shape, 1234)]
    check_pages(await plan_of(url, lambda batches: batches.read_pages(page)), shape)


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape.parameters], ids=words)
async def test_so_is_each_of_several_pages(url: str, shape: Shape) -> None:
    pages = [listing(shape, 1234), listing(shape, 5679)]
    check_pages(await plan_of(url, lambda batches: batches.read_pages(pages)), shape)
