"""One step of learning: clipping, penalties, loss terms, precision, noise scale, averages; each beside its formula."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import ranks
import torch
import torch.nn.functional as F
from compile_cases import compiled_beside_plain
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from pipeline.errors import RecipeError
from trainer import devices, precision
from trainer.batch import IGNORED, Batch
from trainer.batch_ramp import LinearRamp, NoiseRamp, StepRamp, sequences_in, steps_for
from trainer.clipping import clip, penalise
from trainer.config import load_config
from trainer.data import Source
from trainer.learning import Learner
from trainer.learning_settings import LossConfig
from trainer.losses import LossOf, place_losses
from trainer.metrics import read
from trainer.model import Model
from trainer.model_settings import ModelConfig
from trainer.noise_scale import NoiseScale
from trainer.run import train

SHAPE = ModelConfig(layers=2, width=16, heads=4, kv_heads=2)
V = 64
FIELDS = ("tokens_BT", "targets_BT", "positions_BT", "documents_BT", "groups_B")
CPU = torch.device("cpu")


@pytest.fixture
def learner_of(config_file: Callable[..., Path]) -> Callable[..., Learner]:
    def make(*overrides: str) -> Learner:
        torch.manual_seed(4)
        config = load_config(config_file(), ["global_batch=8", "micro_batch=2", *overrides])
        return Learner(Model(SHAPE, V), config, CPU)

    return make


def gradients(loss_of: LossOf, batch: Batch) -> list[Tensor]:
    loss_of.model.zero_grad()
    loss_of(batch, slice(None)).minimised.backward()
    return [w.grad.clone() for w in loss_of.model.parameters() if w.grad is not None]


def loss_of(**settings: float) -> LossOf:
    torch.manual_seed(4)
    return LossOf(Model(SHAPE, V), LossConfig.model_validate(settings), nullcontext())


# ---- loss


def test_smoothing_and_z_are_the_papers(batch: Batch) -> None:
    """Else a setting that is meant to calm a run would do something else, or nothing."""
    plain = loss_of()
    logits_BTV = plain.model.logits(plain.model(_inputs(batch))[0]).detach()
    targets = torch.from_numpy(batch.targets_BT)
    smooth = F.cross_entropy(
        logits_BTV.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, label_smoothing=0.1, reduction="sum"
    )
    z = (logits_BTV.exp().sum(-1).log() ** 2)[targets != IGNORED].sum()
    for settings, expected in (({"label_smoothing": 0.1}, smooth), ({"z": 1e-2}, None)):
        found = loss_of(**settings)(batch, slice(None))
        reported = plain(batch, slice(None)).cross_entropy_N
        assert torch.allclose(found.cross_entropy_N, reported)  # what is logged stays comparable
        wanted = reported.sum() + 1e-2 * z if expected is None else expected
        assert found.minimised.item() == pytest.approx(wanted.item(), rel=1e-5)


def test_the_loss_is_in_fp32_under_bf16(batch: Batch) -> None:
    """Else a loss near another would be rounded to it: bf16 has two digits."""
    torch.manual_seed(0)
    logits, targets = 4 * torch.randn(50, V).bfloat16(), torch.randint(0, V, (50,))
    each, total = place_losses(logits, targets, 0.1, 1e-3)
    denominator, mean = logits.double().logsumexp(-1), logits.double().mean(-1)
    exact = denominator - logits.double().gather(1, targets[:, None])[:, 0]
    assert (each.dtype, total.dtype) == (torch.float32, torch.float32)
    torch.testing.assert_close(each.double(), exact, rtol=1e-5, atol=1e-6)
    wanted = (0.9 * exact + 0.1 * (denominator - mean) + 1e-3 * denominator.square()).sum()
    assert total.item() == pytest.approx(wanted.item(), rel=1e-5)
    plain = loss_of()
    half = dataclasses.replace(plain, amp=precision.autocast("bf16", CPU))
    with half.amp:
        logits = plain.model.logits(plain.model(_inputs(batch))[0]).detach()
    assert logits.dtype == torch.bfloat16
    alone = F.cross_entropy(
        logits.double().flatten(0, 1),
        torch.from_numpy(batch.targets_BT).flatten(),
        ignore_index=IGNORED,
        reduction="sum",
    )
    found = half(batch, slice(None))
    assert found.cross_entropy_N.dtype == found.minimised.dtype == torch.float32
    assert found.minimised.item() == pytest.approx(alone.item(), rel=1e-5)


def _inputs(batch: Batch) -> object:
    from trainer.model import Inputs

    return Inputs.of(batch, slice(None), CPU)


@pytest.mark.parametrize("share", [1.0, 0.1])
def test_chunks_and_sparse_targets_change_nothing(batch: Batch, share: float) -> None:
    """Else saving memory, or predicting few tokens, would change what is learned."""
    keep = np.random.default_rng(0).random(batch.targets_BT.shape) < share
    some = dataclasses.replace(batch, targets_BT=np.where(keep, batch.targets_BT, IGNORED))
    whole, chunked = loss_of(label_smoothing=0.1, z=1e-3), loss_of(label_smoothing=0.1, z=1e-3, chunk=7)
    one, two = whole(some, slice(None)), chunked(some, slice(None))
    assert torch.allclose(one.cross_entropy_N, two.cross_entropy_N, atol=1e-4)
    for a, b in zip(gradients(whole, some), gradients(chunked, some), strict=True):
        assert torch.allclose(a, b, atol=1e-5)
    # by rows, each alone, from all logits
    logits = whole.model.logits(whole.model(_inputs(some))[0])
    for row in range(len(some.targets_BT)):
        targets = torch.from_numpy(some.targets_BT[row])
        alone = F.cross_entropy(logits[row], targets, ignore_index=IGNORED, reduction="sum")
        assert one.cross_entropy_N[row].item() == pytest.approx(alone.item(), rel=1e-4, abs=1e-4)


def test_penalties_are_gradients_of_their_sums(learner_of: Callable[..., Learner], batch: Batch) -> None:
    """Else L1 and L2 would shrink other weights, or by another amount."""
    weights = [nn.Parameter(torch.randn(3, 4)), nn.Parameter(torch.randn(5))]
    for weight in weights:
        weight.grad = torch.zeros_like(weight)
    penalise(weights, 0.3, 0.7)
    for weight in weights:
        other = weight.detach().clone().requires_grad_()
        (0.3 * other.abs().sum() + 0.7 / 2 * other.square().sum()).backward()
        assert torch.allclose(weight.grad, other.grad)
    plain, penalised = learner_of(), learner_of("loss.l2=100")
    before = {name: w.detach().clone() for name, w in plain.model.named_parameters()}
    for learner in (plain, penalised):
        learner.learn(batch, 1e-2, 1)
    for (name, one), two in zip(plain.model.named_parameters(), penalised.model.parameters(), strict=True):
        if "norm" in name or "embedding" in name:
            continue  # what does not decay is not penalised; the clipped gradient differs all the same
        towards = (two - before[name]).sign() == -before[name].sign()
        assert towards.float().mean() > 0.95, name
        assert not one.equal(two)


def gradients_of(learner: Learner, batch: Batch) -> dict[str, Tensor]:
    """What a step is made by."""
    learner.learn(batch, 0.0, 1)
    return {name: w.grad.clone() for name, w in learner.model.named_parameters() if w.grad is not None}


@pytest.mark.parametrize(("l1", "l2"), [(0.1, 0.0), (0.0, 0.3)])
def test_each_penalty_is_its_own_setting(
    learner_of: Callable[..., Learner], batch: Batch, l1: float, l2: float
) -> None:
    """Else `loss.l1` would be L2, or the other way round."""
    learner = learner_of("optimizer.clip=null", f"loss.l1={l1}", f"loss.l2={l2}")
    plain, found = (gradients_of(one, batch) for one in (learner_of("optimizer.clip=null"), learner))
    for name, w in learner.model.named_parameters():
        spared = "norm" in name or "embedding" in name
        penalty = torch.zeros_like(w) if spared else l1 * w.sign() + l2 * w
        torch.testing.assert_close(found[name], plain[name] + penalty.detach())


# ---- clipping


def test_clipping_is_the_formula() -> None:
    """Else a spike would pass, or every step would be cut."""
    torch.manual_seed(0)
    weights = [nn.Parameter(torch.randn(6, 4)), nn.Parameter(torch.randn(4) * 1e-5), nn.Parameter(torch.randn(3))]
    slopes = [torch.randn_like(w) * 5 for w in weights]

    def clipped(**settings: float | None) -> tuple[list[Tensor], float]:
        for weight, slope in zip(weights, slopes, strict=True):
            weight.grad = slope.clone()
        norm = clip(weights, settings.get("norm"), settings.get("value"), settings.get("adaptive"))
        return [w.grad.clone() for w in weights if w.grad is not None], norm.item()

    total = math.sqrt(sum(float(s.square().sum()) for s in slopes))
    found, norm = clipped()
    assert norm == pytest.approx(total)
    assert all(a.equal(b) for a, b in zip(found, slopes, strict=True))
    found, norm = clipped(norm=1.0)
    assert norm == pytest.approx(total)
    assert all(torch.allclose(a, b / total, rtol=1e-4) for a, b in zip(found, slopes, strict=True))
    assert all(torch.equal(a, b.clamp(-2, 2)) for a, b in zip(clipped(value=2.0)[0], slopes, strict=True))
    found, _ = clipped(adaptive=0.1)
    for row in range(6):
        most = 0.1 * max(weights[0][row].norm().item(), 1e-3)
        assert found[0][row].norm().item() == pytest.approx(min(most, slopes[0][row].norm().item()), rel=1e-4)
        assert F.cosine_similarity(found[0][row], slopes[0][row], dim=0).item() == pytest.approx(1)
    assert found[1].norm().item() == pytest.approx(0.1 * 1e-3, rel=1e-4)  # a vector is one unit, never of size 0


def test_each_clip_is_its_own_setting(learner_of: Callable[..., Learner], batch: Batch) -> None:
    """Else `clip_value` or `clip_adaptive` would be passed over, or taken for the other."""
    plain = gradients_of(learner_of("optimizer.clip=null"), batch)
    by_value = gradients_of(learner_of("optimizer.clip=null", "optimizer.clip_value=1e-3"), batch)
    adaptive = learner_of("optimizer.clip=null", "optimizer.clip_adaptive=1e-5")
    by_unit = gradients_of(adaptive, batch)
    for name, w in adaptive.model.named_parameters():
        assert by_value[name].equal(plain[name].clamp(-1e-3, 1e-3))
        if name == "embedding.weight":
            continue
        units = (0,) if w.ndim == 1 else (1,)
        most = 1e-5 * w.detach().norm(dim=units, keepdim=True).clamp(min=1e-3)
        share = (most / plain[name].norm(dim=units, keepdim=True)).clamp(max=1)
        torch.testing.assert_close(by_unit[name], plain[name] * share)
        assert not by_unit[name].equal(plain[name])


@pytest.mark.parametrize(("tied", "output"), [(True, "embedding.weight"), (False, "head.weight")])
def test_adaptive_clipping_leaves_the_output_layer(
    config_file: Callable[..., Path], batch: Batch, tied: bool, output: str
) -> None:
    """Else it would not be the paper's, which found that clipping the last layer spoils training."""
    found = []
    for clip_adaptive in ("null", "1e-5"):
        torch.manual_seed(4)
        config = load_config(config_file(), ["optimizer.clip=null", f"optimizer.clip_adaptive={clip_adaptive}"])
        found.append(gradients_of(Learner(Model(SHAPE.model_copy(update={"tied": tied}), V), config, CPU), batch))
    assert [name for name in found[0] if found[0][name].equal(found[1][name])] == [output]


