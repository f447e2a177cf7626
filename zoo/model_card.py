"""The README of a checkpoint, in the form of a Hugging Face model card: made from its config alone."""

import inspect
import json
import re
import shlex
import sys
from collections.abc import Sequence

import yaml

from datamodules.spec import DataSpec
from datamodules.vocabulary import BYTES
from zoo.cards import SAMPLES_FILE, Card
from zoo.exhibits import SEQUENCES, is_text, medium_for
from zoo.paths import checkpoints_dir

LICENCE = "apache-2.0"
BESIDE = {
    "samples.txt": "[More of it](samples.txt).",
    "samples.mid": "To listen to: [samples.mid](samples.mid).",
    "samples.svg": "As lines: [samples.svg](samples.svg).",
    "samples.gif": "![moving samples](samples.gif)",
}
BEGINNING = "The "  # of a text that the model is to go on with


def readme(card: Card, *, samples: Sequence[str] = (), quoted: str = "") -> str:
    """Returns the text of ``README.md``: YAML front matter, then what a user must know to use and judge the weights.

    Args:
        card: The facts.
        samples: Names of the files of samples that lie beside it.
        quoted: A sample of a model of text.
    """
    sections = [
        f"---\n{yaml.safe_dump(_front_matter(card), sort_keys=False, allow_unicode=True)}---",
        f"# {card.name}",
        _about(card),
        _fenced("text", quoted.strip("\n")) if quoted else "",
        f"![samples]({SAMPLES_FILE})" if SAMPLES_FILE in samples else "",
        *(sentence for name, sentence in BESIDE.items() if name in samples),
        "## Use",
        _use(card),
        "## Training",
        _training(card),
        _curve(card),
        "## Measured",
        _metrics(card),
        "## Limitations",
        card.notes or "None are recorded beyond those of the method and its data set.",
        "## Licence",
        f"{LICENCE}. The digest in `config.json` detects damage; it is no signature.",
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _front_matter(card: Card) -> dict[str, object]:
    images = card.data_spec is not None and card.data_spec.get("kind") == "image"
    values: dict[str, object] = {
        "license": LICENCE,
        "library_name": "generative-zoo",
        "tags": ["generative-zoo", "pytorch-lightning", card.method.lower()],
    }
    if card.data is not None:
        values["datasets"] = [card.data]
    if images and any("generator" in name for name in card.networks):
        values["pipeline_tag"] = "unconditional-image-generation"
    if card.metrics:
        values["model-index"] = [
            {
                "name": card.name,
                "results": [
                    {
                        "task": {"type": "other" if "pipeline_tag" not in values else "unconditional-image-generation"},
                        "dataset": {"name": card.data or "unknown", "type": card.data or "unknown"},
                        "metrics": [
                            {"type": name.split("-")[0].split("/")[-1], "name": name, "value": value}
                            for name, value in card.metrics.items()
                        ],
                    }
                ],
            }
        ]
    return values


def _about(card: Card) -> str:
    import lightning_modules

    method = lightning_modules.METHODS[card.method]
    source = inspect.cleandoc(sys.modules[method.__module__].__doc__ or method.__doc__ or "")
    return f"**Method:** `{card.method}` (`{method.__module__}`)\n\n{source}"


def _fenced(language: str, text: str) -> str:
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def _use(card: Card) -> str:
    spec = None if card.data_spec is None else DataSpec.from_json(card.data_spec)
    imports, draw, command = "import zoo\n", "samples = module.sample(64)\n", ""
    if card.method == "Classifier":
        draw = ""
    elif spec is not None and is_text(spec):
        begin = BEGINNING if spec.vocabulary == BYTES or set(BEGINNING) <= set(spec.vocabulary) else spec.vocabulary[0]
        imports += "from datamodules import decode, encode\n"
        draw = (
            "vocabulary = module.data_spec.vocabulary\n"
            "print(decode(module.sample(1, length=200)[0], vocabulary))\n"
            f"prefix = encode({json.dumps(begin)}, vocabulary)[None]\n"
            "print(decode(module.continue_sequence(prefix, 200, temperature=0.8)[0], vocabulary))\n"
        )
        command = f"--prefix {shlex.quote(begin)} --temperature 0.8"
    elif spec is not None and spec.kind in SEQUENCES:
        medium = medium_for(spec)
        given, length = medium.given(spec), medium.length(spec) or spec.shape[0]
        draw = (
            f"samples = module.sample(4, length={length})\n"
            f"continued = module.continue_sequence(samples[:, :{given}], {length - given})\n"
        )
        command = f"--prime {given}"
    raw = 'module = zoo.load("NAME", weights="raw")  # the last step instead of the average\n' if card.averaged else ""
    name = _reference(card)
    code = _fenced("python", f'{imports}\nmodule = zoo.load("NAME")\n{draw}{raw}'.replace("NAME", name).strip("\n"))
    return "\n\n".join([code, _fenced("bash", f"python -m zoo sample {name} {command}")] if command else [code])


def _reference(card: Card) -> str:
    """Returns what ``zoo.load`` finds the checkpoint by; a name alone finds the zoo's own."""
    folder = card.path.resolve()
    return folder.name if folder.parent == checkpoints_dir().resolve() else "path/to/this/folder"


def _training(card: Card) -> str:
    lines = [f"- Data: {card.data or 'not recorded'}{_shape(card)}"]
    if card.recipe is not None:
        lines.append(f"- Recipe: `python -m zoo train {shlex.join([card.recipe, *card.overrides])}`")
    if card.batches is not None:
        costs = [f"{value:,} {name.replace('_', ' ')}" for name, value in card.training.items()]
        lines.append(f"- Batches: {card.batches:,}" + (f" ({', '.join(costs)})" if costs else ""))
    lines.append("- Hyperparameters: `" + json.dumps(dict(card.hyperparameters)) + "`")
    networks = ", ".join(f"{name} {count:,}" for name, count in card.networks.items())
    lines.append(f"- Parameters: {card.parameters:,} ({networks})")
    lines.append("- Weights: the last step" + (", and their average (loaded by default)" if card.averaged else ""))
    lines.append("- Versions: " + ", ".join(f"{name} {version}" for name, version in card.versions.items()))
    return "\n".join(lines)


def _shape(card: Card) -> str:
    if card.data_spec is None:
        return ""
    sizes = " x ".join(str(size) for size in card.data_spec.get("shape", ()))
    return f", one example is {sizes}"


def _curve(card: Card) -> str:
    if not card.curve:
        return ""
    columns = sorted({key for row in card.curve for key in row}, key=lambda key: (key != "batches", key))
    return _table(columns, [[_number(row[key]) if key in row else "" for key in columns] for row in card.curve])


def _metrics(card: Card) -> str:
    if not card.metrics:
        return "Nothing was measured yet: `python -m zoo evaluate`."
    return "The name carries the protocol: measure, extractor, number of samples.\n\n" + _table(
        ["measure", "value"], [[name, _number(value)] for name, value in card.metrics.items()]
    )


def _table(columns: list[str], rows: list[list[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
