"""The cache of compiled kernels."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ASK = "import stages.minhash as m; print(m.__file__); print(m._sign._cache.cache_path)"


def test_two_checkouts_share_compiled_code(tmp_path: Path) -> None:
    """Else every clone, environment and image of a machine compiles the same kernels for minutes."""
    shutil.copytree(ROOT / "stages", tmp_path / "clone" / "stages", ignore=shutil.ignore_patterns("__pycache__"))
    found = []
    for checkout in (ROOT, tmp_path / "clone"):
        environment = os.environ | {"PYTHONPATH": str(checkout), "CORPUSMILL_CACHE": str(tmp_path / "cache")}
        for name in ("NUMBA_CACHE_DIR", "NUMBA_CACHE_LOCATOR_CLASSES"):
            environment.pop(name, None)
        done = subprocess.run(
            [sys.executable, "-c", ASK], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
        )
        found.append(done.stdout.splitlines())
    assert found[0][0] != found[1][0]
    assert str(tmp_path) in found[0][1]
    assert found[0][1] == found[1][1]
