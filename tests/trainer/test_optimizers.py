"""Optimisers against the formulas of their papers, on a quadratic and on a small model; and their groups of weights."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from pipeline.errors import RecipeError, UserError
from trainer.config import load_config
from trainer.model import Model
from trainer.model_settings import ModelConfig
from trainer.optim import groups, make_optimizer, set_rate
from trainer.optimizers import AnyOptimizer

RATE = 0.05
State = dict[str, Tensor]
Rule = Callable[[Tensor, Tensor, State, int, dict[str, Any]], Tensor]


def sgd(w: Tensor, g: Tensor, s: State, t: int, c: dict[str, Any]) -> Tensor:
    g = g + c["weight_decay"] * w
    s["b"] = g if t == 1 else c["momentum"] * s["b"] + g
    return w - c["learning_rate"] * (g + c["momentum"] * s["b"] if c["nesterov"] else s["b"])


def adagrad(w: Tensor, g: Tensor, s: State, t: int, c: dict[str, Any]) -> Tensor:
    g = g + c["weight_decay"] * w
    s["v"] = s.get("v", 0) + g**2
    return w - c["learning_rate"] * g / (s["v"].sqrt() + c["epsilon"])


def rmsprop(w: Tensor, g: Tensor, s: State, t: int, c: dict[str, Any]) -> Tensor:
    g = g + c["weight_decay"] * w
    s["v"] = c["alpha"] * s.get("v", 0) + (1 - c["alpha"]) * g**2
    s["m"] = c["alpha"] * s.get("m", 0) + (1 - c["alpha"]) * g
    step = g / ((s["v"] - (s["m"] ** 2 if c["centered"] else 0)).sqrt() + c["epsilon"])
    s["b"] = c["momentum"] * s.get("b", 0) + step
    return w - c["learning_rate"] * s["b"]


def moments(g: Tensor, s: State, t: int, c: dict[str, Any]) -> tuple[Tensor, Tensor]:
    s["m"] = c["beta1"] * s.get("m", 0) + (1 - c["beta1"]) * g
    s["v"] = c["beta2"] * s.get("v", 0) + (1 - c["beta2"]) * g**2
    return s["m"], (s["v"] / (1 - c["beta2"] ** t)).sqrt() + c["epsilon"]


def adam(w: Tensor, g: Tensor, s: State, t: int, c: dict[str, Any]) -> Tensor:
    m, root = moments(g + c["weight_decay"] * w, s, t, c)
    return w - c["learning_rate"] * m / (1 - c["beta1"] ** t) / root


def adamw(w: Tensor, g: Tensor, s: State, t: int, c: dict[str, Any]) -> Tensor:
    m, root = moments(g, s, t, c)
    return w * (1 - c["learning_rate"] * c["weight_decay"]) - c["learning_rate"] * m / (1 - c["beta1"] ** t) / root


def nadam(w: Tensor, g: Tensor, s: State, t: int, c: dict[str, Any]) -> Tensor:
    now, soon = (c["beta1"] * (1 - 0.5 * 0.96 ** (n * c["momentum_decay"])) for n in (t, t + 1))
    s["p"] = s.get("p", torch.ones(())) * now
    m, root = moments(g, s, t, c)
    step = (1 - now) * g / (1 - s["p"]) + soon * m / (1 - s["p"] * soon)
    return w * (1 - c["learning_rate"] * c["weight_decay"]) - c["learning_rate"] * step / root


def adafactor(w: Tensor, g: Tensor, s: State, t: int, c: dict[str, Any]) -> Tensor:
    """Algorithm 4 of the paper (vectors) and 5 (matrices), the rate bounded by 1/√t as in section 8."""
    share = t ** c["beta2_decay"]
    if w.ndim > 1:
        s["r"] = (1 - share) * s.get("r", 0) + share * (g**2).mean(1, keepdim=True)
        s["c"] = (1 - share) * s.get("c", 0) + share * (g**2).mean(0, keepdim=True)
        second = s["r"] @ s["c"] / s["r"].mean()
    else:
        second = s["v"] = (1 - share) * s.get("v", 0) + share * g**2
    update = g / second.sqrt()
    update = update / max(1.0, (update**2).mean().sqrt().item() / c["update_clip"])
    rate = max(c["relative"], (w**2).mean().sqrt().item()) * min(c["learning_rate"], 1 / math.sqrt(t))
    return w * (1 - c["learning_rate"] * c["weight_decay"]) - rate * update


def lion(w: Tensor, g: Tensor, s: State, t: int, c: dict[str, Any]) -> Tensor:
    m = s.get("m", torch.zeros_like(w))
    s["m"] = c["beta2"] * m + (1 - c["beta2"]) * g
    return w - c["learning_rate"] * (torch.sign(c["beta1"] * m + (1 - c["beta1"]) * g) + c["weight_decay"] * w)


def soap(w: Tensor, g: Tensor, s: State, t: int, c: dict[str, Any]) -> Tensor:
    """Algorithm 3 of the paper, with the basis by one power iteration (algorithm 4); step 1 only measures."""
    two_sided = w.ndim == 2
    if t == 1:
        s["m"], s["v"] = torch.zeros_like(w), torch.zeros_like(w)
        s["l"], s["r"] = (torch.zeros(n, n, dtype=w.dtype) for n in (w.shape[0], w.shape[-1]))
    ql, qr = s.get("ql"), s.get("qr")
    if t > 1:
        turned = ql.T @ g @ qr if two_sided else g  # type: ignore[union-attr, operator]
        s["m"] = c["beta1"] * s["m"] + (1 - c["beta1"]) * g
        s["v"] = c["beta2"] * s["v"] + (1 - c["beta2"]) * turned**2
        mean = (ql.T @ s["m"] @ qr if two_sided else s["m"]) / (1 - c["beta1"] ** (t - 1))  # type: ignore[union-attr, operator]
        root = s["v"].sqrt() + c["epsilon"]
        step = mean / (root / math.sqrt(1 - c["beta2"] ** (t - 1)))
        w = (w - c["learning_rate"] * (ql @ step @ qr.T if two_sided else step)) * (
            1 - c["learning_rate"] * c["weight_decay"]
        )  # type: ignore[union-attr, operator]
    if two_sided:
        s["l"] = c["beta2"] * s["l"] + (1 - c["beta2"]) * g @ g.T
        s["r"] = c["beta2"] * s["r"] + (1 - c["beta2"]) * g.T @ g
        if t == 1:
            s["ql"], s["qr"] = (torch.linalg.eigh(s[k])[1].flip(1) for k in "lr")
        elif (t - 1) % c["interval"] == 0:
            for side, k in enumerate("lr"):
                q = s["q" + k]
                order = (q.T @ s[k] @ q).diagonal().argsort(descending=True)  # the largest first
                s["v"] = s["v"].index_select(side, order)
                s["q" + k] = torch.linalg.qr(s[k] @ q[:, order])[0]
    return w


def shampoo(w: Tensor, g: Tensor, s: State, t: int, c: dict[str, Any]) -> Tensor:
    """Algorithms 1 and 2 of the paper, and the diagonal of section 5, as one matrix over all entries."""
    keep, add = (1.0, 1.0) if c["beta2"] is None else (c["beta2"], 1 - c["beta2"])
    unbiased = 1.0 if c["beta2"] is None else 1 - c["beta2"] ** t
    s["m"] = c["beta1"] * s.get("m", 0) + (1 - c["beta1"]) * g
    s["v"] = keep * s.get("v", 0) + add * g**2
    mean = s["m"] / (1 - c["beta1"] ** t)
    whole = torch.ones(1, 1, dtype=w.dtype)
    for side, size in enumerate(w.shape):
        rows = g.movedim(side, 0).reshape(size, -1)
        now = rows @ rows.T
        if w.ndim == 1 or size > c["max_dimension"]:
            now = now.diagonal().diag()
        s[f"h{side}"] = keep * s.get(f"h{side}", 0) + add * now
        if (t - 1) % c["interval"] == 0:
            damped = s[f"h{side}"] / unbiased + c["epsilon"] * torch.eye(size, dtype=w.dtype)
            u, values, _ = torch.linalg.svd(damped)
            s[f"root{side}"] = u @ (values ** (-1 / (2 * w.ndim))).diag() @ u.T
        whole = torch.kron(whole, s[f"root{side}"])
    step = (whole @ mean.flatten()).view_as(w)
    if c["graft"] == "adam":
        step = step / step.norm() * (mean / ((s["v"] / unbiased).sqrt() + 1e-8)).norm()
    return w * (1 - c["learning_rate"] * c["weight_decay"]) - c["learning_rate"] * step


CASES: list[tuple[dict[str, Any], Rule]] = [
    ({"kind": "sgd"}, sgd),
    ({"kind": "sgd", "momentum": 0.9, "weight_decay": 0.1}, sgd),
    ({"kind": "sgd", "momentum": 0.9, "nesterov": True}, sgd),
    ({"kind": "adagrad", "weight_decay": 0.1}, adagrad),
    ({"kind": "rmsprop"}, rmsprop),
    ({"kind": "rmsprop", "momentum": 0.5, "centered": True, "weight_decay": 0.1}, rmsprop),
    ({"kind": "adam", "weight_decay": 0.1}, adam),
    ({"kind": "adamw"}, adamw),
    ({}, adamw),
    ({"kind": "nadam"}, nadam),
    ({"kind": "adafactor"}, adafactor),
    ({"kind": "lion"}, lion),
    ({"kind": "soap"}, soap),
    ({"kind": "soap", "interval": 1, "beta1": 0.9}, soap),
    ({"kind": "shampoo", "interval": 3, "epsilon": 1e-8}, shampoo),
    ({"kind": "shampoo", "interval": 4, "max_dimension": 5}, shampoo),
    ({"kind": "shampoo", "interval": 1, "graft": "none", "beta1": 0, "beta2": None, "epsilon": 1e-4}, shampoo),
]


def settings(values: dict[str, Any]) -> Any:
    return TypeAdapter(AnyOptimizer).validate_python(values | {"learning_rate": RATE})


class Quadratic(nn.Module):
    """Half the sum of curvature × (x - place)², whose lowest point is known."""

    def __init__(self) -> None:
        super().__init__()
        self.x = nn.Parameter(torch.linspace(-2, 2, 9, dtype=torch.float64))

    def forward(self) -> Tensor:
        return ((self.x - 0.3) ** 2 * torch.linspace(0.1, 3, 9, dtype=torch.float64)).sum() / 2


class Small(nn.Module):
    """Two layers with a bias, over a fixed batch."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.layers = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3, bias=False)).double()
        self.batch = torch.randn(11, 5, dtype=torch.float64)

    def forward(self) -> Tensor:
        loss: Tensor = (self.layers(self.batch) ** 2 - self.layers(self.batch)).mean()
        return loss


