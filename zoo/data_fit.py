"""Fits a recipe to other data than its own before anything is built: shape, classes, vocabulary and range.

Whoever gives ``--data ImageFolder --data.data_dir pics`` need not type the shape of the images. What the data decide is
taken from their spec; a hyperparameter on the command line is kept, and refused if it contradicts the data.
"""

import inspect
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datamodules
import lightning_modules
from datamodules import ImageFolder, TextFile
from datamodules.spec import DataSpec
from lightning_modules.base import ZooModule
from zoo.cards import Card, card
from zoo.errors import UnknownNameError, ZooError
from zoo.loading import build
from zoo.recipe import LOADERS

SIZES = ("shape", "step_shape", "vocabulary_size", "num_classes", "num_styles")
"""Hyperparameters that have to be those of the data, beside ``num_words``."""
NUMBERS_OF_EXAMPLES = frozenset(("size", "train_size", "val_size", "test_size"))
SHORTHANDS = {"--data.root": "--data.data_dir"}
"""Options under the names of other libraries."""


def full_names(overrides: Sequence[str]) -> list[str]:
    """Returns arguments of the command line with full names for ``--data ImageFolder`` and ``--data.root``."""
    found = []
    for word, before in zip(overrides, ["", *overrides], strict=False):
        option, equals, value = word.partition("=")
        option = SHORTHANDS.get(option, option)
        if before in ("--data", "--data.class_path") and word in datamodules.LOCATIONS:
            option = f"datamodules.{word}"
        if option in ("--data", "--data.class_path") and value in datamodules.LOCATIONS:
            value = f"datamodules.{value}"
        found.append(option + equals + value)
    return found


