"""The README of a checkpoint, in the form of a Hugging Face model card: made from its config alone."""

import inspect
import json
import shlex
import sys

import yaml

from zoo.cards import SAMPLES_FILE, Card
from zoo.paths import checkpoints_dir

LICENCE = "apache-2.0"


def readme(card: Card, *, with_samples: bool) -> str:
    """Returns the text of ``README.md``: YAML front matter, then what a user must know to use and judge the weights."""
    sections = [
        f"---\n{yaml.safe_dump(_front_matter(card), sort_keys=False, allow_unicode=True)}---",
        f"# {card.name}",
        _about(card),
        f"![samples]({SAMPLES_FILE})" if with_samples else "",
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


def _use(card: Card) -> str:
    draw = "" if card.method == "Classifier" else "samples = module.sample(64)\n"
    raw = '\nmodule = zoo.load("NAME", weights="raw")  # the last step instead of the average' if card.averaged else ""
    return f'```python\nimport zoo\n\nmodule = zoo.load("NAME")\n{draw}{raw.lstrip()}\n```'.replace(
        "NAME", _reference(card)
    ).replace("\n\n```", "\n```")


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