class Square(nn.Module):
    """A square matrix, whose gradient has full rank: else the eigenbasis is not determined, and no step of SOAP is."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.layer = nn.Linear(5, 5).double()
        self.batch, self.aim = (torch.randn(40, 5, dtype=torch.float64) for _ in range(2))

    def forward(self) -> Tensor:
        loss: Tensor = (self.layer(self.batch).tanh() - self.aim).square().mean()
        return loss


def rate_of(step: int) -> float:
    """Other than at the step before, so that an optimiser that keeps a rate of its own is found out."""
    return RATE * (1 - step / 50)


RUNS = [(kind, values, rule) for values, rule in CASES for kind in (Quadratic, Square if rule is soap else Small)]


@pytest.mark.parametrize(
    ("kind", "values", "rule"), RUNS, ids=[f"{kind.__name__}-{values}" for kind, values, _ in RUNS]
)
def test_steps_are_those_of_the_paper(kind: type[nn.Module], values: dict[str, Any], rule: Rule) -> None:
    """Else a run would learn by another rule than the one that its configuration names."""
    config = settings(values)
    facts = config.model_dump()
    model = kind()
    optimizer = make_optimizer(model, config)
    decay = {id(w): group["weight_decay"] for group in optimizer.param_groups for w in group["params"]}
    ours = [weight.detach().clone() for weight in model.parameters()]
    states: list[State] = [{} for _ in ours]
    first = model().item()
    for step in range(1, 31):
        optimizer.zero_grad()
        model().backward()
        for number, weight in enumerate(model.parameters()):
            assert weight.grad is not None
            own = facts | {"weight_decay": decay[id(weight)], "learning_rate": rate_of(step)}
            ours[number] = rule(ours[number], weight.grad.clone(), states[number], step, own)
        set_rate(optimizer, rate_of(step))
        optimizer.step()
        for mine, weight in zip(ours, model.parameters(), strict=True):
            rounded = 1e-5 if rule is soap else 1e-7  # its QR is in fp32
            torch.testing.assert_close(weight.detach(), mine, rtol=1e-5, atol=rounded)
    assert model().item() < first


class Linears(nn.Module):
    """Two layers in blocks, wide and high, with biases, over a fixed batch; `aims` of their own make it a quadratic."""

    def __init__(self, quadratic: bool) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.blocks = nn.ModuleList([nn.Linear(12, 8), nn.Linear(8, 10)])
        self.batch, self.quadratic = torch.randn(40, 12), quadratic
        self.aims = [torch.randn_like(weight) for weight in self.parameters()]

    def forward(self) -> Tensor:
        if self.quadratic:
            pairs = zip(self.parameters(), self.aims, strict=True)
            return torch.stack([(weight - aim).square().sum() / 2 for weight, aim in pairs]).sum()
        first, last = self.blocks
        loss: Tensor = (last(first(self.batch).tanh()) - self.batch[:, :10]).square().mean()
        return loss


def orthogonal(m: Tensor, iterations: int) -> Tensor:
    """Newton and Schulz as in Jordan et al. 2024, in bf16: a x + (b x xᵀ + c (x xᵀ)²) x, again and again. What is
    rounded elsewhere grows with each, so sums are taken where PyTorch takes them."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = m.bfloat16()
    x = x.T if len(m) > m.shape[1] else x
    x = x / (x.norm() + 1e-7)
    for _ in range(iterations):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.T if len(m) > m.shape[1] else x).float()


