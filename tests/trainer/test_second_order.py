"""Products with the curvature, conjugate gradients, Newton-CG and L-BFGS, against dense algebra and PyTorch's own."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from small_model import TableModel, batch_of, double_model, exact_hessian, logits_of, weights_of
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from trainer.batch import Batch
from trainer.curvature import Sample, gauss_newton_bartlett, gauss_newton_products, hessian_products, hutchinson
from trainer.learning_settings import LossConfig
from trainer.losses import LossOf
from trainer.model import Inputs, Model
from trainer.model_settings import ModelConfig
from trainer.optim import make_optimizer, set_rate
from trainer.optimizers import AnyOptimizer
from trainer.second_order import LBFGS, NewtonCG, conjugate_gradients, flat, parts
from trainer.steps import Still, batch_loss, take_step


def chosen(**values: Any) -> Any:
    return TypeAdapter(AnyOptimizer).validate_python(values)


class Bowl(nn.Module):
    """xᵀAx/2 - bᵀx, over two weights that make x up."""

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        torch.manual_seed(0)
        size = len(values)
        turn, _ = torch.linalg.qr(torch.randn(size, size, dtype=torch.float64))
        self.a, self.b = turn @ values.diag() @ turn.T, torch.randn(size, dtype=torch.float64)
        self.left = nn.Parameter(torch.randn(3, dtype=torch.float64))
        self.right = nn.Parameter(torch.randn(size - 3, dtype=torch.float64))

    def forward(self) -> Tensor:
        x = torch.cat([self.left, self.right])
        return x @ self.a @ x / 2 - self.b @ x

    @property
    def least(self) -> float:
        return float(-self.b @ torch.linalg.solve(self.a, self.b) / 2)


def closure_of(model: nn.Module, calls: list[bool]) -> Callable[..., Tensor]:
    def closure(backward: bool = True) -> Tensor:
        calls.append(backward)
        loss: Tensor = model()
        if backward:
            model.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    return closure


def product_of(model: nn.Module, calls: list[bool]) -> Callable[[Sequence[Tensor]], list[Tensor]]:
    def product(vectors: Sequence[Tensor]) -> list[Tensor]:
        calls.append(True)
        weights = list(model.parameters())
        gradient = torch.autograd.grad(model(), weights, create_graph=True)
        return list(torch.autograd.grad(gradient, weights, vectors))

    return product


def test_products_are_those_of_the_whole_matrices() -> None:
    """Else Newton-CG would follow the curvature of another loss, or of a part of the batch."""
    model, batch = double_model()
    weights, at = list(model.parameters()), weights_of(model)
    v = torch.randn(len(at), dtype=torch.float64)
    hessian = exact_hessian(model, batch)
    jacobian = torch.autograd.functional.jacobian(lambda w: logits_of(model, batch, w), at)  # type: ignore[no-untyped-call]
    p = logits_of(model, batch, at).softmax(-1)
    middle = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    gauss_newton = torch.einsum("nvp,nvu,nuq->pq", jacobian, middle, jacobian) / len(p)
    for micro in (1, 2):
        sample = Sample(model, batch, 2, micro, nullcontext())
        cut = parts(v, weights)
        for product, whole in ((hessian_products, hessian), (gauss_newton_products, gauss_newton)):
            torch.testing.assert_close(flat(product(sample, weights, cut)), whole @ v, rtol=1e-9, atol=1e-12)
    assert not torch.allclose(hessian, gauss_newton, rtol=0.1)  # the test can tell them apart


@given(st.integers(0, 10**6), st.integers(1, 12), st.booleans())
@settings(max_examples=60, deadline=None)
def test_conjugate_gradients_solve(seed: int, size: int, warm: bool) -> None:
    """Else a Newton step would point elsewhere than to the model's lowest point."""
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(size, size, generator=generator, dtype=torch.float64)
    a = root @ root.T + 0.1 * torch.eye(size, dtype=torch.float64)
    b, start = (torch.randn(size, generator=generator, dtype=torch.float64) for _ in range(2))
    x, value = conjugate_gradients(lambda v: a @ v, b, start if warm else torch.zeros_like(b), 10 * size)
    torch.testing.assert_close(value, float(x @ a @ x / 2 - b @ x))
    exact = torch.linalg.solve(a, b)
    assert value <= -0.999 * float(b @ exact) / 2