# ---- noise scale


def test_noise_scale_finds_the_noise_that_was_put_in() -> None:
    """Else a run would be told a batch that has nothing to do with its gradients (McCandlish et al. 2018, A.1)."""
    rng = np.random.default_rng(1)
    true, sd, small, big = rng.normal(size=50), 3.0, 4, 32
    expected = sd**2 * 50 / float(true @ true)
    scale = NoiseScale()
    for _ in range(4000):
        each = true + sd * rng.normal(size=(big, 50))
        part, whole = each[:small].mean(0), each.mean(0)
        scale = scale.with_step(float(part @ part), small, float(whole @ whole), big, 0.999)
    assert scale.sequences == pytest.approx(expected, rel=0.1)
    assert NoiseScale.model_validate_json(scale.model_dump_json()) == scale  # a checkpoint keeps it exactly


@pytest.mark.parametrize(("decay", "enough"), [(0.99, 69), (0.9, 7), (0.0, 1)])
def test_a_few_measurements_are_no_noise_scale(decay: float, enough: int) -> None:
    """Else one lucky micro-batch would double the batch of a run for good."""
    scale = NoiseScale()
    for measurement in range(1, 100):
        scale = scale.with_step(2.0, 1, 1.5, 4, decay)
        assert (scale.sequences is not None) == (measurement >= enough)
        if scale.sequences is not None:
            assert scale.sequences == pytest.approx((0.5 / 0.75) / (4 / 3))