class Fit:
    """Compares a config with the data that it names, and changes what follows from these.

    Args:
        config: The whole configuration, as LightningCLI has parsed it; it is changed in place by ``apply``.
        recipe: Content of the recipe's file.
        overrides: Arguments of the command line.
    """

    def __init__(self, config: Any, recipe: Mapping[str, Any], overrides: Sequence[str]) -> None:
        self.config, self.recipe, self.overrides = config, recipe, overrides
        self.lines: list[str] = []

    @property
    def has_other_data(self) -> bool:
        """Whether the command line says where the data are, or chooses another class than the recipe."""
        stated = _class_name(_part(self.recipe, "data").get("class_path"))
        return self.data_class is not None and (
            self.data_class.__name__ != stated or self._is_given("data", str(self.data_class.own_argument))
        )

    @property
    def data_class(self) -> Any:
        """The class of the data if it is one of ``datamodules``, else ``None``."""
        return _named(self.config["data"], "datamodules", datamodules.LOCATIONS, lambda: datamodules.DATAMODULES)

    @property
    def method(self) -> type[ZooModule] | None:
        """The class of the model if it is one of ``lightning_modules``, else ``None``."""
        methods = lightning_modules.METHODS
        return _named(self.config["model"], "lightning_modules", methods, lambda: methods)

    def apply(self) -> DataSpec | None:
        """Changes the config, and returns the spec of the data; ``None`` where model or data are of other classes.

        Raises:
            ZooError: If model and data contradict each other; the message says what can be changed.
            ValueError: If the data cannot be described, such as a folder without images.
        """
        if self.data_class is None or self.method is None:
            return None
        self._forget_sizes()
        datamodule = self.data_class(**_plain(self.config["data"].init_args))
        spec: DataSpec = datamodule.spec
        try:
            self.method.check_kind(spec)
            required = self._required(spec)
        except ValueError as error:
            raise ZooError(str(error)) from error
        own = _plain(self.config["model"].init_args)
        differing = {key: value for key, value in required.items() if own.get(key) != value}
        may_change = any(word.startswith("--data") for word in self.overrides)
        stated = _part(self.recipe, "model").get("init_args") or {}
        fixed = [k for k in differing if self._is_given("model", k) or (k in stated and not may_change)]
        if fixed:
            raise ZooError(self._contradiction(spec, {key: own.get(key) for key in fixed}, differing))
        self._set(differing, spec)
        self._set_choices(spec)
        self._check_loaded(spec)
        self._check_callbacks(spec, may_change)
        if self.has_other_data and not self._is_given("data", "batch_size"):
            self._shrink_batches(datamodule)
        return spec

    def _forget_sizes(self) -> None:
        """Sets the numbers of examples, which the recipe states for its own data, to the defaults of other data."""
        stated = _part(self.recipe, "data")
        if _class_name(stated.get("class_path")) == self.data_class.__name__:
            return
        parameters, arguments = inspect.signature(self.data_class).parameters, self.config["data"].init_args
        for key in NUMBERS_OF_EXAMPLES & set(stated.get("init_args") or {}) & set(parameters):
            if not self._is_given("data", key):
                arguments[key] = parameters[key].default

    def _shrink_batches(self, datamodule: Any) -> None:
        """Halves batches until there is one in own data that are fewer than the recipe's."""
        size, own = datamodule.batch_size, datamodule.batch_size
        while size > 1 and not _has_batch(datamodule, size):
            size //= 2
        if size != own and _has_batch(datamodule, size):  # otherwise reading the data says what is wrong
            self.config["data"].init_args["batch_size"] = size
            self.lines.append(f"batch_size={size} is set by the number of examples of {datamodule.spec.name!r}.")

    def _required(self, spec: DataSpec) -> dict[str, Any]:
        assert self.method is not None
        own, derived = _plain(self.config["model"].init_args), self.method.hyperparameters_for(spec)
        required = {key: derived[key] for key in SIZES if key in derived and key in own}
        if own.get("num_classes") is not None:
            required["num_classes"] = spec.num_classes
        if own.get("num_words") is not None and spec.vocabulary:  # some data know their words after their setup
            required["num_words"] = len(spec.vocabulary)
        if self.has_other_data and "extractor_name" in derived and not self._is_given("model", "extractor_name"):
            required["extractor_name"] = derived["extractor_name"]
        return required

    def _set(self, values: Mapping[str, Any], spec: DataSpec) -> None:
        for key, value in values.items():
            self.config["model"].init_args[key] = value
            self.lines.append(f"{key}={_shown(value)} is set by the data {spec.name!r}.")

    def _set_choices(self, spec: DataSpec) -> None:
        """Takes likelihood, architecture and the like for the data where those of the recipe do not fit."""
        assert self.method is not None
        own = _plain(self.config["model"].init_args)
        if (problem := self._problem(own, spec)) is None:
            return
        derived = self.method.hyperparameters_for(spec)
        free = {k: v for k, v in derived.items() if own.get(k) != v and not self._is_given("model", k)}
        for chosen in [*({key: value} for key, value in free.items()), free]:
            if chosen and self._problem({**own, **chosen}, spec) is None:
                self._set(chosen, spec)
                return
        if isinstance(problem, MismatchError):
            raise ZooError(f"{problem} {self._remedies(spec)}")

    def _problem(self, hyperparameters: Mapping[str, Any], spec: DataSpec) -> Exception | None:
        """Returns why a method does not fit data, or cannot be built; ``None`` if it fits."""
        assert self.method is not None
        try:
            module = build(self.method.__name__, hyperparameters, device="meta")
        except ZooError as error:
            return error
        try:
            module.check_data(spec)
        except ValueError as error:
            return MismatchError(str(error))
        return None

    def _check_loaded(self, spec: DataSpec) -> None:
        """Refuses a model that is made from a checkpoint of other data, such as the noise density of NCE.

        Raises:
            ZooError: If the checkpoint is for examples of another shape.
        """
        arguments = self.config["model"].init_args
        for key in _plain(arguments):
            found = _loaded(arguments.get(key))
            if found is not None and found.data_spec is not None and list(found.data_spec["shape"]) != list(spec.shape):
                shape = list(found.data_spec["shape"])
                raise ZooError(
                    f"{key} is {found.name}, for examples of shape {shape}, but {spec.name!r} has {list(spec.shape)}: "
                    f"train one on these data first{self._other_data(spec, shape)}."
                )

    def _check_callbacks(self, spec: DataSpec, may_change: bool) -> None:
        """Leaves out metrics that are for other data, and says so; refuses them where they were asked for.

        Raises:
            ZooError: If the user's own recipe or the command line asks for such a metric.
        """
        callbacks = self.config["trainer"].get("callbacks") or []
        asked_for = any(word.startswith(("--trainer.callbacks", "--extractor")) for word in self.overrides)
        for callback in [*callbacks] if isinstance(callbacks, list) else []:
            if (needs := _needs_other_data(callback, spec)) is None:
                continue
            what = f"{_class_name(callback.class_path)} {needs}"
            if asked_for or not may_change:
                raise ZooError(
                    f"{what}, but {spec.name!r} yields {spec.kind} of shape {list(spec.shape)}: leave it out of the "
                    "recipe's callbacks, or take other data or another extractor."
                )
            callbacks.remove(callback)
            self.lines.append(f"{what}: it is left out for {spec.name!r}.")

    def _is_given(self, part: str, key: str) -> bool:
        option = re.compile(rf"--{part}\.(init_args\.)?{re.escape(key)}([+=.].*)?")
        return any(option.fullmatch(word) for word in self.overrides)

    def _contradiction(self, spec: DataSpec, fixed: Mapping[str, Any], differing: Mapping[str, Any]) -> str:
        assert self.method is not None
        built = ", ".join(f"{key}={_shown(value)}" for key, value in fixed.items())
        found = ", ".join(f"{key}={_shown(differing[key])}" for key in fixed)
        options = " ".join(f"--model.{key} '{_shown(value)}'" for key, value in differing.items())
        return (
            f"{self.method.__name__} is to be built for {built}, but the data {spec.name!r} have {found}. Change the "
            f"model with {options}{self._other_data(spec)}."
        )

    def _remedies(self, spec: DataSpec) -> str:
        change = self._other_data(spec).removeprefix(", or ")
        return f"{change[:1].upper()}{change[1:]}." if change else ""

    def _other_data(self, spec: DataSpec, shape: Any = None) -> str:
        """Returns which arguments of the data would make them fit the model, in words; empty if there are none."""
        own, arguments = _plain(self.config["model"].init_args), self.data_class.__init__.__annotations__
        wanted, options = shape or own.get("shape"), []
        if spec.kind == "image" and isinstance(wanted, list) and len(wanted) == 3 and wanted != list(spec.shape):
            if wanted[1] == wanted[2] != spec.shape[1] and "image_size" in arguments:
                options.append(f"--data.image_size {wanted[1]}")
            if wanted[0] in (1, 3) and wanted[0] != spec.shape[0] and "grey" in arguments:
                options.append(f"--data.grey {str(wanted[0] == 1).lower()}")
        return f", or the data with {' '.join(options)}" if options else ""


