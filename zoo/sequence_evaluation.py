"""Metrics of sequences beyond the trainer's test: likelihood in windows, exposure bias, copying, music, forecasts."""

import math
import sys
import warnings
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Generator, Tensor, nn

from datamodules.sequences.text import TextDataModule
from lightning_modules.metrics.exposure_bias import exposure_curves, last_of_curves, real_sequences
from lightning_modules.metrics.music_metrics import melodic_intervals, music_histograms, music_rates
from lightning_modules.metrics.protocol import block_generator, device_of, undisturbed
from lightning_modules.metrics.sequence import (
    Curve,
    nats_in_windows,
    share_seen,
    shares_seen,
    spread_evenly,
    total_variation,
)
from lightning_modules.metrics.video_metrics import at_horizons, frame_errors, last_repeated

EXPOSURE: dict[str, dict[str, Any]] = {
    "tokens": {"prefix": 32, "steps": 512, "window": 64, "orders": (1, 2, 3, 4)},
    "piano_roll": {"prefix": 8, "steps": 32, "window": 8, "orders": (1, 2)},
}
"""The protocol of exposure bias by kind of data: half of the chorales end before 60 frames."""
WINDOW = 256  # nanoGPT's
NUM_CLIPS = 250
OF_CENTRES = 1e-3
"""Temperature at which a pixel is the centre of its distribution, or of the likeliest component of a mixture."""
NUM_TEXTS, TEXT_LENGTH, COPIED = 100, 512, 10
MELODY_COPIED = 8
SEEN_PERCENT = (0, 10, 50, 90, 100)
"""Bounds of groups of songs by the share of their melody's 8-grams that occur in training songs; 0 is in the first."""


