"""The restricted Boltzmann machine as a distribution: its energies, conditionals and Gibbs chains."""

import math
from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from lightning_modules.energy.annealing_paths import RBMPath, bernoulli
from lightning_modules.energy.partition import progress
from lightning_modules.energy.unnormalized import UnnormalizedModel
from lightning_modules.parts.likelihoods import not_binary
from lightning_modules.parts.precision import without_autocast
from lightning_modules.parts.schedules import Schedule
from lightning_modules.parts.support import checked, problem_with_form


class BoltzmannMachine(UnnormalizedModel):
    """Abstract: E(v, h) = -a v - c h - v W h over binary v and h; a subclass trains it.

    Args:
        shape: (C, H, W) of binary images.
        num_hidden: Hidden units.
        lr_schedule: As in ``runtime.optimization``.
    """

    base_rates: Tensor
    is_initialized: Tensor

    def __init__(self, shape: Sequence[int], num_hidden: int, lr_schedule: Schedule) -> None:
        super().__init__(lr_schedule=lr_schedule)
        self.shape, self.num_visible, self.num_hidden = tuple(shape), math.prod(shape), num_hidden
        self.weight = nn.Parameter(0.01 * torch.randn(self.num_visible, num_hidden))
        self.visible_bias = nn.Parameter(torch.zeros(self.num_visible))
        self.hidden_bias = nn.Parameter(torch.zeros(num_hidden))
        self.register_buffer("base_rates", torch.full((self.num_visible,), 0.5))
        self.register_buffer("is_initialized", torch.tensor(0, dtype=torch.uint8))

    @torch.no_grad()
    def initialize(self, counts: Tensor, num_examples: int) -> None:
        """Sets visible biases and base rates from the number of examples in which each unit is 1."""
        rates = (counts.flatten().to(self.base_rates) + 1) / (num_examples + 2)
        self.base_rates.copy_(rates)
        self.visible_bias.copy_(rates.logit())
        self.is_initialized.fill_(1)

    @without_autocast
    def hidden_input(self, x: Tensor) -> Tensor:
        """Returns v W + c, the logits of p(h | v), shape (N, num_hidden)."""
        return torch.addmm(self.hidden_bias, x.flatten(1).to(self.weight.dtype), self.weight)

    @without_autocast
    def visible_input(self, hidden: Tensor) -> Tensor:
        """Returns h W' + a, the logits of p(v | h), shape (N, D)."""
        return torch.addmm(self.visible_bias, hidden, self.weight.T)

    @without_autocast
    def unchecked_energy(self, x: Tensor) -> Tensor:
        """Returns the free energy F(x) = -log sum_h exp(-E(x, h)) in nats, (N,), of any values (N, ...)."""
        x = x.to(self.weight.dtype)
        return -(x.flatten(1) @ self.visible_bias) - F.softplus(self.hidden_input(x)).sum(1)

    def free_energy(self, x: Tensor) -> Tensor:
        """The same as ``energy``, under the usual name for RBMs."""
        return self.energy(x)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the free energy of x, shape (N,), as ``energy``."""
        return self.energy(x)

    @without_autocast
    def joint_energy(self, x: Tensor, hidden: Tensor) -> Tensor:
        """Returns E(v, h) in nats, shape (N,).

        Raises:
            ValueError: If the examples or the hidden states (N, num_hidden) are not of their shapes, or not binary.
        """
        x, hidden = self.examples(x), self.hidden_states(hidden)
        if len(x) != len(hidden):
            raise ValueError(f"{type(self).__name__}: there are {len(x)} examples, but {len(hidden)} hidden states.")
        return -(x.flatten(1) @ self.visible_bias) - (hidden * self.hidden_input(x)).sum(1)

    def hidden_free_energy(self, hidden: Tensor) -> Tensor:
        """Returns -log sum_v exp(-E(v, h)) in nats, shape (N,), of hidden states (N, num_hidden).

        Raises:
            ValueError: If they are of another shape, or not binary.
        """
        return self.unchecked_hidden_energy(self.hidden_states(hidden))

    @without_autocast
    def unchecked_hidden_energy(self, hidden: Tensor) -> Tensor:
        """Returns what ``hidden_free_energy`` does, of any values."""
        return -(hidden @ self.hidden_bias) - F.softplus(self.visible_input(hidden)).sum(1)

    def hidden_states(self, hidden: Tensor) -> Tensor:
        """Returns hidden states of a caller, checked, in the type of the weights.

        Raises:
            ValueError: If they are not of shape (N, num_hidden), or not binary.
        """
        size, remedy = (self.num_hidden,), "hidden units are 0 or 1"
        checked(hidden, self, lambda h: problem_with_form(h, size, "num_hidden") or not_binary(h, remedy))
        return hidden.to(self.weight)

    def encode(self, x: Tensor) -> Tensor:
        """Returns p(h = 1 | x), shape (N, num_hidden), with gradients.

        Raises:
            ValueError: If ``x`` is of another shape than (N, *shape), or not binary.
        """
        return self.hidden_input(self.examples(x)).sigmoid()

    def reconstruct(self, x: Tensor) -> Tensor:
        """Returns p(v = 1 | E[h | x]), in the shape of x; raises as ``encode``."""
        return self.visible_input(self.encode(x)).sigmoid().view_as(x)

    def filters(self) -> Tensor:
        """Returns the weights of hidden units, (num_hidden, *shape), each scaled to a largest magnitude of 1."""
        weight = self.weight.detach().T
        scaled = weight / weight.abs().amax(1, keepdim=True).clamp(min=1e-12)
        return scaled.reshape(-1, *self.shape)

    def annealing_path(self) -> RBMPath:
        """Returns the path from units at the data's rates to this model, for the functions of ``partition``."""
        weight, visible, hidden = (p.detach() for p in (self.weight, self.visible_bias, self.hidden_bias))
        return RBMPath(weight, visible, hidden, self.base_rates.logit())

    def independent_units(self, num: int, generator: Generator) -> Tensor:
        """Samples ``num`` states (num, D) whose units are independent, at the data's rates."""
        return bernoulli(self.base_rates.logit().expand(num, -1), generator)

    @without_autocast
    def gibbs_chain(
        self, visible: Tensor, steps: int, generator: Generator, *, temperature: float, annealed: bool, mean: bool
    ) -> Tensor:
        """Continues chains from states (N, D) by block Gibbs sampling; see ``RBM.sample``.

        Args:
            visible: States in {0, 1}.
            steps: Gibbs steps, at least 1.
            generator: Source of all random numbers.
            temperature: Samples are from p(v, h)^(1 / temperature).
            annealed: Whether step s of S is one of the path from independent units to the model at s / S.
            mean: Whether to return the probabilities p(v = 1 | h) of the last step.
        """
        base_bias, back = self.base_rates.logit(), self.weight.T.contiguous()
        for step in progress(range(1, steps + 1), "Gibbs sampling"):
            beta = step / steps if annealed else 1.0
            inputs = torch.addmm(self.hidden_bias, visible, self.weight)
            hidden = bernoulli(beta / temperature * inputs, generator)
            bias = (1 - beta) * base_bias + beta * self.visible_bias
            logits = torch.addmm(bias, hidden, back, alpha=beta) / temperature
            visible = logits.sigmoid() if mean and step == steps else bernoulli(logits, generator)
        return visible
