"""What a card keeps of its data: enough to build the datamodule again, and nothing that a stranger could misuse.

A card names the class of the datamodule, its plain arguments and, for the user's own files, their digest; it never
holds their path. Where files of a digest lie is remembered on the machine that trained on them, outside of any
checkpoint. So a card from elsewhere cannot make this machine read a file: the user has to name it.
"""

import json
import math
import os
import re
import shlex
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import datamodules
from datamodules.datamodule import ZooDataModule
from datamodules.images.captioned_folder import CaptionedFolder
from datamodules.images.folder import ImageFolder
from datamodules.sequences.text import TextDataModule
from datamodules.spec import BYTES, DataSpec
from lightning_modules.metrics.reference_statistics import statistics_cache
from lightning_modules.runtime.resuming import CLI_KEYS
from zoo.bounds import check_bounds
from zoo.cards import Card
from zoo.errors import ZooError
from zoo.json_values import not_plain

SEARCHED = "data_dir"
"""The argument of public data that says where to look first."""
MOST_NUMBERS = 2**28
"""Numbers in all examples that a card may have generated."""
SMALL = 1024
"""Largest number of a datamodule that is no number of examples, of pixels or of steps: modes, classes, symbols."""


def record_of(datamodule: Any) -> dict[str, Any] | None:
    """Returns the class, arguments and digest of a datamodule for a card, and remembers where the user's own data lie.

    ``None`` is returned for what cannot be built again by these: other classes than those of ``datamodules``.
    """
    name = type(datamodule).__name__
    if datamodules.DATAMODULES.get(name) is not type(datamodule):
        return None
    record = {"class": name, "arguments": plain_arguments(name, datamodule.hparams), "digest": None}
    if not_plain(record):
        return None
    if datamodule.own_argument is not None:
        with suppress(OSError, ValueError):  # data that have been removed since cannot be known again
            record["digest"] = datamodule.digest()
            remember(str(record["digest"]), Path(datamodule.hparams[datamodule.own_argument]))
    return record


