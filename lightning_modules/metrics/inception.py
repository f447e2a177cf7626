"""Inception as feature extractor: the features and logits of the published FID and Inception Score.

The network and its weights (TensorFlow's of 2015-12-05, ported) are torch-fidelity's; nothing is downloaded here. FIDs
with it are comparable with the literature only for the same number of images and the same real images.

NOTE: It was trained on photographs. For other kinds of images, a classifier that was trained on them is the better
extractor (``zoo.load_classifier("classifier.fashion_mnist")``).

References:
    Rethinking the Inception Architecture for Computer Vision (Szegedy et al., 2015),
    https://arxiv.org/abs/1512.00567
"""

import io
import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch_fidelity.feature_extractor_inceptionv3 import (  # type: ignore[import-untyped]
    URL_INCEPTION_V3,
    FeatureExtractorInceptionV3,
)

from lightning_modules.metrics.protocol import check_bytes


class Inception(nn.Module):
    """Inception v3: 2048 pooled features and 1008 logits without bias, in one pass.

    Images of any size are resized to 299 x 299 as TensorFlow 1 did; grey images are repeated to three channels.

    Args:
        weights_path: The file ``weights-inception-2015-12-05-6726825d.pth`` of torch-fidelity's release v0.2.0
            (pytorch-fid has the same one as ``pt_inception-2015-12-05-6726825d.pth``).

    Raises:
        FileNotFoundError: If there is no such file; the message says where to get it.
        ValueError: If the file holds other weights, or anything but weights.
    """

    extractor_name = "inception"
    num_features = 2048
    statistics_dir: str | None = None

    def __init__(self, weights_path: str | None = None) -> None:
        super().__init__()
        # The network's own reader would unpickle anything, so it gets weights that were read safely.
        weights = io.BytesIO()
        torch.save(_read_weights(weights_path), weights)
        weights.seek(0)
        try:
            self.network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048", "logits_unbiased"], weights)
        except RuntimeError as error:
            raise ValueError(f"{weights_path} does not hold the weights of Inception: {error}") from error
        self.requires_grad_(False)
        self.eval()

    def extract(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Maps uint8 images (N, 1 or 3, H, W) to features (N, 2048) and logits (N, 1008), float32.

        Raises:
            ValueError: If the images are not uint8, or have another number of channels.
        """
        check_bytes(images, "Inception")
        features, logits = self.network(images.expand(-1, 3, -1, -1))
        return features, logits

    def train(self, mode: bool = True) -> "Inception":
        """Stays in eval mode, because the extractor is frozen."""
        return super().train(False)


def _read_weights(path: str | None) -> dict[str, Any]:
    if path is None or not Path(path).is_file():
        raise FileNotFoundError(
            f"There are no Inception weights at {path}. They are never downloaded: fetch {URL_INCEPTION_V3} (95 MB) "
            "on a machine with a network, put the file anywhere, and pass its path as Inception(weights_path=...)."
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"{path} is damaged, or holds more than weights, which is refused: {error}") from error
    if not isinstance(state, dict):
        raise ValueError(f"{path} holds a {type(state).__name__}, not a dictionary of weights.")
    return state
