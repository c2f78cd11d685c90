"""What all sections of a recipe have in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Model(BaseModel):
    """Base of the recipe's sections: unknown keys are errors, values are not bent into other types."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


Pattern = Annotated[str, Field(min_length=1)]
Patterns = Pattern | list[Pattern]