@pytest.mark.parametrize("precision_", ["fp32", "fp16"])
def test_noise_scale_is_measured_on_the_right_gradients(
    learner_of: Callable[..., Learner], source: Source, batch: Batch, precision_: str
) -> None:
    """Else micro-batches of unlike lengths, clipping or a loss scale would spoil the measurement."""
    learner = learner_of("optimizer.clip=1e-3", "loss.l2=10", f"precision={precision_}", "noise_scale.decay=0")
    torch.manual_seed(4)
    other = LossOf(Model(SHAPE, V), LossConfig(), nullcontext())
    first = source.batch(np.arange(60, 62))
    small, big = (
        sum(float((g / part.targets).square().sum()) for g in gradients(other, part)) for part in (first, batch)
    )
    sequences = 8 * first.targets / batch.targets
    expected = NoiseScale().with_step(small, sequences, big, 8, 0.0)
    learner.learn(batch, 1e-3, 1)
    tolerance = 1e-4 if precision_ == "fp32" else 2e-2
    assert learner.noise.signal == pytest.approx(expected.signal, rel=tolerance)
    assert learner.noise.noise == pytest.approx(expected.noise, rel=tolerance)


# ---- precision


def test_rounding_at_random_loses_nothing_on_average() -> None:
    """Else steps smaller than bf16's grid would never move a weight."""
    torch.manual_seed(0)
    x = torch.tensor([1.001, -1.001, 3.14159, 1e-30, 65504.3, 0.0, float("inf"), float("-inf"), float("nan")])
    many = precision.rounded(x.repeat(20_000, 1).contiguous()).float()
    grid = x.bfloat16().float()
    assert many[:, 6:].nan_to_num(7.0).equal(grid[6:].nan_to_num(7.0).expand(20_000, 3))
    means = many[:, :6].mean(0)
    step = (grid[:6].abs() * 2**-7).clamp(min=1e-38)
    assert ((means - x[:6]).abs() < step * 0.02).all(), means
    assert ((many[:, :6] - x[:6]).abs() <= step).all()
    exact = torch.randn(1000).bfloat16().float()
    assert precision.rounded(exact).float().equal(exact)


