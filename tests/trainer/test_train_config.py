"""Bad input is answered with one clear message before the first step."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from small_corpus import write_corpus

from pipeline.errors import RecipeError, UserError
from trainer.config import TrainConfig, load_config
from trainer.help import explained
from trainer.resume import changes
from trainer.run import checked, main


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("modell.layers=3", "modell: no such key. Did you mean 'model'?"),
        ("model.layer=3", "model.layer: no such key. Did you mean 'layers'?"),
        ("checkpoint.folders=x", "checkpoint.folders: no such key. Did you mean 'folder'?"),
        ("model.layers=0", "model.layers: input should be greater than or equal to 1, found 0"),
        ("model.layers=two", "model.layers: input should be a valid integer, found 'two'"),
        ("model.layers=true", "model.layers: input should be a valid integer, found True"),
        ("model.heads=3", "model: width 16 over 3 heads gives no even head size"),
        ("model.kv_heads=3", "model: heads 2 must be a multiple of kv_heads 3"),
        ("micro_batch=3", "global_batch 4 does not divide into micro-batches of 3"),
        ("steps=2", "schedule.warmup 2 leaves nothing of 2 steps"),
        (
            "precision=fp7",
            "precision: input should be 'fp64', 'fp32', 'tf32', 'bf16', 'fp16', 'fp8' or",
        ),
        ("optimizer.learning_rate=-1", "optimizer.learning_rate: input should be greater than 0"),
        ("data.leave_out=[xyz]", "data.leave_out.0: string should match pattern"),
        ("steps", "--set steps: write it as key.key=value"),
        ("steps.a=1", "'steps' has no keys below it"),
    ],
)
def test_settings(config_file: Callable[..., Path], override: str, message: str) -> None:
    """Else a typing error would cost a run, or train something else than was meant."""
    with pytest.raises(RecipeError) as caught:
        load_config(config_file(), [override])
    assert message in str(caught.value)


def test_all_faults_at_once(config_file: Callable[..., Path]) -> None:
    """Else a user would mend one fault a start."""
    with pytest.raises(RecipeError) as caught:
        load_config(config_file(), ["model.layer=3", "seeds=1", "steps=0"])
    assert str(caught.value).count("\n") == 3


@pytest.mark.parametrize("text", ["", "- a", "a: [", "\x00"])
def test_no_configuration(tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Else a wrong file would end in a traceback."""
    path = tmp_path / "x.yaml"
    path.write_text(text)
    assert main([str(path)]) == 2
    assert str(path) in capsys.readouterr().err
    assert main([str(tmp_path / "missing.yaml")]) == 2


def test_settings_behind_a_launcher(config_file: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    """Else what works behind `corpusmill train` would not behind `torchrun -m trainer`."""
    assert main([str(config_file()), "steps=3", "--set", "seeds=1", "--set", "model.layer=2"]) == 2
    assert "seeds: no such key" in (said := capsys.readouterr().err)
    assert "model.layer: no such key" in said


def test_every_setting_is_explained() -> None:
    """Else `--help-config` could not teach it."""
    lines = list(explained())
    keys = {line.split(":")[0] for line in lines if not line.startswith(" ")}
    assert keys == set(TrainConfig.model_fields)
    for line, below in pairwise(lines):
        if " = " in line or ", required" in line or " kind: " in line:
            depth = len(line) - len(line.lstrip())
            assert len(below) - len(below.lstrip()) == depth + 2, f"nothing explains: {line}"
    text = "\n".join(lines)
    for told in ("optimizer:", "global_batch: integer ≥ 1, required", "  kind: cosine (default)"):
        assert told in text


def edit(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    meta = json.loads((folder / "corpus.json").read_text())
    change(meta)
    (folder / "corpus.json").write_text(json.dumps(meta))


def test_corpora_that_do_not_fit(config_file: Callable[..., Path], corpus_folder: Path, tmp_path: Path) -> None:
    """Else a run would fail in its middle, or train on nothing."""
    config = load_config(config_file())

    def refused(**changes: Any) -> str:
        with pytest.raises(UserError) as caught:
            checked(config.model_copy(update=changes))
        return str(caught.value)

    data = config.data
    assert "holds no corpus.json" in refused(data=data.model_copy(update={"corpus": tmp_path}))
    assert "has no split 'test'; it has train, validation" in refused(data=data.model_copy(update={"split": "test"}))
    text = refused(data=data.model_copy(update={"validation": "test"}))
    assert text.startswith("data.validation: ")
    assert text.endswith("it has train, validation; with null nothing is evaluated")
    assert "fewer than one global_batch of 4000" in refused(global_batch=4000)
    assert "has a vocabulary of 64, the model of 63" in refused(
        model=config.model.model_copy(update={"vocabulary": 63})
    )
    assert "has no document" in refused(data=data.model_copy(update={"leave_out": ("0" * 32,)}))
    empty = write_corpus(tmp_path / "empty", {"train": [[5, 9]] * 9, "validation": [[]]})
    assert "data.validation: split 'validation'" in refused(data=data.model_copy(update={"corpus": empty}))
    copy = shutil.copytree(corpus_folder, tmp_path / "copy")
    edit(copy, lambda meta: meta.update(layout="by_source"))
    assert "mixture.json cannot be read" in refused(data=data.model_copy(update={"corpus": copy}))
    for wrong in ({"splits": {"train": {}}}, {"dtype": "uint61"}, {"tokenizer": None}, {"vocabulary": "many"}):
        broken = shutil.copytree(corpus_folder, tmp_path / f"broken-{next(iter(wrong))}")
        edit(broken, lambda meta, wrong=wrong: meta.update(wrong))  # type: ignore[misc]
        assert "corpus.json is damaged" in refused(data=data.model_copy(update={"corpus": broken}))


def test_config_and_trace_need_no_torch() -> None:
    """Else the pipeline's commands would need torch, or wait seconds for it."""
    code = "import sys, trainer.config, trainer.trace, trainer.run; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_kind_alone_is_all_its_defaults(config_file: Callable[..., Path]) -> None:
    """Else the shortest way to say it would be refused with a riddle."""
    short = load_config(config_file(optimizer="lion", schedule="linear", objective="causal"))
    long = load_config(config_file(optimizer={"kind": "lion"}, schedule={"kind": "linear"}))
    assert short == long
    with pytest.raises(RecipeError, match="Did you mean 'linear'"):
        load_config(config_file(schedule="linaer"))
    with pytest.raises(RecipeError, match=r"optimizer\.clip: must be null for kind newton_cg"):
        load_config(config_file(optimizer={"kind": "newton_cg", "clip": 1.0}))
    with pytest.raises(RecipeError, match="at: needs 1 or more"):
        load_config(config_file(batch_ramp={"kind": "steps", "at": []}))


def test_more_steps_are_told_only_where_they_move_a_rate(config_file: Callable[..., Path]) -> None:
    """Else every longer run would be said to differ, also where it does not."""
    for schedule, told in (("constant", []), ("cosine", ["steps 20 -> 30"])):
        before, after = (load_config(config_file(schedule=schedule), [f"steps={n}"]) for n in (20, 30))
        assert changes(before, after, 10) == told
        assert changes(before, after, 0) == []
