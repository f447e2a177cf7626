"""The power method converges to the largest singular value, and a warm start needs one step per update.

The layers are those of the critics of two checkpoints, one trained with spectral norm and one with a gradient penalty,
as matrices (out, in * kh * kw). One iteration is that of the library's spectral norm, in float64, from random vectors.
If s1 > s2 are the largest singular values, the tangent of the angle between the iterate and the singular vector should
shrink by (s2 / s1)^2 per iteration, and the error of the singular value by (s2 / s1)^4. Rates are fitted to the last
iterations, where smaller singular values no longer matter: that takes thousands for a critic with spectral norm, whose
singular values are nearly equal. With 600, as this study was first run, rates were up to 31 % above the theory.

The warm start is that of the training itself: the checkpoint of the SNGAN holds the vectors of its last step, which
were iterated once per step while the weights changed.
"""

import math
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

from lightning_modules.adversarial.loop import AdversarialModule
from lightning_modules.parts.constraints import spectrally_normalized
from zoo import loading
from zoo.studies.study import Number, Outcome, exact, mean_of_runs, study
from zoo.studies.study_figures import COLOURS, curve, labels, panels

SPECTRAL, PENALISED = "sngan.fashion_mnist", "wgan_gp.fashion_mnist"
SEEDS = (0, 1, 2)
ITERATIONS = 6000
NEAR = 0.05
"""Tangent of the angle below which rates are fitted."""
ROUNDING = {"vector": 1e-10, "value": 1e-12}


@study(
    place="1.2.3, eq. 1.42 to 1.44",
    claim="The power method finds the vector of the largest singular value, because all other components decay with "
    "the iterations. The weights change slowly, so a vector that is kept needs a single iteration per update.",
    rule="For each layer of both critics and each of three starts the fitted logarithms of the rates are within 10 % "
    "of 2 log(s2/s1) for the vector and 4 log(s2/s1) for the value. The value by the kept vectors of the SNGAN is "
    "within 1 % of the exact one in each layer.",
    checkpoints=(SPECTRAL, PENALISED),
)
def power_method(quick: bool) -> Outcome:
    """Iterates on all layers of both critics."""
    seeds, iterations = (SEEDS[:1], 60) if quick else (SEEDS, ITERATIONS)
    figure, (left, right) = panels("error of the vector, first start", "fitted rates against theory")
    ratios: dict[str, list[list[float]]] = {"vector": [], "value": []}  # by layer and start
    worst_kept, lowest_cosine, closest, skipped, drawn = 0.0, 1.0, 0.0, 0, 0
    for index, checkpoint in enumerate((SPECTRAL, PENALISED)):
        theory, fitted = ({"vector": list[float](), "value": list[float]()} for _ in range(2))
        for matrix, kept in matrices(checkpoint):
            _, singular, right_vectors = torch.linalg.svd(matrix, full_matrices=False)
            rate = math.log(singular[1] / singular[0])
            if kept is not None:
                closest = max(closest, math.exp(rate))
                lowest_cosine = min(lowest_cosine, (kept[1] @ right_vectors[0]).abs().item())
                worst_kept = max(worst_kept, abs((kept[0] @ matrix @ kept[1] / singular[0]).item() - 1))
            for of_layer in ratios.values():
                of_layer.append([])
            for seed in seeds:
                vector, value = errors(matrix, right_vectors[0], singular[0], iterations, seed)
                if seed == seeds[0] and drawn < 7 and index == 0:
                    curve(left, range(1, len(vector) + 1), vector, drawn, f"s2/s1 = {math.exp(rate):.3f}")
                    drawn += 1
                for name, series, factor in (("vector", vector, 2), ("value", value, 4)):
                    if (found := slope(series, vector, ROUNDING[name])) is None:
                        skipped += 1
                        continue
                    theory[name].append(factor * rate)
                    fitted[name].append(found)
                    ratios[name][-1].append(found / (factor * rate))
        for offset, name in enumerate(theory):
            place = 2 * index + offset
            style: dict[str, Any] = {"marker": "os^D"[place], "s": 18, "color": COLOURS[place]}
            label = f"{name}, {checkpoint.partition('.')[0]}"
            right.scatter([-x for x in theory[name]], [-y for y in fitted[name]], label=label, **style)
    right.axline((0.1, 0.1), slope=1, color="0.4", linewidth=1, linestyle="dashed", zorder=0)
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_yscale("log")
    left.set_ylim(1e-13, 30)
    labels(left, "iterations", "tangent of the angle")
    labels(right, "theory: nats per iteration", "fitted: nats per iteration")

    numbers = dict[str, Number]()
    for name, values in ratios.items():
        # Starts of one layer have nearly the same rate, so the error is that over layers.
        numbers[f"{name}_rate_over_theory"] = mean_of_runs([fmean(of_layer) for of_layer in values if of_layer])
        numbers[f"{name}_furthest_from_theory"] = exact(
            max(abs(ratio - 1) for of_layer in values for ratio in of_layer)
        )
    numbers["kept_vectors_largest_error_percent"] = exact(100 * worst_kept)
    numbers["kept_vectors_lowest_cosine"] = exact(lowest_cosine)
    numbers["largest_s2_over_s1_with_spectral_norm"] = exact(closest)
    numbers["fits_skipped_for_too_few_iterations"] = exact(skipped)
    furthest = max(numbers[f"{name}_furthest_from_theory"].value for name in ratios)
    seen = (
        f"Rates are {numbers['vector_rate_over_theory'].value:.3f} and {numbers['value_rate_over_theory'].value:.3f} "
        f"of those of the theory on average, and at most {100 * furthest:.1f} % off. The vectors that the SNGAN kept "
        f"give its singular values to {100 * worst_kept:.2g} %, though the vectors themselves are at a cosine of "
        f"down to {lowest_cosine:.2f} to the exact ones: its s2 is up to {closest:.4f} of s1."
    )
    return Outcome(furthest <= 0.1 and worst_kept <= 0.01 and not skipped, numbers, figure, seen, seeds)


