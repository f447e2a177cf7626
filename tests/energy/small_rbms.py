"""RBMs so small that everything about them, annealing included, is a sum over all of their states."""

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_modules.energy.annealing_paths import RBMPath

FEW = [0.0, 0.2, 0.5, 0.8, 1.0]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rbm(visible: int, hidden: int, scale: float, dtype: torch.dtype = torch.float64, seed: int = 0) -> list[Tensor]:
    """Weights, visible biases and hidden biases."""
    g = generator(seed)
    shapes = [(visible, hidden), (visible,), (hidden,)]
    return [scale * torch.randn(shape, generator=g, dtype=torch.float64).to(dtype) for shape in shapes]


def path_of(parameters: list[Tensor]) -> RBMPath:
    """The path from units at half the visible biases: neither uniform nor that of the model."""
    weight, visible, hidden = parameters
    return RBMPath(weight, visible, hidden, base_bias=0.5 * visible)


def free_energy(parameters: list[Tensor], v: Tensor) -> Tensor:
    weight, a, c = parameters
    return -(v @ a) - F.softplus(v @ weight + c).sum(1)


def states(num: int) -> Tensor:
    return torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * num)


def annealed_gibbs_operator(path: RBMPath, beta: float) -> Tensor:
    """T[v, v'] of one block Gibbs step under f_beta, by summing over all hidden states."""
    v, h = states(path.weight.shape[0]), states(path.weight.shape[1])

    def mass(logits: Tensor, x: Tensor) -> Tensor:
        """P(x) of every x, given every row of logits."""
        return (logits[:, None] * x - F.softplus(logits)[:, None]).sum(2).exp()

    bias = (1 - beta) * path.base_bias + beta * path.visible_bias
    to_hidden = mass(beta * (v @ path.weight + path.hidden_bias), h)
    return to_hidden @ mass(bias + beta * h @ path.weight.T, v)


def distribution_of_last_state(path: RBMPath, betas: list[float]) -> Tensor:
    """p_ann over all visible states: the base, then every kernel in turn."""
    v = states(path.weight.shape[0])
    distribution = (v @ path.base_bias - F.softplus(path.base_bias).sum()).exp()
    for beta in betas[1:]:
        distribution = distribution @ annealed_gibbs_operator(path, beta)
    return distribution
