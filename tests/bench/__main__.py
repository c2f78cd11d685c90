"""`make bench`: every benchmark but those of extraction (`make bench-extract`, `make bench-fuzz`).

Figures are of this machine; ratios are what travels.
"""

from __future__ import annotations

import os
import platform
import sys

from tests.bench import clean_phase, memory, table_reading, warc_reading, warc_splits


def main() -> int:
    """Runs them in turn."""
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    clean_phase.main()
    memory.main()
    warc_reading.main()
    warc_splits.main()
    table_reading.main()
    return 0


if __name__ == "__main__":
    sys.exit(main())
