"""No input breaks a parser: a few hundred inputs, and more in the long runs."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st

from .parsers import TARGETS, Target
from .search import feed


@pytest.mark.parametrize("name", TARGETS)
def test_no_input_breaks_a_parser(name: str) -> None:
    """A few hundred inputs for all parsers together end in values or in errors of our tree."""
    assert feed(TARGETS[name], 30) > 0


@pytest.mark.long
def test_ten_thousand_inputs() -> None:
    """The same with 10,000 inputs."""
    for target in TARGETS.values():
        feed(target, 10_000 // len(TARGETS))


def test_a_defect_would_be_found() -> None:
    """The control: a parser that breaks at one character does not get through."""
    with pytest.raises(ValueError, match="substring not found"):
        feed(Target(st.text("ab", max_size=5), lambda text: text.index("a") and None), 200)