def muon(w: Tensor, g: Tensor, s: State, t: int, c: dict[str, Any]) -> Tensor:
    if w.ndim == 1:
        return adamw(w, g, s, t, c)
    s["m"] = c["momentum"] * s.get("m", 0) + (1 - c["momentum"]) * g
    update = c["momentum"] * s["m"] + (1 - c["momentum"]) * g if c["nesterov"] else s["m"]
    step = 0.2 * math.sqrt(max(w.shape)) * orthogonal(update, c["iterations"])  # as large as AdamW's (Liu et al. 2025)
    return w * (1 - c["learning_rate"] * c["weight_decay"]) - c["learning_rate"] * step


@pytest.mark.parametrize("quadratic", [True, False])
@pytest.mark.parametrize(
    "values", [{}, {"nesterov": False}, {"momentum": 0.6}, {"iterations": 3, "weight_decay": 1.0}], ids=str
)
def test_steps_of_muon_are_those_of_its_authors(values: dict[str, Any], quadratic: bool) -> None:
    """Else Muon's momentum, or what it makes of it, would be another than the one that its rates are known for."""
    config = settings({"kind": "muon"} | values)
    others = [{"nesterov": not config.nesterov}, {"momentum": 0.8}, {"iterations": 4}]
    model = Linears(quadratic)
    optimizer = make_optimizer(model, config)
    decay = {id(w): group["weight_decay"] for group in optimizer.param_groups for w in group["params"]}
    # of the settings as they are, and of others, which the test must tell from them
    states: list[list[State]] = [[{} for _ in model.parameters()] for _ in range(1 + len(others))]
    furthest = [0.0] * len(states)
    first = model().item()
    for step in range(1, 16):
        optimizer.zero_grad()
        model().backward()
        set_rate(optimizer, rate_of(step))
        before = [weight.detach().clone() for weight in model.parameters()]
        optimizer.step()
        for which, other in enumerate([{}, *others]):
            for number, weight in enumerate(model.parameters()):
                assert weight.grad is not None
                own = config.model_dump() | {"weight_decay": decay[id(weight)], "learning_rate": rate_of(step)} | other
                wanted = muon(before[number], weight.grad, states[which][number], step, own)
                size = (wanted - before[number]).norm()
                off = ((weight.detach() - wanted).norm() / size).item()
                furthest[which] = max(furthest[which], off)
    assert furthest[0] < 0.01, furthest
    assert all(off > 0.02 for off in furthest[1:]), furthest
    assert model().item() < first


