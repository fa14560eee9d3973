"""What takes longer: many requests, and what strikes while they run."""

from __future__ import annotations

import os

IS_LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
"""Whether this is ``make test-all``."""
