"""Three projects that take `safely` along, each as its authors would write it.

- Garden: `alembic init -t async`, with ten lines of `safely` in its env.py
- Shop: a synchronous application; its tables and its version table are not in `public`
- Library: 30 revisions of plain Alembic and two merges, before it adopted `safely`
"""

from collections.abc import Iterator
from typing import ClassVar

from tests.foreign import Project, hash_id

ADOPT = (  # what takes `safely` into the env.py of `alembic init -t async`
    ("from sqlalchemy import pool\n", ""),
    ("from sqlalchemy.ext.asyncio import async_engine_from_config\n", ""),
    (
        "        target_metadata=target_metadata,\n        literal_binds=True,\n",
        "        literal_binds=True,\n",
    ),
    (
        '        dialect_opts={"paramstyle": "named"},\n',
        '        dialect_opts={"paramstyle": "named"},\n        **offline_options(project),\n',
    ),
    (
        "def do_run_migrations(connection: Connection) -> None:\n"
        "    context.configure(connection=connection, target_metadata=target_metadata)\n",
        "def do_run_migrations(connection: Connection, options: dict) -> None:\n"
        "    context.configure(connection=connection, **options)\n",
    ),
    (
        """\
    connectable = async_engine_from_config(
        config.get_section(config.config_ini_section, {}),
        prefix="sqlalchemy.",
        poolclass=pool.NullPool,
    )

    async with connectable.connect() as connection:
        await connection.run_sync(do_run_migrations)

    await connectable.dispose()
""",
        """\
    async with guarded(project, create_engine(config.get_main_option("sqlalchemy.url"))) as steps:
        async for step in steps:
            async with step as connection:
                await connection.run_sync(do_run_migrations, step.options)
""",
    ),
)
IMPORT = "from alembic import context\n"
IMPORT_SAFELY = f"{IMPORT}from safely.env import Project, create_engine, guarded, offline_options\n"


class Garden(Project):
    name = "garden"
    table = "plants"
    column = ("height", "sa.Integer()")

    ADOPT_SAFELY = (
        (IMPORT, f"{IMPORT_SAFELY}from garden.models import Base\n"),
        (
            "target_metadata = None\n",
            'project = Project(name="garden", metadata=Base.metadata)\n',
        ),
        *ADOPT,
    )
    MODELS = """\
from typing import Annotated

from sqlalchemy import BigInteger, ForeignKey, Identity, Index, Integer
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

Key = Annotated[int, mapped_column(BigInteger().with_variant(Integer(), "sqlite"), Identity())]


class Base(DeclarativeBase):
    pass


class Bed(Base):
    __tablename__ = "beds"

    id: Mapped[Key] = mapped_column(primary_key=True)
    place: Mapped[str] = mapped_column(unique=True)


class Plant(Base):
    __tablename__ = "plants"
    __table_args__ = (Index("idx_plants_name", "name"),)

    id: Mapped[Key] = mapped_column(primary_key=True)
    bed_id: Mapped[int | None] = mapped_column(ForeignKey("beds.id", name="fk_plants_bed"))
    name: Mapped[str]
"""

    def write(self) -> None:
        self.add_package(self.MODELS)
        self.alembic("init", "-t", "async", "migrations")
        self.configure()
        self.change_env(self.ADOPT_SAFELY)
        self.alembic("revision", "--autogenerate", "-m", "make beds and plants")
        self.alembic("upgrade", "head")
        self.add_to_model("height: Mapped[int | None]")
        self.alembic("revision", "--autogenerate", "-m", "add the height of a plant")
        self.alembic("upgrade", "head")
        self.execute(
            "INSERT INTO beds (place) VALUES ('by the wall'), ('in the sun')",
            "INSERT INTO plants (name, bed_id, height) VALUES ('Rose', 1, 120), ('Fern', 2, NULL)",
        )


