"""Counterfactual figures of models of captioned emoji: what they draw for captions that training held out.

Each unseen caption is asked together with a seen partner, from the same random numbers, so that their difference does
not come from luck. All figures are shares of captions, with one sample for each; see ``metrics.counterfactuals``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from datamodules.captions import caption_tokens
from datamodules.images.emoji import CATEGORIES, Emoji
from datamodules.images.emoji_attributes import NONE, Attributes, attribute_indices
from datamodules.images.emoji_counterfactuals import seen_partners, tone_variants
from lightning_modules.metrics.classifier import UNKNOWN, Classifier
from lightning_modules.metrics.counterfactuals import (
    estimate,
    group_indices,
    named,
    nearer_than_seen,
    nearest_seen,
    nearest_variant,
    retrieved,
)
from lightning_modules.metrics.names import metric_name
from lightning_modules.metrics.protocol import (
    BLOCK_SIZE,
    Extracted,
    block_generator,
    check_extractor_fits,
    device_of,
    extract_images,
    in_blocks,
    undisturbed,
)
from lightning_modules.parts.quantization import to_uint8
from zoo.data import SPLIT
from zoo.evaluation_request import LeftOut, Request

PREFIX = "counterfactual_"
CATEGORY, NEARER, NEAREST_TONE, RETRIEVED = "category", "nearer", "nearest_tone", "retrieved"
NUM_RETRIEVED = (1, 5)
"""Numbers of nearest real images among which the truth is looked for."""
UNSEEN, SEEN, DIFFERENCE, REAL, NEIGHBOUR, ERROR = "unseen", "seen", "difference", "real", "neighbour", "standard_error"
"""What a figure is of: unseen or seen captions, their difference, real images, seen neighbours; or its error."""


@dataclass(frozen=True)
class RealEmoji:
    """All real images of a data set, those of training first.

    Attributes:
        images: uint8 (M, C, H, W).
        shown: What each of them shows.
        num_seen: Number of training images.
        features: Their features, (M, D).
        logits: Their logits of classes, (M, K).
    """

    images: Tensor
    shown: Sequence[Attributes]
    num_seen: int
    features: Tensor
    logits: Tensor


def draws_captioned_emoji(module: Any) -> bool:
    """Returns whether a module draws emoji for captions."""
    return getattr(module, "num_words", None) is not None and module.data_spec.name == Emoji.name


def counterfactuals(request: Request) -> dict[str, float]:
    """Returns all counterfactual figures of a model, with their standard errors; of other data than emoji none.

    Raises:
        LeftOut: If the extractor was trained on other emoji, or too few captions are asked.
        ValueError: If the extractor does not take such images, or a sample is not finite.
    """
    datamodule = request.datamodule
    if not isinstance(datamodule, Emoji):  # a folder of the user's own may have the name
        return {}
    check_extractor_fits(request.feature_extractor, request.module.data_spec)
    check_saw_no_truth(request.feature_extractor, datamodule)
    real = real_emoji(datamodule, request.feature_extractor)
    pairs = pairs_of(datamodule, request.num_samples)
    asked = {UNSEEN: pairs[:, 0], SEEN: pairs[:, 1]}
    made = {
        side: extract_images(
            request.feature_extractor, sampled(request.module, [real.shown[i] for i in places.tolist()], request.seed)
        )
        for side, places in asked.items()
    }
    return figures(request.feature_extractor, real, asked, made)


def check_saw_no_truth(extractor: Any, datamodule: Emoji) -> None:
    """Raises ``LeftOut`` for a classifier of emoji of another split, style, size or background than the data.

    What is held out of the data may be among the images that it was trained on, and it would name what it remembers.
    """
    if not isinstance(extractor, Classifier) or not extractor.has_data_spec or extractor.data_spec.name != Emoji.name:
        return
    trained, held_out = (
        spec.preprocessing.removesuffix("-dequantized")  # noise that was added to the same images
        for spec in (extractor.data_spec, datamodule.spec)
    )
    if trained != held_out:
        raise LeftOut(
            f"Counterfactual figures are left out: the classifier {extractor.extractor_name} was trained on emoji as "
            f"{trained!r} and may have seen what these data, {held_out!r}, hold out; give --extractor, a classifier of "
            "the latter."
        )


def real_emoji(datamodule: Emoji, extractor: Any) -> RealEmoji:
    """Returns all images of a data set with their features."""
    shown = [one for split in ("train", "val", "test") for one in datamodule.attributes(split)]
    images = datamodule.images("all")[0]
    extracted = extract_images(extractor, images)
    num_seen = len(datamodule.attributes("train"))
    return RealEmoji(images, shown, num_seen, extracted.features, extracted.logits)


def pairs_of(datamodule: Emoji, num_samples: int | None = None) -> Tensor:
    """Returns unseen images, each with its seen partner, as indices into all real images, int64 (N, 2).

    Args:
        datamodule: The data.
        num_samples: Number of samples that may be made, two for each pair; ``None`` for all pairs, else as many, chosen
            at random with a fixed seed.

    Raises:
        LeftOut: If all pairs are of one person in one role, or of none, so that no error can be estimated.
    """
    seen, val, unseen = (datamodule.attributes(split) for split in ("train", "val", "test"))
    first = len(seen) + len(val)
    partners = enumerate(seen_partners(unseen, seen))
    pairs = torch.tensor([(first + place, partner) for place, partner in partners if partner is not None])
    if num_samples is not None and num_samples < 2 * len(pairs):
        chosen = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(0))[: num_samples // 2]
        pairs = pairs[chosen.sort().values]
    groups = {group_of(unseen[pair[0] - first]) for pair in pairs.tolist()}
    if len(groups) < 2:
        raise LeftOut(
            f"Counterfactual figures are left out: num_samples={num_samples} asks for {len(pairs)} pairs of an unseen "
            f"and a seen caption in split={datamodule.split!r}, of {len(groups)} person(s) and role(s), and a standard "
            "error needs two: give more, at least 4, or another split."
        )
    return pairs


def group_of(one: Attributes) -> tuple[str, str]:
    """Returns the person and the role of an image; values of one group depend on each other."""
    return one.person, one.role


def sampled(module: Any, shown: Sequence[Attributes], seed: int) -> Tensor:
    """Returns a sample for each caption, uint8 (N, C, H, W), in blocks whose random numbers depend on the seed alone.

    Raises:
        ValueError: If a sample is NaN or infinite.
    """

    def work(block: int) -> Sequence[Tensor] | None:
        part = shown[block * BLOCK_SIZE : (block + 1) * BLOCK_SIZE]
        samples = asked_for(module, part, block_generator(seed, block))
        return (to_uint8(samples, module.data_spec.value_range),) if samples.isfinite().all() else None

    with undisturbed(module):
        (samples,) = in_blocks(len(shown), work)
    return samples


def asked_for(module: Any, shown: Sequence[Attributes], generator: torch.Generator) -> Tensor:
    """Returns a sample for each caption, and for its category where the model takes classes too."""
    tokens = caption_tokens([one.caption for one in shown], module.data_spec)  # as text, unseen words would be refused
    classes = torch.tensor([CATEGORIES.index(one.category) for one in shown])
    given = {} if module.num_classes is None else {"labels": classes}
    samples: Tensor = module.sample(len(shown), captions=tokens, generator=generator, **given)
    return samples


def figures(
    extractor: Any, real: RealEmoji, asked: Mapping[str, Tensor], made: Mapping[str, Extracted]
) -> dict[str, float]:
    """Returns the figures of samples, without those of captions of a single group, which have no standard error.

    Args:
        extractor: The feature extractor; attributes are named by a ``Classifier`` that tells them.
        real: The real images.
        asked: For ``"unseen"`` and ``"seen"`` the real images whose captions were asked for, int64 (N,).
        made: The features and logits of the samples for these.
    """
    shown = {side: [real.shown[place] for place in places.tolist()] for side, places in asked.items()}
    truth = {side: Extracted(real.features[places], real.logits[places]) for side, places in asked.items()}
    neighbours = {side: _neighbours(real, places) for side, places in asked.items()}
    values, scale = dict[str, dict[str, Tensor]](), dict[str, Tensor]()
    for side, places in asked.items():
        values[side] = attributes_named(extractor, made[side], shown[side])
        named_in_real = attributes_named(extractor, truth[side], shown[side])
        scale |= {f"{name}_{side}_{REAL}": value for name, value in named_in_real.items()}
        features, neighbour = made[side].features, real.features[neighbours[side]]
        values[side][NEARER] = nearer_than_seen(features, truth[side].features, neighbour)
        values[side][NEAREST_TONE] = _nearest_tone(real, features, places)
        scale[f"{NEAREST_TONE}_{side}_{NEIGHBOUR}"] = _nearest_tone(real, neighbour, places)
        for k in NUM_RETRIEVED:
            values[side][f"{RETRIEVED}_{k}"] = retrieved(features, real.features, places, k)
            scale[f"{RETRIEVED}_{k}_{side}_{NEIGHBOUR}"] = retrieved(neighbour, real.features, places, k)
    groups = group_indices([group_of(one) for one in shown[UNSEEN]])
    everything = dict[str, Tensor]()
    for name, unseen in values[UNSEEN].items():
        seen = values[SEEN][name]
        everything |= {f"{name}_{UNSEEN}": unseen, f"{name}_{SEEN}": seen, f"{name}_{DIFFERENCE}": unseen - seen}
    found = dict[str, float]()
    for name, value in (everything | scale).items():
        if len(groups[~value.isnan()].unique()) < 2:
            continue
        mean, error, num = estimate(value, groups)
        found[metric_name(SPLIT, PREFIX + name, extractor.extractor_name, num)] = mean
        found[metric_name(SPLIT, f"{PREFIX}{name}_{ERROR}", extractor.extractor_name, num)] = error
    return found


def attributes_named(extractor: Any, extracted: Extracted, shown: Sequence[Attributes]) -> dict[str, Tensor]:
    """Returns whether a classifier names what each caption asks for, (N,) by attribute; see ``named``.

    An attribute that a caption does not mention is not asked for. Without a classifier of attributes it is empty.
    """
    if not isinstance(extractor, Classifier) or not extractor.attribute_sizes:
        return {}
    values = extractor.data_spec.attributes
    asked = attribute_indices(shown, values)
    with torch.no_grad():
        logits = extractor.attribute_logits(extracted.features.to(device_of(extractor)))
    found = {CATEGORY: named(extracted.logits, torch.tensor([CATEGORIES.index(one.category) for one in shown]))}
    for place, (name, known) in enumerate(values):
        wanted = asked[:, place]
        found[name] = named(
            logits[name].cpu(), wanted.masked_fill(wanted == 0, UNKNOWN) if known[0] == NONE else wanted
        )
    return found


def _neighbours(real: RealEmoji, places: Tensor) -> Tensor:
    """Returns the seen images that are nearest to real ones, other than these themselves, int64 (N,)."""
    own = torch.where(places < real.num_seen, places, UNKNOWN)
    return nearest_seen(real.features[places], real.features[: real.num_seen], own)


def _nearest_tone(real: RealEmoji, features: Tensor, places: Tensor) -> Tensor:
    """Returns whether the truth is the nearest of its five skin tones, (N,), NaN where it has none."""
    variants = tone_variants([real.shown[place] for place in places.tolist()], real.shown)
    values = torch.full((len(places),), torch.nan, dtype=torch.float64)
    rows = torch.tensor([row for row, found in enumerate(variants) if found], dtype=torch.int64)
    if len(rows):
        indices = torch.tensor([found for found in variants if found])
        truth = (indices == places[rows, None]).int().argmax(1)
        values[rows] = nearest_variant(features[rows], real.features[indices], truth)
    return values
