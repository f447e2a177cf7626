"""Errors of predicted frames by horizon: how far a video model can see ahead.

For each number of frames after the last one that was given: the squared error summed over a frame, PSNR and SSIM, means
over clips. A forecast that repeats the last given frame is the least that a model has to beat.

NOTE: Values are in [0, 1], and squared errors are summed over all pixels and channels of a frame, as in OpenSTL
(Tan et al., 2023), so they grow with the size of frames. SSIM has the Gaussian windows of the paper, but also those
that reach over the border, where frames are reflected.

Image Quality Assessment (Wang et al., 2004), https://doi.org/10.1109/TIP.2003.819861;
OpenSTL (Tan et al., 2023), https://arxiv.org/abs/2306.11249
"""

import math

from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from lightning_modules.parts.precision import in_finest

SSIM_WINDOW = 11  # pixels, of a Gaussian with a standard deviation of 1.5
PSNR_OF_ROUNDING = 10 * math.log10(12 * 255**2)
"""PSNR of values that were rounded to 256 grey values, dB; above it forecasts are not told apart."""


def frame_errors(predicted: Tensor, truth: Tensor) -> dict[str, Tensor]:
    """Returns the errors of predicted frames, for each number of frames after the last given one.

    Args:
        predicted: Predicted frames in [0, 1], shape (N, T, C, H, W).
        truth: The true ones, of the same shape.

    Returns:
        By name a mean over clips for each horizon, (T,): ``frame_mse``, squared errors summed over a frame;
        ``frame_psnr``, dB, at most 59, that of rounding; ``frame_ssim``, at most 1, left out for frames that are
        smaller than its windows.

    Raises:
        ValueError: If the shapes differ or are not those of clips.
    """
    if predicted.shape != truth.shape or predicted.ndim != 5:
        raise ValueError(
            f"Frames {list(predicted.shape)} cannot be compared with {list(truth.shape)}: both must be (N, T, C, H, W)."
        )
    predicted, truth = in_finest(predicted), in_finest(truth)
    psnr = peak_signal_noise_ratio(predicted, truth, data_range=1.0, reduction="none", dim=(2, 3, 4))
    errors = {
        "frame_mse": (predicted - truth).square().flatten(2).sum(2).mean(0),
        "frame_psnr": psnr.clamp(max=PSNR_OF_ROUNDING).mean(0),
    }
    if min(predicted.shape[3:]) >= SSIM_WINDOW:
        frames = predicted.flatten(0, 1), truth.flatten(0, 1)
        ssim = structural_similarity_index_measure(*frames, sigma=1.5, data_range=1.0, reduction="none")
        assert isinstance(ssim, Tensor)
        errors["frame_ssim"] = ssim.view(predicted.shape[:2]).mean(0)
    return errors


def last_repeated(given: Tensor, steps: int) -> Tensor:
    """Returns the forecast (N, steps, C, H, W) that repeats the last of the given frames (N, t, C, H, W)."""
    return given[:, -1:].expand(-1, steps, *[-1] * (given.ndim - 2))


def at_horizons(errors: dict[str, Tensor], protocol: str, of: str = "") -> dict[str, float]:
    """Returns the mean over all horizons and the values at the first, the middle and the last one, by name.

    Args:
        errors: As ``frame_errors`` returns them.
        protocol: What the names end in.
        of: What was forecast with, ``"_of_centres"``, or "" for samples.
    """
    values = {}
    for name, curve in errors.items():
        values[f"{name}{of}-{protocol}"] = curve.mean().item()
        for horizon in sorted({1, (len(curve) + 1) // 2, len(curve)}):
            values[f"{name}_at_{horizon}{of}-{protocol}"] = curve[horizon - 1].item()
    return values
