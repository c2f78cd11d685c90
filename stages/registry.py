"""The stages by name, and what may be set in them."""

from __future__ import annotations

import ast
import dataclasses
import difflib
import inspect
import itertools
import textwrap
import types
import typing
from typing import Any, NamedTuple

from stages.base import Stage
from stages.base import make as make
from stages.bias import Bias
from stages.classify import Classify
from stages.decontaminate import Decontaminate
from stages.emoji_names import Emoji
from stages.extract import Extract
from stages.importing import imported
from stages.language import Language
from stages.normalize import Normalize
from stages.perplexity import Perplexity
from stages.pii import Pii
from stages.quality.c4 import C4, C4Paragraphs
from stages.quality.fineweb import FineWebQuality
from stages.quality.gopher import GopherQuality
from stages.quality.refinedweb import RefinedWebLines
from stages.quality.repetition import GopherRepetition
from stages.repeated_text import RepeatedText
from stages.rights import Rights
from stages.secrets import Secrets
from stages.spelling import Spelling
from stages.takedown import Takedown
from stages.toxicity import Toxicity
from stages.toxicity_model import ToxicityModel
from stages.url import Url

STAGES: dict[str, type[Stage]] = {
    stage.name: stage
    for stage in (
        Takedown, Url, Extract, Rights, Normalize, Language, Emoji, GopherRepetition, GopherQuality, C4, C4Paragraphs,
        FineWebQuality, RefinedWebLines, RepeatedText, Pii, Secrets, Toxicity, ToxicityModel, Classify, Perplexity,
        Bias, Decontaminate, Spelling,
    )
}  # fmt: skip
"""Every stage of corpusmill, in the order in which a recipe usually has them."""


def find(name: str) -> type[Stage]:
    """The stage of this name, or the class at an import path (`package.module:Class` or `package.module.Class`).

    Raises ValueError, fit for the user, where there is none.
    """
    if name in STAGES:
        return STAGES[name]
    module_name, sign, class_name = name.partition(":")
    if not sign:
        module_name, _, class_name = name.rpartition(".")
    if not module_name or not class_name:
        near = difflib.get_close_matches(name, STAGES, n=1, cutoff=0.5)
        hint = f"Did you mean '{near[0]}'?" if near else f"Known: {', '.join(STAGES)}, or an import path."
        raise ValueError(f"there is no stage '{name}'. {hint}")
    found = imported(name, "stage")
    if not (isinstance(found, type) and issubclass(found, Stage) and dataclasses.is_dataclass(found)):
        raise ValueError(f"'{name}' is no stage: it should be a dataclass derived from stages.base.Stage")
    for attribute in ("name", "version"):
        if not hasattr(found, attribute):
            raise ValueError(f"the stage '{name}' lacks the class attribute `{attribute}`")
    return found


class Setting(NamedTuple):
    """One field of a stage, as users read it."""

    name: str
    kind: str
    """Such as `int, 0 or more` or `'drop' | 'tag'`."""
    default: Any
    """`dataclasses.MISSING` where the user must set it."""
    text: str
    """The docstring under the field."""


def describe(kind: type[Stage]) -> list[Setting]:
    """What may be set in a stage, in the order of its fields."""
    hints = typing.get_type_hints(kind, include_extras=True)
    texts: dict[str, str] = {}
    for owner in reversed(kind.__mro__):
        if dataclasses.is_dataclass(owner):
            texts |= _docstrings(owner)
    return [
        Setting(
            field.name,
            _spelled(hints[field.name]),
            field.default if field.default_factory is dataclasses.MISSING else field.default_factory(),
            texts.get(field.name, ""),
        )
        for field in dataclasses.fields(kind)
    ]


def _docstrings(kind: type) -> dict[str, str]:
    """Field to the string literal below it, read from the source; none where there is no source."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    except (OSError, TypeError, SyntaxError):
        return {}
    body = typing.cast(ast.ClassDef, tree.body[0]).body
    found = {}
    for field, text in itertools.pairwise(body):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
            and isinstance(text.value.value, str)
        ):
            found[field.target.id] = " ".join(text.value.value.split())
    return found


_LIMITS = {"ge": "{} or more", "gt": "more than {}", "le": "{} or less", "lt": "less than {}"}


def _spelled(hint: Any) -> str:
    """A type as a user may read it."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        limits = [
            text.format(value)
            for item in arguments[1:]
            for part in getattr(item, "metadata", None) or [item]  # pydantic's Field holds several
            for name, text in _LIMITS.items()
            if (value := getattr(part, name, None)) is not None
        ]
        return ", ".join([_spelled(arguments[0]), *limits])
    if origin is typing.Literal:
        return " | ".join(map(repr, arguments))
    if origin in (typing.Union, types.UnionType):
        return " | ".join("None" if part is types.NoneType else _spelled(part) for part in arguments)
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return f"list of {_spelled(arguments[0])}"
    return getattr(hint, "__name__", str(hint)) if origin is None else str(hint).replace("typing.", "")