def test_muon_moves_matrices_of_blocks_by_orthogonal_steps() -> None:
    """Else Muon would be AdamW under another name, or turn embeddings, which it is not made for."""
    torch.manual_seed(0)
    model, other = (Model(ModelConfig(layers=2, width=32, heads=2, tied=False), 64) for _ in range(2))
    other.load_state_dict(model.state_dict())
    config = settings({"kind": "muon"})
    optimizer, adamw_alone = make_optimizer(model, config), make_optimizer(other, settings({}))
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    for one, twin in zip(model.parameters(), other.parameters(), strict=True):
        one.grad = torch.randn_like(one)
        twin.grad = one.grad.clone()
    optimizer.step()
    adamw_alone.step()
    for (name, weight), twin in zip(model.named_parameters(), other.parameters(), strict=True):
        if not (name.startswith("blocks.") and weight.ndim == 2):
            assert weight.equal(twin), name
            continue
        step = before[name] * (1 - RATE * config.weight_decay) - weight.detach()
        values = torch.linalg.svdvals(step / (RATE * 0.2 * math.sqrt(max(weight.shape))))
        assert 0.6 < values.quantile(0.1) <= values.max() < 1.3, name  # as the iterations leave all but the least


def test_one_kernel_only_where_there_is_one() -> None:
    """Else a run on another accelerator would end at its first step."""
    model = Model(ModelConfig(layers=1, width=8, heads=2), 16)
    assert make_optimizer(model, settings({})).param_groups[0]["fused"] is True
    assert not make_optimizer(model.to("meta"), settings({})).param_groups[0]["fused"]


