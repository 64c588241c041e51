"""What a call of the store came to: values, because losing a race is no error."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from .tokens import Grant


class SaveOutcome(Enum):
    """What became of a token set that a holder wanted to save."""

    SAVED = "saved"
    SUPERSEDED = "superseded"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Overtaken:
    """A claim that another worker took first. ``row``: the grant as it was found then, if any."""

    row: Grant | None
