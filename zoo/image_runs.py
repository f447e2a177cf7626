"""Fits a module to one image from the command line: bounded in time and memory, with the time that is left."""

import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from PIL import Image
from tqdm import tqdm

from datamodules.images.single_image import SingleImage
from lightning_modules.callbacks.image_progress import Frames
from lightning_modules.image.image_optimization import ImageOptimization
from lightning_modules.parts.files import replace_file
from lightning_modules.rendering.video import gif
from lightning_modules.runtime.interruption import Interrupted, handled_by
from lightning_modules.runtime.memory import available_bytes
from zoo.cli import quiet
from zoo.errors import ZooError
from zoo.silence import without_advice

FRAME_MILLISECONDS, LAST_FRAME_REPEATS = 100, 12
BAR = "{desc} {percentage:3.0f}%|{bar}|"
GIB = 2**30
OVERHEAD = 0.4 * GIB
"""Memory of Python, torch and a batch, beyond what is estimated."""
BYTES_PER_PIXEL = 8 * 3 * 4
"""What any method takes at least: the image, its gradient and the state of an optimizer, in float32."""


@dataclass
class Outcome:
    """What a run has come to.

    Args:
        steps: Number of steps.
        seconds: Duration.
        last: Losses of the last step.
        stopped_by: Why it ended: ``"steps"``, ``"time"``, ``"early stopping"`` or the name of a signal.
    """

    steps: int = 0
    seconds: float = 0.0
    last: Mapping[str, float] = field(default_factory=dict)
    stopped_by: str = "steps"

    @property
    def exit_code(self) -> int:
        """0, or 128 + the number of the signal that has ended the run."""
        return 128 + signal.Signals[self.stopped_by].value if self.stopped_by.startswith("SIG") else 0


class Bounds(Callback):
    """Ends a run after some time or by a signal, and shows on the screen how much time is left.

    Args:
        description: What is shown before the bar.
        seconds: Longest duration, from the construction on; infinite for none.
    """

    def __init__(self, description: str, seconds: float) -> None:
        self.outcome, self.seconds, self.begin = Outcome(), seconds, time.monotonic()
        self.description, self.signal = description, ""
        self.bar: tqdm[Any] | None = None
        self.first_step = self.begin

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Shows an empty bar."""
        self.first_step = time.monotonic()
        self.bar = tqdm(total=1.0, bar_format=BAR, desc=self.description, mininterval=0.5)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Moves the bar, and ends the run if the next step would end too late."""
        now, steps = time.monotonic(), trainer.global_step
        self.outcome.steps, self.outcome.seconds = steps, now - self.begin
        per_step = (now - self.first_step) / steps
        time_left = self.seconds - (now - self.begin)
        left = min(time_left, per_step * (trainer.max_steps - steps))
        if self.bar is not None:
            self.bar.n = (now - self.begin) / max(1e-9, now - self.begin + max(0.0, left))
            self.bar.set_description_str(f"{self.description}: step {steps}, {clock(left)} left", refresh=False)
            self.bar.update(0)
        if self.signal:
            self.outcome.stopped_by, trainer.should_stop = self.signal, True
        elif time_left < per_step and steps < trainer.max_steps:
            self.outcome.stopped_by, trainer.should_stop = "time", True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes the last losses, and notes if it was the module that has ended the run."""
        # The hooks of a module follow those of callbacks: that a module ends the run is only known here.
        if trainer.should_stop and self.outcome.stopped_by == "steps" and trainer.global_step < trainer.max_steps:
            self.outcome.stopped_by = "early stopping"
        values: Any = getattr(pl_module, "last_losses", {})
        self.outcome.last = {name: float(value) for name, value in values.items()}

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Closes the bar, so that the message has a line of its own."""
        self.teardown(trainer, pl_module, "fit")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Closes the bar."""
        if self.bar is not None:
            self.bar.close()

    @contextmanager
    def heeding_signals(self) -> Iterator[None]:
        """In the block, Ctrl-C and SIGTERM end the run after the step, and a second one raises ``Interrupted``."""

        def note(signum: int, frame: object) -> None:
            if self.signal:
                raise Interrupted(signum)
            self.signal = signal.Signals(signum).name

        with handled_by(note):
            yield


def fit(
    module: ImageOptimization, data: SingleImage, bounds: Bounds, *, steps: int, device: str, gif_to: Path | None
) -> Outcome:
    """Fits a module to the image of a datamodule, and writes the animation if one is wanted."""
    quiet()
    frames = Frames()
    with bounds.heeding_signals(), without_advice():
        trainer = Trainer(
            max_steps=steps,
            max_epochs=-1,
            accelerator=device,
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            limit_val_batches=0,
            log_every_n_steps=1,
            callbacks=[bounds, *([frames] if gif_to is not None else [])],
        )
        trainer.fit(module, datamodule=data)
    if gif_to is not None:
        replace_file(gif_to, animated(frames.frames))
    return bounds.outcome


def animated(frames: list[Image.Image]) -> bytes:
    """Returns a GIF of the frames in 256 colours, of which the last is shown for a while."""
    return gif([*frames, *LAST_FRAME_REPEATS * frames[-1:]], FRAME_MILLISECONDS, zoom=1)


def seeded(seed: int) -> None:
    """Seeds all random numbers of a command."""
    seed_everything(seed, verbose=False)


def device_of(name: str) -> torch.device:
    """Returns the device of a Trainer's accelerator: ``"cpu"``, ``"gpu"`` or ``"auto"``.

    Raises:
        ZooError: If there is no GPU, and one is asked for.
    """
    if name == "gpu" and not torch.cuda.is_available():
        raise ZooError("--device gpu: there is no GPU that torch can use. Leave the option out to compute on the CPU.")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def check_memory(needed: float, device: torch.device, size: tuple[int, int], remedy: str) -> None:
    """Refuses a run for which the memory does not suffice, before it begins.

    Args:
        needed: Bytes.
        device: Where they are needed.
        size: Height and width of the image.
        remedy: What to do, as the end of a sentence.

    Raises:
        ZooError: If there is less than ``needed``.
    """
    available = available_bytes(device)
    if needed > available:
        raise ZooError(
            f"An image of {size[1]} x {size[0]} pixels takes about {needed / GIB:.1f} GiB, and {available / GIB:.1f} "
            f"GiB are free: {remedy}."
        )


def clock(seconds: float) -> str:
    """Returns a duration as minutes and seconds, ``"1:05"``."""
    whole = max(0, round(seconds))
    return f"{whole // 60}:{whole % 60:02}"
