"""The command of the package."""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path

from pipeline.train_toxicity.fit import train
from stages.classifier.model import ONE, dump


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m pipeline.train_toxicity", description=__doc__)
    parser.add_argument("data", type=Path, metavar="DATA", help="The folder that holds toxicity/ and text/.")
    parser.add_argument("--out", type=Path, required=True, metavar="MODEL", help="The file to write.")
    given = parser.parse_args()
    for name in ("toxicity", "text"):
        if not (given.data / name).is_dir():
            sys.exit(f"there is no folder {given.data / name}")
    model = train(given.data)
    data = dump(model)
    given.out.write_bytes(data)
    print(f"{given.out}: {len(data):,} bytes, SHA-256 {hashlib.sha256(data).hexdigest()}, "
          f"threshold {model.threshold / ONE}")  # fmt: skip


if __name__ == "__main__":
    main()
