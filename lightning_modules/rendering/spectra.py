"""Plots the singular values of a generator's Jacobian."""

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from lightning_modules.metrics.generator_jacobian import mean_condition_number

SIZE = (4.8, 3.2)  # inches
DOTS = 100  # per inch
BAND = (0.1, 0.9)


def draw_spectrum(spectrum: Tensor) -> Image.Image:
    """Plots the median of each singular value over codes, and between which values it lies for 8 of 10 codes.

    Args:
        spectrum: Singular values in descending order, (codes, latent_dim), as ``jacobian_spectrum`` returns them.

    Raises:
        ValueError: If all of a code are zero.
    """
    condition = mean_condition_number(spectrum)
    low, middle, high = (torch.quantile(spectrum, q, dim=0).numpy() for q in (BAND[0], 0.5, BAND[1]))
    places = range(1, spectrum.shape[1] + 1)
    figure = Figure(figsize=SIZE, dpi=DOTS, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.fill_between(places, low, high, alpha=0.25, linewidth=0)
    axes.plot(places, middle, marker="." if len(places) == 1 else None)
    axes.set_yscale("log")
    axes.set_xlabel("singular value, the largest first", fontsize="small")
    axes.set_ylabel("of dG/dz: median, 10 % to 90 % of codes", fontsize="small")
    axes.set_title(f"mean log condition number {condition:.2f} nats", fontsize="small")
    axes.tick_params(labelsize="small")
    canvas.draw()
    return Image.frombytes("RGBA", canvas.get_width_height(), bytes(canvas.buffer_rgba())).convert("RGB")
