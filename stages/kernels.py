"""Compiled kernels: numba's decorator with the house's settings, and a cache that notices every change.

numba's own cache looks at the file of a kernel alone, so a changed helper in another file would go unseen. The
cache folder therefore carries the digest of all sources that hold kernels, and of numba; the same
digest is part of the resume keys of stages that use kernels. Import this module before numba.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any


@cache
def digest() -> str:
    """What compiled code depends on: the files with kernels, numba, llvmlite, numpy, Python. 16 hexadecimal digits."""
    state = hashlib.blake2b(digest_size=8)
    folder = Path(__file__).parent
    for path in sorted(folder.rglob("*.py")):
        source = path.read_bytes()
        if b"stages.kernels" in source:
            state.update(f"{path.relative_to(folder)}\0".encode() + source + b"\0")
    for package in ("numba", "llvmlite", "numpy"):
        state.update(f"{package} {importlib.metadata.version(package)}\0".encode())
    state.update(sys.version.encode())
    return state.hexdigest()


def _cache_folder() -> Path:
    """A folder of this user; numba itself keeps code of different CPUs in one folder apart."""
    base = os.environ.get("CORPUSMILL_CACHE") or os.environ.get("XDG_CACHE_HOME")
    home = Path(base) if base else Path.home() / ".cache"
    folder = home / "corpusmill" / f"kernels-{platform.machine()}-{digest()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    except OSError:
        pass  # no home, or a read-only one
    return Path(tempfile.gettempdir()) / f"corpusmill-{os.getuid()}" / folder.name


if "numba" not in sys.modules:
    os.environ.setdefault("NUMBA_CACHE_DIR", str(_cache_folder()))
    os.environ.setdefault("NUMBA_CACHE_LOCATOR_CLASSES", f"{__name__}.Locator,UserProvidedCacheLocator")

import numba  # noqa: E402  (reads these variables when it is imported)
from numba.core import caching, config  # noqa: E402


class Locator(caching.UserProvidedCacheLocator):  # type: ignore[misc]  # numba has no types
    """Where the code of a file of ours is kept: by its place in the project, so that all checkouts share it.

    numba's own goes by the whole path: each new environment, image or checkout would compile for minutes what the
    one beside it has. It looks at the contents of the file as well, and the folder's name at those of all others.
    """

    def __init__(self, function: Any, file: str) -> None:
        super().__init__(function, file)
        place = Path(file).resolve().parent.relative_to(_ROOT)
        self._cache_path = os.path.join(config.CACHE_DIR, *place.parts)

    @classmethod
    def from_function(cls, function: Any, file: str) -> Locator | None:
        """None for a file that is not ours: the next locator is asked."""
        path = Path(file).resolve()
        ours = any(path.is_relative_to(_ROOT / package) for package in ("stages", "pipeline"))
        return super().from_function(function, file) if ours else None


_ROOT = Path(__file__).resolve().parent.parent


def njit(kernel: Callable[..., Any]) -> Callable[..., Any]:
    """Compiles a kernel on its first call and keeps the code on disk. No fast-math: sums keep their order."""
    compiled: Callable[..., Any] = numba.njit(cache=True, nogil=True, fastmath=False, error_model="numpy")(kernel)
    return compiled


def inline(helper: Callable[..., Any]) -> Callable[..., Any]:
    """A small function that kernels call; compiled into them, so that it needs no cache entry of its own."""
    compiled: Callable[..., Any] = numba.njit(cache=False, nogil=True, fastmath=False, error_model="numpy")(helper)
    return compiled
