"""The releases of installed packages, each looked up once a process: `version` parses a package's description."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version


@cache
def release(package: str) -> str:
    """The release of a package. Raises PackageNotFoundError where it is not installed."""
    return version(package)
