"""docs/operations.md: its tables for PostgreSQL's partitions are those of the schema."""

from __future__ import annotations

import re

import pytest
from sqlalchemy import Table
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex

from flask_tokenrotate.storage.database.schema import grants, redemptions

from .conftest import OPERATIONS, sql_in

SQL = sql_in(OPERATIONS)
PARTITIONED = [grants, redemptions]


def columns_on_the_page(table: Table) -> dict[str, tuple[str, bool]]:
    """Return type and NOT NULL of each column that the page gives the table."""
    body = re.search(rf"CREATE TABLE {table.name} \((.*?)\n\) PARTITION BY", SQL, re.DOTALL)
    assert body is not None
    columns = re.findall(r"(\w+) (double precision|varchar\(\d+\)|integer|bytea)([^,]*)", body[1])
    return {name: (kind, "NOT NULL" in rest or "PRIMARY KEY" in rest) for name, kind, rest in columns}


@pytest.mark.parametrize("table", PARTITIONED, ids=lambda table: table.name)
def test_the_page_has_every_column(table: Table) -> None:
    """With its type, and NULL where the schema allows it."""
    dialect = postgresql.dialect()
    expected = {
        column.name: (column.type.compile(dialect=dialect).lower(), not column.nullable)
        for column in table.columns
    }
    assert columns_on_the_page(table) == expected


@pytest.mark.parametrize("table", PARTITIONED, ids=lambda table: table.name)
def test_the_page_has_every_index(table: Table) -> None:
    """Each is on the same columns, and unique where the schema's is."""
    for index in table.indexes:
        assert f"{CreateIndex(index).compile(dialect=postgresql.dialect())};" in SQL
