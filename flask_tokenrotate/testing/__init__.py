"""For tests: a strict provider with faults on demand, stores in memory, and a manual clock."""

from __future__ import annotations

from .clock import ManualClock as ManualClock
from .login import LoginAs as LoginAs
from .memory import MemoryAttemptStore as MemoryAttemptStore
from .memory import MemoryGrantStore as MemoryGrantStore
from .provider import FakeProvider as FakeProvider
from .rotations import wait_for_rotations as wait_for_rotations
