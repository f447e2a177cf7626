"""Arguments that methods of the family share are described in the same words."""

import inspect
import re

from lightning_modules import FAMILIES

METHODS = FAMILIES["adversarial"]


def described_arguments(method: type) -> dict[str, str]:
    """Returns the text of each argument in the docstring of a class, in one line."""
    documentation = inspect.getdoc(method) or ""
    section = re.search(r"^Args:\n(.*?)(?=^\S|\Z)", documentation, re.DOTALL | re.MULTILINE)
    assert section, method.__name__
    entries = re.split(r"^    (?=\w)", section[1], flags=re.MULTILINE)[1:]
    return {name: " ".join(text.split()) for name, _, text in (entry.partition(":") for entry in entries)}


def test_every_argument_is_described_in_the_order_of_the_signature() -> None:
    for method in METHODS:
        assert list(described_arguments(method)) == list(inspect.signature(method).parameters), method.__name__


def test_shared_arguments_have_the_same_text() -> None:
    texts: dict[str, set[str]] = {}
    for method in METHODS:
        for name, text in described_arguments(method).items():
            if name == "shape" and "points" not in method.kinds:
                text = text.replace("[-1, 1].", "[-1, 1], or (2,) for points.")
            texts.setdefault(name, set()).add(text)
    assert {"shape", "lr", "critic_steps", "decay_steps", "weight_clip", "game"} <= texts.keys()
    assert {name: found for name, found in texts.items() if len(found) > 1} == {}
