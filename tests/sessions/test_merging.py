"""What a request changed, and what of it is written: `sessions.merging`."""

from __future__ import annotations

from typing import Any

import pytest

from flask_tokenrotate.errors import NotStorableInSession
from flask_tokenrotate.sessions.merging import changes_between, pack, unpack, values_of


@pytest.mark.parametrize("value", [object(), {1j}, "\ud800", float, {"deep": [object()]}, Exception("x")])
def test_what_is_not_json_names_its_key_and_not_the_value(value: Any) -> None:
    """The error says under which key, and nothing of what stands there."""
    with pytest.raises(NotStorableInSession, match=r"session\['cart'\]") as raised:
        changes_between({}, {"cart": value, "fine": 1}, cleared=False)
    assert repr(value) not in str(raised.value)
    assert raised.value.__cause__ is None


def test_a_key_that_is_no_string() -> None:
    """It is named."""
    with pytest.raises(NotStorableInSession, match=r"session\[7\].*the key is a int"):
        changes_between({}, {7: 1}, cleared=False)  # type: ignore[dict-item]


@pytest.mark.parametrize("value", [None, True, 0, -1.5, "ü€𝄞", [], {}, {"a": [1, {"b": None}]}, "x" * 99_999])
def test_json_comes_back_as_it_was(value: Any) -> None:
    """Every kind of JSON value survives, and is no change when it is compared again."""
    fields = changes_between({}, {"k": value}, cleared=False).onto({})
    again = values_of(unpack(pack(fields)))
    assert again == {"k": value}
    assert not changes_between(fields, again, cleared=False)
