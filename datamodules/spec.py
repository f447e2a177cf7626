"""The description of a data set, and the form of its batches. Imports the standard library only."""

import difflib
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

BYTES = tuple(f"0x{value:02x}" for value in range(256))
"""The vocabulary of text as bytes."""
LARGEST_COUNT = 2**53
"""Largest size, and largest number of classes or examples, that a spec may be read with: floats hold it exactly."""
KINDS = ("image", "points", "tokens", "piano_roll", "strokes", "video")
"""Kinds of data, ``DataSpec.kind``."""
END_OF_DRAWING = 2
"""Third number of the last stroke of a drawing, where ends are marked."""
CAPTIONED = ("image", "points")
"""Kinds of data whose examples may have captions."""
PUNCTUATION = '.,:;!?()[]"\u201c\u201d'
"""What is no part of a word of a caption where it stands at the word's end."""
MOST_NAMED = 5
"""Number of unknown words that a message names."""


@dataclass(frozen=True)
class DataSpec:
    """The facts about a data set that a method needs in order to be built for it.

    It is in every checkpoint, written as JSON, so that a model can be used without its data.

    Args:
        name: Name of the data set, ``"fashion_mnist"``.
        kind: One of ``KINDS``.
        shape: Shape of one example: (C, H, W) for images, (2,) for points, (T,) for tokens, (T, 88) for piano rolls,
            (T, 3) for strokes, (T, C, H, W) for video. Where examples differ in length, T is that of the longest.
        value_range: Lowest and highest value of an example; ``None`` where there is no bound.
        num_classes: Number of classes, or ``None`` where labels mean nothing (they are then 0).
        class_names: One name per class, or empty.
        class_counts: Number of training examples of each class, or empty. A conditional model samples labels in these
            proportions.
        preprocessing: What was done to the public data, ``"binarized"``, ``"resized-64"``; part of
            the name under which reference statistics are cached. Empty for none.
        vocabulary: The symbols of token sequences, in order of their index; of examples with captions, the words of
            these, in order of their index minus one.
        modes: Centres of the mixture that synthetic points are sampled from, one tuple per mode.
        mode_scale: Standard deviation of each of these modes.
        entropy_rate: Entropy of the source in nats per step, where it is known: no model's loss lies below it.
        scale: How many units of the public data make one unit of the examples, where data without bounds are scaled.
        captions: The caption of each training example, or empty. A model of examples given captions samples among them.
        caption_classes: The class of each of these training examples, or empty.
        attributes: What is known of an example beside its class, or empty: the name of each attribute with its values,
            in order of their index in ``Batch.attributes``.

    Raises:
        ValueError: If a field contradicts another or lies outside its range.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    value_range: tuple[float, float] | None = None
    num_classes: int | None = None
    class_names: tuple[str, ...] = ()
    class_counts: tuple[int, ...] = ()
    preprocessing: str = ""
    vocabulary: tuple[str, ...] = ()
    modes: tuple[tuple[float, ...], ...] = ()
    mode_scale: float | None = None
    entropy_rate: float | None = None
    scale: float | None = None
    captions: tuple[str, ...] = ()
    caption_classes: tuple[int, ...] = ()
    attributes: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind={self.kind!r} is not one of {', '.join(KINDS)}.")
        if not self.shape or any(size < 1 for size in self.shape):
            raise ValueError(f"shape={self.shape} must be a non-empty tuple of positive sizes.")
        if self.value_range is not None and not self.value_range[0] < self.value_range[1]:
            raise ValueError(f"value_range={self.value_range} must rise from low to high.")
        for field in ("class_names", "class_counts"):
            values = getattr(self, field)
            if values and len(values) != self.num_classes:
                raise ValueError(f"{field} has {len(values)} entries for num_classes={self.num_classes}.")
        for field, least in (("entropy_rate", 0.0), ("mode_scale", 0.0), ("scale", 5e-324)):
            value = getattr(self, field)
            if value is not None and not (math.isfinite(value) and value >= least):
                raise ValueError(f"{field}={value} must be a finite number {'above' if least else 'of at least'} 0.")
        if self.captions and not self.is_captioned:
            raise ValueError(f"captions need a vocabulary of words, and examples that are {' or '.join(CAPTIONED)}.")
        if classes := self.caption_classes:
            if len(classes) != len(self.captions):
                raise ValueError(f"caption_classes has {len(classes)} entries for {len(self.captions)} captions.")
            if not 0 <= min(classes) <= max(classes) < (self.num_classes or 0):
                raise ValueError(f"caption_classes must lie below num_classes={self.num_classes}.")
        if len({name for name, _ in self.attributes}) < len(self.attributes):
            raise ValueError(f"attributes has a name twice: {', '.join(name for name, _ in self.attributes)}.")
        if wrong := [mode for mode in self.modes if len(mode) != self.shape[0]]:
            raise ValueError(f"modes has the centre {wrong[0]}, where an example has shape={self.shape}.")

    @property
    def is_binarized(self) -> bool:
        """Whether values are Bernoulli samples, 0 or 1."""
        return self.preprocessing.endswith("binarized")

    @property
    def is_dequantized(self) -> bool:
        """Whether uniform noise was added to discrete values, so that a density is well defined."""
        return self.preprocessing.endswith("dequantized")

    @property
    def marks_ends(self) -> bool:
        """Whether the pen of the last stroke of a drawing has a state of its own, 2."""
        return self.preprocessing.startswith("ends-marked")

    @property
    def is_text(self) -> bool:
        """Whether the data are the tokens of a text, rather than the bits of square images, pixel by pixel."""
        square = math.isqrt(self.shape[0]) ** 2 == self.shape[0]
        return self.kind == "tokens" and not (self.vocabulary == ("0", "1") and self.is_binarized and square)

    @property
    def is_captioned(self) -> bool:
        """Whether examples have captions, whose words are the vocabulary."""
        return self.kind in CAPTIONED and bool(self.vocabulary)

    def tokens(self, caption: str, *, trained: bool = False) -> list[int]:
        """Returns the words of a caption as tokens, 1 to ``len(vocabulary)``; 0 is left for padding.

        Args:
            caption: The text.
            trained: Whether to refuse words of held-out captions alone, of which a model has learned nothing. It has no
                effect where ``captions`` are not recorded.

        Raises:
            ValueError: If the examples have no captions, the caption no words, or words that are not in the vocabulary,
                or with ``trained`` in no caption of training; the message names these and the nearest known ones.
        """
        if not self.is_captioned:
            raise ValueError(f"The examples of {self.name} have no captions, so {caption!r:.80} has no tokens.")
        places = _places(self.vocabulary)
        words = words_of(caption)
        if not words:
            raise ValueError(f"The caption {caption!r:.80} has no words: describe what to show.")
        if trained and self.captions:
            places = _trained_places(self.vocabulary, self.captions)
        if unknown := [word for word in dict.fromkeys(words) if word not in places]:
            named = [_with_nearest(word, places) for word in unknown[:MOST_NAMED]]
            more = f" and {len(unknown) - MOST_NAMED} more" if len(unknown) > MOST_NAMED else ""
            where = f"{self.name} has" if len(places) == len(self.vocabulary) else f"training on {self.name} had"
            raise ValueError(
                f"The caption {caption!r:.200} has words that no caption of {where}: {', '.join(named)}{more}."
            )
        return [places[word] for word in words]

    def text(self, tokens: Iterable[int]) -> str:
        """Returns the text of tokens; bytes that are not UTF-8 become U+FFFD.

        Raises:
            ValueError: If a token is not in the vocabulary.
        """
        values = list(tokens)
        if wrong := [value for value in values if not 0 <= value < len(self.vocabulary)]:
            raise ValueError(f"Token {wrong[0]} is not in the vocabulary, which has {len(self.vocabulary)}.")
        if self.vocabulary == BYTES:
            return bytes(values).decode(errors="replace")
        return "".join([self.vocabulary[value] for value in values])

    def to_json(self) -> dict[str, Any]:
        """Returns JSON-plain values; tuples become lists."""
        return {key: _listed(value) for key, value in asdict(self).items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "DataSpec":
        """Rebuilds a spec written by ``to_json``.

        Raises:
            ValueError: If ``values`` is not a mapping, has a field that a spec does not have, lacks one that it needs,
                or has one of the wrong type.
        """
        if not isinstance(values, Mapping):
            raise ValueError(f"A data spec maps fields to values; it is not a {type(values).__name__}.")
        known = {field.name for field in fields(cls)}
        if unknown := sorted(map(str, set(values) - known)):
            raise ValueError(f"A data spec has no field {', '.join(unknown)}; it has {', '.join(sorted(known))}.")
        if missing := sorted({"name", "kind", "shape"} - set(values)):
            raise ValueError(f"The data spec lacks {', '.join(missing)}.")
        for key, value in values.items():
            wanted, fits = _FORMS[key]
            if not fits(value):
                raise ValueError(f"{key} must be {wanted}, not {value!r:.80}.")
        return cls(**{key: _tupled(value) for key, value in values.items()})


def texts_of(captions: Any) -> list[str]:
    """Returns captions, one string or several, as a list.

    Raises:
        ValueError: If one of them is no string.
    """
    several = isinstance(captions, Iterable) and not isinstance(captions, str)
    found = list(captions) if several else [captions]
    if wrong := [caption for caption in found if not isinstance(caption, str)]:
        raise ValueError(f"captions must be strings, but {wrong[0]!r:.80} is of {type(wrong[0]).__name__}.")
    return found


def words_of(caption: str) -> list[str]:
    """Returns the words of a caption in lower case, without punctuation at their ends; a tone is one word."""
    words = (word.strip(PUNCTUATION) for word in caption.lower().split())
    return [word for word in words if word]


@lru_cache(maxsize=8)
def _places(vocabulary: tuple[str, ...]) -> dict[str, int]:
    return {word: place for place, word in enumerate(vocabulary, start=1)}


@lru_cache(maxsize=8)
def _trained_places(vocabulary: tuple[str, ...], captions: tuple[str, ...]) -> dict[str, int]:
    trained = {word for caption in captions for word in words_of(caption)}
    return {word: place for word, place in _places(vocabulary).items() if word in trained}


def _with_nearest(word: str, vocabulary: Iterable[str]) -> str:
    nearest = difflib.get_close_matches(word, vocabulary)
    return f"{word!r} (did you mean {' or '.join(map(repr, nearest))}?)" if nearest else repr(word)


def _listed(value: Any) -> Any:
    return [_listed(item) for item in value] if isinstance(value, (list, tuple)) else value


def _tupled(value: Any) -> Any:
    return tuple(_tupled(item) for item in value) if isinstance(value, (list, tuple)) else value


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= LARGEST_COUNT


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


def _is_optional(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or fits(value)


def _is_list(fits: Callable[[Any], bool], length: int | None = None) -> Callable[[Any], bool]:
    return lambda value: (
        isinstance(value, (list, tuple)) and length in (None, len(value)) and all(fits(item) for item in value)
    )


def _is_attribute(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 2 and _is_text(value[0]) and _is_list(_is_text)(value[1])


_FORMS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "name": ("a string", _is_text),
    "kind": ("a string", _is_text),
    "shape": ("a list of whole numbers", _is_list(_is_count)),
    "value_range": ("two numbers or null", _is_optional(_is_list(_is_number, length=2))),
    "num_classes": ("a whole number or null", _is_optional(_is_count)),
    "class_names": ("a list of strings", _is_list(_is_text)),
    "class_counts": ("a list of whole numbers", _is_list(_is_count)),
    "preprocessing": ("a string", _is_text),
    "vocabulary": ("a list of strings", _is_list(_is_text)),
    "modes": ("a list of lists of numbers", _is_list(_is_list(_is_number))),
    "mode_scale": ("a number or null", _is_optional(_is_number)),
    "entropy_rate": ("a number or null", _is_optional(_is_number)),
    "scale": ("a number or null", _is_optional(_is_number)),
    "captions": ("a list of strings", _is_list(_is_text)),
    "caption_classes": ("a list of whole numbers", _is_list(_is_count)),
    "attributes": ("a list of pairs, each a string and a list of strings", _is_list(_is_attribute)),
}
"""What each field may be in JSON: in words, and as a check."""


@dataclass(eq=False)
class Batch:
    """One batch, as loaders yield it and methods read it.

    It unpacks and indexes as the sequence of the fields that are present, in their order: ``x, labels = batch``.

    Args:
        x: Examples, (N, ...).
        labels: Classes, int64 (N,), or ``None``.
        tokens: Captions of the examples, int64 (N, S), padded with 0 at their end, or ``None``; see
            ``DataSpec.tokens``.
        lengths: Number of steps of each sequence before its padding, int64 (N,), or ``None``.
        continues: Whether each row continues the same row of the previous batch, bool (N,), or ``None``.
        mask: Which pixels of damaged images are known, (N, 1, H, W): 1 for known and 0 for hidden ones; or ``None``.
        target: The images of which the examples are damaged versions, (N, C, H', W'), or ``None``.
        attributes: Attributes of the examples, int64 (N, A), or ``None``: an index into the values of each of
            ``DataSpec.attributes``, and -1 where an example has none of them.
    """

    x: "Tensor"
    labels: "Tensor | None" = None
    tokens: "Tensor | None" = None
    lengths: "Tensor | None" = None
    continues: "Tensor | None" = None
    mask: "Tensor | None" = None
    target: "Tensor | None" = None
    attributes: "Tensor | None" = None

    def __iter__(self) -> "Iterator[Tensor]":
        return iter([value for value in vars(self).values() if value is not None])

    def __getitem__(self, index: int) -> "Tensor":
        return list(iter(self))[index]

    def __len__(self) -> int:
        """Number of fields that are present."""
        return sum(1 for _ in self)

    def to(self, *args: Any, **kwargs: Any) -> "Batch":
        """Moves every field as ``Tensor.to`` does, which Lightning calls with a device."""
        return Batch(**{field: value.to(*args, **kwargs) for field, value in vars(self).items() if value is not None})

    def pin_memory(self) -> "Batch":
        """Returns the batch in page-locked memory; ``torch.utils.data.DataLoader`` calls this."""
        return Batch(**{field: value.pin_memory() for field, value in vars(self).items() if value is not None})
