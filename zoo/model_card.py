"""The README of a checkpoint, in the form of a Hugging Face model card, generated from its config alone."""

import inspect
import json
import re
import shlex
import sys
from collections.abc import Iterator, Sequence

import yaml

from datamodules.spec import BYTES, DataSpec
from lightning_modules.rendering.renderers import SEQUENCES, renderer_for
from zoo.cards import SAMPLES_FILE, WEIGHTS_FILE, Card
from zoo.counterfactual_table import COLUMNS, EXPLANATION, FIGURE, counterfactual_rows
from zoo.escaping import code_span, markdown, paragraphs, printable
from zoo.licences import licence_of
from zoo.paths import checkpoints_dir, command

FURTHER_FILES = {
    "samples.txt": "[More samples](samples.txt).",
    "samples.mid": "As MIDI file: [samples.mid](samples.mid).",
    "samples.svg": "As SVG: [samples.svg](samples.svg).",
    "samples.gif": "![animated samples](samples.gif)",
}
OF_FEATURES = re.compile(r"(fid|kid|inception_score|precision|recall)(_\w+)?")
"""Metrics that are computed from the features of an extractor."""
FID = re.compile(r"(val|test)/fid-.+")
OVER_REAL = re.compile(r"test/fid_over_real-(.+)")
PREFIX = "The "  # of the text that the example continues


def readme(card: Card, *, samples: Sequence[str] = (), quoted: str = "") -> str:
    """Returns the text of ``README.md``: YAML front matter, then what a user must know to use and assess the weights.

    Args:
        card: The facts.
        samples: Names of the files of samples in the same folder.
        quoted: A sample of a model of text.
    """
    sections = [
        f"---\n{yaml.safe_dump(_front_matter(card), sort_keys=False, allow_unicode=True)}---",
        f"# {markdown(card.name)}",
        _about(card),
        _fenced("text", quoted.strip("\n")) if quoted else "",
        f"![samples]({SAMPLES_FILE})" if SAMPLES_FILE in samples else "",
        *(sentence for name, sentence in FURTHER_FILES.items() if name in samples),
        "## Use",
        _use(card),
        "## Training",
        _training(card),
        _curve(card),
        "## Metrics",
        _metrics(card),
        "## Limitations",
        paragraphs(card.notes) or "None are recorded beyond those of the method and its data set.",
        "## Licence",
        *licence_of(card)[1],
        f"{licence_of(card)[0]}. The digest in `config.json` detects damage; it is not a signature.",
    ]
    text = "\n\n".join(section for section in sections if section) + "\n"
    return printable(text, keep="\n\t")  # a text that a model has written may hold control characters


def _front_matter(card: Card) -> dict[str, object]:
    images = card.data_spec is not None and card.data_spec.get("kind") == "image"
    values: dict[str, object] = {
        "license": licence_of(card)[0],
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
                            {"type": published_type(name), "name": name, "value": value}
                            for name, value in card.metrics.items()
                        ],
                    }
                ],
            }
        ]
    return values


