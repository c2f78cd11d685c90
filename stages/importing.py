"""What users bring along by its import path: stages and segmenters of their own."""

from __future__ import annotations

import difflib
import importlib


def imported(path: str, what: str) -> object:
    """What stands at an import path (`package.module:name` or `package.module.name`).

    Raises ValueError, fit for the user, where nothing does; `what` says what it should be.
    """
    module_name, sign, name = path.partition(":")
    if not sign:
        module_name, _, name = path.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"the {what} '{path}' cannot be imported: {error}. Is it installed, or in the folder of the command?"
        ) from error
    except Exception as error:  # a user's module may fail in any way
        raise ValueError(f"the {what} '{path}' cannot be imported: {type(error).__name__}: {error}") from error
    found = getattr(module, name, None)
    if found is None:
        near = difflib.get_close_matches(name, vars(module), n=1, cutoff=0.5)
        raise ValueError(f"{module_name} has no '{name}'." + (f" Did you mean '{near[0]}'?" if near else ""))
    return found
