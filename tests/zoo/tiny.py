"""A method small enough to be saved and loaded hundreds of times: what the zoo's tests work on."""

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from datamodules.spec import Batch
from lightning_modules.base import GenerativeModule


class TinyGAN(GenerativeModule):
    """Two small networks with batch norm, channels-last weights, tied weights and a parametrization."""

    def __init__(
        self,
        shape: tuple[int, ...] = (1, 8, 8),
        latent_dim: int = 4,
        width: int = 3,
        depth: int = 1,
        num_classes: int | None = None,
    ) -> None:
        super().__init__()
        if width < 1:
            raise ValueError(f"width={width} must be positive.")
        self.save_hyperparameters()
        channels, height, _ = shape
        self.generator = nn.Sequential(
            nn.Linear(latent_dim, width * height * height),
            nn.Unflatten(1, (width, height, height)),
            nn.BatchNorm2d(width),
            *[nn.Conv2d(width, width, 3, padding=1) for _ in range(depth)],
            nn.Conv2d(width, channels, 3, padding=1),
        ).to(memory_format=torch.channels_last)
        self.discriminator = nn.Sequential(spectral_norm(nn.Conv2d(channels, width, 3)), nn.Conv2d(width, width, 1))
        self.discriminator.append(nn.Conv2d(width, width, 1))
        self.discriminator[2].weight = self.discriminator[1].weight

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        raise NotImplementedError("It is saved and loaded only.")

    def averaged_networks(self) -> dict[str, nn.Module]:
        return {"generator": self.generator}

    def sample(
        self, num_samples: int, *, labels: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        z = torch.randn(num_samples, self.hparams["latent_dim"], generator=generator)
        with torch.no_grad():
            return self.generator(z.to(self.device)).tanh()