def test_bf16_weights_learn_by_steps_below_their_grid(learner_of: Callable[..., Learner], batch: Batch) -> None:
    """Else `bf16-stochastic` would stand still late in a run, where the rate is low."""
    learner = learner_of("precision=bf16-stochastic", "optimizer={kind: sgd, learning_rate: 1}")
    weight = learner.model.embedding.weight
    before = weight.detach().clone()
    for step in range(1, 4):
        learner.learn(batch, 1e-3, step)
    whole = weight.float() - before.float()
    assert 0 < (whole != 0).float().mean() < 0.5  # some elements moved, by a whole grid step
    assert {w.dtype for w in learner.model.parameters()} == {torch.bfloat16}


def test_gradients_of_bf16_weights_add_up_in_fp32(learner_of: Callable[..., Learner], batch: Batch) -> None:
    """Else what micro-batches add behind the first 256 would be rounded away."""
    learner = learner_of("precision=bf16-stochastic", "optimizer.clip=null", "noise_scale=null", "micro_batch=1")
    many = dataclasses.replace(
        batch, **{key: np.tile(getattr(batch, key)[:1], (512, *[1] * (getattr(batch, key).ndim - 1))) for key in FIELDS}
    )
    one = gradients_of(learner, batch.first(1, 1))
    found = gradients_of(learner, many)
    for name, gradient in one.items():
        assert found[name].dtype == torch.float32
        torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=1e-9)


