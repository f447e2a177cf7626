"""Forty emoji in two styles in the form of the real ones, and small folders of images with captions."""

import io
import json
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
from PIL import Image

from tests.datamodules.small_data import image_folder

TONES = ("1F3FB", "1F3FC", "1F3FD", "1F3FE", "1F3FF")
ROLES = {"1F692": "FIREFIGHTER", "1F3A8": "ARTIST"}
PEOPLE = {"1F468": "MAN ", "1F469": "WOMAN ", "1F9D1": ""}
FOLDERS = ("google", "twitter")


def entry(codes: str, name: str, category: str, subcategory: str, tones: tuple[str, ...] = ()) -> dict[str, Any]:
    """Returns an emoji as the table has it; a tone follows its first code point."""
    first, *rest = codes.split("-")
    forms = {tone: "-".join([first, tone, *rest]) for tone in tones}
    return {
        "name": name,
        "unified": codes,
        "image": f"{codes.lower()}.png",
        "category": category,
        "subcategory": subcategory,
        "skin_variations": {tone: {"unified": form, "image": f"{form.lower()}.png"} for tone, form in forms.items()},
    }


def small_table() -> list[dict[str, Any]]:
    """Returns two roles of three people in six forms, and four things."""
    people = [
        entry(f"{who}-200D-{what}", prefix + role, "People & Body", "person-role", TONES)
        for what, role in ROLES.items()
        for who, prefix in PEOPLE.items()
    ]
    return [
        *people,
        entry("1F34E", "RED APPLE", "Food & Drink", "food-fruit"),
        entry("1F34F", "GREEN APPLE", "Food & Drink", "food-fruit"),
        entry("1F1F0-1F1EA", "Kenya Flag", "Flags", "country-flag"),
        entry("1F3FB", "EMOJI MODIFIER FITZPATRICK TYPE-1-2", "Component", "skin-tone"),
    ]


def png(seed: int, size: int = 64) -> bytes:
    """Returns a transparent image that is a function of the seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 4), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def small_members(table: list[dict[str, Any]] | None = None) -> dict[str, bytes]:
    """Returns the members of a small ``emoji-64.zip``."""
    table = small_table() if table is None else table
    images = [form["image"] for one in table for form in (one, *one["skin_variations"].values())]
    names = [f"{folder}/{image}" for folder in FOLDERS for image in images]
    return {"emoji.json": json.dumps(table).encode(), **{name: png(seed) for seed, name in enumerate(names)}}


def emoji_zip(members: dict[str, bytes] | None = None) -> dict[str, bytes]:
    """Returns a small archive by its name."""
    buffer = io.BytesIO()
    with ZipFile(buffer, "w") as archive:
        for name, content in (small_members() if members is None else members).items():
            archive.writestr(name, content)
    return {"emoji-64.zip": buffer.getvalue()}


def captioned_folder(folder: Path) -> Path:
    """Writes thirty images in three classes with a list of captions, and returns the folder."""
    image_folder(folder)
    paths = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    lines = [{"file": path, "caption": f"A {path.partition('/')[0]}, number {i % 4}."} for i, path in enumerate(paths)]
    (folder / "captions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return folder
