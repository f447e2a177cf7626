"""A GAN whose generator is linear, so that preimages and derivatives are known in closed form."""

import torch
from torch import Tensor, nn

from datamodules.spec import DataSpec
from lightning_modules.adversarial.loop import AdversarialModule
from lightning_modules.parts.games import NON_SATURATING

SHAPE = (1, 3, 4)
LATENT = 5
SPEC = DataSpec("linear", "image", SHAPE, value_range=(-1.0, 1.0))


class Linear(nn.Module):
    """x = A z + b_y, with a dropout and a batch norm that do nothing in evaluation mode."""

    def __init__(self, num_classes: int | None, matrix: Tensor) -> None:
        super().__init__()
        self.matrix = nn.Parameter(matrix)
        self.offset = nn.Parameter(0.01 * torch.randn(num_classes or 1, len(matrix)))
        self.norm, self.dropout = nn.BatchNorm1d(len(matrix), eps=0.0, affine=False), nn.Dropout(0.5)

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        offset = self.offset[torch.zeros(len(z), dtype=torch.int64) if condition is None else condition]
        return self.dropout(self.norm(z @ self.matrix.T + offset)).view(-1, *SHAPE)


class Critic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(12, 1)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.linear(x.flatten(1))


def linear_gan(num_classes: int | None = None, matrix: Tensor | None = None) -> AdversarialModule:
    """Returns the GAN, in training mode, of a well-conditioned matrix unless another is given."""
    torch.manual_seed(0)
    matrix = 0.1 * torch.linalg.qr(torch.randn(12, LATENT))[0] * torch.tensor([1.0, 1.5, 2.0, 2.5, 3.0])[:LATENT] \
        if matrix is None else matrix  # fmt: skip
    module = AdversarialModule(
        Linear(num_classes, matrix), Critic(), NON_SATURATING, latent_dim=matrix.shape[1], num_classes=num_classes,
        generator_optimizer=torch.optim.Adam, discriminator_optimizer=torch.optim.Adam,
    )  # fmt: skip
    module.data_spec = SPEC
    return module.train()