def test_an_overflow_in_fp16_costs_one_step(learner_of: Callable[..., Learner], batch: Batch) -> None:
    """Else the first steps of a run in fp16, whose loss scale begins too high, would end it."""
    learner = learner_of("precision=fp16")
    assert learner.scaler is not None
    learner.scaler.load_state_dict(learner.scaler.state_dict() | {"scale": 2.0**40})
    before = [w.detach().clone() for w in learner.model.parameters()]
    learned = learner.learn(batch, 1e-2, 1)
    assert (learned.moved, learned.skipped) == (False, True)
    assert all(a.equal(b) for a, b in zip(before, learner.model.parameters(), strict=True))
    for step in range(2, 60):
        if (learned := learner.learn(batch, 1e-2, step)).moved:
            break
    assert learned.moved
    assert learned.loss_scale is not None
    assert learned.loss_scale < 2.0**40


def test_a_skipped_step_counts_nothing(
    config_file: Callable[..., Path], batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a run in fp16 would say that it learned from tokens that moved nothing, and balance its experts by them."""
    monkeypatch.setattr(precision, "scaler", lambda *_: torch.amp.GradScaler("cpu", init_scale=2.0**40))
    experts = {"number": 4, "top_k": 1, "balance": {"kind": "bias"}}
    path = config_file(model=SHAPE.model_dump() | {"experts": experts}, precision="fp16", steps=30)
    config = load_config(path, ["checkpoint.every=1"])
    torch.manual_seed(4)
    learner = Learner(Model(config.model, V), config, CPU)
    before = [buffer.clone() for buffer in learner.model.buffers()]
    assert learner.learn(batch, 1e-2, 1).skipped
    assert all(buffer.equal(old) for buffer, old in zip(learner.model.buffers(), before, strict=True))
    assert train(path, say=lambda line: None) == 0
    rows = [row for row in read(config.log_file) if row["kind"] == "step"]
    moved = [row["gradient_norm"] is not None for row in rows]
    assert not moved[0]
    assert moved[-1]
    added = np.diff([0] + [row["tokens"] for row in rows])
    assert [bool(more) for more in added] == moved


def test_fp8_computes_nearly_the_same(batch: Batch) -> None:
    """Else fp8 would leave the blocks as they are, or break them. Emulated: no machine of the tests has it."""
    pytest.importorskip("torchao")
    torch.manual_seed(4)
    model = Model(ModelConfig(layers=2, width=64, heads=4, hidden=128), V)
    plain = model(_inputs(batch))[0].detach()
    weights = {name: w.detach().clone() for name, w in model.state_dict().items()}
    precision.to_fp8(model, batch.tokens_BT.size, emulate=True)
    turned = [name for name, module in model.named_modules() if "Float8" in type(module).__name__]
    assert turned
    assert all("blocks." in name for name in turned)
    found = model(_inputs(batch))[0]
    assert not found.equal(plain)
    assert (found - plain).norm() < 0.1 * plain.norm()
    found.sum().backward()
    assert all(w.grad is not None and w.grad.isfinite().all() for n, w in model.named_parameters() if "blocks" in n)
    assert model.state_dict().keys() == weights.keys()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("precision=tf32", "tf32 is of CUDA devices, and this run is on cpu"),
        ("precision=fp8", "fp8 needs a CUDA device of capability 8.9"),
    ],
)
def test_precisions_that_the_cpu_has_not(learner_of: Callable[..., Learner], override: str, message: str) -> None:
    """Else a run would silently compute in something else."""
    with pytest.raises(RecipeError, match=message):
        learner_of(override)


@pytest.mark.parametrize(("found", "right"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_tf32_is_of_devices_that_have_it(monkeypatch: pytest.MonkeyPatch, found: tuple[int, int], right: bool) -> None:
    """Else a run would be thought fast, and compute in fp32."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: found)
    with nullcontext() if right else pytest.raises(RecipeError, match=r"capability 8.0 or higher, .* has 7.5"):
        precision.check("tf32", torch.device("cuda"))


@pytest.mark.parametrize(("name", "message"), [("quda", "Did you mean 'cuda'"), ("xpu", "sees no such accelerator")])
def test_devices_that_are_not_here(name: str, message: str) -> None:
    """Else a traceback, or a run on the CPU that was meant for a GPU."""
    with pytest.raises(RecipeError, match=message):
        devices.choose(name)
    assert devices.choose("cpu") == CPU
    if not torch.accelerator.is_available():  # whatever torch was built for
        assert devices.choose("auto") == CPU
        with pytest.raises(RecipeError, match=r"cuda, but torch .* sees no such accelerator here, only cpu"):
            devices.choose("cuda")
    assert devices.memory(CPU)["memory_bytes"] > 1 << 20
    assert devices.memory_left(CPU) > 1 << 20


@pytest.mark.slow
def test_compiled_is_the_same_model(config_file: Callable[..., Path], batch: Batch) -> None:
    """Else `compile` would train something else, or compile nothing."""
    # in a process of its own: it imports setuptools, which shows other tests the packages that it brings along
    ((before, behind, breaks, plain, compiled, names),) = ranks.run(compiled_beside_plain, 1, config_file(), batch)
    assert before == 0
    assert behind >= 2  # the model, and the loss
    assert breaks == 0
    for one, two in zip(plain, compiled, strict=True):
        assert two[0] == pytest.approx(one[0], rel=1e-4)
        assert two[1] == pytest.approx(one[1], rel=1e-3)
    assert names[0] == names[1]


# ---- average


def test_the_average_is_exponential(learner_of: Callable[..., Learner], batch: Batch) -> None:
    """Else the weights that are evaluated beside the run's would be no mean of them."""
    learner = learner_of("average.decay=0.8")
    assert learner.average is not None
    name = "blocks.0.attention.query.weight"
    expected = None
    for step in range(1, 6):
        learner.learn(batch, 1e-2, step)
        now = learner.model.state_dict()[name].clone()
        expected = now if expected is None else 0.8 * expected + 0.2 * now
    found = learner.average.divided.models[0].state_dict()[name]
    assert expected is not None
    assert torch.allclose(found, expected, atol=1e-6)
    assert learner.measure(batch, average=True) != learner.measure(batch)


def test_the_average_of_bf16_weights_is_none_of_bf16(learner_of: Callable[..., Learner], batch: Batch) -> None:
    """Else a slow mean would stand still: its steps are below bf16's grid."""
    learner = learner_of("average.decay=0.999", "precision=bf16-stochastic")
    assert learner.average is not None
    learner.learn(batch, 0.0, 1)
    before = learner.average.divided.models[0].embedding.weight.clone()
    learner.model.embedding.weight.data.add_(1)
    for step in range(2, 102):
        learner.learn(batch, 0.0, step)
    moved = learner.average.divided.models[0].embedding.weight - before
    assert moved.mean().item() == pytest.approx(1 - 0.999**100, rel=1e-2)
    assert math.isfinite(learner.measure(batch, average=True))


def test_a_step_whose_targets_are_all_in_one_micro_batch(learner_of: Callable[..., Learner], batch: Batch) -> None:
    """Else such a batch would end the run, or spoil the noise scale."""
    for rows in (slice(2, 8), slice(0, 2)):
        targets = batch.targets_BT.copy()
        targets[rows] = IGNORED
        learner = learner_of()
        assert learner.learn(dataclasses.replace(batch, targets_BT=targets), 1e-3, 1).moved
        assert learner.noise.weight == 0


def test_clipping_by_value_hides_no_overflow(learner_of: Callable[..., Learner], batch: Batch) -> None:
    """Else infinity, clipped, would be taken as a step."""
    learner = learner_of("precision=fp16", "optimizer.clip_value=1e-3")
    assert learner.scaler is not None
    learner.scaler.load_state_dict(learner.scaler.state_dict() | {"scale": 2.0**40})
    learned = learner.learn(batch, 1e-2, 1)
    assert (learned.moved, learned.skipped) == (False, True)


EVERY = [
    "sgd", "adagrad", "rmsprop", "adam", "adamw", "nadam", "adafactor", "lion", "muon", "soap", "shampoo", "sophia_g",
    "sophia_h", "lbfgs", "newton_cg",
]  # fmt: skip


@pytest.mark.parametrize("kind", EVERY)
def test_a_rate_of_0_moves_nothing(learner_of: Callable[..., Learner], batch: Batch, kind: str) -> None:
    """Else the last step of a schedule that ends at 0 would end the run with an error, or spoil it."""
    learner = learner_of(f"optimizer={{kind: {kind}}}", "schedule={kind: linear}")
    assert learner.config.rate(20) == 0
    for rates in ((0.0,), (1e-3, 1e-3, 0.0)):
        for rate in rates:
            before = {name: w.detach().clone() for name, w in learner.model.named_parameters()}
            assert learner.learn(batch, rate, 1).moved
        assert all(w.equal(before[name]) for name, w in learner.model.named_parameters())
    learner.learn(batch, 1e-3, 2)
    assert not all(w.equal(before[name]) for name, w in learner.model.named_parameters())


# ---- batch ramps


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 7)), min_size=1, max_size=4), st.integers(1, 60))
def test_steps_and_sequences_are_inverse(widths: list[tuple[int, int]], steps: int) -> None:
    """Else a run of so many tokens would end early or late."""
    stages, first, batch = [], 1, 0
    for width, more in widths:
        batch += more
        stages.append((first, batch))
        first += width
    by_hand = sum([b for f, b in stages if f <= step][-1] for step in range(1, steps + 1))
    assert sequences_in(steps, stages) == by_hand
    assert steps_for(by_hand, stages) == steps
    assert steps_for(by_hand - 0.5, stages) == steps