class MismatchError(ZooError):
    """Model and data that do not fit each other."""


def name_after(start: str, data: str, former_data: str | None) -> str:
    """Returns the name of a model of other data than those that it began from: ``wgan_gp.pics``.

    Args:
        start: Name of the recipe or of the checkpoint: method, data and what else it has, ``sngan.digits.conditional``.
        data: Name of the data.
        former_data: Name of the data that ``start`` was for, if known.
    """
    if data == former_data:
        return f"{start}.fine-tuned"
    parts = start.rpartition("/")[2].split(".")
    method, named, *variant = (
        re.sub(r"\W+", "_", part, flags=re.ASCII).strip("_") for part in (parts[0], data, *parts[2:])
    )
    return ".".join([method or "model", named or "own_data", *filter(None, variant)])


def without_places(overrides: Sequence[str]) -> list[str]:
    """Returns arguments with the name of a file or folder in place of its path: a card is for others, too."""
    place, found = re.compile(r"--data\.(init_args\.)?(data_dir|path)"), []
    for word, before in zip(overrides, ["", *overrides], strict=False):
        option, equals, value = word.partition("=")
        if equals and place.fullmatch(option):
            found.append(f"{option}={Path(value).name}")
        else:
            found.append(Path(word).name if place.fullmatch(before) else word)
    return found


def _needs_other_data(callback: Any, spec: DataSpec) -> str | None:
    """Returns what a callback of the library does that is impossible for data, or ``None``."""
    if not hasattr(callback, "get"):
        return None
    name = _class_name(callback.get("class_path"))
    if name == "ModeCoverage" and not spec.modes:
        return "counts the modes of points"
    if name == "LatentInterpolation" and spec.kind != "image":
        return "renders images"
    if (found := _loaded((callback.get("init_args") or {}).get("extractor"))) is None:
        return None
    shape = list(found.hyperparameters.get("shape", ()))
    if spec.kind == "image" and list(spec.shape) == shape:
        return None
    return f"measures with {found.name}, for images of shape {shape}"


def _loaded(value: Any) -> Card | None:
    """Returns the card of the checkpoint that a part of a config loads; ``None`` if it loads none, or it is missing."""
    if not hasattr(value, "get") or value.get("class_path") not in LOADERS:
        return None
    try:
        return card(value.init_args.name)
    except UnknownNameError:  # it is missed when the part is built
        return None


def _has_batch(datamodule: Any, size: int) -> bool:
    """Returns whether own data have a batch of this size, without reading images; other data are large."""
    if isinstance(datamodule, ImageFolder):
        return datamodule.num_images - datamodule.held_out("val") - datamodule.held_out("test") >= size
    if not isinstance(datamodule, TextFile):
        return True
    datamodule.batch_size = size
    try:
        return len(datamodule.train_dataloader()) > 0
    except ValueError:  # too short for so many windows or streams
        return False


def _named(part: Any, package: str, names: Any, table: Any) -> Any:
    path = str(part.get("class_path") or "") if hasattr(part, "get") else ""
    name = _class_name(path)
    return table()[name] if name in names and path.startswith((f"{package}.", name)) else None


def _part(recipe: Mapping[str, Any], part: str) -> Mapping[str, Any]:
    found = recipe.get(part) if isinstance(recipe, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _class_name(path: Any) -> str:
    return str(path or "").rpartition(".")[2]


def _plain(arguments: Any) -> dict[str, Any]:
    values = arguments.as_dict() if hasattr(arguments, "as_dict") else dict(arguments or {})
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def _shown(value: Any) -> str:
    return "null" if value is None else str(value)