def test_newton_solves_a_bowl_in_few_steps() -> None:
    """Else it would be gradient descent at many times the price."""
    for condition in (10.0, 1e4):
        model, calls = Bowl(torch.logspace(0, -torch.log10(torch.tensor(condition)).item(), 12).double()), [False][:0]
        gap = model().item() - model.least
        twin = Bowl(torch.logspace(0, -torch.log10(torch.tensor(condition)).item(), 12).double())
        optimizer = make_optimizer(model, chosen(kind="newton_cg", damping=1e-6))  # type: ignore[arg-type]
        assert isinstance(optimizer, NewtonCG)
        for _ in range(3):
            optimizer.step(closure_of(model, calls), product_of(model, calls))
        assert model().item() - model.least < 1e-6 * gap
        for _ in range(
            len(calls)
        ):  # as many evaluations of gradient descent, at the best rate for the largest curvature
            twin.zero_grad()
            twin().backward()
            with torch.no_grad():
                for weight in twin.parameters():
                    weight -= weight.grad  # type: ignore[arg-type]
        if condition > 100:
            assert model().item() - model.least < 1e-3 * (twin().item() - twin.least)


def test_a_step_of_newton_is_the_damped_one() -> None:
    """Else damping, penalty or the adjustment of Levenberg and Marquardt would not be what the settings say."""
    model = Bowl(torch.linspace(0.1, 2, 8, dtype=torch.float64))
    config = chosen(kind="newton_cg", damping=0.5, weight_decay=0.3, undecayed=(), iterations=100, restart=0.0)
    optimizer = make_optimizer(model, config)  # type: ignore[arg-type]
    before = torch.cat([model.left, model.right]).detach()
    eye = torch.eye(8, dtype=torch.float64)
    optimizer.step(closure_of(model, []), product_of(model, []))
    gradient = model.a @ before - model.b + 0.3 * before
    expected = before - torch.linalg.solve(model.a + 0.8 * eye, gradient)
    torch.testing.assert_close(torch.cat([model.left, model.right]).detach(), expected)
    state = optimizer.state_dict()["state"]
    assert state[0]["damping"] == pytest.approx(1 / 3)  # the model was exact: trust it more
    kept = torch.cat([state[0]["solution"], state[1]["solution"]])
    torch.testing.assert_close(kept, expected - before)
    optimizer.step(closure_of(model, []), product_of(model, []))
    assert optimizer.state_dict()["state"][0]["damping"] == pytest.approx(2 / 9)


def test_a_batch_without_targets_moves_nothing() -> None:
    """Else a masked batch would change the damping, or end a run with a division by zero."""
    model = TableModel(vocabulary=5, width=3)
    batch = batch_of([[1, 2, 3, 4]], vocabulary=5)
    batch.targets_BT[:] = -100
    before = model.head.weight.detach().clone()
    losses = LossOf(model, LossConfig(), nullcontext())  # type: ignore[arg-type]
    for kind in ("newton_cg", "lbfgs", "sophia_g", "sophia_h"):
        config = SimpleNamespace(optimizer=chosen(kind=kind, weight_decay=0), micro=1, seed=0, loss=LossConfig())
        optimizer = make_optimizer(model, config.optimizer)  # type: ignore[arg-type]
        assert batch_loss(losses, batch, 1, Still(losses.model))().item() == 0
        take_step(optimizer, losses, batch, config, 1, 1)  # type: ignore[arg-type]
        assert model.head.weight.equal(before), kind
        assert not any(
            "damping" in state and state["damping"] != 1 for state in optimizer.state_dict()["state"].values()
        )


