"""Makes the benchmarks importable: they stand beside the packages and are not installed."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))
