"""A piece of work in the child of a real fork."""

from __future__ import annotations

import os
from collections.abc import Callable


def in_forked_child(work: Callable[[], bool]) -> bool:
    """Return whether ``work`` returned True in the child."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if work() else 1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