class Shop(Project):
    name = "shop"
    table = "products"
    column = ("weight", "sa.Integer()")
    version_table = "shop_version"

    FILES: ClassVar[dict[str, str]] = {
        "shop/settings.py": """\
import os

from sqlalchemy import make_url

URL = make_url(os.environ["SHOP_URL"])
ON_POSTGRESQL = URL.get_backend_name() == "postgresql"
SCHEMA = "shop" if ON_POSTGRESQL else None
VERSIONS = "shop_admin" if ON_POSTGRESQL else None
""",
        "shop/database.py": """\
import os

from sqlalchemy import create_engine

from shop.settings import SCHEMA, URL

DRIVERS = {"postgresql": "postgresql+psycopg", "sqlite": "sqlite+pysqlite"}
engine = create_engine(URL.set(drivername=DRIVERS[URL.get_backend_name()]))
if SCHEMA and (revision := os.environ.get("SHOP_REVISION")):
    engine = engine.execution_options(schema_translate_map={SCHEMA: f"at_{revision}"})
""",
        "shop/setup.py": """\
from sqlalchemy.schema import CreateSchema

from shop.database import engine
from shop.settings import SCHEMA, VERSIONS

with engine.begin() as connection:
    for name in filter(None, (SCHEMA, VERSIONS)):
        connection.execute(CreateSchema(name))
""",
        "shop/sell.py": """\
import sys

from sqlalchemy.orm import Session

from shop.database import engine
from shop.models import Product

with Session(engine) as session, session.begin():
    session.add_all(Product(name=name) for name in sys.argv[1:])
""",
        "migrations/env.py": """\
import asyncio

from alembic import context
from safely.env import Project, create_engine, guarded, offline_options
from shop.models import Base
from shop.settings import SCHEMA, URL, VERSIONS

project = Project(name="shop", metadata=Base.metadata)


def is_ours(name, type_, parents):
    return type_ != "schema" or name == SCHEMA


ours = {
    "version_table": "shop_version",
    "version_table_schema": VERSIONS,
    "include_schemas": True,
    "include_name": is_ours,
}


def run_migrations_offline():
    context.configure(
        url=URL,
        literal_binds=True,
        dialect_opts={"paramstyle": "named"},
        **ours,
        **offline_options(project),
    )
    with context.begin_transaction():
        context.run_migrations()


def do_run_migrations(connection, options):
    context.configure(connection=connection, **ours, **options)
    with context.begin_transaction():
        context.run_migrations()


async def run_migrations_online():
    engine = create_engine(URL)
    async with guarded(project, engine) as steps:
        async for step in steps:
            async with step as connection:
                await connection.run_sync(do_run_migrations, step.options)
    await engine.dispose()


if context.is_offline_mode():
    run_migrations_offline()
else:
    asyncio.run(run_migrations_online())
""",
    }
    MODELS = """\
from decimal import Decimal
from typing import Annotated

from sqlalchemy import (
    BigInteger, CheckConstraint, ForeignKey, Identity, Integer, MetaData, Numeric
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from shop.settings import SCHEMA

Key = Annotated[int, mapped_column(BigInteger().with_variant(Integer(), "sqlite"), Identity())]


class Base(DeclarativeBase):
    metadata = MetaData(schema=SCHEMA)


class Shelf(Base):
    __tablename__ = "shelves"

    id: Mapped[Key] = mapped_column(primary_key=True)
    place: Mapped[str]


class Product(Base):
    __tablename__ = "products"
    __table_args__ = (CheckConstraint("price >= 0", name="ck_products_price"),)

    id: Mapped[Key] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    price: Mapped[Decimal] = mapped_column(Numeric(8, 2), server_default="0")
    shelf_id: Mapped[int | None] = mapped_column(ForeignKey(Shelf.id, name="fk_products_shelf"))
"""

    @property
    def schema(self) -> str | None:
        return "shop" if self.on_postgresql else None

    @property
    def variables(self) -> dict[str, str]:
        return {**super().variables, "SHOP_URL": self.url}

    def prepare(self) -> None:
        self.run("python", "-m", "shop.setup")

    def write(self) -> None:
        self.add_package(self.MODELS)
        self.alembic("init", "migrations")
        for name, text in self.FILES.items():
            (self.directory / name).write_text(text, encoding="utf-8")
        self.prepare()
        self.alembic("revision", "--autogenerate", "-m", "make shelves and products")
        self.alembic("upgrade", "head")
        self.add_to_model("weight: Mapped[int | None]")
        self.alembic("revision", "--autogenerate", "-m", "add the weight of a product")
        self.alembic("upgrade", "head")
        self.run("python", "-m", "shop.sell", "tea", "bread")


