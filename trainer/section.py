"""The base of all settings of a training run, and the kinds of numbers that they hold."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo

Count = Annotated[int, Field(strict=True, ge=1)]
Natural = Annotated[int, Field(strict=True, ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Section(BaseModel):
    """Base of all sections: no unknown keys, no infinite numbers, no change after reading; a field's docstring is its
    help text."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


STORED = "stored"
"""Key of a validation context: the settings are those of a run that was made, by this version or an older one, which
may have let pass what is refused now."""


def is_stored(info: ValidationInfo) -> bool:
    """Whether settings are only read back."""
    return bool((info.context or {}).get(STORED))


def unless_said(kind: str) -> BeforeValidator:
    """Of sections that are told apart by their `kind`: which one settings without it are. A kind alone stands for
    all of its defaults."""

    def with_kind(values: Any) -> Any:
        if isinstance(values, str):  # a kind alone, with all its defaults
            return {"kind": values}
        return {"kind": kind} | values if isinstance(values, dict) else values

    return BeforeValidator(with_kind)