@pytest.mark.parametrize("kind", ["lion", "soap"])
def test_a_missing_library_is_named(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else somebody whose torch came without the extra would have a traceback in place of what to install."""
    monkeypatch.setitem(sys.modules, "pytorch_optimizer", None)
    with pytest.raises(UserError, match=rf"optimizer.kind {kind} needs pytorch-optimizer; install it with `pip"):
        make_optimizer(Quadratic(), settings({"kind": kind}))


def test_what_decays_is_a_setting() -> None:
    """Else one could not repeat a run that decayed its embeddings or norms."""
    model = Model(ModelConfig(layers=2, width=16, heads=2, tied=False), 32)

    def plain(*spared: str) -> set[str]:
        names = {id(weight): name for name, weight in model.named_parameters()}
        made = groups(model, settings({"undecayed": spared}))
        return {names[id(w)] for group in made if not group["weight_decay"] for w in group["params"]}

    every = {name for name, _ in model.named_parameters()}
    norms = {name for name in every if "norm" in name}
    assert plain() == set()
    assert plain("norms") == norms
    assert plain("norms", "biases", "embeddings") == norms | {"embedding.weight"}
    biased = nn.Linear(3, 2)
    assert [len(group["params"]) for group in groups(biased, settings({}))] == [1, 1]  # type: ignore[arg-type]


def test_lower_layers_learn_more_slowly() -> None:
    """Else a model that is trained on would forget what its lower layers know."""
    model = Model(ModelConfig(layers=3, width=16, heads=2, tied=False), 32)
    optimizer = make_optimizer(model, settings({"layer_rates": 0.5}))
    set_rate(optimizer, 0.8)
    names = {id(weight): name for name, weight in model.named_parameters()}
    rates = {names[id(w)]: group["lr"] for group in optimizer.param_groups for w in group["params"]}
    assert len(rates) == len(names)
    assert rates["head.weight"] == rates["norm.weight"] == 0.8
    assert rates["blocks.2.attention.query.weight"] == rates["blocks.2.attention_norm.weight"] == 0.4
    assert rates["blocks.0.feed_forward.up.weight"] == 0.1
    assert rates["embedding.weight"] == 0.05


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optimizer.kind=adamm", "optimizer.kind: no such kind, found 'adamm'. Did you mean 'adam'?"),
        ("optimizer={kind: sgd, beta1: 0.9}", "optimizer.beta1: no such key of kind sgd"),
        ("optimizer={kind: sgd, nesterov: true}", "optimizer: nesterov needs a momentum above 0"),
        ("optimizer={kind: muon, iterations: 0}", "optimizer.iterations: input should be greater than or equal to 1"),
        ("optimizer.kind=sofia_g", "optimizer.kind: no such kind, found 'sofia_g'. Did you mean 'sophia_g'?"),
        ("optimizer={kind: lion, epsilon: 1e-8}", "optimizer.epsilon: no such key of kind lion"),
        ("optimizer={kind: soap, intervall: 1}", "optimizer.intervall: no such key of kind soap"),
        ("optimizer={kind: lbfgs, clip: 1.0}", "optimizer.clip: "),
        ("optimizer={kind: lbfgs, clip_value: 1.0}", "optimizer.clip_value: "),
        (
            "optimizer={kind: newton_cg, layer_rates: 0.9}",
            "layer_rates must be 1 here: a line search moves all weights",
        ),
        ("optimizer.learning_rate=.inf", "optimizer.learning_rate: input should be a finite number"),
        ("optimizer.clip=.nan", "optimizer.clip: input should be a finite number"),
        (
            "optimizer={kind: adafactor, update_clip: 0.5}",
            "optimizer.update_clip: input should be greater than or equal to 1",
        ),
        ("optimizer.undecayed=[norm]", "optimizer.undecayed.0: input should be 'norms', 'biases' or 'embeddings'"),
    ],
)
def test_settings(config_file: Callable[..., Path], text: str, message: str) -> None:
    """Else an option of another optimiser would be passed over in silence."""
    with pytest.raises(RecipeError) as caught:
        load_config(config_file(), [text])
    assert message in str(caught.value)


@pytest.mark.parametrize("precision", ["fp16", "fp8", "bf16-stochastic"])
def test_coarse_numbers_are_refused(config_file: Callable[..., Path], precision: str) -> None:
    """Else curvature would overflow, or a line search would end in rounding, in mid-run."""
    for kind in ("sophia_g", "sophia_h", "lbfgs", "newton_cg"):
        with pytest.raises(RecipeError, match=f"optimizer.kind {kind} measures more than the gradient"):
            load_config(config_file(optimizer={"kind": kind}), [f"precision={precision}"])
