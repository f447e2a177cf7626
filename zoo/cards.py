"""Facts about a checkpoint without loading it, from its ``config.json``.

Nothing here imports torch, so that listing the zoo is fast. A config is not trusted: its size, types, numbers and
nesting are checked, and no path or code named in it is opened or imported.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from types import MappingProxyType
from typing import Any

from zoo.bounds import check_arguments, check_counts
from zoo.errors import ZooError
from zoo.hub import find
from zoo.json_values import not_plain, parsed, shortened
from zoo.paths import checkpoint_names

FORMAT_VERSION = 2
"""The newest format; a config without what is new in it is written as 1, which former versions read, too."""
WEIGHTS_FILE, CONFIG_FILE, README_FILE, SAMPLES_FILE = (
    "model.safetensors",
    "config.json",
    "README.md",
    "samples.png",
)
SAMPLE_FILES = (SAMPLES_FILE, "samples.txt", "samples.mid", "samples.svg", "samples.gif")
STATISTICS_FOLDER = "statistics"
MAX_CONFIG_BYTES = 1 << 20

EMPTY: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Card:
    """The facts about one checkpoint.

    Args:
        name: Name in the zoo, Hub id, or for a local folder the name under which it was saved.
        path: Folder of the checkpoint.
        method: Name of the class in ``lightning_modules``.
        hyperparameters: Arguments of the class, JSON values.
        sha256: Digest of ``model.safetensors``. It detects damage; it is not a signature.
        data_spec: Spec of the training data (``datamodules.DataSpec``), or ``None``.
        averaged: Whether the file also holds averaged weights, which are then the default.
        averaged_only: Networks of which the file holds the averaged weights alone, not those of the last step.
        large: Whether a wheel leaves out the weights, which are then found in a checkout.
        networks: Number of parameters of each network.
        metrics: Metrics; each name contains its protocol, as in ``fid-fashion_mnist-10k``.
        recipe: Name of the recipe that trained it, or ``None``.
        overrides: Arguments of the training that replaced those of the recipe, ``("--model.width", "64")``.
        batches: Number of batches that the saved weights were trained on, or ``None`` if unknown.
        planned_batches: Number of batches that the run was planned for: more if validation chose an earlier state.
        precision: The Trainer's precision, ``"bf16-mixed"``, or ``None`` if unknown.
        hardware: What it was trained on, ``"CPU with AVX2, 2 threads"``, or ``None`` if unknown.
        training: Cost of the training: ``examples`` seen, ``minutes``, ``generator_updates``.
        notes: Limitations, for the reader of the model card.
        curve: Rows of the training curve, one mapping per row.
        versions: Versions of the libraries that wrote it.
        datamodule: What the data are built from again: ``class``, ``arguments`` and ``digest``; or ``None``. See
            ``data_record``.
        other_seeds: Metrics of further runs of the recipe, by their seed; see ``zoo.other_seeds``.
        artists: Artists, of ``licences.ARTISTS``, of images that the weights which it was fine-tuned from were trained
            on.
    """

    name: str
    path: Path
    method: str
    hyperparameters: Mapping[str, Any]
    sha256: str
    data_spec: Mapping[str, Any] | None = None
    averaged: bool = False
    averaged_only: tuple[str, ...] = ()
    large: bool = False
    networks: Mapping[str, int] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    recipe: str | None = None
    overrides: tuple[str, ...] = ()
    batches: int | None = None
    planned_batches: int | None = None
    precision: str | None = None
    hardware: str | None = None
    training: Mapping[str, float] = field(default_factory=dict)
    notes: str = ""
    curve: tuple[Mapping[str, float], ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    datamodule: Mapping[str, Any] | None = None
    other_seeds: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    artists: tuple[str, ...] = ()

    @property
    def data(self) -> str | None:
        """Name of the data set."""
        return None if self.data_spec is None else self.data_spec["name"]

    @property
    def parameters(self) -> int:
        """Number of parameters of all networks."""
        return sum(self.networks.values())

    @property
    def average_alone(self) -> bool:
        """Whether there are only averaged weights of all networks."""
        return bool(self.networks) and set(self.networks) <= set(self.averaged_only)

    def to_json(self) -> dict[str, Any]:
        """Returns the content of ``config.json``."""
        # Configs without the record stay as they are; former versions do not read it.
        record = {} if self.datamodule is None else {"datamodule": dict(self.datamodule)}
        return record | {
            "format_version": 2 if self.averaged_only else 1,
            "name": self.name,
            "method": self.method,
            "hyperparameters": dict(self.hyperparameters),
            "data_spec": None if self.data_spec is None else dict(self.data_spec),
            "sha256": self.sha256,
            "averaged": self.averaged,
            **({"averaged_only": list(self.averaged_only)} if self.averaged_only else {}),
            **({"large": True} if self.large else {}),
            "networks": dict(self.networks),
            "metrics": dict(self.metrics),
            "recipe": self.recipe,
            "overrides": list(self.overrides),
            "batches": self.batches,
            "planned_batches": self.planned_batches,
            **({} if self.precision is None else {"precision": self.precision}),
            **({} if self.hardware is None else {"hardware": self.hardware}),
            "training": dict(self.training),
            "notes": self.notes,
            "curve": [dict(row) for row in self.curve],
            "versions": dict(self.versions),
            **(
                {"other_seeds": {seed: dict(row) for seed, row in self.other_seeds.items()}} if self.other_seeds else {}
            ),
            **({"artists": list(self.artists)} if self.artists else {}),
        }


def names(pattern: str = "*") -> list[str]:
    """Returns the sorted names of the zoo's checkpoints that match a shell pattern, such as ``"*gan*"``.

    Raises:
        ZooError: If the pattern is no text.
    """
    check_arguments(names, pattern=pattern)
    return [name for name in checkpoint_names() if fnmatch(name, pattern)]


def list_models(
    filter: str | Sequence[str] = "",
    *,
    method: str | None = None,
    data: str | None = None,
    exclude_filters: str | Sequence[str] = "",
) -> list[str]:
    """Returns the sorted names of the zoo's checkpoints that match, as timm's function of this name does.

    Args:
        filter: Shell patterns, one or several, of which a name must match one: ``"*gan*"``, or ``["vae*", "iwae*"]``.
            Without one every name matches.
        method: Name of the class that a checkpoint must be of, ``"WGANGP"``.
        data: Name of the data set that it must be trained on, ``"fashion_mnist"``.
        exclude_filters: Shell patterns of names to leave out.

    Raises:
        ZooError: If an argument is of another type.
    """
    check_arguments(list_models, filter=filter, method=method, data=data, exclude_filters=exclude_filters)
    wanted, unwanted = ([each] if isinstance(each, str) else list(each) for each in (filter, exclude_filters))
    found = [name for name in checkpoint_names() if not any(wanted) or any(fnmatch(name, each) for each in wanted)]
    found = [name for name in found if not any(fnmatch(name, each) for each in unwanted)]
    if method is None and data is None:
        return found
    cards = [card(name) for name in found]
    return [each.name for each in cards if method in (None, each.method) and data in (None, each.data)]


def card(name: str | Path) -> Card:
    """Returns the facts about a checkpoint, without loading torch.

    Args:
        name: A name of the zoo, the path of a folder, or a Hugging Face Hub id (``"owner/repo"``,
            ``"hf://owner/repo@revision"``).

    Raises:
        UnknownNameError: If there is no such checkpoint (a ``ZooError`` and a ``KeyError``).
        ZooError: If its config is damaged or of an unknown format.
    """
    check_arguments(card, name=name)
    label, folder = find(name)
    return read_card(folder, label)


def read_card(folder: Path, name: str | None = None) -> Card:
    """Reads and checks the ``config.json`` of a folder.

    Args:
        folder: Folder of the checkpoint.
        name: Name for the card; by default the name under which the checkpoint was saved.

    Raises:
        ZooError: If it is missing, not JSON, too large, or has a value that is not valid in a config.
    """
    path = checked_file(folder, CONFIG_FILE, MAX_CONFIG_BYTES)
    try:
        values = parsed(path.read_bytes())
    except RecursionError:
        raise ZooError(f"{path} is nested too deeply for the config of a checkpoint.") from None
    except ValueError as error:
        raise ZooError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(values, dict):
        raise ZooError(f"{path} must hold a JSON object, not a {type(values).__name__}.")
    if reason := not_plain(values):
        raise ZooError(f"{path}: {reason}")
    _check_format(path, values)

    def get(key: str, kind: type | tuple[type, ...], default: Any = None) -> Any:
        value = values.get(key, default)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise ZooError(f"{path}: {key!r} is {shortened(value)}, which is missing or of the wrong type.")
        return value

    def get_texts(key: str) -> tuple[str, ...]:
        texts = get(key, list, [])
        if not all(isinstance(text, str) for text in texts):
            raise ZooError(f"{path}: {key!r} must be a list of strings.")
        return tuple(texts)

    def get_numbers(key: str, row: Any) -> Mapping[str, Any]:
        if not isinstance(row, dict) or not all(type(number) in (int, float) for number in row.values()):
            raise ZooError(f"{path}: {key!r} must map names to numbers, not be {shortened(row)}.")
        return MappingProxyType(row)

    sha256 = get("sha256", str)
    if not _is_digest(sha256):
        raise ZooError(f"{path}: 'sha256' must be 64 hexadecimal digits, not {shortened(sha256)}.")
    spec = values.get("data_spec")
    if spec is not None and not isinstance(get("data_spec", dict).get("name"), str):
        raise ZooError(f"{path}: 'data_spec' lacks the name of the data set.")
    versions = get("versions", dict, {})
    if not all(isinstance(version, str) for version in versions.values()):
        raise ZooError(f"{path}: 'versions' must map names to strings.")
    found = Card(
        name=name or get("name", str),
        path=folder,
        method=get("method", str),
        hyperparameters=MappingProxyType(get("hyperparameters", dict)),
        sha256=sha256,
        data_spec=None if spec is None else MappingProxyType(spec),
        averaged=get("averaged", bool, False),
        averaged_only=_averaged_only(path, values),
        large=get("large", bool, False),
        networks=get_numbers("networks", values.get("networks", {})),
        metrics=get_numbers("metrics", values.get("metrics", {})),
        recipe=None if values.get("recipe") is None else get("recipe", str),
        overrides=get_texts("overrides"),
        batches=None if values.get("batches") is None else get("batches", int),
        planned_batches=None if values.get("planned_batches") is None else get("planned_batches", int),
        precision=None if values.get("precision") is None else get("precision", str),
        hardware=None if values.get("hardware") is None else get("hardware", str),
        training=get_numbers("training", values.get("training", {})),
        notes=get("notes", str, ""),
        curve=tuple(get_numbers("curve", row) for row in get("curve", list, [])),
        versions=MappingProxyType(versions),
        datamodule=_data_record(path, values.get("datamodule")),
        other_seeds={seed: get_numbers("other_seeds", row) for seed, row in get("other_seeds", dict, {}).items()},
        artists=get_texts("artists"),
    )
    check_counts(path, found.to_json())
    return found


def _check_format(path: Path, values: Mapping[str, Any]) -> None:
    """Raises ``ZooError``, with the version that wrote it, if a config is of a format that is not known here."""
    version = values.get("format_version")
    if type(version) is int and 1 <= version <= FORMAT_VERSION:
        return
    versions = values.get("versions")
    writer = versions.get("generative-zoo") if isinstance(versions, dict) else None
    named = isinstance(writer, str) and writer != "unknown"
    newer = f"generative-zoo {shortened(writer)}, which wrote it, or newer" if named else "a newer generative-zoo"
    raise ZooError(
        f"{path} has format_version {shortened(version)}; this version of generative-zoo reads 1 to {FORMAT_VERSION}. "
        f"A newer checkpoint needs {newer}."
    )


def _averaged_only(path: Path, values: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the networks that are stored as their average alone.

    Raises:
        ZooError: If they are not a list of names, or contradict the rest of the config.
    """
    found = values.get("averaged_only", [])
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found) or len({*found}) < len(found):
        raise ZooError(f"{path}: 'averaged_only' must be a list of names, each once, not be {shortened(found)}.")
    if found and (values["format_version"] < 2 or values.get("averaged") is not True):
        raise ZooError(
            f"{path}: 'averaged_only' is {shortened(found)}, which needs format_version 2 and averaged true; they are "
            f"{values['format_version']} and {shortened(values.get('averaged'))}."
        )
    return tuple(found)


