"""The command line of the zoo: ``python -m zoo``, or ``generative-zoo`` after installation.

Only commands that compute import torch.
"""

import argparse
import os
import re
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from zoo import commands
from zoo.escaping import printable

DESCRIPTION = "Pretrained generative models: list them, sample from them, measure them, train them again."
RUN = {
    "list": commands.list_,
    "show": commands.show,
    "train": commands.train,
    "sample": commands.sample,
    "draw": commands.draw,
    "evaluate": commands.evaluate,
    "export": commands.export,
    "fine-tune": commands.fine_tune,
}
DATA_HELP = "folder of the data, or file of a text (default: searched)"
NAME_HELP = "name in the zoo, path of a checkpoint's folder, or id on the Hugging Face Hub (owner/repo)"


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of all commands."""
    debug = argparse.ArgumentParser(add_help=False)
    debug.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser = argparse.ArgumentParser("python -m zoo", description=DESCRIPTION, parents=[debug], allow_abbrev=False)
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, help: str, **settings: Any) -> argparse.ArgumentParser:
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
        "  --model.lr 1e-3                  a hyperparameter of the method\n"
        "  --data.batch_size 128            an argument of the datamodule\n"
        "  --trainer.max_steps 100          an argument of the Trainer\n"
        "  --ckpt_path runs/NAME/last.ckpt  resume exactly from that checkpoint\n"
        "  --print_config                   print the whole configuration and stop",
    )
    training.add_argument("recipe", metavar="RECIPE", help="name of a recipe, or a YAML file")
    training.add_argument("--save-to", metavar="FOLDER", help="folder of the checkpoint (default: runs/RECIPE/zoo)")

    sampling = command(
        "sample",
        "sample images, text, music, drawings or video",
        epilog="Models of sequences can also continue a prefix:\n"
        '  --prefix "ROMEO:"   a text\n'
        "  --prime 16           the first 16 steps of held-out examples, which needs the data",
    )
    sampling.add_argument("name", help=NAME_HELP)
    sampling.add_argument("--num", type=_positive, help="number of samples (default: depends on the kind of data)")
    sampling.add_argument("--seed", type=int, default=0, help="seed of all random numbers (default: 0)")
    sampling.add_argument("--labels", type=_labels, help="classes to sample in turn, such as 0,1,2")
    beginning = sampling.add_mutually_exclusive_group()
    beginning.add_argument("--prefix", metavar="TEXT", help="text to continue")
    beginning.add_argument(
        "--prime", type=_positive, metavar="N", help="continue the first N steps of held-out examples"
    )
    sampling.add_argument("--length", type=_positive, help="steps to sample, after the prefix if there is one")
    sampling.add_argument(
        "--temperature", type=float, help="below 1 for more typical, less varied samples, if the method supports it"
    )
    sampling.add_argument("--top-k", type=int, help="sample each symbol among the k most likely")
    sampling.add_argument(
        "--top-p", type=float, help="sample each symbol among the fewest most likely with total probability p"
    )
    sampling.add_argument("--weights", choices=["ema", "raw"], default="ema", help="averaged or last (default: ema)")
    sampling.add_argument("--data-dir", "--data", metavar="PATH", help=f"{DATA_HELP}, for --prime")
    sampling.add_argument(
        "--out",
        metavar="FILE",
        help="PNG, or TXT, MID, SVG or GIF for sequences (default: NAME with the extensions of this kind of data)",
    )

    drawing = command("draw", "render reconstructions, completions, filters and other views of a checkpoint")
    drawing.add_argument("name", help=NAME_HELP)
    drawing.add_argument(
        "view",
        help="reconstructions, interpolation, traversal, completion, continuation, exposure_bias, filters, fantasies "
        "or energy, if the method supports it",
    )
    drawing.add_argument("--num", type=_positive, help="rows, or images (default: depends on the view)")
    drawing.add_argument("--seed", type=int, default=0, help="seed of all random numbers (default: 0)")
    drawing.add_argument("--data-dir", "--data", metavar="PATH", help=DATA_HELP)
    drawing.add_argument(
        "--out", metavar="FILE", help="PNG file, or GIF for an animated interpolation (default: NAME.VIEW.png)"
    )

    evaluating = command("evaluate", "measure a checkpoint against the test split of its data")
    evaluating.add_argument("name", help=NAME_HELP)
    evaluating.add_argument(
        "--num-samples",
        type=_positive,
        help="number of samples (default: 10000 images, 2000 of slow samplers, 2500 points)",
    )
    evaluating.add_argument(
        "--extractor",
        "--judge",  # the name in former versions
        metavar="NAME",
        help="checkpoint of the classifier for metrics of images (default: that of the recipe)",
    )
    evaluating.add_argument("--data-dir", "--data", metavar="PATH", help=DATA_HELP)
    evaluating.add_argument("--seed", type=int, default=0, help="seed of all random numbers (default: 0)")
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

    exporting = command("export", "convert a training checkpoint (.ckpt) to a checkpoint of the zoo")
    exporting.add_argument("ckpt", help="file written by Lightning; loaded without running any code in it")
    exporting.add_argument("out", help="folder to write")
    exporting.add_argument("--name", help="name in the card (default: the folder's)")
    exporting.add_argument("--method", help="class of the module, if the file does not name it")
    exporting.add_argument("--recipe", help="name of the recipe that trained it")

    tuning = command("fine-tune", "continue the training of a checkpoint on your own folder of images")
    tuning.add_argument("name", help=NAME_HELP)
    tuning.add_argument("--data", required=True, metavar="FOLDER", help="folder of images, with subfolders")
    tuning.add_argument("--steps", type=_positive, default=2000, help="batches to train (default: 2000)")
    tuning.add_argument("--batch-size", type=_positive, default=64, help="images per batch (default: 64)")
    tuning.add_argument("--seed", type=int, default=0, help="seed of all random numbers (default: 0)")
    tuning.add_argument(
        "--hold-out",
        type=float,
        default=0.0,
        metavar="FRACTION",
        help="fraction of the images to keep out of the training, for evaluate (default: 0, all are trained on)",
    )
    tuning.add_argument("--out", metavar="FOLDER", help="folder to write (default: runs/fine-tune/<name>)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns 0, 1 for a failure, 2 for bad usage or 130 after Ctrl-C."""
    parser = build_parser()
    arguments, overrides = parser.parse_known_args(argv)
    if arguments.command == "train":
        arguments.overrides = overrides
    elif overrides:
        parser.error(f"unrecognized arguments: {' '.join(overrides)}")
    formatted = warnings.formatwarning
    warnings.formatwarning = lambda message, *_, **__: f"warning: {printable(str(message))}\n"
    try:
        arguments.run(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:  # any other error is reported in one line
        if arguments.debug:
            raise
        print(f"error: {_one_line(error)}", file=sys.stderr)
        return 1
    finally:
        warnings.formatwarning = formatted
    return 0


def _one_line(error: Exception) -> str:
    message = str(error)
    if "Union subtypes" in message:  # jsonargparse wraps the message of a method or datamodule about its arguments
        reasons = re.findall(r"^\s*- (.*(?:\n(?!\s*- ).*)*)", message, re.MULTILINE)
        message = next((reason for reason in reasons if not reason.startswith("Expected a <class")), message)
    return printable(" ".join(message.split())) or type(error).__name__


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not a positive number")
    return number


def _labels(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of class numbers, such as 0,1,2") from None


if __name__ == "__main__":
    sys.exit(main())
