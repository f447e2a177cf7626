"""Sampling PixelCNN++ from caches against passing the whole image through the network for every pixel.

A pass costs the same at every pixel: of the 784 passes two are timed, in alternation with whole cached samples.
"""

import torch
from common import interleaved, row

from lightning_modules import PixelCNNPlusPlus
from lightning_modules.networks.pixelcnn import FullPasses
from lightning_modules.parts.sampling import evaluating

PIXELS, TIMED = 28 * 28, 2
GOALS = {1: 5, 16: 30, 64: 40}


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    module = PixelCNNPlusPlus(shape=[1, 28, 28])

    def whole(num: int) -> None:
        with evaluating(module):
            passes = FullPasses(module.network, num, None)
            for column in range(TIMED):
                passes.parameters_at(0, column)

    for num, goal in GOALS.items():
        seconds = interleaved(
            {
                "cached": lambda num=num: module.sample(num, generator=torch.Generator().manual_seed(0)),  # type: ignore[misc]
                "whole": lambda num=num: whole(num),  # type: ignore[misc]
            },
            rounds=3,
        )
        full = seconds["whole"] * PIXELS / TIMED
        row(
            f"PixelCNN++, {num} images of 28x28: a pass for every pixel / cached",
            f">= {goal}",
            f"{full / seconds['cached']:.0f} ({full:.1f} s / {seconds['cached']:.2f} s)",
            full / seconds["cached"] >= goal,
        )


if __name__ == "__main__":
    main()
