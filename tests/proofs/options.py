"""Types of options that several programs have."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence


def names_of(known: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    """Return the type of an option that takes a list of ``known`` names, such as ``sqlite,mariadb``."""

    def read(value: str) -> tuple[str, ...]:
        names = tuple(value.split(","))
        unknown = sorted(set(names) - set(known))
        if unknown:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: not one of {', '.join(known)}")
        return names

    return read
