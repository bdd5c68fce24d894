"""For all tests: property tests have no time limit of their own; four of them may share two cores."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("headgate", deadline=None)
settings.load_profile("headgate")