class Saddle(nn.Module):
    """Curved downwards at 0, with lowest points at ±1."""

    def __init__(self) -> None:
        super().__init__()
        self.x = nn.Parameter(torch.tensor([0.8, 0.01], dtype=torch.float64))

    def forward(self) -> Tensor:
        return self.x[0] ** 2 / 2 - self.x[1] ** 2 / 2 + self.x[1] ** 4 / 4


def test_newton_leaves_a_saddle_and_never_climbs() -> None:
    """Else a negative curvature would send the weights uphill."""
    model = Saddle()
    optimizer = make_optimizer(model, chosen(kind="newton_cg", curvature="hessian", damping=0.1))  # type: ignore[arg-type]
    values = [model().item()]
    for _ in range(40):
        optimizer.step(closure_of(model, []), product_of(model, []))
        values.append(model().item())
    assert all(after <= before for before, after in itertools.pairwise(values))
    assert values[-1] == pytest.approx(-0.25, abs=1e-6)


@pytest.mark.parametrize("search", ["strong_wolfe", "none"])
def test_lbfgs_is_that_of_pytorch(search: str) -> None:
    """Else the penalty would not be a part of what its line search looks at."""
    values = torch.linspace(0.1, 2, 8, dtype=torch.float64)
    ours, theirs = Bowl(values), Bowl(values)
    config = chosen(
        kind="lbfgs", weight_decay=0.3, undecayed=(), iterations=3, history=4, line_search=search, learning_rate=0.5
    )
    optimizer = make_optimizer(ours, config)  # type: ignore[arg-type]
    assert isinstance(optimizer, LBFGS)
    reference = torch.optim.LBFGS(
        list(theirs.parameters()),
        0.5,
        max_iter=3,
        max_eval=15,
        history_size=4,
        line_search_fn=None if search == "none" else search,
    )

    def closure() -> float:
        reference.zero_grad()
        loss = theirs() + 0.15 * (theirs.left.square().sum() + theirs.right.square().sum())
        loss.backward()
        return float(loss.detach())

    for _ in range(6):
        optimizer.step(closure_of(ours, []))
        reference.step(closure)  # type: ignore[no-untyped-call]
        for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(mine, other)
    exact = torch.linalg.solve(ours.a + 0.3 * torch.eye(8, dtype=torch.float64), ours.b)
    if search != "none":
        torch.testing.assert_close(torch.cat([ours.left, ours.right]).detach(), exact, rtol=1e-3, atol=1e-4)


def test_the_loss_of_a_batch_is_one_function() -> None:
    """Else a line search would compare losses under different dropout masks, or of different shares of the batch."""
    model = TableModel(vocabulary=5, width=3)
    batch = batch_of([[1, 2, 3, 4], [0, 2, 1, 1], [3, 3, 0, 2], [1, 1, 4, 2]], vocabulary=5)
    batch.targets_BT[1, 2:] = -100
    tokens, targets = (torch.from_numpy(array) for array in (batch.tokens_BT, batch.targets_BT))
    whole = nn.functional.cross_entropy(model.head(model.table[tokens]).flatten(0, 1), targets.flatten())
    (gradient,) = torch.autograd.grad(whole, model.head.weight)
    losses = LossOf(model, LossConfig(), nullcontext())  # type: ignore[arg-type]
    for micro in (1, 2, 4):
        closure = batch_loss(losses, batch, micro, Still(losses.model))
        for _ in range(2):
            assert closure().dtype == torch.float64
            torch.testing.assert_close(closure().item(), whole.item(), rtol=1e-14, atol=0)
            torch.testing.assert_close(model.head.weight.grad, gradient)
        assert not closure(backward=False).requires_grad
    closure = batch_loss(losses, batch, 2, Still(losses.model), [model.head.weight], 0.1, 0.3)
    w = model.head.weight.detach()
    expected = whole.item() + (0.1 * w.abs() + 0.15 * w.square()).sum().item()
    torch.testing.assert_close(closure().item(), expected)
    torch.testing.assert_close(model.head.weight.grad, gradient + 0.1 * w.sign() + 0.3 * w)
    model.dropout.p = 0.5
    closure = batch_loss(losses, batch, 2, Still(losses.model))
    assert closure().item() == closure(backward=False).item() == closure().item()
    other = batch_loss(losses, batch, 2, Still(losses.model))
    assert other().item() != closure().item()


