"""The whole way once, on real pictures: train, measure, track, save, load, sample. `make demo` runs it."""

import sys
from pathlib import Path

from zoo import ZooError, card, load
from zoo.paths import PACKAGE

RUN = Path("runs/demo")  # zoo/demo.yaml says the same to the logger

INTRODUCTION = """\
Training a spectral-norm GAN on Fashion-MNIST: about three minutes on two idle cores.
Every 300 batches 2 000 of its pictures are judged: FID falls (0 is best), the Inception Score rises (6.6 is what real
pictures have under this judge).
"""

NEXT = """\
What came out
  {run}/samples/          a grid of pictures every 300 batches, all from the same noise
  {run}/metrics.csv       losses, FID and Inception Score; the same in W&B
  {folder}/               the checkpoint: weights, config, model card
  {picture}   pictures of the checkpoint, loaded back with zoo.load

What to try next
  {python} -m zoo list                             what else is pretrained
  {python} -m zoo sample {folder} --num 100 --seed 1
  {python} -m zoo train sngan.fashion_mnist        the full recipe of this model
  {python} -m zoo train zoo/demo.yaml --model.game non_saturating
"""


def main(overrides: list[str]) -> None:
    """Runs the demo; ``overrides`` are arguments of LightningCLI."""
    print(INTRODUCTION, flush=True)  # before torch and Lightning take their seconds to import

    from lightning_modules.parts.pictures import save_png
    from zoo.cli import train
    from zoo.drawing import draw_samples

    folder, picture = RUN / "zoo", RUN / "loaded-back.png"
    train(PACKAGE / "demo.yaml", overrides, save_to=folder)

    gan = load(str(folder))
    save_png(draw_samples(gan).picture, picture)
    print()
    for name, value in card(str(folder)).metrics.items():
        print(f"{name:40} {value:.4g}")
    print()
    print(NEXT.format(run=RUN, folder=folder, picture=picture, python=interpreter()))


def interpreter() -> str:
    """Returns what to type for this Python: a path where ``python`` would be another one or none."""
    path = Path(sys.executable)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (FileNotFoundError, ZooError) as error:
        sys.exit(f"error: {error}")
