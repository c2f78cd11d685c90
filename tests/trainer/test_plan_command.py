"""`corpusmill plan layout`: from a configuration to figures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from pipeline.cli import app
from trainer.plan.job import Layout

CONFIG = Path(__file__).parents[2] / "configs" / "train-gpt2-124m.yaml"
HERE = ("--set", "model.vocabulary=50304")


def call(*args: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["plan", "layout", *map(str, args)])
    return done.exit_code, done.output


def facts(*args: object) -> Any:
    code, text = call(*args, *HERE, "--json")
    assert code == 0, text
    return json.loads(text)


def test_a_plan_says_memory_traffic_and_time() -> None:
    """Else a user would have to rent devices to learn whether a run fits them."""
    code, text = call(CONFIG, "--device", "a100-80", "--devices", 16, "--tp", 2, *HERE)
    assert code == 0, text
    for words in ("16 a100-80 (dp_shard 8 × tp 2)", "optimiser states", "GB to other nodes", "tp: gather and reduce"):
        assert words in text
    for words in ("products and attention", "waiting: tp", "tokens/s a device", "MFU"):
        assert words in text


def test_figures_are_the_same_as_json() -> None:
    """Else scripts could not choose a layout."""
    found = facts(CONFIG, "--devices", 8)
    assert found["layout"] == vars(Layout(dp_shard=8))
    assert found["weights"] == 50304 * 768 + 12 * (4 * 768**2 + 3 * 768 * 2048 + 2 * 768) + 768
    parts = dict(found["memory_bytes"])
    total, room = parts.pop("total"), parts.pop("room")
    assert total == pytest.approx(sum(parts.values()))
    assert found["fits"] is (total <= room)
    times = dict(found["seconds"])
    assert times.pop("all") == pytest.approx(sum(times.values()))


def test_layouts_come_from_options_overrides_and_what_is_left() -> None:
    """Else a plan would be of another layout than was asked for."""
    assert facts(CONFIG, "--set", "parallel.tp=2", "--devices", 8)["layout"] == vars(Layout(tp=2, dp_shard=4))
    found = facts(CONFIG, "--set", "parallel.tp=2", "--tp", 4, "--dp-replicate", 2, "--zero", 1)["layout"]
    assert found == vars(Layout(tp=4, dp_replicate=2, zero=1))
    code, text = call(CONFIG, "--tp", 4, "--dp-shard", 4, "--devices", 8, *HERE)
    assert (code, "is of 16 devices, and --devices is 8" in text) == (2, True)
    code, text = call(CONFIG, "--tp", 5, *HERE)
    assert (code, "tp × cp 5 does not divide model.heads 12" in text) == (2, True)


def test_what_a_plan_leaves_out_is_said() -> None:
    """Else the figures of another run would be taken for those of this one."""
    assert "not reckoned with: offload;" in call(CONFIG, "--devices", 8, *HERE, "--set", "offload={optimizer: true}")[1]
    assert "not reckoned" not in call(CONFIG, "--devices", 8, *HERE)[1]


def test_mistakes_are_named() -> None:
    """Else a user would read a traceback, or figures of something else."""
    assert "Did you mean 'h100'" in call(CONFIG, "--device", "h10", *HERE)[1]
    assert "give a CONFIG" in call()[1]
    assert "Did you mean 'tp'" in call(CONFIG, "--set", "parallel.tpp=2", *HERE)[1]
    code, text = call(CONFIG, "--device", "a100-80", "--set", "precision=fp8", *HERE)
    assert (code, "no peak in fp8" in text) == (2, True)
    code, text = call(CONFIG, "--set", "data.corpus=nowhere", "--set", "model.vocabulary=null")
    assert (code, "say how many token ids there are: model.vocabulary" in text) == (2, True)
    code, text = call(CONFIG, "--device", "rtx-4090", "--set", "global_batch=2048", "--set", "micro_batch=2048", *HERE)
    assert (code, "does not fit" in text) == (0, True)


def test_a_micro_batch_is_found_where_none_is_said() -> None:
    """Else micro_batch: auto could not be planned."""
    found = facts(CONFIG, "--device", "rtx-4090", "--set", "micro_batch=auto")
    assert found["fits"]
    assert found["micro_batch"] > 1
    more = facts(CONFIG, "--device", "rtx-4090", "--set", f"micro_batch={2 * found['micro_batch']}")
    assert not more["fits"]


def test_a_search_lists_the_fastest() -> None:
    """Else a user would have to try layouts one by one."""
    found = facts(CONFIG, "--devices", 16, "--search")
    times = [one["seconds"]["all"] for one in found]
    assert times == sorted(times)
    assert len(found) == 8
    assert all(one["fits"] and one["devices"] == 16 for one in found)
    assert times[0] <= facts(CONFIG, "--devices", 16)["seconds"]["all"]
    code, text = call(CONFIG, "--devices", 16, "--search", *HERE)
    assert (code, "micro-batch" in text) == (0, True)
    code, text = call(CONFIG, "--devices", 1, "--search", "--set", "model.layers=4000", *HERE)
    assert (code, "no layout of 1 h100 fits" in text) == (0, True)


def test_tables_of_devices_and_of_published_runs() -> None:
    """Else nobody could see what a plan rests on."""
    code, text = call("--list")
    assert (code, "b200" in text, "NVIDIA H100 SXM data sheet" in text) == (0, True, True)
    code, text = call("--published")
    assert code == 0
    for words in ("mpt-7b h100 8 x 2048", "gpt-175b a100-80 64 full", "tested on 47 runs", "arxiv.org/abs/2205.05198"):
        assert words in text
    rows = json.loads(call("--published", "--json")[1])
    assert len(rows) == 94
    assert all(row["error"] == pytest.approx(row["expected"] / row["measured"] - 1) for row in rows)


def test_a_plan_needs_no_torch(tmp_path: Path) -> None:
    """Else it could not be made on a laptop."""
    values = yaml.safe_load(CONFIG.read_text("utf-8"))
    values["model"]["vocabulary"] = 50304
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(values))
    code = (
        "import sys; sys.modules['torch'] = None; from pipeline.cli import app; "
        f"app(['plan', 'layout', {str(tmp_path / 'c.yaml')!r}, '--devices', '8'], standalone_mode=False)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "tokens/s a device" in done.stdout
