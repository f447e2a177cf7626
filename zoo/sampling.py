"""What ``python -m zoo sample`` draws, and which of its wishes a method can fulfil."""

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Generator

from datamodules.vocabulary import encode
from zoo.cards import Card
from zoo.drawing import continue_held_out, continue_prefix, draw_samples, shown_as
from zoo.errors import ZooError
from zoo.evaluation import held_out_sequences
from zoo.exhibits import Exhibit, Medium, is_text


def drawn(
    card: Card,
    module: Any,
    *,
    num: int | None = None,
    seed: int = 0,
    labels: Sequence[int] | None = None,
    prefix: str | None = None,
    prime: int | None = None,
    settings: Mapping[str, float] | None = None,
    data_dir: str | None = None,
) -> Exhibit:
    """Draws samples, or goes on from a beginning, as asked.

    Args:
        card: The checkpoint.
        module: Its module.
        num: How many; by default as many as make a good exhibit.
        seed: Seed of all randomness.
        labels: Classes to draw in turn.
        prefix: Text to go on from.
        prime: Goes on from the first so many steps of held-out examples.
        settings: Further arguments of the method's ``sample`` or ``continue_sequence``, as ``temperature``.
        data_dir: Where the data are, if they are needed; searched by default.

    Raises:
        ZooError: If the method cannot do what was asked.
        ValueError: If an argument is out of range, or the prefix has unknown characters.
    """
    if not hasattr(module, "sample"):
        raise ZooError(f"{card.name} is a {card.method}, which does not sample.")
    medium, settings = shown_as(module), settings or {}
    generator = Generator().manual_seed(seed)
    if not prefix and prime is None:
        if prefix is not None:
            _check_text(card, module)
        _check_arguments(card, module.sample, settings)
        chosen = None
        if labels is not None:
            num = num or medium.num
            chosen = torch.tensor([labels[i % len(labels)] for i in range(num)])
        return draw_samples(module, num, generator, chosen, **settings)
    if not hasattr(module, "continue_sequence"):
        raise ZooError(f"{card.name} is a {card.method}, which does not go on from a beginning.")
    if labels is not None:
        raise ZooError(f"{card.name} is a {card.method}, which goes on from a beginning without labels.")
    _check_arguments(card, module.continue_sequence, settings)
    if prefix:
        _check_text(card, module)
        tokens = encode(prefix, module.data_spec.vocabulary)
        return continue_prefix(module, tokens, num or medium.num, generator, **settings)
    assert prime is not None
    truth = held_out_sequences(card, num or medium.continued, prime, data_dir)
    return continue_held_out(module, truth, prime, generator, **settings)


def targets(card: Card, medium: Medium, out: str | None, name: str) -> list[Path]:
    """Returns the files to write: the one asked for, or those of the medium; of text the text alone.

    Args:
        card: The checkpoint.
        medium: How its samples are shown.
        out: The file asked for.
        name: Begins the names of the files otherwise.

    Raises:
        ZooError: If samples of this kind are not written to such files.
    """
    if out is None:
        extensions = [".txt"] if medium.extension == ".txt" else medium.extensions
        return [Path(name + extension) for extension in extensions]
    if (extension := Path(out).suffix.lower()) not in medium.extensions:
        raise ZooError(
            f"--out {out} ends in {extension or 'nothing'!r}, but what {card.name} samples is written as "
            f"{' or '.join(medium.extensions)}."
        )
    return [Path(out)]


def write(exhibit: Exhibit, path: Path) -> None:
    """Writes the file of an exhibit that the end of its name says; folders on the way are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(exhibit.content(path.suffix.lower()))


def _check_text(card: Card, module: Any) -> None:
    if module.data_spec is None or not is_text(module.data_spec):
        raise ZooError(f"{card.name} is a {card.method} of {card.data}, which is no text: it can be given no --prefix.")


def _check_arguments(card: Card, call: Any, settings: Mapping[str, float]) -> None:
    known = inspect.signature(call).parameters
    for name in settings:
        if name not in known:
            raise ZooError(f"{card.name} is a {card.method}, whose samples have no {name.replace('_', '-')}.")
