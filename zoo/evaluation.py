"""Measures a checkpoint by the library's protocols: a table of evaluations, each with the modules it applies to."""

import math
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from torch import Generator

from datamodules.sequences.pixel_sequence import PixelSequence
from datamodules.sequences.text import TextDataModule
from lightning_modules.adversarial.creative import CreativeAdversarialNetwork, style_ambiguity
from lightning_modules.autoregressive.sequence_module import SequenceModule
from lightning_modules.base import GenerativeModule
from lightning_modules.latent.latent_variable import LatentVariableModule
from lightning_modules.likelihood import LikelihoodModule
from lightning_modules.metrics.classifier import Classifier
from lightning_modules.metrics.generator_jacobian import evaluate_conditioning
from lightning_modules.metrics.modes import evaluate_points
from lightning_modules.metrics.names import short_count
from lightning_modules.metrics.protocol import sample_blocks
from lightning_modules.parts.capabilities import HasGenerator, SupportsEncoding
from lightning_modules.rendering.modules import rendered_as
from zoo.cards import Card
from zoo.counterfactual_figures import counterfactuals, draws_captioned_emoji
from zoo.data import SPLIT
from zoo.errors import UsageError, ZooError
from zoo.evaluation_request import LeftOut, NoExtractor, Request
from zoo.image_evaluation import classes, means_of_images, references, samples_of_images
from zoo.loading import load_folder
from zoo.sequence_evaluation import evaluate_sequences
from zoo.silence import without_advice

NUM_POINTS = 2500
NUM_TIMED = 64


def held_out(request: Request) -> dict[str, float]:
    """Returns the metrics of the method's own test: -log p in nats and bits/dim, or a classifier's accuracy."""
    datamodule = request.datamodule
    if isinstance(datamodule, TextDataModule):  # the state is carried over the whole split
        datamodule.evaluation, datamodule.evaluation_streams = "streams", 1
    values = run_test(request.module, datamodule, request.device)
    request.module.to(request.device).eval()
    return values


def reconstructions(request: Request) -> dict[str, float]:
    """Returns the squared error of reconstructions, a mean over the test examples and their dimensions."""
    module, total, count = request.module, 0.0, 0
    for batch in request.datamodule.test_dataloader():
        given = module.condition(batch)
        labels = {} if given is None else {"labels": given}
        with torch.no_grad():
            error = module.reconstruct(batch.x, **labels).double().cpu() - batch.x.double()
        total, count = total + error.square().sum().item(), count + error.numel()
    return {f"{SPLIT}/reconstruction_mse": total / count} if count else {}


def sequences(request: Request) -> dict[str, float]:
    """Returns likelihood in windows, exposure bias, copying, forecasts and more; see ``evaluate_sequences``."""
    module, datamodule = request.module, request.datamodule
    return evaluate_sequences(module, datamodule, split=SPLIT, num_samples=request.num_samples, seed=request.seed)


def styles(request: Request) -> dict[str, float]:
    """Returns the mean ambiguity of the style of samples, in [0, 1], to the model's own discriminator."""
    module = request.module
    num_samples = request.num_samples or module.num_evaluated
    samples = sample_blocks(module, num_samples, module.data_spec.shape, seed=request.seed)
    ambiguity = style_ambiguity(module.style_posterior(samples)).mean().item()
    return {f"{SPLIT}/style_ambiguity-{short_count(num_samples)}": ambiguity}


def conditioning(request: Request) -> dict[str, float]:
    """Returns the mean log condition number of the generator's Jacobian.

    Raises:
        LeftOut: If it has none, such as that of a collapsed generator, whose samples are measured all the same.
    """
    try:
        return evaluate_conditioning(request.module, split=SPLIT, seed=request.seed)
    except ValueError as error:
        raise LeftOut(f"There is no condition number: {error}") from error


def points(request: Request) -> dict[str, float]:
    """Returns the coverage of the modes of a mixture of points."""
    module = request.module
    num_samples = request.num_samples or NUM_POINTS
    return evaluate_points(module, spec=module.data_spec, num_samples=num_samples, split=SPLIT, seed=request.seed)


def sampling_speed(request: Request) -> dict[str, float]:
    """Returns the seconds per sample in a batch of 64, the shortest of three runs; texts have 400 characters."""
    renderer, module = rendered_as(request.module), request.module
    settings = {} if (length := renderer.length(module.data_spec)) is None else {"length": length}
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        module.sample(NUM_TIMED, generator=Generator().manual_seed(request.seed), **settings).cpu()
        seconds.append(time.perf_counter() - start)
    return {f"{SPLIT}/seconds_per_sample-{torch.device(request.device).type}-{NUM_TIMED}": min(seconds) / NUM_TIMED}


class Evaluation(NamedTuple):
    """An evaluation: its function, the modules that it applies to, and whether it needs the data."""

    measure: Callable[[Request], dict[str, float]]
    applies: Callable[[Any], bool]
    needs_data: bool = False


def samples_images(module: Any) -> bool:
    """Returns whether a module samples images, whole or pixel by pixel."""
    return isinstance(module, GenerativeModule) and (
        module.data_spec.kind == "image" or module.data_spec.name == PixelSequence.name
    )


def has_noise_on_greys(module: Any) -> bool:
    """Returns whether a module's images are noise around means of more than two values, given their codes."""
    return samples_images(module) and isinstance(module, LatentVariableModule) and module.value_range != (0.0, 1.0)


