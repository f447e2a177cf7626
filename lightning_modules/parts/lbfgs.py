"""L-BFGS that makes one iteration per step, without evaluating twice where its line search has ended."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

MAX_EVALUATIONS = 25
"""Of one line search, as in torch's own function."""


class IterativeLBFGS(torch.optim.LBFGS):
    """torch's L-BFGS with strong Wolfe conditions, of which every step is one iteration.

    A step of torch's optimizer begins with an evaluation, and its line search has nearly always made that one last in
    the step before. So loss and gradient of the last evaluation are kept, and are used if the parameters are the same,
    bit for bit. A resumed run evaluates again, with the same result.

    Args:
        params: The parameters.
        lr: Length of the first step that the line search tries.
        history_size: Number of earlier steps from which curvature is estimated; two copies of the parameters each.
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: float = 1.0, history_size: int = 10) -> None:
        # Losses may be small numbers, so a run ends by its number of steps, not by tolerances in units of the loss.
        super().__init__(
            params,
            lr=lr,
            max_iter=1,
            max_eval=1 + MAX_EVALUATIONS,
            history_size=history_size,
            tolerance_grad=0.0,
            tolerance_change=0.0,
            line_search_fn="strong_wolfe",
        )
        self._last: tuple[list[Tensor], Any, list[Tensor]] | None = None

    def step(self, closure: Callable[[], Any]) -> Any:  # type: ignore[override]
        """Makes one iteration.

        Args:
            closure: Clears the gradients, computes the loss and its gradient, and returns the loss; it is called at
                least once.
        """
        parameters: list[nn.Parameter] = self.param_groups[0]["params"]
        calls = 0

        def evaluate() -> Any:
            nonlocal calls
            if self._last is not None and all(map(torch.equal, self._last[0], parameters)):
                for p, gradient in zip(parameters, self._last[2], strict=True):
                    p.grad = gradient.clone()
                return self._last[1]
            calls += 1
            loss = closure()
            gradients = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in parameters]
            self._last = [p.detach().clone() for p in parameters], loss.detach(), gradients
            return self._last[1]

        loss = super().step(evaluate)
        if not calls:  # at a stationary point, where no search begins
            closure()
        return loss
