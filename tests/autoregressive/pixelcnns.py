"""Small PixelCNN++ models of several kinds of images."""

from typing import Any

import torch
from torch import Tensor

from lightning_modules import PixelCNNPlusPlus

BITS = {"likelihood": "bernoulli", "width": 2}
MODELS: dict[str, dict[str, Any]] = {
    "bits, one scale": {**BITS, "shape": [1, 5, 3], "num_scales": 1},
    "grey, three scales": {"shape": [1, 4, 8], "width": 3, "num_scales": 3, "num_components": 2},
    "colour, deep, classes": {"shape": [3, 4, 6], "width": 4, "depth": 2, "num_scales": 2, "num_classes": 3},
    "bits, wide, to one pixel": {"likelihood": "bernoulli", "shape": [1, 8, 8], "width": 8, "num_scales": 4},
}


def build(**settings: Any) -> PixelCNNPlusPlus:
    """Every weight, bias and label drawn anew: zeros would hide a mistake."""
    torch.manual_seed(0)
    module = PixelCNNPlusPlus(**settings)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return module.eval()


def seed(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def labels_for(module: PixelCNNPlusPlus, num: int) -> Tensor | None:
    return None if module.class_probabilities is None else torch.arange(num) % len(module.class_probabilities)
