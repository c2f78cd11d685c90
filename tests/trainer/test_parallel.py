"""Training on several processes is training on one: every dimension of the mesh, and what is left out where it may
not be."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import parallel_cases
import pytest
import ranks
from small_corpus import small_lengths, write_corpus

from pipeline.errors import RecipeError
from trainer import checkpoint
from trainer.config import TrainConfig, load_config
from trainer.metrics import read
from trainer.plan.job import Layout
from trainer.plan.memory import memory
from trainer.plan.reading import job_of

AUXILIARY = "model.experts={number: 4, top_k: 2, shared: 1, balance: {kind: auxiliary, weight: 0.1}}"
BIAS = "model.experts={number: 4, top_k: 2, balance: {kind: bias, rate: 0.01}}"
MODELS = {
    "dense": [],
    "gpt": [
        "model={layers: 2, width: 16, heads: 4, norm: layer, bias: true, positions: {kind: learned, limit: 32},"
        " tied: true}",
    ],
    "parts": [
        "model={layers: 2, width: 16, heads: 4, kv_heads: 2, qk_norm: true, norm_place: sandwich, tied: false,"
        " positions: alibi, embedding_norm: true, logit_scale: 0.5}",
        "loss={z: 0.01, label_smoothing: 0.1, chunk: 16}",
    ],
    "stretched": [
        "model={layers: 2, width: 16, heads: 4,"
        " positions: {kind: rope, base: 50, scaling: {kind: dynamic, factor: 2, original: 8}}}",
    ],
    "deep": ["model={layers: 4, width: 16, heads: 2, tied: true}"],
    "experts": [AUXILIARY],
    "bias": [BIAS],
    "both": [
        "model={arrangement: encoder-decoder, layers: 2, encoder_layers: 2, width: 16, heads: 4, positions: relative}",
        "objective=span",
    ],
}
MORE = pytest.mark.thorough
CASES: list[Any] = [
    ("dense", "dp_replicate=2"),
    ("gpt", "dp_shard=2"),
    pytest.param("dense", "dp_shard=2 zero=1", marks=MORE),
    ("dense", "dp_shard=2 zero=2 dp_replicate=2"),
    ("parts", "tp=2"),
    pytest.param("gpt", "tp=2", marks=MORE),
    ("dense", "tp=2 sequence=false"),
    ("parts", "cp=2"),
    pytest.param("deep", "pp=2", marks=MORE),
    pytest.param("gpt", "pp=2 zero=2", marks=MORE),
    ("deep", "pp=2 schedule=gpipe split=time"),
    ("deep", "pp=2 schedule=interleaved dp_shard=2"),
    ("deep", "pp=2 schedule=zero-bubble tp=2"),
    pytest.param("experts", "ep=2", marks=MORE),
    ("bias", "ep=2 dp_shard=2"),
    pytest.param("experts", "cp=2", marks=MORE),
    pytest.param("experts", "tp=2", marks=MORE),
    ("experts", "pp=2 ep=2"),
    pytest.param("both", "tp=2", marks=MORE),
    ("both", "cp=2 dp_shard=2"),
    pytest.param("parts", "dp_shard=2 tp=2", marks=MORE),
    pytest.param("deep", "pp=2 dp_replicate=2", marks=MORE),
    ("deep", "pp=2 tp=2 dp_shard=2"),
    *(
        pytest.param(model, layout, marks=MORE)
        for model, layout in (
            ("dense", "cp=2 dp_replicate=2"),
            ("stretched", "cp=2"),
            ("dense", "pp=2 cp=2"),
            ("dense", "dp_shard=2 tp=2 cp=2 zero=2"),
            ("experts", "tp=2 dp_replicate=2"),
            ("experts", "cp=2 dp_shard=2"),
            ("experts", "cp=2 ep=2"),
            ("experts", "pp=2 dp_replicate=2"),
            ("experts", "pp=2 tp=2 dp_replicate=2"),
            ("bias", "tp=2 ep=2"),
        )
    ),
]
STEPS = 10
FEW = 3
"""Steps that are enough to see that something is missing."""

ConfigFile = Callable[..., Path]
alone: dict[tuple[Any, ...], dict[str, Any]] = {}


@pytest.fixture
def path(config_file: ConfigFile) -> Path:
    model = {"layers": 2, "width": 16, "heads": 4, "kv_heads": 2}
    optimizer = {"learning_rate": 3.0e-3}
    return config_file("run", model=model, global_batch=8, micro_batch=2, precision="fp64", optimizer=optimizer)


def in_one(path: Path, *settings: str, steps: int = STEPS) -> dict[str, Any]:
    """The same run in one process."""
    if (steps, *settings) not in alone:
        alone[steps, *settings] = ranks.run(parallel_cases.learn, 1, path, list(settings), steps)[0]
    return alone[steps, *settings]


def of(model: str, layout: str) -> list[str]:
    """The settings of a model, with micro-batches as large as the layout lets them be: each exchange takes its time."""
    few = re.fullmatch(r"((tp|cp|ep|dp_shard|dp_replicate)=2|sequence=false|zero=.)( (zero|sequence)=\w+)?", layout)
    return [*MODELS[model], *(["micro_batch=4"] if few else [])]


def divided(path: Path, layout: str, *settings: str) -> tuple[list[str], int]:
    """The settings with those of a layout, and how many processes it takes."""
    overrides = [*settings, *(f"parallel.{one}" for one in layout.split())]
    return overrides, load_config(path, overrides).parallel.size


def in_many(path: Path, layout: str, *settings: str, omitted: str = "") -> list[dict[str, Any]]:
    overrides, size = divided(path, layout, *settings)
    return ranks.run(parallel_cases.learn, size, path, overrides, FEW if omitted else STEPS, omitted)


def difference(found: list[dict[str, Any]], expected: dict[str, Any]) -> float:
    """The largest of losses, norms and weights."""
    weights: dict[str, Any] = {}
    for one in found:
        weights |= one["weights"]
    assert weights.keys() == expected["weights"].keys()
    values = [np.abs(weights[name] - expected["weights"][name]).max() for name in weights]
    for key in ("losses", "norms"):
        values += [np.abs(np.subtract(one[key], expected[key])).max() for one in found]
    return float(max(values))


def assert_held(path: Path, config: TrainConfig, found: list[dict[str, Any]]) -> None:
    """What `plan layout` says that a device holds is what the process that holds most does hold."""
    planned = memory(job_of(config), Layout.of(config.parallel))
    for part in ("weights", "moments") if config.parallel.zero == 3 else ("moments",):
        most = max(one["bytes"][part] for one in found)
        # what no process divides, such as biases behind a sum, is a large part of so small a model
        assert most == pytest.approx(getattr(planned, part), rel=0.1), part


@pytest.mark.parametrize(("model", "layout"), CASES)
def test_many_processes_are_one(path: Path, model: str, layout: str) -> None:
    """Else a run would learn something else on every other number of devices."""
    settings = of(model, layout)
    expected, found = in_one(path, *settings), in_many(path, layout, *settings)
    assert difference(found, expected) < 1e-9
    assert_held(path, load_config(path, divided(path, layout, *settings)[0]), found)
    moved = [np.abs(expected["weights"][name] - weight).max() for name, weight in expected["first"].items()]
    assert max(moved) >= 1e-3


@pytest.mark.parametrize(
    ("model", "layout"),
    [
        ("dense", "dp_shard=2 cp=2"),
        ("gpt", "tp=2"),
        ("deep", "pp=2"),
        pytest.param("dense", "dp_replicate=2", marks=MORE),
        pytest.param("both", "tp=2", marks=MORE),
        pytest.param("both", "cp=2 dp_shard=2", marks=MORE),
        pytest.param("experts", "ep=2", marks=MORE),
        pytest.param("bias", "tp=2 ep=2", marks=MORE),
        pytest.param("experts", "pp=2 tp=2 dp_replicate=2", marks=MORE),
    ],
)
def test_in_fp32_too(path: Path, model: str, layout: str) -> None:
    """Else the numbers that people train in would hide what those of the tests show."""
    settings = [*MODELS[model], "precision=fp32"]
    expected, found = in_one(path, *settings), in_many(path, layout, *settings)
    assert np.abs(np.subtract(found[0]["losses"], expected["losses"])).max() < 1e-4


OMITTED = [
    ("dense", "dp_replicate=2", "trainer.parallel.divide._summed"),
    ("dense", "dp_shard=2", "torch.distributed.fsdp._fully_shard._fsdp_collectives.DefaultReduceScatter.__call__"),
    ("dense", "dp_shard=2 zero=2 dp_replicate=2", "torch.distributed.all_reduce"),
    ("dense", "cp=2", "trainer.attention.swapped"),
    ("dense", "tp=2", "trainer.losses.summed"),
    ("dense", "tp=2", "trainer.model.gathered"),
    ("gpt", "tp=2", "trainer.model.sliced"),
    ("dense", "tp=2", "trainer.parallel.local.reduced"),
    ("dense", "tp=2 sequence=false", "torch.distributed.tensor.Partial._reduce_value"),
    ("dense", "tp=2", "torch.distributed.tensor.Partial._reduce_shard_value"),
    ("deep", "pp=2", "trainer.parallel.local.reduced"),
    ("dense", "dp_shard=2", "trainer.parallel.world.World.total"),
    ("dense", "dp_shard=2", "trainer.parallel.world.World.summed"),
    ("experts", "ep=2", "trainer.experts.sent"),
    ("experts", "cp=2", "trainer.experts.summed"),
    ("bias", "dp_shard=2", "trainer.experts.all_reduce"),
]


@pytest.mark.parametrize(("model", "layout", "omitted"), OMITTED, ids=[f"{o[1]}-{o[2]}" for o in OMITTED])
def test_no_exchange_can_be_left_out(path: Path, model: str, layout: str, omitted: str) -> None:
    """Else the comparison above would say nothing about it."""
    try:
        found = in_many(path, layout, *of(model, layout), omitted=omitted)
    except ranks.RankFailed:
        return  # shapes that do not fit show it too
    assert not difference(found, in_one(path, *of(model, layout), steps=FEW)) < 1e-6


def test_a_batch_that_does_not_divide(path: Path) -> None:
    """Else a batch would have to be a multiple of the processes, and a restart with fewer of them impossible."""
    settings = ["global_batch=6", "micro_batch=1"]
    expected = in_one(path, *settings)
    assert difference(in_many(path, "dp_replicate=4", *settings), expected) < 1e-9
    settings += MODELS["experts"]
    assert difference(in_many(path, "dp_shard=4", *settings), in_one(path, *settings)) < 1e-9


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["parallel.tp=3"], "parallel.tp × cp 3 does not divide model.heads 2"),
        (["parallel.ep=2"], "parallel.ep: the model has no experts"),
        (["parallel.pp=4"], "4 stages have not one of 2 blocks each"),
        (["parallel.dp_shard=2", "optimizer={kind: soap}"], "optimizer.kind soap needs whole matrices; .* take one of"),
        (["parallel.dp_replicate=2", "optimizer={kind: lbfgs}"], "lbfgs needs the whole model and batch"),
        (["parallel.dp_shard=2", "micro_batch=auto"], "micro_batch: auto is for one process"),
        (["parallel.dp_shard=2", "precision=fp16"], "precision fp16 is for one process"),
        (["parallel.cp=2", "sequence_length=31"], "parallel.cp × tp 2 does not divide sequence_length 31"),
        (["parallel.zero=4"], "parallel.zero"),
        (["parallel.dp=4"], "parallel.dp: no such key"),
        (["parallel.pp=2", "micro_batch=4"], "each process has 1 micro-batches of a batch of 4, fewer than"),
        (["parallel.dp_shard=2", "micro_batch=4"], "2 processes read, and a batch of 4 sequences has 1 micro-batches"),
        (["parallel.tp=1", "parallel.cp=2", "model.dropout={layers: 0.1}"], "model.dropout.layers draws for whole"),
        (["parallel.pp=2", "parallel.stages=2", "model.layers=4"], "schedule 1f1b has one stage a process"),
        (
            ["parallel.pp=2", "parallel.schedule=zero-bubble", "parallel.dp_shard=2", "model.layers=4"],
            "zero-bubble .* dp_shard",
        ),
        (["parallel.pp=2", "model.positions=relative"], "model.positions relative"),
    ],
)
def test_what_does_not_go_together_is_refused(config_file: ConfigFile, settings: list[str], message: str) -> None:
    """Else it would fail in the middle of the first step, on all processes at once, or train something else."""
    with pytest.raises(RecipeError, match=message):
        load_config(config_file(), settings)


def test_the_number_of_processes_is_checked(config_file: ConfigFile) -> None:
    """Else processes would wait for others that nobody started."""
    from trainer.run import train

    with pytest.raises(RecipeError, match=r"dp_shard 2 makes 2 processes, and 1 was started.*--nproc 2"):
        train(config_file(), ["parallel.dp_shard=2"])


def test_a_micro_batch_that_is_not_set_leaves_nobody_idle(config_file: ConfigFile) -> None:
    """Else one process would do the work of all, without a word."""
    settings = ["global_batch=24", "micro_batch=null"]
    assert load_config(config_file(), settings).micro == 24
    assert load_config(config_file(), [*settings, "parallel.dp_shard=4"]).micro == 6
    assert load_config(config_file(), [*settings, "parallel.dp_shard=2", "parallel.pp=2"]).micro == 6


@pytest.mark.parametrize(("layout", "settings"), [
    pytest.param("pp=2 dp_replicate=2", ["optimizer={kind: muon, learning_rate: 0.01}"], marks=MORE),
    ("dp_shard=2 tp=2", ["optimizer={kind: adamw, learning_rate: 3e-3, clip: 0.01}", "model.recompute=full"]),
    pytest.param("pp=2 dp_shard=2", ["model.recompute=full", "loss.chunk=16"], marks=MORE),
], ids=["muon", "clip", "recompute"])  # fmt: skip
def test_what_else_moves_the_weights(path: Path, layout: str, settings: list[str]) -> None:
    """Else an optimiser, clipping or recomputation would be another one on many processes."""
    assert difference(in_many(path, layout, *settings), in_one(path, *settings)) < 1e-9


@pytest.mark.parametrize("layout", ["dp_shard=2", pytest.param("cp=2 zero=1", marks=MORE)])
def test_a_running_mean_is_evaluated_as_it_is(path: Path, layout: str) -> None:
    """Else what was gathered of it for the evaluation before would be evaluated again."""
    settings = ["average={decay: 0.5}", "evaluation.every=1", "steps=6"]
    overrides, size = divided(path, layout, *settings)
    ranks.run(parallel_cases.trained, size, path, [*overrides, f"checkpoint.folder={path.parent / 'many'}"])
    ranks.run(parallel_cases.trained, 1, path, [*settings, f"checkpoint.folder={path.parent / 'one'}"])
    many, one = (
        [row["average_loss"] for row in read(path.parent / folder / "metrics.jsonl") if "average_loss" in row]
        for folder in ("many", "one")
    )
    assert len(one) == 6
    assert many == pytest.approx(one, abs=1e-9)


def test_bf16_is_near(path: Path) -> None:
    """Else shards that are gathered in bf16 would make another model."""
    settings = ["precision=bf16"]
    expected, found = in_one(path, *settings), in_many(path, "dp_shard=2", *settings)
    assert np.abs(np.subtract(found[0]["losses"], expected["losses"])).max() < 5e-3


# ---- whole runs, and their checkpoints


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    assert one.keys() == other.keys()
    return all(np.array_equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize(
    ("model", "written", "layouts"),
    [
        ("deep", "dp_shard=2 tp=2", ["", "pp=2", "dp_replicate=2 pp=4", "cp=2 zero=1"]),
        pytest.param("bias", "pp=2 ep=2", ["", "tp=2", "ep=4 dp_shard=2"], marks=MORE),
    ],
)
def test_a_checkpoint_is_of_no_layout(path: Path, model: str, written: str, layouts: list[str]) -> None:
    """Else a run could only go on with as many devices as it began with."""
    settings = [
        *MODELS[model],
        "steps=6",
        "micro_batch=1",
        "schedule={kind: constant, warmup: 0}",
        "checkpoint.every=3",
        "average={decay: 0.5}",
        "evaluation.every=3",
    ]

    overrides, size = divided(path, written, *settings)
    codes = ranks.run(parallel_cases.trained, size, path, [*overrides, "steps=4"])
    assert [code for code, _ in codes] == [0] * size
    folder = load_config(path).checkpoint.folder
    saved = checkpoint.load_state(folder / "step-00000004")
    expected = {
        key: value
        for key, value in parallel_cases.flat(saved).items()
        if key.split("/")[1] in ("model", "optimizer", "average")
    }
    for layout in layouts:
        overrides, size = divided(path, layout, *settings)
        parts = ranks.run(parallel_cases.taken_up, size, path, overrides)
        assert {part.pop("/step") for part in parts} == {4}
        found = {key: value for part in parts for key, value in part.items() if not key.startswith("/noise")}
        assert same(found, expected), layout
    # and it goes on where it was, with the batches that were to come
    overrides, size = divided(path, layouts[-1], *settings)
    for code, _ in ranks.run(parallel_cases.trained, size, path, overrides):
        assert code == 0
    rows = read(load_config(path).log_file)
    alone = path.with_name("alone.yaml")
    alone.write_text(path.read_text().replace(str(folder), str(folder.parent / "alone")))
    assert ranks.run(parallel_cases.trained, 1, alone, settings)[0][0] == 0
    for row, other in zip(rows, read(load_config(alone).log_file), strict=True):
        for key in ("kind", "step", "data_step", "tokens"):
            assert row.get(key) == other.get(key)
        for key in ("loss", "gradient_norm", "validation_loss", "average_loss"):
            assert row.get(key) == pytest.approx(other.get(key), abs=1e-9)


def test_a_full_disk_ends_all_processes(path: Path) -> None:
    """Else those that had nothing to write would wait for ever for the one that could not."""
    folder = load_config(path).checkpoint.folder
    folder.mkdir(parents=True)
    (folder / ".writing-step-00000003").write_text("no folder can be made here")
    with pytest.raises(ranks.RankFailed, match=r"could not be written.*Earlier checkpoints are untouched") as caught:
        ranks.run(parallel_cases.trained, 2, path, ["parallel.dp_shard=2", "steps=3"], seconds=60)
    assert str(caught.value).count("could not be written") >= 2


def test_workers_that_are_loosely_coupled(path: Path) -> None:
    """Else each worker would train a model of its own, or a resume would go on with another one."""
    settings = [
        "loose={kind: diloco, every: 3, learning_rate: 0.7, momentum: 0.9}", "parallel.dp_replicate=2",
        "steps=9", "schedule={kind: constant, warmup: 0}", "checkpoint.every=5", "checkpoint.keep=9",
    ]  # fmt: skip
    folder = load_config(path).checkpoint.folder

    def weights(step: int) -> list[dict[str, Any]]:
        folders = (folder, folder / "worker-1")
        return [checkpoint.load_state(one / f"step-{step:08d}")["model"] for one in folders]

    done = ranks.run(parallel_cases.trained, 2, path, settings)
    assert [code for code, _ in done] == [0, 0]
    assert done[0][1]
    assert not done[1][1]
    first, second = weights(9)
    assert all(first[name].equal(second[name]) for name in first)
    apart, other = weights(5)
    assert not all(apart[name].equal(other[name]) for name in apart)
    rows = read(folder / "metrics.jsonl")
    assert [row["step"] for row in rows if row["kind"] == "exchange"] == [3, 6, 9]
    sent = sum(row["bytes_sent"] for row in rows if row["kind"] == "exchange")
    assert sent == 3 * 8 * sum(weight.numel() for weight in first.values())
    # the two together read each batch once
    targets = [[row["tokens"] for row in read(one / "metrics.jsonl") if row["kind"] == "step"] for one in
               (folder, folder / "worker-1")]  # fmt: skip
    alone = in_one(path, "schedule={kind: constant, warmup: 0}")
    assert [sum(pair) for pair in zip(*targets, strict=True)] == np.cumsum(alone["targets"][:9]).tolist()

    for one in (folder, folder / "worker-1"):
        for gone in (7, 8, 9):
            shutil.rmtree(one / f"step-{gone:08d}", ignore_errors=True)
    assert [code for code, _ in ranks.run(parallel_cases.trained, 2, path, settings)] == [0, 0]
    again = weights(9)
    assert all(again[0][name].equal(first[name]) for name in first)


def test_sites_with_corpora_of_their_own_read_them_whole(config_file: Callable[..., Path], tmp_path: Path) -> None:
    """Else a site would learn from a half of its text, for another reads the other half of quite another."""
    other = write_corpus(tmp_path / "other", small_lengths() | {"train": [[50] * 40, [33] * 40]})
    loose = {"kind": "federated", "every": 3}
    paths = [
        config_file("here", loose=loose, parallel={"dp_replicate": 2}),
        config_file("there", loose=loose, parallel={"dp_replicate": 2}, data={"corpus": str(other)}),
    ]
    settings = ["steps=6", "schedule={kind: constant, warmup: 0}"]
    assert [code for code, _ in ranks.run(parallel_cases.of_a_site, 2, paths, settings)] == [0, 0]
    folders = [load_config(paths[0]).checkpoint.folder, load_config(paths[1]).checkpoint.folder / "worker-1"]
    for path, folder in zip(paths, folders, strict=True):
        rows = [row for row in read(folder / "metrics.jsonl") if row["kind"] == "step"]
        by_itself = [*settings, "loose=null", "parallel.dp_replicate=1"]
        (own,) = ranks.run(parallel_cases.learn, 1, path, by_itself, 6)
        assert [row["tokens"] for row in rows] == np.cumsum(own["targets"]).tolist()
