"""Errors that are the user's to mend: shown as one message, never as a traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """What was wrong, where, and what to do. `exit_code` is what the command line ends with."""

    exit_code = 1


class RecipeError(UserError):
    """A recipe, a configuration or an argument that cannot be worked with; nothing was done yet."""

    exit_code = 2


class PromiseError(UserError):
    """A run that broke an identity or left a band of its recipe; what is committed stays."""

    exit_code = 3


class DamageError(UserError):
    """Files of a run that do not hold what the ledger says."""

    exit_code = 4


class LockedError(UserError):
    """Another run works in this folder."""

    exit_code = 75


def counted(number: int, what: str) -> str:
    """`1 document`, `2 documents`."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def nearest(word: str, known: Iterable[str]) -> str:
    """` Did you mean 'x'?` for the nearest known word, or the known ones where none is near, or nothing."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    if close:
        return f" Did you mean '{close[0]}'?"
    return f" Known: {', '.join(known)}." if 0 < len(known) <= 30 else ""