def matrices(checkpoint: str) -> list[tuple[Tensor, tuple[Tensor, Tensor] | None]]:
    """Returns the weights of a critic's layers, float64 (out, in), with the vectors that spectral norm has kept."""
    critic = loading.load(checkpoint, AdversarialModule).discriminator
    layers: list[Any] = [layer for layer in critic.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
    found: list[tuple[Tensor, tuple[Tensor, Tensor] | None]] = []
    for layer in [layer for layer in layers if len(layer.weight) > 1]:
        if hasattr(layer, "parametrizations"):
            inner = layer.parametrizations.weight
            kept = (inner[0]._u.double(), inner[0]._v.double())
            found.append((inner.original.detach().double().flatten(1), kept))
        else:
            found.append((layer.weight.detach().double().flatten(1), None))
    return found


def errors(
    matrix: Tensor, vector: Tensor, value: Tensor, iterations: int, seed: int
) -> tuple[list[float], list[float]]:
    """Returns the tangent of the angle to a singular vector and the relative error of its value, by iterations."""
    layer: Any = nn.Linear(matrix.shape[1], matrix.shape[0], bias=False, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(matrix)
    spectrally_normalized(nn.Sequential(layer))
    state = layer.parametrizations.weight[0]
    generator = torch.Generator().manual_seed(seed)
    for kept in (state._u, state._v):
        kept.copy_(nn.functional.normalize(torch.randn(kept.shape, generator=generator, dtype=torch.float64), dim=0))
    angles, distances = [], []
    with torch.no_grad():
        for _ in range(iterations):
            normalised = layer.weight  # each access in training mode is an iteration
            cosine = state._v @ vector
            angles.append(((state._v - cosine * vector).norm() / cosine.abs()).item())
            distances.append(abs((matrix.norm() / normalised.norm() / value).item() - 1))
            if angles[-1] < min(ROUNDING.values()):
                break
    return angles, distances


def slope(series: list[float], angles: list[float], rounding: float) -> float | None:
    """Returns the slope of the logarithm by iterations, near the vector and above rounding; ``None`` of too few."""
    kept = [math.log(e) for e, angle in zip(series, angles, strict=True) if angle < NEAR and e > rounding]
    last = kept[len(kept) // 2 :]
    return (last[-1] - last[0]) / (len(last) - 1) if len(last) >= 3 else None
