"""An iteration of L-BFGS on pixels, and a step of deep image prior, through Trainer.fit against a bare loop.

The bare loops have the same networks, losses and optimizers, written by hand. Then the peak memory of an iteration at
512 and 1024 pixels, in a process of its own, with the tiles that the command would take on a machine with 8 GiB free.
"""

import copy
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from common import beside_the_trainer, row
from lightning.pytorch import Trainer
from PIL import Image
from torch.nn import functional as F

from datamodules import SingleImage
from lightning_modules import DeepImagePrior, TextureSynthesis
from lightning_modules.image.pixel_optimization import LOSS_SCALE, RANGE_WEIGHT
from lightning_modules.parts.gram import gram_sum, relative_distance
from lightning_modules.parts.lbfgs import IterativeLBFGS
from lightning_modules.pretrained.named_features import find_weights

GOAL, SIDE, STEPS, WARM_UP = 1.03, 256, 11, 1
FEATURES = "vgg16_hed" if find_weights("vgg16_hed") is not None else "random"


def noise_image(folder: str, side: int = SIDE) -> str:
    """Writes an image of noise at several scales, and returns its path."""
    generator = torch.Generator().manual_seed(0)
    scales = [torch.rand(1, 3, side // 2**k, side // 2**k, generator=generator) for k in range(5)]
    mixed = torch.stack([F.interpolate(x, (side, side), mode="bilinear")[0] for x in scales]).mean(0)
    Image.fromarray((255 * mixed).byte().permute(1, 2, 0).numpy()).save(Path(folder) / "noise.png")
    return str(Path(folder) / "noise.png")


class BareTexture:
    """Steps of L-BFGS without Lightning."""

    def __init__(self, module: TextureSynthesis, x: torch.Tensor) -> None:
        self.network, self.layers = module.network, list(module.network.style_layers)
        with torch.no_grad():
            self.targets = self.grams(x)
        self.x = torch.nn.Parameter(x.mean((2, 3), keepdim=True) + 0.05 * torch.randn_like(x))
        self.optimizer = IterativeLBFGS([self.x])

    def grams(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [gram_sum(value) / value[0, 0].numel() for value in self.network(x, self.layers).values()]

    def closure(self) -> torch.Tensor:
        self.optimizer.zero_grad()
        distances = [
            relative_distance(gram, target) for gram, target in zip(self.grams(self.x), self.targets, strict=True)
        ]
        outside = (self.x.abs() - 1).clamp_min(0).square().mean()
        loss = LOSS_SCALE * (torch.stack(distances).mean() + RANGE_WEIGHT * outside)
        loss.backward()
        return loss.detach()

    def step(self) -> None:
        self.optimizer.step(self.closure)


class BarePrior:
    """Steps of deep image prior without Lightning, with the running average and without early stopping."""

    def __init__(self, module: DeepImagePrior, x: torch.Tensor) -> None:
        self.x, self.network, self.code = x, copy.deepcopy(module.generator), module.code.clone()
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=0.01, fused=True)
        self.average = torch.zeros_like(x)

    def step(self) -> None:
        y = self.network(self.code + torch.randn_like(self.code) / 30)
        self.average.lerp_(y.detach(), 0.01)
        loss = F.mse_loss(y, self.x)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


def peak_memory(side: int, tile: int | None) -> float:
    """Returns the GiB that an iteration at this size takes, in a process of its own."""
    program = f"import bench_image; bench_image.one_iteration({side}, {tile})"
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
    )
    return float(ran.stdout.splitlines()[-1])


def one_iteration(side: int, tile: int | None) -> None:
    """Prints the peak memory of this process after an iteration on a texture."""
    with tempfile.TemporaryDirectory() as folder:
        data = SingleImage(noise_image(folder, side))
        module = TextureSynthesis.for_data(data.spec, features=FEATURES, num_scales=1, tile=tile)
        settings: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        Trainer(max_steps=1, accelerator="cpu", limit_val_batches=0, **settings).fit(module, data)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        data = SingleImage(noise_image(folder))
        data.setup("fit")
        x = next(iter(data.val_dataloader())).x  # type: ignore[union-attr]
        torch.manual_seed(0)
        texture = TextureSynthesis.for_data(data.spec, features=FEATURES, num_scales=1)
        bare = BareTexture(texture, x)
        prior = DeepImagePrior.for_data(data.spec, width=32)
        for name, module, loop in (
            (f"L-BFGS iteration, {FEATURES}", texture, bare),
            ("deep image prior, width 32", prior, BarePrior(prior, x)),
        ):
            torch.manual_seed(0)  # both begin with the same numbers
            lightning, own = beside_the_trainer(module, data, loop.step, WARM_UP, STEPS)
            measured = f"{lightning / own:.3f} ({lightning:.3f} s / {own:.3f} s)"
            row(f"Trainer.fit / bare loop, {name}, {SIDE} px", f"<= {GOAL}", measured, lightning / own <= GOAL)
    for side, tile in ((512, None), (1024, None), (1024, 256)):
        peak = peak_memory(side, tile)
        goal = 3.0
        bounded = tile is not None or side < 1024
        label = f"<= {goal} GiB" if bounded else "reported"
        row(
            f"peak memory of an iteration, {side} px, tile {tile}",
            label,
            f"{peak:.2f} GiB",
            not bounded or peak <= goal,
        )


if __name__ == "__main__":
    main()
