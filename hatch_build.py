"""Puts the checkpoints into the wheel, at ``zoo/checkpoints``, without the weights of those whose card says ``large``.

A wheel that is uploaded may have 100 MB; a checkout has all weights. The card of a large checkpoint stays in the wheel,
so that it is listed, and ``zoo.load`` says where its weights are.
"""

import json
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

WEIGHTS_FILE = "model.safetensors"


class Checkpoints(BuildHookInterface[Any]):
    """Adds the files one by one; an editable installation finds them where they are."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Adds the files to those that the build includes."""
        if version == "editable":
            return
        root = Path(self.root)
        for config in sorted(root.glob("checkpoints/*/config.json")):
            large = json.loads(config.read_text(encoding="utf-8")).get("large", False)
            for path in sorted(config.parent.rglob("*")):
                if path.is_file() and not (large and path == config.parent / WEIGHTS_FILE):
                    name = path.relative_to(root).as_posix()
                    build_data["force_include"][str(path)] = f"zoo/{name}"
