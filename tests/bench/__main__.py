"""Every benchmark of the spine: `make bench`. Figures are of this machine; ratios are what travels."""

from __future__ import annotations

import os
import platform
import sys

from tests.bench import clean_phase, memory


def main() -> int:
    """Runs them in turn."""
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    clean_phase.main()
    memory.main()
    return 0


if __name__ == "__main__":
    sys.exit(main())
