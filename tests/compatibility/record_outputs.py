"""Records what every checkpoint of the zoo computes: samples from a fixed seed, and numbers for fixed inputs.

Runs on any commit since the checkpoints exist, because it asks for nothing but public calls::

    python tests/compatibility/record_outputs.py outputs.npz

With names after the file, those alone are recorded anew, such as of checkpoints that better ones have replaced.
``compare_commits.py`` compares two commits bit for bit; ``test_outputs.py`` compares with ``outputs.npz``, which is
stored.
"""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path.cwd()))

import numpy as np
import torch
from torch import Tensor

import zoo

NUM = 4
SEQUENCE_STEPS = {"tokens": 48, "piano_roll": 16, "strokes": 24, "video": 3}


def seeded(seed: int = 0) -> torch.Generator:
    """Returns a generator on the CPU."""
    return torch.Generator().manual_seed(seed)


def inputs(spec: Any) -> Tensor:
    """Returns fixed examples that every model of such data takes."""
    shape = spec.shape
    if spec.kind in SEQUENCE_STEPS:
        shape = (SEQUENCE_STEPS[spec.kind], *spec.shape[1:])
    uniform = torch.rand(NUM, *shape, generator=seeded(1))
    if spec.kind == "tokens":
        return (uniform * len(spec.vocabulary)).long()
    if spec.kind == "points":
        return 4 * uniform - 2
    if spec.kind == "strokes":
        return torch.cat([2 * uniform[..., :2] - 1, uniform[..., 2:].round()], -1)
    if spec.kind == "piano_roll":
        return (uniform < 0.05).float()
    if spec.kind == "video":
        return (uniform * 255).round() / 255
    return uniform.round() if spec.value_range == (0.0, 1.0) else (uniform * 255).round() / 127.5 - 1


def condition(module: Any) -> Tensor | None:
    """Returns the first classes or captions of a conditional model."""
    if getattr(module, "num_words", None) is not None:
        given: Tensor = module.caption_condition(module.data_spec.captions[:NUM])
        return given
    return None if module.num_classes is None else torch.arange(NUM) % module.num_classes


@torch.no_grad()
def outputs(name: str) -> dict[str, Tensor]:
    """Returns what one checkpoint computes, by name."""
    module: Any = zoo.load(name)
    spec = module.data_spec
    x = inputs(spec)
    if hasattr(module, "extract"):
        pixels = ((x + 1) * 127.5).round().to(torch.uint8)
        features, logits = module.extract(pixels)
        told = module.attribute_logits(features) if hasattr(module, "attribute_logits") else {}
        return {"features": features, "logits": logits, **told}
    settings = {"length": SEQUENCE_STEPS[spec.kind]} if spec.kind in SEQUENCE_STEPS else {}
    found = {"samples": module.sample(NUM, generator=seeded(), **settings)}
    if hasattr(module, "elbo"):
        found["elbo"] = module.elbo(x, generator=seeded())
        found["bound"] = module.log_prob_bound(x, 7, generator=seeded())
        found["code"] = module.encode(x)
    elif hasattr(module, "energy"):
        found["energy"] = module.energy(x)
    elif hasattr(module, "velocity") and len(spec.shape) == 3:
        found["log_prob"] = module.log_prob(x, labels=condition(module), steps=2)
    elif hasattr(module, "log_prob"):
        given = condition(module)
        found["log_prob"] = module.log_prob(x) if given is None else module.log_prob(x, labels=given)
    if hasattr(module, "discriminator") and hasattr(module, "decode"):
        if hasattr(module, "encoder"):  # a discriminator of pairs
            given = found["code"] = module.encode(x)
        else:
            given = condition(module)
        logits = module.discriminator(x, given)
        if isinstance(logits, tuple):  # of a creative network, those of styles too
            logits, found["styles"] = logits
        found["discriminator"] = logits
    if hasattr(module, "continue_sequence"):
        found["continued"] = module.continue_sequence(x[:, :2], 4, generator=seeded())
    return found


def main(path: str, *names: str) -> None:
    """Writes the outputs of checkpoints to one file: of all of them, or of those named beside what the file holds."""
    torch.set_num_threads(1)
    arrays = {}
    if names:
        with np.load(path) as file:
            arrays = {key: value for key, value in file.items() if key.partition("/")[0] in {*zoo.names()} - {*names}}
    for name in names or zoo.names():
        for key, value in outputs(name).items():
            arrays[f"{name}/{key}"] = value.numpy()
        print(name, flush=True)
    np.savez_compressed(path, **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
