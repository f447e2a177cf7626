"""Loads a module from a checkpoint: no code in the file is run, and nothing is allocated before it is checked."""

import inspect
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar, overload

import torch
from safetensors import SafetensorError, safe_open
from torch.nn.modules.module import register_module_parameter_registration_hook

import lightning_modules
from datamodules.spec import DataSpec
from lightning_modules.base import GenerativeModule, ZooModule
from lightning_modules.metrics.classifier import Classifier
from lightning_modules.metrics.reference_statistics import set_extractor_digest
from lightning_modules.parts.checks import not_finite
from lightning_modules.parts.files import file_sha256
from zoo.bounds import check_arguments, check_bounds, check_types
from zoo.cards import STATISTICS_FOLDER, WEIGHTS_FILE, Card, check_inside, checked_file, read_card
from zoo.errors import NotFiniteWeights, ZooError
from zoo.escaping import printable
from zoo.hub import find
from zoo.paths import command

AVERAGED = "ema."  # prefix of the averaged weights' names in the file
MAX_HEADER_BYTES = 16 << 20
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
Weights = Literal["ema", "raw"]
Method = TypeVar("Method", bound=ZooModule)
Layout = Mapping[str, tuple[tuple[int, ...], torch.dtype]]


@overload
def load(name: str | Path, *, weights: Weights = "ema", device: str | torch.device = "cpu") -> GenerativeModule: ...


@overload
def load(
    name: str | Path, method: type[Method], *, weights: Weights = "ema", device: str | torch.device = "cpu"
) -> Method: ...


def load(
    name: str | Path,
    method: type[ZooModule] | None = None,
    *,
    weights: Weights = "ema",
    device: str | torch.device = "cpu",
) -> ZooModule:
    """Returns a pretrained module in eval mode, after checking the file against its digest.

    All networks are in the file, so training can continue from it, with new optimizers: from the last step with
    ``weights="raw"``, or from the average where the file holds nothing else. The global random state does not change.

    Args:
        name: A name of the zoo (``zoo.names()``), the path of a folder, or a Hugging Face Hub id
            (``"owner/repo"``, ``"hf://owner/repo@revision"``).
        method: Class that the checkpoint must have, such as ``TeacherForcing``; it is also the static type of the
            result. Without it, any class is accepted, and the static type is ``GenerativeModule``.
        weights: ``"ema"`` for the averaged weights if the file has them, ``"raw"`` for those of the last step, which
            a checkpoint does not have of the networks in its ``averaged_only``.
        device: Device of the module, such as ``"cuda"``.

    Raises:
        UnknownNameError: If there is no such checkpoint (a ``ZooError`` and a ``KeyError``).
        ZooError: If the checkpoint is damaged, of an unknown method or format, of another class than ``method``, does
            not fit its own config, or does not hold the weights that are asked for; or if an argument is of another
            type.
    """
    check_arguments(load, name=name, method=method, weights=weights, device=device)
    _check_device(device)
    label, folder = find(name)
    # Configs of former versions load classifiers by ``zoo.load``, which still works.
    module = load_folder(folder, label, weights=weights, device=device)
    if method is not None and not isinstance(module, method):
        raise ZooError(f"{name} is a {type(module).__name__}, not a {method.__name__}.")
    return module


def load_classifier(name: str | Path, *, device: str | torch.device = "cpu") -> Classifier:
    """Returns a pretrained classifier, the feature extractor of FID and Inception Score; see ``load``."""
    return load(name, Classifier, device=device)