def test_a_step_leaves_counts_and_draws_as_they_were() -> None:
    """Else experts would be balanced by loads counted many times, and a dropout would draw by how long a search was."""
    torch.manual_seed(3)
    experts = {"number": 3, "top_k": 1, "balance": {"kind": "bias"}}
    model = Model(ModelConfig.model_validate({"layers": 1, "width": 8, "heads": 2, "experts": experts}), 6)
    losses = LossOf(model, LossConfig(), nullcontext())
    batch = batch_of([[1, 2, 3, 4, 0], [5, 2, 1, 1, 3]], vocabulary=6)
    losses(batch, slice(None)).minimised.backward()  # type: ignore[no-untyped-call]
    loads = [buffer.clone() for buffer in model.buffers()]
    random = torch.get_rng_state()
    assert any(load.any() for load in loads)
    for kind in ("newton_cg", "lbfgs", "sophia_g", "sophia_h"):
        before = model.embedding.weight.detach().clone()
        config = SimpleNamespace(optimizer=chosen(kind=kind), micro=1, seed=0, loss=LossConfig())
        take_step(make_optimizer(model, config.optimizer), losses, batch, config, 1, 1)  # type: ignore[arg-type]
        assert not model.embedding.weight.equal(before), kind
        assert all(buffer.equal(load) for buffer, load in zip(model.buffers(), loads, strict=True)), kind
        assert torch.get_rng_state().equal(random), kind


def settled(optimizer: Any, l1: float = 0.0, l2: float = 0.0) -> Any:
    """The part of a configuration that a step looks at."""
    return SimpleNamespace(optimizer=optimizer, seed=7, loss=LossConfig(l1=l1, l2=l2))


def loss_of(model: Model, batch: Batch) -> Tensor:
    """The mean cross entropy at the weights as they are."""
    with sdpa_kernel(SDPBackend.MATH):
        hidden, _ = model(Inputs.of(batch, slice(None), torch.device("cpu")))
    targets = torch.from_numpy(batch.targets_BT)
    return nn.functional.cross_entropy(model.logits(hidden)[targets != -100], targets[targets != -100])


def assert_equal_weights(ours: Model, theirs: Model, tolerance: float = 1e-9) -> None:
    for (name, one), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("kind", ["sophia_g", "sophia_h"])
def test_sophia_in_a_run_is_the_papers(kind: str) -> None:
    """Else the curvature would be measured at other steps, of other sequences or at other weights than the settings
    say."""
    (ours, batch), (theirs, _) = double_model(), double_model()
    config = chosen(
        kind=kind, interval=3, curvature_sequences=1, weight_decay=0.1, undecayed=(), gamma=0.5, epsilon=0.1
    )
    optimizer = make_optimizer(ours, config)
    losses = LossOf(ours, LossConfig(), nullcontext())
    weights = list(theirs.parameters())
    m, h = ([torch.zeros_like(weight) for weight in weights] for _ in range(2))
    estimate = gauss_newton_bartlett if kind == "sophia_g" else hutchinson
    measured = []
    for step in range(1, 9):
        rate = 0.02 / step
        ours.zero_grad()
        loss_of(ours, batch).backward()  # type: ignore[no-untyped-call]
        set_rate(optimizer, rate)
        take_step(optimizer, losses, batch, settled(config), step, 1)
        gradients = torch.autograd.grad(loss_of(theirs, batch), weights)
        if step in (1, 4, 7):
            found = estimate(Sample(theirs, batch, 1, 1, nullcontext()), weights, f"curvature 7 {step}")
            measured.append(flat(found))
            h = [0.99 * old + 0.01 * new for old, new in zip(h, found, strict=True)]
        with torch.no_grad():
            for number, (weight, gradient) in enumerate(zip(weights, gradients, strict=True)):
                m[number] = 0.96 * m[number] + 0.04 * gradient
                weight -= rate * (0.1 * weight + torch.clip(m[number] / torch.clip(0.5 * h[number], min=0.1), -1, 1))
        assert_equal_weights(ours, theirs)
    assert not torch.allclose(measured[0], measured[1], rtol=0.1)  # each is of its own weights, and draws