def _data_record(path: Path, record: Any) -> Mapping[str, Any] | None:
    """Returns the record of the datamodule if it is one: it may be a stranger's, and is only built by ``data_record``.

    Raises:
        ZooError: If it is something else.
    """
    if record is None:
        return None
    forms = {"class": str, "arguments": dict, "digest": str | None}
    if not isinstance(record, dict) or not all(isinstance(record.get(key), form) for key, form in forms.items()):
        raise ZooError(f"{path}: 'datamodule' must have a class, arguments and a digest, not be {shortened(record)}.")
    if (digest := record.get("digest")) is not None and not _is_digest(digest):
        raise ZooError(f"{path}: 'datamodule.digest' must be 64 hexadecimal digits, not {shortened(digest)}.")
    return MappingProxyType(record)


def _is_digest(text: str) -> bool:
    return len(text) == 64 and not set(text) - set("0123456789abcdef")


def checked_file(folder: Path, filename: str, max_bytes: int | None = None) -> Path:
    """Returns ``folder / filename`` if it is a regular file in the folder.

    A snapshot in the Hub's cache holds links to ``blobs`` two levels up; those are followed, others are not.

    Raises:
        ZooError: If the file is missing, not a regular file, too large, or a link that leads elsewhere.
    """
    path = folder / filename
    if not path.is_file():
        raise ZooError(f"{folder} is not a checkpoint of the zoo: it has no file {filename}.")
    check_inside(folder, path)
    if max_bytes is not None and path.stat().st_size > max_bytes:
        raise ZooError(f"{path} has {path.stat().st_size} bytes; at most {max_bytes} are read.")
    return path


def check_inside(folder: Path, path: Path) -> None:
    """Raises ``ZooError`` if a path in a checkpoint is a link that leads out of it; see ``checked_file``."""
    home = folder.resolve()
    allowed = [home, home.parents[1] / "blobs"] if home.parent.name == "snapshots" else [home]
    if not any(path.resolve().is_relative_to(root) for root in allowed):
        raise ZooError(f"{path} is a link that leads out of the checkpoint's folder.")
