"""Recipes: one YAML file says the whole run, and is checked in full before any work.

The sections are pydantic models: `inputs`, `dedup`, `tokens`, and `whole`, which holds them. `check` reads a file,
validates it against them and the stages' own fields, and makes its paths absolute.
"""

from __future__ import annotations

from pipeline.recipe.check import check, read_recipe, stage_problems
from pipeline.recipe.dedup import Dedup, Host, Near, RepeatedLines, Substrings
from pipeline.recipe.inputs import Input
from pipeline.recipe.tokens import BOUNDARY_ROLES, Mixture, Prefix, Shards, Tokenizer, TokenizerTrain
from pipeline.recipe.whole import Band, Recipe
from pipeline.step_labels import DEDUP_LABEL, HOST_LABEL, NOT_SAMPLED, READ_LABEL, SUBSTRINGS_LABEL

__all__ = [
    "BOUNDARY_ROLES",
    "DEDUP_LABEL",
    "HOST_LABEL",
    "NOT_SAMPLED",
    "READ_LABEL",
    "SUBSTRINGS_LABEL",
    "Band",
    "Dedup",
    "Host",
    "Input",
    "Mixture",
    "Near",
    "Prefix",
    "Recipe",
    "RepeatedLines",
    "Shards",
    "Substrings",
    "Tokenizer",
    "TokenizerTrain",
    "check",
    "read_recipe",
    "stage_problems",
]
