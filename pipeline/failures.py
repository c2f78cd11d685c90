"""Failures on their way from a worker to the user: runners wrap exceptions until nothing of them is left."""

from __future__ import annotations

import errno
import json
import os
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import UserError


@dataclass(frozen=True)
class Failure:
    """Why a run, or a unit of it, failed. `expected`: the user can mend it; else it is a fault of code."""

    message: str
    exit_code: int
    expected: bool
    trace: str

    @classmethod
    def of(cls, error: BaseException, unit: str = "") -> Failure:
        """What is to be said of an exception; call it where the exception is caught."""
        known = as_user_error(error)
        trace = "".join(traceback.format_exception(error))
        if known is not None:
            return cls(str(known), known.exit_code, True, trace)
        where = "".join(f" {note}" for note in getattr(error, "__notes__", []))
        where += f" ({unit})" if unit else ""
        return cls(f"{type(error).__name__}: {error}{where}", 1, False, trace)


class UnitFailed(Exception):
    """A unit of a phase failed."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class WorkersDied(Exception):
    """The pipeline of a phase broke although none of its units failed: as when a worker was killed."""


def as_user_error(error: BaseException) -> UserError | None:
    """The error as one that the user can mend, or None for a fault of code."""
    if isinstance(error, UserError):
        return error
    if isinstance(error, OSError) and error.errno is not None:
        where = f" at {error.filename}" if error.filename else ""
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return UserError(
                f"no room to write{where}: {os.strerror(error.errno)}. "
                "What is committed stays; make room and run again."
            )
        return UserError(f"{os.strerror(error.errno)}{where}. What is committed stays; mend it and run again.")
    return None


def leave(desk: Path, key: str, failure: Failure) -> None:
    """Writes down on the desk of a phase why a unit failed."""
    temporary = desk / f"error-{key}.tmp"
    temporary.write_text(json.dumps(vars(failure)))
    os.replace(temporary, desk / f"error-{key}.json")


def left(desk: Path) -> Failure | None:
    """The failure that a unit left on a phase's desk, that of the least key where there are several."""
    for path in sorted(desk.glob("error-*.json")):
        facts: dict[str, Any] = json.loads(path.read_text())
        return Failure(**facts)
    return None
