"""Stages by name, and what the command line says of them."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError
from stage_helpers import batch

from stages.base import Outcome
from stages.registry import STAGES, describe, find, make

MINE = '''
from dataclasses import dataclass
from typing import Annotated, ClassVar
from annotated_types import Ge
from pydantic import Field
from stages.base import Outcome, Stage

@dataclass(frozen=True, kw_only=True)
class Mine(Stage):
    """Mine."""
    name: ClassVar[str] = "mine"
    version: ClassVar[int] = 1
    size: Annotated[int, Ge(0), Field(lt=9)] = 3
    """How large,
    in things."""
    must: str

    def process(self, batch):
        return Outcome(batch)

@dataclass(frozen=True, kw_only=True)
class Nameless(Stage):
    """No name."""

class Other:
    pass
'''


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_stages.py").write_text(MINE)
    (tmp_path / "my_broken_stages.py").write_text("import nothing_of_this_name")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("my_stages", "my_broken_stages"):
        sys.modules.pop(name, None)


@pytest.mark.usefixtures("mine")
def test_a_user_s_own_stage() -> None:
    """Users could not bring stages of their own."""
    for path in ("my_stages:Mine", "my_stages.Mine"):
        kind = find(path)
        stage = make(kind, {"must": "x", "size": 0})
        assert isinstance(stage.process(batch(["a"])), Outcome)
    size, must = describe(kind)
    assert size[:] == ("size", "int, 0 or more, less than 9", 3, "How large, in things.")
    assert must.default is dataclasses.MISSING


@pytest.mark.usefixtures("mine")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("languge", "Did you mean 'language'"),
        ("zzz", "Known: takedown, url, extract"),
        ("my_stages:Mien", "Did you mean 'Mine'"),
        ("my_stages:Other", "no stage"),
        ("my_stages:Nameless", "`name`"),
        ("my_broken_stages:Mine", "nothing_of_this_name"),
        ("no_such_module.Mine", "no_such_module"),
        (":", "no stage"),
    ],
)
def test_what_is_no_stage_is_said_clearly(name: str, message: str) -> None:
    """A typing error in a recipe would end in a traceback."""
    with pytest.raises(ValueError, match=message):
        find(name)


@pytest.mark.parametrize("name", STAGES)
def test_every_setting_is_described(name: str) -> None:
    """`corpusmill stages` and the recipe's messages would have holes."""
    for setting in describe(STAGES[name]):
        assert len(setting.text) > 5, setting.name
        assert setting.default is not dataclasses.MISSING
        assert "Annotated" not in setting.kind
    assert STAGES[name].__doc__
    assert find(name) is STAGES[name]
    assert make(STAGES[name], {}) == STAGES[name]()


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("gopher_quality", {"min_word": 5}),
        ("gopher_quality", {"min_words": "5"}),
        ("gopher_quality", {"min_words": True}),
        ("gopher_quality", {"min_words": -1}),
        ("gopher_quality", {"max_bullet_lines": 1.5}),
        ("emoji", {"mode": "names"}),
        ("language", {"keep": "en"}),
        ("language", {"keep": [True]}),
        ("extract", {"max_depth": 50_000}),
    ],
)
def test_wrong_settings_are_refused(name: str, wrong: dict[str, object]) -> None:
    """A recipe's mistake would be bent into some other setting."""
    with pytest.raises(ValidationError):
        make(STAGES[name], wrong)
    assert make(STAGES["language"], {"keep": ["en", "zh"]}) == STAGES["language"](keep=("en", "zh"))  # type: ignore[call-arg]