def test_ramps_by_hand() -> None:
    """Else a batch would grow otherwise than the settings say."""
    linear = LinearRamp(kind="linear", first=2, increment=2, every=10, couple="sqrt", critical=6)
    assert linear.stages(8) == [(1, 2), (11, 4), (21, 6), (31, 8)]
    assert [linear.rate_share(b, 8) for b in (2, 6, 8)] == [pytest.approx(math.sqrt(2 / 6)), 1.0, 1.0]
    assert StepRamp(kind="steps", at=({"step": 1, "global_batch": 4},), couple="linear").rate_share(4, 16) == 0.25
    noise = NoiseRamp(kind="noise", first=4, every=10)
    assert noise.grown(10, 4, 16, 17.0) == 8
    assert noise.grown(11, 4, 16, 17.0) is None
    assert noise.grown(10, 4, 16, 15.0) is None
    assert noise.grown(10, 16, 16, 1e9) is None
    assert noise.grown(10, 4, 16, None) is None


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["batch_ramp={kind: linear, first: 2, increment: 4, every: 5}"], "does not meet the global_batch of 8"),
        (["batch_ramp={kind: linear, first: 3, increment: 5, every: 5}"], "does not divide into micro-batches of 2"),
        (["batch_ramp={kind: linear, first: 16, increment: 8, every: 5}"], "more than the global_batch of 8"),
        (["batch_ramp={kind: linear, first: 16, increment: 8, every: 5}", "micro_batch=null"], "more than the global"),
        (["batch_ramp={kind: noise, first: 16}"], "never meets the global_batch of 8"),
        (["data.documents=joined", "objective={kind: fim}"], "set it to separate"),
        (["batch_ramp={kind: steps, at: [{step: 1, global_batch: 4}]}"], "ends at 4 sequences, but global_batch is 8"),
        (["batch_ramp={kind: steps, at: [{step: 2, global_batch: 8}]}"], "must begin with 1 and rise"),
        (
            ["batch_ramp={kind: linear, first: 2, increment: 2, every: 5, critical: 4}"],
            "critical 4 bounds how the learning rate follows the batch, which with couple none it does not",
        ),
        (
            ["batch_ramp={kind: steps, at: [{step: 1, global_batch: 4}, {step: 21, global_batch: 8}]}"],
            "batch_ramp.at has a stage at step 21, behind the last of 20 steps",
        ),
        (["batch_ramp={kind: noise, first: 3}"], "never meets the global_batch of 8"),
        (["batch_ramp={kind: noise, first: 2}"], "make micro_batch half of it or less"),
        (["batch_ramp={kind: noise, first: 4}", "noise_scale=null"], "needs the measurement"),
        (["batch_ramp={kind: noise, first: 4}", "steps=null", "tokens=5000"], "nobody knows how many steps"),
        (["steps=null"], "the length of the run is given nowhere; give one of steps, tokens, epochs"),
        (["tokens=1000"], "given by steps and tokens"),
        (["plateau={}"], "plateau needs evaluations on the way; set evaluation.every"),
        (["early_stop={}"], "early_stop needs evaluations on the way"),
        (["precision=fp12"], "precision: input should be"),
        (["loss.smoothing=0.1"], "loss.smoothing"),
    ],
)
def test_settings_that_cannot_be(config_file: Callable[..., Path], overrides: list[str], message: str) -> None:
    """Else a run would go on for hours before somebody saw it."""
    with pytest.raises(RecipeError, match=message.replace("(", r"\(")):
        load_config(config_file(), ["global_batch=8", "micro_batch=2", *overrides])