def load_folder(
    folder: Path, name: str | None = None, *, weights: Weights = "ema", device: str | torch.device = "cpu"
) -> ZooModule:
    """Loads a module from a folder; see ``load``."""
    if weights not in ("ema", "raw"):
        raise ZooError(f"weights={weights!r} is not one of 'ema', 'raw'.")
    card = read_card(folder, name)
    if weights == "raw" and card.averaged_only:
        raise ZooError(
            f"{card.name} holds only averaged weights of {_few(list(card.averaged_only))}, not those of the last step: "
            "load it with weights='ema'."
        )
    if card.large and not (folder / WEIGHTS_FILE).exists():
        raise ZooError(
            f"{card.name} is too large for the wheel, which lacks its {WEIGHTS_FILE}. It is in a checkout of "
            f"generative-zoo: load the folder checkpoints/{folder.name} there by its path"
            + (f", or train it with: {command('train', card.recipe)}" if card.recipe is not None else ".")
        )
    path = checked_file(folder, WEIGHTS_FILE)
    _check_digest(path, card.sha256)
    with _opened(path) as file:
        found = _layout_of_file(path, file)
        own = {key: value for key, value in found.items() if not key.startswith(AVERAGED)}
        averaged = {key.removeprefix(AVERAGED): value for key, value in found.items() if key.startswith(AVERAGED)}
        expected = layout(build(card.method, card.hyperparameters, device="meta", max_tensors=len(own | averaged)))
        only = _averaged_only(path, card, expected, own)
        compare_layouts(path, {key: expected[key] for key in expected if key not in only}, own)
        compare_layouts(
            path, {key: expected[key] for key in expected if key in averaged or key in only}, averaged, prefix=AVERAGED
        )
        chosen = {key: AVERAGED + key if weights == "ema" and key in averaged else key for key in expected}
        module = build(card.method, card.hyperparameters)
        module.load_state_dict({key: file.get_tensor(source) for key, source in chosen.items()}, strict=True)
    _say_what_is_not_finite(path, module)
    _restore(module, card)
    return module.to(device).eval()


def build(
    method: str, hyperparameters: Mapping[str, Any], *, device: str = "cpu", max_tensors: int | None = None
) -> ZooModule:
    """Builds an untrained module from the name of its class and its hyperparameters.

    The class is looked up in ``lightning_modules.METHODS``, not imported by a path.

    Args:
        method: Name of the class.
        hyperparameters: Arguments of its ``__init__``.
        device: ``"meta"`` gives shapes without allocating memory.
        max_tensors: Number of tensors in the file, for hyperparameters that are not trusted: a module with many more
            tensors is not built, nor one with numbers beyond those of any network.

    Raises:
        ZooError: If the method is unknown or cannot be built with these hyperparameters.
    """
    if method not in lightning_modules.METHODS:
        raise ZooError(f"Unknown method {method!r}; the methods are {', '.join(sorted(lightning_modules.METHODS))}.")
    method_class = lightning_modules.METHODS[method]
    hyperparameters = method_class.current_names(hyperparameters)
    try:
        inspect.signature(method_class).bind(**hyperparameters)
    except TypeError as error:
        raise ZooError(f"{method} cannot be built from the checkpoint's hyperparameters: {error}.") from error
    if max_tensors is not None:
        check_bounds(method, hyperparameters)
        check_types(method, method_class.__init__, hyperparameters)
    try:
        # With the fork, drawing initial weights, which are overwritten, does not change the caller's random state.
        with torch.random.fork_rng(devices=[]), torch.device(device), _at_most(max_tensors):
            return method_class(**hyperparameters)
    except Exception as error:  # with untrusted values a constructor can fail in any way
        reason = (str(error).splitlines() or [type(error).__name__])[0][:300]
        raise ZooError(f"{method} cannot be built from the checkpoint's hyperparameters: {reason}") from error


def layout(module: ZooModule) -> Layout:
    """Returns shape and dtype of every tensor of a module's state."""
    return {key: (tuple(value.shape), value.dtype) for key, value in module.state_dict().items()}


@contextmanager
def _at_most(max_tensors: int | None) -> Iterator[None]:
    """Stops a constructor that would run for hours because a hyperparameter demands 10**9 layers."""
    if max_tensors is None:
        yield
        return
    limit, count = 1000 + 4 * max_tensors, 0

    def counted(*_: object) -> None:
        nonlocal count
        count += 1
        if count > limit:
            raise ValueError(f"they demand more than {limit} tensors, but the file has {max_tensors}.")

    handle = register_module_parameter_registration_hook(counted)
    try:
        yield
    finally:
        handle.remove()


def _check_device(device: str | torch.device) -> None:
    try:
        torch.device(device)
    except RuntimeError as error:
        raise ZooError(f"device={device!r} is no device of PyTorch: give one such as 'cpu' or 'cuda:1'.") from error


def _check_digest(path: Path, sha256: str) -> None:
    found = file_sha256(path)
    if found != sha256:
        raise ZooError(
            f"{path} is not the file that its config describes (sha256 {found[:12]}..., expected "
            f"{sha256[:12]}...): it is damaged, truncated or was replaced. Fetch or save the checkpoint again."
        )


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    size = path.stat().st_size
    with path.open("rb") as file:
        header = int.from_bytes(file.read(8), "little")
    if size < 8 or header > min(size - 8, MAX_HEADER_BYTES):
        raise ZooError(f"{path} is not a safetensors file: its header would have {header} of its {size} bytes.")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except SafetensorError as error:
        raise ZooError(f"{path} is not a valid safetensors file: {error}") from error