def evaluate_sequences(
    module: Any, datamodule: Any, *, split: str = "test", num_samples: int | None = None, seed: int = 0
) -> dict[str, float]:
    """Measures a model of text, of piano rolls or of video against a split.

    Text: nats and bits per character in independent windows of 256 predictions, as in nanoGPT; exposure bias; the share
    of 10-grams that occur in the training text, and that share for the split itself.

    Piano rolls: exposure bias; total variation between histograms of generated songs, as long as the real ones, and
    those of the split, and the same for validation songs; rates, and those of the split; the share of 8-grams of the
    melody's intervals that occur in training songs; -log q of songs by that share. The samples of a model that was
    trained on transposed songs are in other keys than the data, which affects only ``pitch_distance`` and
    ``pitch_class_distance``.

    Video: errors of the second half of clips, forecast from the first, by horizon.

    Args:
        module: A ``SequenceModule``.
        datamodule: Datamodule of its data.
        split: Split of the real sequences; also the first word of the names.
        num_samples: Number of sampled sequences; by default 100 texts, 250 clips, or all songs of the split; of
            songs and clips at most as many as it has.
        seed: Seed of the samples.

    Returns:
        Values by names that contain the protocol; none for other data.
    """
    if datamodule.spec.kind == "video":
        values = _if_long_enough(
            "Forecasts were not measured.", lambda: forecasts(module, datamodule, split, num_samples, seed)
        )
        return {f"{split}/{name}": value for name, value in values.items()}
    if isinstance(datamodule, TextDataModule):
        values = _if_long_enough("Windows were not measured.", lambda: text_windows(module, datamodule, split))
        values |= copied_text(module, datamodule, split, num_samples or NUM_TEXTS, seed)
    elif datamodule.spec.kind == "piano_roll":
        values = music(module, datamodule, split, num_samples, seed) | nats_by_share_seen(module, datamodule, split)
    else:
        return {}

    def exposure_bias() -> dict[str, float]:
        real = compared(datamodule, split)
        start = f"prefix{EXPOSURE[datamodule.spec.kind]['prefix']}"
        return last_of_curves(exposure(module, real, seed), start, len(real) // 2)

    values |= _if_long_enough("Exposure bias was not measured.", exposure_bias)
    return {f"{split}/{name}": value for name, value in values.items()}


def _if_long_enough(otherwise: str, measure: Callable[[], dict[str, float]]) -> dict[str, float]:
    """Returns metrics, or none with a warning: the user's own text may be too short for some of them."""
    try:
        return measure()
    except ValueError as error:
        warnings.warn(f"{otherwise} {error}", stacklevel=3)
        return {}


def compared(datamodule: Any, split: str = "test", num: int = 250) -> Tensor:
    """Returns the sequences for exposure bias, (2 N, T, ...), N at most ``num``."""
    protocol = EXPOSURE[datamodule.spec.kind]
    return real_sequences(datamodule, split, protocol["prefix"] + protocol["steps"], num)


def exposure(module: Any, real: Tensor, seed: int = 0) -> dict[str, Curve]:
    """Returns the curves of exposure bias by name, by the protocol of the module's kind of data."""
    protocol = {key: value for key, value in EXPOSURE[module.data_spec.kind].items() if key != "steps"}
    return exposure_curves(module, real, seed=seed, progress=sys.stdout.isatty(), **protocol)


def text_windows(module: Any, datamodule: TextDataModule, split: str) -> dict[str, float]:
    """Returns nats and bits per character by nanoGPT's protocol; see ``nats_in_windows``."""
    datamodule.source(split)
    device = device_of(module)
    with undisturbed(module):
        nats = nats_in_windows(
            lambda x: module.step_log_prob(x.to(device).long())[0].cpu(), datamodule.tokens[split], WINDOW
        )
    kind = f"exact_windows_{WINDOW}"
    return {f"nats_per_step-{kind}": nats, f"bits_per_step-{kind}": nats / math.log(2)}


def copied_text(module: Any, datamodule: TextDataModule, split: str, num_samples: int, seed: int) -> dict[str, float]:
    """Returns the share of 10-grams of sampled texts, and of the split, that occur in the training text."""
    datamodule.source(split)
    with undisturbed(module):
        sampled = module.sample(num_samples, length=TEXT_LENGTH, generator=block_generator(seed, 0)).cpu()
    training, real = datamodule.tokens["train"].long()[None], datamodule.tokens[split].long()[None]
    return {
        f"copied_{COPIED}grams-{num_samples}x{TEXT_LENGTH}": share_seen(sampled, training, COPIED),
        f"copied_{COPIED}grams_of_real": share_seen(real, training, COPIED),
    }


def music(module: Any, datamodule: Any, split: str, num_samples: int | None, seed: int) -> dict[str, float]:
    """Returns statistics of sampled songs, which have the lengths of the split's songs in turn."""
    songs, lengths = datamodule.sequences(split)
    num = num_samples or len(songs)
    sampled_lengths = lengths[torch.arange(num) % len(lengths)]
    with undisturbed(module):
        sampled = module.sample(num, length=int(sampled_lengths.max()), generator=block_generator(seed, 0)).cpu()
    others, training = datamodule.sequences("val"), datamodule.sequences("train")
    real, generated, held_out = (music_histograms(*x) for x in ((songs, lengths), (sampled, sampled_lengths), others))
    values: dict[str, float] = {}
    for name, counts in real.items():
        values[f"{name}_distance-{num}"] = total_variation(generated[name], counts)
        values[f"{name}_distance_of_real-{len(others[0])}"] = total_variation(held_out[name], counts)
    rates = music_rates(songs, lengths)
    for name, rate in music_rates(sampled, sampled_lengths).items():
        values[f"{name}-{num}"] = rate
        values[f"{name}_of_real"] = rates[name]
    known = melodic_intervals(*training)
    for name, melody in ((f"-{num}", (sampled, sampled_lengths)), ("_of_real", (songs, lengths))):
        values[f"copied_melody_{MELODY_COPIED}grams{name}"] = share_seen(
            melodic_intervals(*melody), known, MELODY_COPIED
        )
    return values


def nats_by_share_seen(module: Any, datamodule: Any, split: str) -> dict[str, float]:
    """Returns -log q in nats per step of songs that share little and much of their melody with training songs.

    If the splits of a data set share material, a model is rewarded for remembering it; songs of the first group have
    next to nothing that could be remembered.

    Args:
        module: A ``SequenceModule`` of piano rolls.
        datamodule: Datamodule of its data.
        split: Split of the songs.

    Returns:
        The mean over all steps of a group, by names such as ``"nats_per_step_seen_0_to_10_percent-19"`` for a group of
        19 songs; groups without songs, and songs shorter than an 8-gram, are left out.
    """
    (songs, lengths), device = datamodule.sequences(split), device_of(module)
    melodies, training = (melodic_intervals(*datamodule.sequences(name)) for name in (split, "train"))
    percent = 100 * shares_seen(melodies, training, MELODY_COPIED)
    with undisturbed(module):
        nats = -module.log_prob(songs.to(device), lengths.to(device)).double().cpu()
    values: dict[str, float] = {}
    for low, high in pairwise(SEEN_PERCENT):
        group = ((percent > low) | (low == 0)) & (percent <= high)
        if group.any():
            name = f"nats_per_step_seen_{low}_to_{high}_percent-{int(group.sum())}"
            values[name] = (nats[group].sum() / lengths[group].sum()).item()
    return values


def forecasts(module: Any, datamodule: Any, split: str, num_samples: int | None, seed: int) -> dict[str, float]:
    """Returns the errors of frames by horizon; see ``frame_errors``. Clips that are not of full length are left out.

    Frames are forecast in three ways: sampled; with the centre of each pixel's logistic, or of the likeliest one of a
    mixture, given such frames before it (``_of_centres``); and by repeating the last given frame (``_of_last_frame``).

    Raises:
        ValueError: If no clip has two frames or more.
    """
    clips, lengths = datamodule.sequences(split)
    clips = spread_evenly(clips[lengths == clips.shape[1]], num_samples or NUM_CLIPS)
    num_given = clips.shape[1] // 2
    if num_given == 0 or len(clips) == 0:
        raise ValueError(
            f"The {split} split of {datamodule.spec.name} has {len(clips)} whole clips of {clips.shape[1]} frames, but "
            "at least one of 2 frames is needed."
        )
    given, truth = clips[:, :num_given], clips[:, num_given:]
    protocol = f"{num_given}to{truth.shape[1]}-{len(clips)}"
    values: dict[str, float] = {}
    for name, temperature in (("", 1.0), ("_of_centres", OF_CENTRES)):
        with undisturbed(module):
            generator = block_generator(seed, 0)
            forecast = module.continue_sequence(given, truth.shape[1], generator=generator, temperature=temperature)
        values |= at_horizons(frame_errors(forecast[:, num_given:].cpu(), truth), protocol, name)
    return values | at_horizons(frame_errors(last_repeated(given, truth.shape[1]), truth), protocol, "_of_last_frame")


class AsImages(nn.Module):
    """Wraps a model of sequences of pixels as one that samples images, to be measured like other models of images.

    Args:
        module: A module whose samples are tokens (N, H W) in {0, 1}.
        shape: (1, H, W).
    """

    num_evaluated = 2000  # pixel by pixel, 10 000 take over half an hour

    def __init__(self, module: nn.Module, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.module, self.shape = module, shape

    def sample(self, num_samples: int, *, labels: Tensor | None = None, generator: Generator | None = None) -> Tensor:
        """Samples images of zeros and ones, float32 (num_samples, 1, H, W)."""
        tokens = self.module.sample(num_samples, labels=labels, generator=generator)  # type: ignore[operator]
        return tokens.view(num_samples, *self.shape).float()