@pytest.mark.parametrize(("l1", "l2"), [(0.0, 0.0), (1e-3, 0.0), (0.0, 0.1)])
def test_lbfgs_in_a_run_is_that_of_pytorch(l1: float, l2: float) -> None:
    """Else its line search would look at another loss than that of the whole batch, with its penalties."""
    (ours, batch), (theirs, _) = double_model(), double_model()
    config = chosen(kind="lbfgs", iterations=3)
    optimizer, losses = make_optimizer(ours, config), LossOf(ours, LossConfig(), nullcontext())
    reference = torch.optim.LBFGS(
        theirs.parameters(), max_iter=3, max_eval=15, history_size=10, line_search_fn="strong_wolfe"
    )
    penalised = [weight for name, weight in theirs.named_parameters() if "norm" not in name and "embedding" not in name]

    def closure() -> Tensor:
        reference.zero_grad()
        penalty = sum(l1 * weight.abs().sum() + l2 / 2 * weight.square().sum() for weight in penalised)
        loss = loss_of(theirs, batch) + penalty
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    values = [loss_of(ours, batch).item()]
    for step, rate in enumerate((1.0, 0.5, 0.25), 1):
        reference.param_groups[0]["lr"] = rate
        set_rate(optimizer, rate)
        take_step(optimizer, losses, batch, settled(config, l1, l2), step, 1)
        reference.step(closure)  # type: ignore[no-untyped-call]
        assert_equal_weights(ours, theirs, 1e-6)
        values.append(loss_of(ours, batch).item())
    assert values[-1] < values[0] - 0.1


@pytest.mark.parametrize("curvature", ["gauss_newton", "hessian"])
def test_newton_in_a_run_is_by_the_whole_matrix(curvature: str) -> None:
    """Else it would follow the curvature of other weights or sequences than those of its gradient."""
    (ours, batch), (theirs, _) = double_model(), double_model()
    config = chosen(kind="newton_cg", curvature=curvature, iterations=30, weight_decay=0.01, undecayed=())
    optimizer, losses = make_optimizer(ours, config), LossOf(ours, LossConfig(), nullcontext())
    reference = make_optimizer(theirs, config)
    assert isinstance(reference, NewtonCG)
    asked = torch.from_numpy(batch.targets_BT) != -100

    def closure(backward: bool = True) -> Tensor:
        theirs.zero_grad()
        loss = loss_of(theirs, batch)
        if backward:
            loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def product(vectors: Sequence[Tensor]) -> list[Tensor]:
        order = list(theirs.parameters())
        by_weight = dict(zip(map(id, reference.weights), vectors, strict=True))
        v_P = flat([by_weight[id(weight)] for weight in order])
        moved = dict(zip(map(id, order), parts(matrix @ v_P, order), strict=True))
        return [moved[id(weight)] for weight in reference.weights]

    values = [loss_of(ours, batch).item()]
    for step in range(1, 4):
        at = weights_of(theirs)
        if curvature == "hessian":
            matrix = exact_hessian(theirs, batch)
        else:
            jacobian = torch.autograd.functional.jacobian(lambda w: logits_of(theirs, batch, w), at)  # type: ignore[no-untyped-call]
            p = logits_of(theirs, batch, at).softmax(-1)
            middle = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
            matrix = torch.einsum("nvp,nvu,nuq->pq", jacobian, middle, jacobian) / int(asked.sum())
        take_step(optimizer, losses, batch, settled(config), step, 1)
        reference.step(closure, product)
        assert_equal_weights(ours, theirs, 1e-6)
        values.append(loss_of(ours, batch).item())
    assert values[-1] < values[0] - 0.1
