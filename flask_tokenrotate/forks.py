"""What objects forget in a forked child: connections, and locks that a thread of the parent may have held."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable

_forgetters: list[weakref.WeakMethod[Callable[[], None]]] = []


def call_in_forked_child(method: Callable[[], None]) -> None:
    """Call the bound ``method`` in each child that this process forks, as long as its object lives."""
    _forgetters.append(weakref.WeakMethod(method, _forgetters.remove))


def _forked() -> None:
    for reference in _forgetters.copy():
        method = reference()
        if method is not None:
            method()


os.register_at_fork(after_in_child=_forked)
