"""Steps of one iteration are the iterations of torch's L-BFGS, with fewer evaluations, and can be resumed."""

import torch
from torch import Tensor, nn

from lightning_modules.parts.lbfgs import IterativeLBFGS


class Valley:
    """Rosenbrock's function of ten variables, which counts its evaluations."""

    def __init__(self, start: Tensor | None = None) -> None:
        self.x = nn.Parameter(torch.linspace(-1, 1, 10, dtype=torch.float64) if start is None else start)
        self.evaluations = 0

    def value(self) -> Tensor:
        return (100 * (self.x[1:] - self.x[:-1] ** 2) ** 2 + (1 - self.x[:-1]) ** 2).sum()

    def closure(self) -> Tensor:
        self.evaluations += 1
        self.x.grad = None
        loss = self.value()
        loss.backward()
        return loss


def test_steps_are_the_iterations_of_torch() -> None:
    ours, theirs = Valley(), Valley()
    optimizer = IterativeLBFGS([ours.x], history_size=5)
    torchs = torch.optim.LBFGS(
        [theirs.x],
        max_iter=30,
        max_eval=1000,
        history_size=5,
        tolerance_grad=0,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )
    torchs.step(theirs.closure)
    for _ in range(30):
        optimizer.step(ours.closure)
    assert torch.equal(ours.x, theirs.x)
    assert ours.evaluations <= theirs.evaluations + 2
    assert ours.value().item() < Valley().value().item() / 50


def test_a_resumed_optimizer_goes_on_bit_for_bit() -> None:
    whole = Valley()
    optimizer = IterativeLBFGS([whole.x])
    for _ in range(7):
        optimizer.step(whole.closure)
    state, kept = optimizer.state_dict(), whole.x.detach().clone()
    state = torch.utils._pytree.tree_map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, state)
    rest = Valley(kept)
    resumed = IterativeLBFGS([rest.x])
    resumed.load_state_dict(state)
    for _ in range(9):
        optimizer.step(whole.closure)
        resumed.step(rest.closure)
    assert torch.equal(whole.x, rest.x)
    assert rest.evaluations > 0


def test_the_memory_is_not_used_after_the_parameters_were_changed() -> None:
    valley = Valley()
    optimizer = IterativeLBFGS([valley.x])
    optimizer.step(valley.closure)
    with torch.no_grad():
        valley.x.zero_()
    assert float(optimizer.step(valley.closure)) == 9.0  # the value at zero


def test_at_a_stationary_point_nothing_moves_and_the_closure_is_called() -> None:
    valley = Valley(torch.ones(10, dtype=torch.float64))
    optimizer = IterativeLBFGS([valley.x])
    for calls in (1, 2):
        assert float(optimizer.step(valley.closure)) == 0
        assert valley.evaluations == calls
    assert valley.x.unique().tolist() == [1.0]
