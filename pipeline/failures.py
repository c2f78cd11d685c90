"""Failures on their way from a worker to the user: runners wrap exceptions until only their text is left."""

from __future__ import annotations

import base64
import errno
import json
import os
import re
import traceback
from dataclasses import dataclass

from pipeline.errors import UserError

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
TRACE = 20_000
"""Most characters of a trace, its last ones: with its message a failure must fit into a pipe's buffer of 64 kB."""


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
        trace = "".join(traceback.format_exception(error))[-TRACE:]
        if known is not None:
            return cls(str(known), known.exit_code, True, trace)
        where = _notes(error) + (f" ({unit})" if unit else "")
        return cls(f"{type(error).__name__}: {error}{where}", 1, False, trace)


class UnitFailed(Exception):
    """A unit of a phase failed. Its text carries the failure, for nothing else gets through every runner."""

    def __init__(self, failure: Failure) -> None:
        self.failure = failure
        packed = base64.b64encode(json.dumps(vars(failure)).encode()).decode()
        super().__init__(f"<failure {packed}>")

    @staticmethod
    def within(error: BaseException) -> UnitFailed | None:
        """The failure of a unit that a runner's exception tells of, if it does."""
        found = re.search("<failure ([A-Za-z0-9+/=]+)>", str(error))
        return UnitFailed(Failure(**json.loads(base64.b64decode(found[1])))) if found else None


class WorkersDied(Exception):
    """The pipeline of a phase broke although none of its units failed: as when a worker was killed."""


def as_user_error(error: BaseException) -> UserError | None:
    """The error as one that the user can mend, or None for a fault of code."""
    if isinstance(error, UserError):
        return error
    if isinstance(error, OSError) and error.errno is not None:
        mend = "make room" if error.errno in NO_ROOM else "mend it"
        return UserError(f"{refusal(error)} What is committed stays; {mend} and run again.")
    return None


def refusal(error: OSError) -> str:
    """What the system refused, and where, as a sentence."""
    if error.errno is None:
        return f"{error}."
    name = error.filename2 or error.filename  # of two files it is the second that is written
    where = (f" at {name}" if name else "") + _notes(error)
    said = os.strerror(error.errno)
    return f"no room to write{where}: {said}." if error.errno in NO_ROOM else f"{said}{where}."


def _notes(error: BaseException) -> str:
    return "".join(f" {note}" for note in getattr(error, "__notes__", []))