def plain_arguments(name: str, hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments of a datamodule without those that say where data lie."""
    places = (*CLI_KEYS, SEARCHED, datamodules.DATAMODULES[name].own_argument)
    return {key: value for key, value in json_like(hyperparameters).items() if key not in places}


def json_like(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns arguments with lists in place of tuples, as they are in a file."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def remember(digest: str, path: Path) -> None:
    """Notes on this machine where data of a digest lie; does nothing where the cache cannot be written."""
    note = _note(digest)
    with suppress(OSError):
        note.parent.mkdir(parents=True, exist_ok=True)
        partial = note.with_name(f".{note.name}.{os.getpid()}")
        partial.write_text(json.dumps(str(path.expanduser().absolute())), encoding="utf-8")
        os.replace(partial, note)


def remembered(digest: str) -> Path | None:
    """Returns where data of a digest lie, if they were trained on by this user on this machine."""
    try:
        return Path(json.loads(_note(digest).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _note(digest: str) -> Path:
    if not re.fullmatch("[0-9a-f]{64}", digest):
        raise ZooError(f"{digest[:80]!r} is not the digest of any data.")
    return statistics_cache().with_name("data") / digest


def rebuilt(card: Card, data_dir: str | None = None) -> Any:
    """Builds the datamodule that a card describes.

    Args:
        card: The checkpoint.
        data_dir: Where its data lie: for the user's own data the folder, or the file of a text. Without it, public data
            are searched, and own data are taken from where they lay in training if they are still the same.

    Raises:
        ZooError: If the card describes none, the user's own data are not known here, or they do not fit the model.
    """
    record = card.datamodule or {}
    name, arguments = record.get("class"), dict(record.get("arguments", {}))
    kind: Any = datamodules.DATAMODULES.get(str(name))
    if kind is None:
        known = ", ".join(sorted(datamodules.LOCATIONS))
        raise ZooError(f"{card.name} was trained on data of the class {name!r}, which is none of {known}.")
    if places := sorted({SEARCHED, str(kind.own_argument)} & set(arguments)):
        raise ZooError(f"The card of {card.name} says where its data lie ({places[0]}), which no card may.")
    _check_arguments(card, kind, arguments)
    digest = record.get("digest")
    if kind.own_argument is not None:
        arguments[kind.own_argument] = str(_place(card, kind, arguments, data_dir))
    elif data_dir is not None:
        if SEARCHED not in kind.__init__.__annotations__:
            raise ZooError(f"{card.name} was trained on {name}, which is not read from files: leave out --data-dir.")
        arguments[SEARCHED] = data_dir
    datamodule = _built(card, kind, arguments)
    if kind.own_argument is not None:
        _prepare_own(card, datamodule, None if data_dir is None else digest)
    _check_spec(card, datamodule, generated=kind.own_argument is None and SEARCHED not in arguments)
    return datamodule


def is_own(card: Card) -> bool:
    """Returns whether a model was trained on files of its maker's own."""
    if card.datamodule is not None:
        kind = datamodules.DATAMODULES.get(card.datamodule["class"])
        return kind is not None and kind.own_argument is not None
    named = {getattr(kind, "name", None) for kind in datamodules.DATAMODULES.values()}
    return card.recipe is None and card.data not in named


def rebuilt_from_spec(card: Card, path: str) -> Any:
    """Builds the datamodule of own data that a card of a former version does not describe; ``None`` if it cannot."""
    spec = None if card.data_spec is None else DataSpec.from_json(card.data_spec)
    if spec is None:
        return None
    if spec.is_text:
        arguments: dict[str, Any] = {"symbols": "bytes" if spec.vocabulary == BYTES else "characters"}
        record = {"class": "TextFile", "arguments": arguments | {"window": max(spec.shape[0], 2)}}
    elif spec.kind == "image" and spec.shape[1] == spec.shape[2]:
        forms = {"binarize": spec.is_binarized, "dequantize": spec.is_dequantized, "grey": spec.shape[0] == 1}
        folder = "ImageFolder" if card.hyperparameters.get("num_words") is None else "CaptionedFolder"
        record = {"class": folder, "arguments": {"image_size": spec.shape[1], **forms}}
    else:
        return None
    return rebuilt(replace(card, datamodule=record), path)


def _place(card: Card, kind: type[ZooDataModule], arguments: Mapping[str, Any], data_dir: str | None) -> Path:
    if data_dir is not None:
        return Path(data_dir).expanduser()
    digest = (card.datamodule or {}).get("digest")
    path = None if digest is None else remembered(str(digest))
    what = "the folder" if issubclass(kind, ImageFolder) else "the file"
    if path is None:
        raise ZooError(
            f"{card.name} was trained on data of its maker's own, {card.data!r}, and this machine does not know where "
            f"they lie: give {what} with --data-dir."
        )
    try:
        found = _built(card, kind, {**arguments, str(kind.own_argument): str(path)}).digest()
    except (OSError, ValueError) as error:
        raise ZooError(
            f"{card.name} was trained on {path}, which cannot be read now ({error}): give {what} with --data-dir."
        ) from error
    if found != digest:
        raise ZooError(
            f"{card.name} was trained on {path}, which has changed since: to measure with what is there now, name it "
            f"with --data-dir {shlex.quote(str(path))}."
        )
    return path


def _check_arguments(card: Card, kind: type[ZooDataModule], arguments: Mapping[str, Any]) -> None:
    """Refuses numbers of a stranger's card that would make a datamodule slow or large before its data are read."""
    check_bounds(kind.__name__, {key: value for key, value in arguments.items() if key != "seed"})
    for key, value in arguments.items():
        values = value if isinstance(value, list) else [value]
        large = [x for x in values if type(x) is int and abs(x) > SMALL]
        if large and not key.endswith(("size", "window", "length", "seed")):
            raise ZooError(f"{card.name}: its card has {key}={large[0]} for its data, more than {SMALL}.")


def _built(card: Card, kind: Any, arguments: Mapping[str, Any]) -> Any:
    try:
        return kind(**arguments)
    except Exception as error:  # with untrusted values a constructor can fail in any way
        raise ZooError(f"{card.name}: its {kind.__name__} cannot be built from its card: {error}") from error


def _prepare_own(card: Card, datamodule: Any, digest: str | None) -> None:
    """Gives own data the vocabulary of training, and what to test on; says if they are others than those of training.

    A model that was trained on all images of a folder is tested on these, which is marked by ``tests_on_training``, or
    on all images of another folder.
    """
    try:
        others = digest is not None and datamodule.digest() != digest
        vocabulary = tuple((card.data_spec or {}).get("vocabulary", ()))
        if isinstance(datamodule, TextDataModule) and vocabulary:
            datamodule.spec = replace(datamodule.spec, vocabulary=vocabulary)
            datamodule.evaluation_streams = 1  # the held-out part of a short text makes few long sequences
        if isinstance(datamodule, CaptionedFolder) and card.hyperparameters.get("num_words") is not None:
            take_words(datamodule, vocabulary, card.name)
    except OSError as error:
        raise ZooError(f"The data of {card.name} cannot be read: {error}") from error
    if others:
        warnings.warn(
            f"These are other data than {card.name} was trained on, or they have changed: their held-out part is not "
            "the one of training.",
            stacklevel=4,
        )
    if isinstance(datamodule, ImageFolder) and datamodule.held_out("test") == 0:
        datamodule.setup()
        datamodule.sources["test"] = datamodule.sources["train"]
        datamodule.tests_on_training = not others


def take_words(datamodule: CaptionedFolder, vocabulary: tuple[str, ...], name: str) -> None:
    """Gives captions the tokens that a model was trained with.

    Args:
        datamodule: The captions.
        vocabulary: The words that the model was trained on; none where they are not recorded.
        name: Name of the model.

    Raises:
        ZooError: If the captions have other words.
    """
    if not vocabulary:
        return
    if unknown := [word for word in datamodule.spec.vocabulary if word not in set(vocabulary)]:
        raise ZooError(
            f"{name} was not trained on {len(unknown)} word(s) of the captions in {datamodule.folder}: "
            f"{_listed(tuple(unknown))}. Describe the images in its words, or train a new model on them."
        )
    datamodule.spec = replace(datamodule.spec, vocabulary=vocabulary)


def _check_spec(card: Card, datamodule: Any, generated: bool) -> None:
    spec: DataSpec = datamodule.spec
    if card.data_spec is None:
        return
    trained = DataSpec.from_json(card.data_spec)
    if spec.kind != trained.kind or (spec.kind in ("image", "points") and spec.shape != trained.shape):
        raise ZooError(
            f"{card.name} was trained on {trained.kind} of shape {list(trained.shape)}, but the data are {spec.kind} "
            f"of shape {list(spec.shape)}."
        )
    if card.hyperparameters.get("num_classes") is not None and spec.class_names != trained.class_names:
        raise ZooError(
            f"{card.name} was trained on the classes {_listed(trained.class_names)}, but the data have "
            f"{_listed(spec.class_names)}."
        )
    numbers = (
        math.prod(spec.shape)
        * sum(
            value for key, value in datamodule.hparams.items() if key in ("size", "train_size", "val_size", "test_size")
        )
        if generated
        else 0
    )
    if numbers > MOST_NUMBERS:
        raise ZooError(f"{card.name}: its card has {numbers} numbers generated as data, more than {MOST_NUMBERS}.")


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "") or "of no name"