def published_type(metric: str) -> str:
    """Returns the type under which a metric is published, so that it is never taken for one with Inception.

    ``"test/fid-fashion_mnist-10k"`` is ``"fid_fashion_mnist_classifier"`` and ``"test/fid-efficientnet_lite0-10k"``
    ``"fid_efficientnet_lite0"``; only with Inception it is ``"fid"``.
    """
    name, *protocol = metric.rpartition("/")[2].split("-")
    if protocol[-1:] == ["all"]:  # compared with the images of all splits
        protocol.pop()
    if protocol and re.fullmatch(r"\d+k?", protocol[-1]):
        protocol.pop()
    extractor = "-".join(protocol).removesuffix("_binarized")
    if not OF_FEATURES.fullmatch(name) or extractor in ("", "inception"):
        return name
    from zoo.features import EXTRACTORS

    return f"{name}_{extractor}" if extractor in EXTRACTORS else f"{name}_{extractor}_classifier"


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
    imports, sampling, options = "import zoo\n", "samples = module.sample(64)\n", ""
    if card.method == "Classifier":
        sampling = ""
    elif spec is not None and spec.is_text:
        prefix = PREFIX if spec.vocabulary == BYTES or set(PREFIX) <= set(spec.vocabulary) else spec.vocabulary[0]
        imports += "from datamodules import decode, encode\n"
        sampling = (
            "vocabulary = module.data_spec.vocabulary\n"
            "print(decode(module.sample(1, length=200)[0], vocabulary))\n"
            f"prefix = encode({json.dumps(prefix)}, vocabulary)[None]\n"
            "print(decode(module.continue_sequence(prefix, 200, temperature=0.8)[0], vocabulary))\n"
        )
        options = f"--prefix {shlex.quote(prefix)} --temperature 0.8"
    elif spec is not None and spec.kind in SEQUENCES:
        renderer = renderer_for(spec)
        given, length = renderer.given(spec), renderer.length(spec) or spec.shape[0]
        sampling = (
            f"samples = module.sample(4, length={length})\n"
            f"continued = module.continue_sequence(samples[:, :{given}], {length - given})\n"
        )
        options = f"--prime {given}"
        if spec.class_names and card.hyperparameters.get("num_classes") is not None:
            last = len(spec.class_names) - 1
            sampling = f"samples = module.sample(4, labels=[{last}] * 4)  # {spec.class_names[last]}\n"
            options = f"--labels {last}"
    elif spec is not None and spec.captions and card.hyperparameters.get("num_words") is not None:
        sampling, options = _captioned(card, spec)
    raw = 'module = zoo.load("NAME", weights="raw")  # the last step instead of the average\n'
    raw = raw if card.averaged and not card.averaged_only else ""
    name, loader = _reference(card), "load_classifier" if card.method == "Classifier" else "load"
    code = f'{imports}\nmodule = zoo.{loader}("NAME")\n{sampling}{raw}'.replace("NAME", name).strip("\n")
    blocks = [_fenced("python", code)]
    return "\n\n".join([*blocks, _fenced("bash", f"{command('sample', name)} {options}")] if options else blocks)


def _captioned(card: Card, spec: DataSpec) -> tuple[str, str]:
    """Returns the call, and the options of the command, that sample for the first caption of training."""
    caption, label = spec.captions[0], spec.caption_classes[:1]
    if card.hyperparameters.get("num_classes") is None or not label:
        return f"samples = module.sample(16, captions={json.dumps([caption])})\n", f"--caption {shlex.quote(caption)}"
    return (
        f"samples = module.sample(16, captions={json.dumps([caption])}, labels=[{label[0]}] * 16)\n",
        f"--caption {shlex.quote(caption)} --labels {label[0]}",
    )


def _reference(card: Card) -> str:
    """Returns the argument of ``zoo.load`` for the checkpoint: its name if it is one of the zoo's own."""
    folder = card.path.resolve()
    return folder.name if folder.parent == checkpoints_dir().resolve() else "path/to/this/folder"


def _weights(card: Card) -> str:
    if card.batches is None or card.planned_batches is None or card.batches >= card.planned_batches:
        return "the last step"
    return f"those after batch {card.batches:,} of {card.planned_batches:,} planned"


def _averages(card: Card) -> str:
    average = ", and their average (loaded by default)"
    if card.average_alone:
        average = "; the average alone"
    elif card.averaged_only:
        average = f"; of {', '.join(map(markdown, card.averaged_only))} their average alone"
    wheel = f". A wheel of the zoo lacks `{WEIGHTS_FILE}`, a checkout has it" if card.large else ""
    return (average if card.averaged else "") + wheel


