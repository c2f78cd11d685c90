"""Settings of a runner: Beam's flags, given behind `--` or in a file, by the same names."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from pipeline.errors import RecipeError, nearest


class Flags:
    """Flags by name, in the order in which they were given.

    One that is given twice has the later value where Beam takes one, else both.
    """

    def __init__(self, values: dict[str, list[str | None]]) -> None:
        self.values = values

    @classmethod
    def parse(cls, options: Sequence[str]) -> Flags:
        """From a command line: `--name=value`, `--name value`, `--name`. Raises RecipeError for what is no flag."""
        found: dict[str, list[str | None]] = {}
        name = ""
        for word in options:
            if word.startswith("--"):
                name, equals, value = word[2:].partition("=")
                if not name:
                    raise RecipeError(f"runner option '{word}': a flag has a name, as --parallelism=4")
                again = name in found and not takes_one(name)
                found[name] = [*(found[name] if again else []), value if equals else None]
            elif name and found[name][-1] is None:
                found[name][-1] = word
            else:
                raise RecipeError(f"runner option '{word}': flags begin with --, as --parallelism=4")
        return cls(found)

    def take(self, name: str, default: str | None = None) -> str | None:
        """The value of a flag, which is ours to heed and no longer goes to Beam."""
        return self.values.pop(name, [default])[-1]

    def get(self, name: str, default: str | None = None) -> str | None:
        """The value of a flag that goes to Beam as well."""
        return self.values.get(name, [default])[-1]

    def set_default(self, name: str, value: str) -> None:
        """Gives a flag a value where the user gave none."""
        self.values.setdefault(name, [value])

    def whole_number(self, name: str) -> int | None:
        """The value of a flag as a number above zero. Raises RecipeError where it is none."""
        value = self.get(name)
        if value is None:
            return None
        if not value.isdecimal() or int(value) < 1:
            raise RecipeError(f"runner option --{name}={value}: a whole number above zero is wanted")
        return int(value)

    def to_list(self) -> list[str]:
        """As a command line."""
        return [
            f"--{name}" if value is None else f"--{name}={value}"
            for name, values in self.values.items()
            for value in values
        ]

    def check_known(self, known: Iterable[str]) -> None:
        """Raises RecipeError for a flag that is none of these: Beam would drop it without a word."""
        names = set(known)
        for name in self.values:
            if name not in names:
                raise RecipeError(f"runner option --{name}: no such option.{nearest(name, names)}")


def read(path: Path) -> list[str]:
    """A runner's settings from a YAML file of flags without their dashes. Raises RecipeError."""
    try:
        found: Any = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise RecipeError(f"--runner-config {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"--runner-config {path} is no YAML: {error}") from error
    if not isinstance(found, dict):
        raise RecipeError(f"--runner-config {path}: a mapping of flags is wanted, as `parallelism: 4`")
    options = []
    for name, value in found.items():
        if isinstance(value, dict):
            raise RecipeError(f"--runner-config {path}: {name} is a mapping; a flag has a value or a list of values")
        if isinstance(value, list) and len(value) > 1 and takes_one(name):
            raise RecipeError(f"--runner-config {path}: {name} is a list; this flag takes one value")
        for one in value if isinstance(value, list) else [value]:
            if one is False:
                continue
            options.append(f"--{name}" if one is None or one is True else f"--{name}={one}")
    return options


def of_beam() -> set[str]:
    """The names of all flags that Beam's own options have."""
    return set(_actions())


def takes_one(name: str) -> bool:
    """Whether a flag is one of Beam's own options, and of those that take one value."""
    kinds = (argparse._StoreAction, argparse._StoreConstAction, argparse.BooleanOptionalAction)
    return isinstance(_actions().get(name), kinds)


@cache
def _actions() -> dict[str, argparse.Action]:
    """What Beam's own options do with each flag. To import them takes more than a second."""
    logging.disable(logging.WARNING)  # it complains of packages that nobody asked for
    try:
        from apache_beam.options import pipeline_options
    finally:
        logging.disable(logging.NOTSET)
    parser = pipeline_options._BeamArgumentParser(allow_abbrev=False, conflict_handler="resolve")
    for kind in {str(kind): kind for kind in pipeline_options.PipelineOptions.__subclasses__()}.values():
        if hasattr(kind, "_add_argparse_args"):
            kind._add_argparse_args(parser)
    return {word.removeprefix("--"): action for action in parser._actions for word in action.option_strings}