def _layout_of_file(path: Path, file: Any) -> Layout:
    found = {}
    for key in file.keys():  # noqa: SIM118 (a safetensors file is not a mapping)
        view = file.get_slice(key)
        if view.get_dtype() not in DTYPES:
            raise ZooError(f"{path}: tensor {key!r} has the unsupported type {view.get_dtype()}.")
        found[key] = (tuple(view.get_shape()), DTYPES[view.get_dtype()])
    return found


def compare_layouts(path: Path, expected: Layout, found: Layout, prefix: str = "") -> None:
    """Raises ``ZooError`` unless a file has exactly the tensors of a method; the message names what differs."""
    if missing := sorted(set(expected) - set(found)):
        raise ZooError(f"{path} lacks {_few([prefix + key for key in missing])}.")
    if extra := sorted(set(found) - set(expected)):
        raise ZooError(f"{path} has tensors that the method does not have: {_few([prefix + key for key in extra])}.")
    for key, (shape, dtype) in expected.items():
        if found[key] != (shape, dtype):
            raise ZooError(
                f"{path}: tensor {prefix + key!r} is {list(found[key][0])} {found[key][1]}, but the method with these "
                f"hyperparameters has {list(shape)} {dtype}."
            )


def network_of(key: str) -> str | None:
    """Returns the network that a tensor of a module's state is of, or ``None`` for the module's own."""
    return key.partition(".")[0] if "." in key else None


def _averaged_only(path: Path, card: Card, expected: Layout, own: Layout) -> set[str]:
    """Returns the tensors that a file holds as their average alone.

    Raises:
        ZooError: If its config names networks that the method does not have, or that the file has more of.
    """
    networks = {network_of(key) for key in expected} - {None}
    if strange := [name for name in card.averaged_only if name not in networks]:
        raise ZooError(
            f"{path}: 'averaged_only' in its config names {strange[0]!r}, which is no network of {card.method}; those "
            f"are {', '.join(sorted(filter(None, networks)))}."
        )
    if twice := [key for key in own if network_of(key) in card.averaged_only]:
        raise ZooError(
            f"{path} has {_few(twice)}, weights of the last step of a network of which its config says that it holds "
            f"the average alone (averaged_only: {_few(list(card.averaged_only))})."
        )
    return {key for key in expected if network_of(key) in card.averaged_only}


def _say_what_is_not_finite(path: Path, module: ZooModule) -> None:
    if found := not_finite(module.state_dict()):
        warnings.warn(
            f"{printable(str(path))} holds weights that are NaN or infinite, so its results will be, too, or will mean "
            f"nothing: {printable(_few(found))}. Its training had diverged: take an earlier checkpoint.",
            NotFiniteWeights,
            stacklevel=3,
        )


def _few(keys: list[str], most: int = 5) -> str:
    more = f" and {len(keys) - most} more" if len(keys) > most else ""
    return ", ".join(keys[:most]) + more


def set_data_spec(module: ZooModule, values: Any, source: Path) -> None:
    """Sets the data spec of a module to that of a file.

    Raises:
        ZooError: If it is not a data spec, or does not fit the module.
    """
    try:
        if isinstance(values, Mapping):
            sizes = {f"data_spec.{key}": values.get(key) for key in ("shape", "num_classes")}
            check_bounds(type(module).__name__, sizes)
        spec = DataSpec.from_json(values)
        module.check_data(spec)
    except ValueError as error:
        raise ZooError(f"{source}: its data spec is wrong: {error}") from error
    module.data_spec = spec


def _restore(module: ZooModule, card: Card) -> None:
    module.batches_before = card.batches or 0
    if card.data_spec is not None:
        set_data_spec(module, card.data_spec, card.path)
    statistics = card.path / STATISTICS_FOLDER
    if isinstance(module, Classifier):
        set_extractor_digest(module, card.sha256)
        if statistics.is_dir():
            for path in (statistics, *statistics.iterdir()):
                check_inside(card.path, path)
            module.statistics_dir = str(statistics)