class Library(Project):
    name = "library"
    table = "books"
    column = ("subtitle", "sa.Text()")

    COLUMNS: ClassVar[dict[str, str]] = {  # each column came by a revision of its own
        "authors": "born died country note letters portrait agent estate",
        "loans": "reader due extended returned reminder fee desk remark",
        "books": "subtitle isbn publisher place edition series format cover shelf state",
    }
    FORKS: ClassVar[dict[int, int]] = {11: 8, 22: 20}
    """Revisions that follow an earlier one than the last; the next revision merges the two."""
    ADOPTED = hash_id("library 29")
    bottom = ADOPTED

    MODELS = """\
from sqlalchemy import BigInteger, Index, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    type_annotation_map = {{str: Text}}


class Author(Base):
    __tablename__ = "authors"

    id: Mapped[int] = mapped_column(primary_key=True)
    {authors}


class Loan(Base):
    __tablename__ = "loans"

    id: Mapped[int] = mapped_column(primary_key=True)
    {loans}


class Book(Base):
    __tablename__ = "books"
    __table_args__ = (Index("ix_books_title", "{title}"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    {books}
    {title}: Mapped[str]
"""
    PLAIN_ENV = (
        (IMPORT, f"{IMPORT}from library.models import Base\n"),
        ("target_metadata = None\n", "target_metadata = Base.metadata\n"),
    )
    ADOPT_SAFELY = (
        (IMPORT, IMPORT_SAFELY),
        (
            "target_metadata = Base.metadata\n",
            'project = Project(name="library", metadata=Base.metadata)\n',
        ),
        *ADOPT,
    )
    LATER = (  # the first revisions with safely, and what each adds to the models
        (
            'safely.add_column("books", sa.Column("pages", sa.Integer()))',
            'safely.drop_column("books", "pages")',
        ),
        (
            'safely.rename_column("books", "title", "name")',
            'safely.rename_column("books", "name", "title")',
        ),
        (
            'safely.change_type("books", "pages", sa.BigInteger())',
            'safely.change_type("books", "pages", sa.Integer())',
        ),
    )

    def write(self) -> None:
        self.write_history()
        self.adopt()
        self.write_later_revisions()
        self.alembic("upgrade", "head")

    def write_history(self) -> None:
        """Write the project as it was before it knew safely, with its rows."""
        self.add_package(self.described(title="title"))
        self.alembic("init", "-t", "async", "migrations")
        self.configure()
        self.change_env(self.PLAIN_ENV)
        before: str | tuple[str, str] | None = None
        for number, (up, down) in enumerate(self.history()):
            revision = hash_id(f"library {number}")
            if number in self.FORKS:
                trunk, before = before, hash_id(f"library {self.FORKS[number]}")
            self.add_file(revision, before, up, down, imports="from alembic import op")
            before = revision
            if number in self.FORKS:
                before = hash_id(f"library merge {number}")
                self.add_file(before, (str(trunk), revision), "pass", "pass")
        self.alembic("upgrade", "head")
        self.execute(
            "INSERT INTO authors (country) VALUES ('Argentina'), ('Italy')",
            *(
                f"INSERT INTO books (title, isbn, subtitle) VALUES ('Volume {number}', "
                f"'{number}', 'Part {number}')"
                for number in range(1, 101)
            ),
        )

    def described(self, *, title: str) -> str:
        """Return the models; a book's title has the column `title`."""
        columns = {
            table: "\n    ".join(f"{column}: Mapped[str | None]" for column in names.split())
            for table, names in self.COLUMNS.items()
        }
        return self.MODELS.format(title=title, **columns)

    def adopt(self) -> None:
        """Take safely into env.py, and record where the database is."""
        self.change_env(self.ADOPT_SAFELY)
        self.alembic("stamp", "head")

    def write_later_revisions(self) -> None:
        """Write the three revisions with safely, and the models to which they lead."""
        for up, down in self.LATER:
            self.add_revision(up, down)
        self.add_package(self.described(title="name"))
        self.add_to_model("pages: Mapped[int | None] = mapped_column(BigInteger)")

    def history(self) -> Iterator[tuple[str, str]]:
        """Yield the bodies of the 30 revisions of plain Alembic."""
        number = 'sa.Column("id", sa.Integer(), primary_key=True)'
        for table in self.COLUMNS:
            title = ', sa.Column("title", sa.Text(), nullable=False)' if table == "books" else ""
            yield f'op.create_table("{table}", {number}{title})', f'op.drop_table("{table}")'
        for table, columns in self.COLUMNS.items():
            for column in columns.split():
                yield (
                    f'op.add_column("{table}", sa.Column("{column}", sa.Text()))',
                    f'op.drop_column("{table}", "{column}")',
                )
        yield (
            'op.create_index("ix_books_title", "books", ["title"])',
            'op.drop_index("ix_books_title")',
        )
