"""Samples for ``python -m zoo sample``, its files, and checks of its options."""

import inspect
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from datamodules.sequences.vocabulary import encode
from lightning_modules.parts.files import replace_file
from lightning_modules.rendering.modules import (
    render_continuations,
    render_held_out_continuations,
    render_samples,
    rendered_as,
)
from lightning_modules.rendering.renderers import Renderer, Rendering
from zoo.cards import Card
from zoo.data import held_out_sequences
from zoo.errors import ZooError


def sampled(
    card: Card,
    module: Any,
    *,
    num: int | None = None,
    seed: int = 0,
    labels: Sequence[int] | None = None,
    captions: Sequence[str] = (),
    prefix: str | None = None,
    prime: int | None = None,
    settings: Mapping[str, Any] | None = None,
    data_dir: str | None = None,
) -> Rendering:
    """Samples a module or continues a prefix, and renders the result.

    Args:
        card: The checkpoint.
        module: Its module.
        num: Number of samples; by default that of the renderer, or one for each label or caption if these are more.
        seed: Seed of all random numbers.
        labels: Class labels, used in turn.
        captions: Captions, used in turn.
        prefix: Text to continue.
        prime: Number of first steps of held-out examples to continue.
        settings: Further arguments of the method's ``sample`` or ``continue_sequence``, such as ``temperature``.
        data_dir: Folder of the data, if they are needed; searched by default.

    Raises:
        ZooError: If the method does not support the request.
        ValueError: If an argument is out of range, or the prefix has unknown characters.
    """
    if not hasattr(module, "sample"):
        raise ZooError(f"{card.name} is a {card.method}, which does not sample.")
    renderer, settings = rendered_as(module), settings or {}
    generator = Generator().manual_seed(seed)
    if not prefix and prime is None:
        if prefix is not None:
            _check_text(card, module)
        _check_arguments(card, module.sample, settings)
        _warn_of_steps(card, module, settings)
        chosen = None
        if captions:
            if getattr(module, "num_words", None) is None:
                raise ZooError(f"{card.name} is a {card.method} without captions: leave out --caption.")
            num = num or max(renderer.num, len(captions), len(labels or ()))
        if labels is not None:
            num = num or max(renderer.num, len(labels))
            chosen = _in_turn(labels, num)
        return render_samples(module, num, generator, chosen, captions=captions, **settings)
    if captions:
        raise ZooError("--caption describes samples; it has no effect with --prefix or --prime.")
    if not hasattr(module, "continue_sequence"):
        raise ZooError(f"{card.name} is a {card.method}, which does not continue sequences.")
    if labels is not None and getattr(module, "num_classes", None) is None:
        raise ZooError(f"{card.name} is a {card.method} without classes: leave out --labels.")
    _check_arguments(card, module.continue_sequence, settings)
    if prefix:
        _check_text(card, module)
        tokens, num = encode(prefix, module.data_spec.vocabulary), num or renderer.num
        if labels is not None:
            settings = {**settings, "labels": _in_turn(labels, num)}
        return render_continuations(module, tokens, num, generator, **settings)
    assert prime is not None
    truth = held_out_sequences(card, num or renderer.num_continued, prime, data_dir)
    if labels is not None:
        settings = {**settings, "labels": _in_turn(labels, len(truth), renderer.each)}
    return render_held_out_continuations(module, truth, prime, generator, **settings)


def targets(card: Card, renderer: Renderer, out: str | None, name: str) -> list[Path]:
    """Returns the files to write: ``out``, or those of the renderer; for text only the text file.

    Args:
        card: The checkpoint.
        renderer: Renderer of its samples.
        out: A file, or ``None``.
        name: Stem of the files' names if ``out`` is ``None``.

    Raises:
        ZooError: If samples of this kind cannot be written to a file with that extension.
    """
    if out is None:
        extensions = [".txt"] if renderer.extension == ".txt" else renderer.extensions
        return [Path(name + extension) for extension in extensions]
    if (extension := Path(out).suffix.lower()) not in renderer.extensions:
        raise ZooError(
            f"--out {out} ends in {extension or 'nothing'!r}, but samples of {card.name} are written as "
            f"{' or '.join(renderer.extensions)}."
        )
    return [Path(out)]


def write(rendering: Rendering, path: Path) -> None:
    """Writes the file of a rendering in the format of its extension, and creates missing folders."""
    replace_file(path, rendering.content(path.suffix.lower()))


def _check_text(card: Card, module: Any) -> None:
    if not module.has_data_spec or not module.data_spec.is_text:
        raise ZooError(f"{card.name} is a {card.method} of {card.data}, which is not text: --prefix is for text.")


def _in_turn(labels: Sequence[int], num: int, each: int = 1) -> Tensor:
    """Returns labels, used in turn, int64 (num * each,); ``each`` is the number of continuations of an example."""
    if len(labels) > num * each:
        times = f" times {each} continuations" if each > 1 else ""
        raise ZooError(f"--labels has {len(labels)} classes, more than --num {num}{times}: ask for as many samples.")
    return torch.tensor([labels[i % len(labels)] for i in range(num * each)])


def _warn_of_steps(card: Card, module: Any, settings: Mapping[str, float]) -> None:
    steps, trained = settings.get("steps"), getattr(module, "steps", None)
    if hasattr(module, "run_chain") and steps not in (None, trained) and steps >= 0:
        sampling = "0 steps, ancestral sampling, yield" if steps == 0 else f"{steps} steps yield"
        warnings.warn(
            f"{card.name} was trained with {trained} steps of its chain: {sampling} another distribution.", stacklevel=3
        )


def _check_arguments(card: Card, call: Any, settings: Mapping[str, float]) -> None:
    known = inspect.signature(call).parameters
    for name in settings:
        if name not in known:
            raise ZooError(f"{card.name} is a {card.method}, whose sampling has no option {name.replace('_', '-')}.")