def _training(card: Card) -> str:
    lines = [f"- Data: {markdown(card.data or 'not recorded')}{_shape(card)}"]
    if card.datamodule is not None:
        arguments = code_span(json.dumps(dict(card.datamodule["arguments"])))
        lines.append(f"- Datamodule: {markdown(card.datamodule['class'])} with {arguments}")
    if card.recipe is not None:
        lines.append("- Recipe: " + code_span(command("train", card.recipe, *card.overrides)))
    if card.batches is not None:
        costs = [f"{value:,} {markdown(name.replace('_', ' '))}" for name, value in card.training.items()]
        planned = f" of {card.planned_batches:,} planned" if card.planned_batches is not None else ""
        lines.append(f"- Batches: {card.batches:,}{planned}" + (f" ({', '.join(costs)})" if costs else ""))
    if card.precision is not None:
        lines.append(f"- Precision: {markdown(card.precision)}")
    if card.hardware is not None:
        lines.append(f"- Hardware: {markdown(card.hardware)}")
    lines.append("- Hyperparameters: " + code_span(json.dumps(dict(card.hyperparameters))))
    networks = ", ".join(f"{markdown(name)} {count:,}" for name, count in card.networks.items())
    lines.append(f"- Parameters: {card.parameters:,} ({networks})")
    lines.append(f"- Weights: {_weights(card)}" + _averages(card))
    lines.append("- Versions: " + ", ".join(markdown(f"{name} {version}") for name, version in card.versions.items()))
    return "\n".join(lines)


def _shape(card: Card) -> str:
    if card.data_spec is None:
        return ""
    sizes = " x ".join(str(size) for size in card.data_spec.get("shape", ()))
    return markdown(f", one example is {sizes}")


def _curve(card: Card) -> str:
    if not card.curve:
        return ""
    columns = sorted({key for row in card.curve for key in row}, key=lambda key: (key != "batches", key))
    return _table(columns, [[_number(row[key]) if key in row else "" for key in columns] for row in card.curve])


def _metrics(card: Card) -> str:
    if not card.metrics:
        return "Nothing was measured yet: `python -m zoo evaluate`."
    seeds = card.other_seeds
    rows = [
        [name, _number(value), *(_number(row[name]) if name in row else "" for row in seeds.values())]
        for name, value in card.metrics.items()
        if FIGURE.fullmatch(name) is None
    ]
    table = _table(["metric", "value", *(f"seed {seed}" for seed in seeds)], rows) if rows else ""
    parts = ["The name contains the protocol: metric, extractor, number of samples.", *_over_real(card)]
    parts += ["Further runs of the recipe with other seeds stand beside the checkpoint."] if seeds else []
    parts += [table]
    return "\n\n".join(filter(None, [*parts, *counterfactual_tables(card)]))


def counterfactual_tables(card: Card) -> Iterator[str]:
    """Yields for each extractor what the counterfactual figures of a card are, and a table of them."""
    for extractor, rows in counterfactual_rows(card.metrics).items():
        yield EXPLANATION.format(extractor=markdown(extractor))
        yield _table(list(COLUMNS), rows)


def _over_real(card: Card) -> Iterator[str]:
    """Yields what a reader must know of FID with another extractor than Inception, if it was measured."""
    types = [published_type(name) for name in card.metrics if FID.fullmatch(name)]
    if not (other := [kind for kind in types if kind.startswith("fid_")]):
        return
    of_all = [name for name in card.metrics if FID.fullmatch(name) and name.endswith("-all")]
    if of_all:
        yield "Names that end in -all compare with the real images of all splits, most of which were trained on."
    of_such_images = any(kind.endswith("_classifier") for kind in other)
    ratios = [(found[1], value) for name, value in card.metrics.items() if (found := OVER_REAL.fullmatch(name))]
    values = ", ".join(f"{value:.3g} ({protocol})" for protocol, value in ratios)
    divided = (
        " Divided by the FID of as many training images, which is 1 for a perfect model, it is "
        f"{values or 'not known yet: `python -m zoo evaluate` measures it'}."
    )
    yield (
        f"FID has features of a classifier{' of such images' if of_such_images else ''}, not of Inception: compare it "
        f"with FIDs of the same classifier and number of samples only.{'' if of_all and not ratios else divided}"
    )


def _table(columns: list[str], rows: list[list[str]]) -> str:
    lines = [list(map(markdown, columns)), ["---"] * len(columns), *(list(map(markdown, row)) for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
