"""A whole recipe: its sections, its stages with their labels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import Field, field_validator

from pipeline import limited
from pipeline.recipe.base import Model
from pipeline.recipe.dedup import Dedup, Host
from pipeline.recipe.inputs import Input
from pipeline.recipe.tokens import Mixture, Shards, Tokenizer
from pipeline.step_labels import DEDUP_LABEL, HOST_LABEL, READ_LABEL, SUBSTRINGS_LABEL
from stages.base import Stage
from stages.registry import find, make


class Band(Model):
    """The share of the records entering a stage that it may drop."""

    drop: tuple[
        Annotated[float, Field(strict=False, ge=0, le=1)], Annotated[float, Field(strict=False, ge=0, le=1)]
    ] = Field(strict=False, description="least and most share of the entering records that may be dropped")

    @field_validator("drop")
    @classmethod
    def _ascending(cls, drop: tuple[float, float]) -> tuple[float, float]:
        if drop[0] > drop[1]:
            raise ValueError(f"the least, {drop[0]}, is above the most, {drop[1]}")
        return drop


class Recipe(Model):
    """A whole run."""

    name: str = Field(pattern=r"^[\w.-]+$", description="name of the run; its folder is refused to other recipes")
    inputs: list[Input] = Field(min_length=1, description="where the records come from")
    stages: list[dict[str, dict[str, Any] | None]] = Field([], description="document-local stages, in order")
    host: Host | None = Field(None, description="what recurs on the pages of a host")
    dedup: Dedup | None = Field(None, description="which documents are the same")
    tokenizer: Tokenizer | None = Field(None, description="text to tokens")
    mixture: Mixture | None = Field(None, description="how much of each source")
    shards: Shards | None = Field(None, description="the token files; needs a tokenizer")
    pins: str | None = Field(
        None, description="pins.json of a run to be reproduced: documents that met its limits are dropped untried"
    )
    storage: dict[str, dict[str, Any]] = Field(
        {}, description="options of remote inputs by protocol, as s3: {anon: true}; secrets stay in the environment"
    )
    expect: dict[str, Band] = Field({}, description="bands of drop rates by stage; a run that leaves one stops")
    seed: int = Field(0, ge=0, lt=2**63, description="key of all choices by chance")

    @field_validator("stages", mode="before")
    @classmethod
    def _bare_names(cls, stages: Any) -> Any:
        """`- normalize` is short for `- normalize: {}`."""
        if not isinstance(stages, list):
            return [] if stages is None else stages
        return [{item: {}} if isinstance(item, str) else item for item in stages]

    @field_validator("expect", mode="before")
    @classmethod
    def _none_is_empty(cls, expect: Any) -> Any:
        return {} if expect is None else expect

    @property
    def sources(self) -> list[str]:
        """The names of the sources, in the order of the inputs."""
        return list(dict.fromkeys(item.source for item in self.inputs))

    def chain(self) -> list[tuple[str, Stage]]:
        """The stages with their labels: the name, numbered from the second use on (`emoji`, `emoji-2`)."""
        return [(label, make(kind, settings)) for label, kind, settings, _ in self._labelled()]

    def sources_of(self) -> dict[str, list[str]]:
        """The sources of the stages that are not for all of them, by label."""
        return {label: list(sources) for label, _, _, sources in self._labelled() if sources is not None}

    def _labelled(self) -> Iterator[tuple[str, type[Stage], dict[str, Any], Any]]:
        """Each stage's label, class, own settings and `sources`."""
        seen: dict[str, int] = {}
        for item in self.stages:
            ((name, settings),) = item.items()
            kind = find(name)
            seen[kind.name] = seen.get(kind.name, 0) + 1
            label = kind.name if seen[kind.name] == 1 else f"{kind.name}-{seen[kind.name]}"
            yield label, kind, *limited.taken_apart(kind, settings)

    def labels(self) -> list[str]:
        """What may stand under `expect`."""
        host = [HOST_LABEL] if self.host else []
        cut = [SUBSTRINGS_LABEL] if self.dedup and self.dedup.substrings else []
        return [READ_LABEL, *(label for label, _ in self.chain()), *host, DEDUP_LABEL, *cut]