def generates_images(module: Any) -> bool:
    """Returns whether a module makes images of codes that have no more dimensions than these."""
    size = math.prod(module.data_spec.shape)
    return samples_images(module) and isinstance(module, HasGenerator) and module.latent_dim <= size


EVALUATIONS = {
    "held_out": Evaluation(
        held_out, lambda module: isinstance(module, (LikelihoodModule, SequenceModule, Classifier)), needs_data=True
    ),
    "reconstructions": Evaluation(
        reconstructions, lambda module: isinstance(module, SupportsEncoding), needs_data=True
    ),
    "references": Evaluation(references, lambda module: isinstance(module, Classifier), needs_data=True),
    "sequences": Evaluation(sequences, lambda module: isinstance(module, SequenceModule), needs_data=True),
    "images": Evaluation(samples_of_images, samples_images),
    "means": Evaluation(means_of_images, has_noise_on_greys),
    "classes": Evaluation(classes, lambda module: samples_images(module) and module.num_classes is not None),
    "counterfactuals": Evaluation(counterfactuals, draws_captioned_emoji, needs_data=True),
    "styles": Evaluation(styles, lambda module: isinstance(module, CreativeAdversarialNetwork)),
    "conditioning": Evaluation(conditioning, generates_images),
    "points": Evaluation(points, lambda module: isinstance(module, GenerativeModule) and bool(module.data_spec.modes)),
}
"""All evaluations, in the order in which they run."""


def evaluate(
    card: Card,
    *,
    num_samples: int | None = None,
    extractor: str | None = None,
    data_dir: str | None = None,
    seed: int = 0,
    device: str = "cpu",
    samples_only: bool = False,
    speed: bool = False,
    refuse_unused: bool = False,
) -> dict[str, float]:
    """Measures a checkpoint against the test split of its data: all of ``EVALUATIONS`` that apply.

    Args:
        card: The checkpoint.
        num_samples: Number of samples; by default 10 000 images, 2 000 of a slow sampler, 2 500 points, 100 texts,
            250 clips, or as many songs as there are real ones.
        extractor: Checkpoint of the classifier for metrics of images, or ``"efficientnet_lite0"``; by default the
            classifier that the checkpoint's recipe names, or that was trained on the same data.
        data_dir: Folder of the data, if they are needed; searched by default.
        seed: Seed of the samples.
        device: Device of the computation.
        samples_only: Whether to leave out evaluations that need the data.
        speed: Whether to measure also the seconds per sample, which depend on this machine.
        refuse_unused: Whether arguments without an effect are an error.

    Returns:
        Values by names that contain the protocol.

    Raises:
        ZooError: If it cannot be measured; the message names what is missing.
        UsageError: If ``refuse_unused``, and an argument was given that no evaluation of this checkpoint uses.
    """
    module = load_folder(card.path, card.name, device=device)
    if not module.has_data_spec:
        raise ZooError(f"{card.name} cannot be measured: its data are not recorded.")
    chosen = {
        name: evaluation
        for name, evaluation in EVALUATIONS.items()
        if evaluation.applies(module) and not (samples_only and evaluation.needs_data)
    }
    if refuse_unused:
        given = {"num-samples": num_samples, "extractor": extractor, "data-dir": data_dir}
        _refuse_unused(card, module, chosen, {name for name, value in given.items() if value is not None})
    request = Request(card, module, num_samples, extractor, data_dir, seed, device, samples_only)
    values: dict[str, float] = {}
    left_out: dict[str, LeftOut] = {}
    for evaluation in chosen.values():
        try:
            values |= evaluation.measure(request)
        except LeftOut as error:  # such as no extractor of own images; other metrics do not need it
            left_out[str(error)] = error  # once, though several evaluations lack it
    for reason in left_out.values():
        if not values:
            raise reason
        what = "Samples were not compared with images. " if isinstance(reason, NoExtractor) else ""
        warnings.warn(f"{what}{reason}", stacklevel=2)
    if speed and isinstance(module, GenerativeModule):
        values |= sampling_speed(request)
    if getattr(vars(request).get("datamodule"), "tests_on_training", False):
        warnings.warn(f"{card.name} was trained on all of its images: these are measured, as train/.", stacklevel=2)
        return {name.replace(f"{SPLIT}/", "train/", 1): value for name, value in values.items()}
    return values


def _refuse_unused(card: Card, module: Any, chosen: Mapping[str, Evaluation], given: set[str]) -> None:
    """Raises ``UsageError`` for an argument that was given and that no chosen evaluation uses."""
    of_data = "images" in chosen or any(evaluation.needs_data for evaluation in chosen.values())
    used = {
        "extractor": bool({"images", "classes", "counterfactuals"} & chosen.keys()),
        "num-samples": bool({"images", "styles", "points", "sequences", "counterfactuals"} & chosen.keys()),
        "data-dir": of_data and module.data_spec.kind != "points",
    }
    if unused := [name for name in sorted(given) if not used[name]]:
        what = f"{card.name}, a {card.method} of {card.data}"
        raise UsageError(f"--{unused[0]} has no effect on the evaluation of {what}: leave it out.")


def run_test(module: LightningModule, datamodule: LightningDataModule, device: str) -> dict[str, float]:
    """Returns the values that ``Trainer.test`` logs."""
    place = torch.device(device)
    with without_advice():
        trainer = Trainer(
            accelerator=place.type,
            devices=1 if place.index is None else [place.index],
            logger=False,
            enable_model_summary=False,
            enable_progress_bar=sys.stdout.isatty(),
        )
        (values,) = trainer.test(module, datamodule, verbose=False)
    return {name: float(value) for name, value in values.items()}
