"""A complete example on real images: train, measure, track, save, load, sample. `make demo` runs it."""

import sys
from pathlib import Path

from zoo import ZooError, card, load
from zoo.paths import PACKAGE

RUN = Path("runs/demo")  # the folder of the run of zoo/demo.yaml, whose name the logger gets

INTRODUCTION = """\
Training a spectral-norm GAN on Fashion-MNIST: about three minutes on two idle cores.
Every 300 batches 2 000 of its samples are measured: FID falls (0 is best), the Inception Score rises (real images have
6.6 with this classifier).
"""

NEXT = """\
Results
  {run}/samples/          a grid of samples every 300 batches, all from the same noise
  {run}/metrics.csv       losses, FID and Inception Score; the same in W&B
  {folder}/               the checkpoint: weights, config, model card
  {image}   samples of the checkpoint, loaded back with zoo.load

Next steps
  {python} -m zoo list                             other pretrained models
  {python} -m zoo sample {folder} --num 100 --seed 1
  {python} -m zoo train sngan.fashion_mnist        the full recipe of this model
  {python} -m zoo train zoo/demo.yaml --model.game non_saturating
"""


def main(overrides: list[str]) -> None:
    """Runs the demo; ``overrides`` are arguments of LightningCLI."""
    print(INTRODUCTION, flush=True)  # before the import of torch and Lightning, which takes seconds

    from lightning_modules.rendering.images import save_png
    from lightning_modules.rendering.modules import render_samples
    from zoo.cli import train

    folder, image = RUN / "zoo", RUN / "loaded-back.png"
    train(PACKAGE / "demo.yaml", overrides, save_to=folder)

    gan = load(str(folder))
    save_png(render_samples(gan).image, image)
    print()
    for name, value in card(str(folder)).metrics.items():
        print(f"{name:40} {value:.4g}")
    print()
    print(NEXT.format(run=RUN, folder=folder, image=image, python=interpreter()))


def interpreter() -> str:
    """Returns the command for this Python: its path, relative to the working directory if it is inside."""
    path = Path(sys.executable)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (FileNotFoundError, ZooError) as error:
        sys.exit(f"error: {error}")
    except BaseException as stop:
        loaded = sys.modules.get("lightning_modules.runtime.interruption")  # after the first words are printed
        if loaded is None or not isinstance(stop, loaded.Interrupted):
            raise
        print(stop.report(), file=sys.stderr)
        sys.exit(stop.exit_code)
