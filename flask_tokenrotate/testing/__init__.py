"""What tests need: a strict provider with faults on demand, stores in memory, a clock moved by hand.

The names load when they are first used, so that the pytest plugin, which every test run on the
machine imports, costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .clock import ManualClock
    from .memory import MemoryAttemptStore, MemoryGrantStore
    from .provider import FakeProvider

_HOMES = {
    "FakeProvider": ".provider",
    "ManualClock": ".clock",
    "MemoryAttemptStore": ".memory",
    "MemoryGrantStore": ".memory",
}

__all__ = ["FakeProvider", "ManualClock", "MemoryAttemptStore", "MemoryGrantStore"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name], __name__), name)
