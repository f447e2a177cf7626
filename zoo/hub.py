"""Finds the folder of a checkpoint by name: the zoo's own checkpoints, local folders and the Hugging Face Hub."""

import re
from pathlib import Path

from zoo.errors import UnknownNameError, ZooError
from zoo.paths import (
    NAME,
    checkpoint_names,
    checkpoints_dir,
    command,
    did_you_mean,
    is_checkpoint,
    listed,
    recipe_names,
)

HUB_ID = re.compile(r"(?:hf://)?(?P<repo>\w[\w.-]*/\w[\w.-]*)(?:@(?P<revision>\w[\w./-]*))?")
SAMPLES = [f"samples.{kind}" for kind in ("png", "txt", "mid", "svg", "gif")]
FILES = ["model.safetensors", "config.json", "README.md", *SAMPLES, "statistics/*"]


def find(name: str | Path) -> tuple[str | None, Path]:
    """Returns the name of a checkpoint (``None`` for a local folder, whose config has it) and its folder.

    A name of the zoo has precedence over a local folder of that name (write ``./name`` for the folder), and an
    existing folder has precedence over a Hub id (write ``hf://owner/repo`` for the Hub).

    Raises:
        UnknownNameError: If there is no such checkpoint.
        ZooError: If the Hub cannot be reached or does not have the checkpoint.
    """
    text = str(name)
    if isinstance(name, str):
        if is_checkpoint(text):
            return text, checkpoints_dir() / text
        if text.startswith("hf://"):
            return _download(text)
    if text and Path(text).expanduser().is_dir():
        folder = Path(text).expanduser()
        return None, folder
    if text.endswith(".ckpt"):
        raise UnknownNameError(
            f"{text!r} is a training's checkpoint. Make one of the zoo of it: {command('export', text, 'FOLDER')}"
        )
    if isinstance(name, str) and HUB_ID.fullmatch(text) and not NAME.fullmatch(text):
        return _download(text)
    if not NAME.fullmatch(text):
        raise UnknownNameError(
            f"{text!r} is neither a name of the zoo, nor an existing folder, nor an id of the Hub (owner/repo)."
            + did_you_mean(text, checkpoint_names())
        )
    if text in recipe_names():
        raise UnknownNameError(f"{text!r} has a recipe but no checkpoint here. Make one with: {command('train', text)}")
    hint = did_you_mean(text, checkpoint_names())
    raise UnknownNameError(f"{text!r} is not in the zoo.{hint} It has: {listed(checkpoint_names())}.")


def _download(reference: str) -> tuple[str, Path]:
    match = HUB_ID.fullmatch(reference)
    if match is None:
        raise UnknownNameError(
            f"{reference!r} is not an id of the Hub; write hf://owner/repo or hf://owner/repo@revision."
        )
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(match["repo"], revision=match["revision"], allow_patterns=FILES)
    except Exception as error:  # its class depends on the version of huggingface_hub
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ZooError(
            f"{match['repo']!r} is not a local folder and could not be fetched from the Hugging Face Hub ({reason}). "
            "Check the id and the network, or give the path of a local folder."
        ) from error
    return match["repo"], Path(folder)
