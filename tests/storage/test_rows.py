"""Names that a column would not keep as they are never reach it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from flask_tokenrotate.errors import InvalidTokenResponse
from flask_tokenrotate.rotation.verdict import NotPosted
from flask_tokenrotate.storage.database.engine import Database
from flask_tokenrotate.storage.database.schema import grants
from flask_tokenrotate.storage.database.tables import create_tables
from flask_tokenrotate.storage.rows import is_storable

from .backends import claimed, loaded, new_grant, sql_stores, token_set


@pytest.mark.parametrize("bad", ["x" * 256, "nul\x00", "\ud800"])
@pytest.mark.parametrize("name", ["user_id", "subject", "provider"])
def test_a_name_that_a_column_would_change_is_refused(tmp_path: Path, name: str, bad: str) -> None:
    """A cut user id could be another user's: it is refused, with its name and without its value."""
    opened = Database.from_uri("sqlite:///tokens.sqlite", folder=tmp_path)
    with pytest.raises(InvalidTokenResponse, match=name) as raised:
        sql_stores(opened)[0].add(new_grant(**{name: bad}))
    assert bad not in str(raised.value)


@given(
    name=st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=255)
)
def test_every_other_name_can_be_stored(name: str) -> None:
    """Any text of up to 255 characters without NUL and lone surrogates is taken."""
    assert is_storable(name)


@pytest.mark.parametrize("name", ["", "x" * 255, "𝕏" * 255, "ada ", "a\nb", "' OR 1=1 --", "%", "\\"])
def test_names_come_back_as_they_were(database: str, name: str) -> None:
    """Whatever can be stored is found again, and by nothing else, on every engine."""
    opened = Database.from_uri(database)
    create_tables(opened.engine())
    store = sql_stores(opened)[0]
    grant = store.add(new_grant(user_id=name, subject=name, provider=name))
    row = loaded(store, grant.id)
    assert (row.user_id, row.subject, row.provider) == (name, name, name)
    assert store.find(name, name) == grant.id
    assert store.find(name + " ", name) is None
    opened.engine().dispose()


def test_a_cleared_claim_leaves_nothing_behind(database: str) -> None:
    """After a save, a release and an end every column of the claim is empty."""
    opened = Database.from_uri(database)
    create_tables(opened.engine())
    store = sql_stores(opened)[0]
    saved, released, ended = (store.add(new_grant()) for _ in range(3))
    store.save(saved, claimed(store, saved), token_set(1))
    store.release(claimed(store, released), NotPosted())
    claimed(store, ended)
    store.end(ended.id, "signed_out")
    columns = [column for column in grants.c if column.name.startswith("claim_")]
    with opened.engine().connect() as connection:
        rows = connection.execute(select(*columns)).all()
    assert rows == [(None,) * len(columns)] * 3
    opened.engine().dispose()
