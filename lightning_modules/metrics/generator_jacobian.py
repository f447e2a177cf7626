"""The Jacobian of a generator, J = dG/dz: how much an example changes when its code does, in each direction.

Its singular values s_1 >= ... >= s_D are the lengths to which G stretches D orthogonal directions of the code. The
condition number of the metric M = J^T J that the generator induces on codes is (s_1 / s_D)^2, and

    log_condition_number = E_z log(lambda_max(M) / lambda_min(M)) = E_z 2 (log s_1 - log s_D),

in nats, is large for a generator that hardly reacts to some directions of the code: those of lower values had better
Inception Scores and FIDs in the paper, and missed fewer modes.

NOTE: It depends on the parametrisation of the code: a generator that ignores one of its coordinates makes the same
samples as one without it, but its value is that of the resolution of float32, below which no singular value is told
from zero. A generator that normalises its code, and says so by ``normalises_code``, has G(c z) = G(z): the direction of
z itself changes nothing by construction, and is left out, so that the smallest of the D - 1 others is s_D.

Is Generator Conditioning Causally Related to GAN Performance? (Odena et al., 2018), https://arxiv.org/abs/1802.08768
"""

import math
import warnings
from typing import Any

import torch
from torch import Generator, Tensor
from torch.autograd import forward_ad

from lightning_modules.metrics.inversion import checked_generator
from lightning_modules.metrics.protocol import block_generator, same_everywhere, undisturbed
from lightning_modules.parts.checks import as_count
from lightning_modules.parts.conditions import given_condition
from lightning_modules.parts.precision import in_float64

NUM_CODES = 64
ROWS = 1000
"""Number of derivatives of examples that are computed at once."""
RESOLUTION = torch.finfo(torch.float32).eps
"""A singular value below this share of the largest is not told from zero."""


def generator_jacobian(module: Any, z: Tensor, *, labels: Tensor | None = None) -> Tensor:
    """Returns dG/dz of a generator in evaluation mode, (N, latent_dim, *shape): a derivative for each coordinate.

    Args:
        module: A GAN: it ``HasGenerator``.
        z: Codes (N, latent_dim).
        labels: Class labels, int64 (N,), for a class-conditional model.

    Raises:
        TypeError: If the module has no generator.
        ValueError: If a code is of another form, or labels are missing or do not fit.
    """
    checked_generator(module, "generator_jacobian")
    z = module.codes(z).to(module.device, next(module.generator.parameters()).dtype)
    classes = module.labels_for(len(z), labels)
    directions = torch.eye(module.latent_dim, dtype=z.dtype, device=z.device)
    found = []
    with undisturbed(module), torch.compiler.set_stance("force_eager"), forward_ad.dual_level():
        for rows in torch.arange(len(z)).split(max(1, ROWS // module.latent_dim)):
            # One row for every code and direction, so that one forward pass has all derivatives of some codes.
            codes = z[rows].repeat_interleave(module.latent_dim, 0)
            condition = None if classes is None else classes[rows].repeat_interleave(module.latent_dim, 0)
            with warnings.catch_warnings():  # of torch, which compiles its rules of forward differentiation here
                warnings.filterwarnings("ignore", ".*torch.jit.script.* is deprecated")
                dual = forward_ad.make_dual(codes, directions.repeat(len(rows), 1))
            examples, tangent = forward_ad.unpack_dual(given_condition(module, dual, condition))
            tangent = torch.zeros_like(examples) if tangent is None else tangent
            found.append(tangent.unflatten(0, (len(rows), module.latent_dim)))
    return torch.cat(found)


def jacobian_spectrum(
    module: Any, num_codes: int = NUM_CODES, *, labels: Tensor | None = None, generator: Generator
) -> Tensor:
    """Returns the singular values of dG/dz at codes, in descending order: the limits of eq. 1.45.

    Args:
        module: A GAN: it ``HasGenerator``.
        num_codes: Number of codes, N.
        labels: Class labels, int64 (N,), for a class-conditional model; ``None`` draws them by their frequency.
        generator: Source of codes and labels.

    Returns:
        Units of the data per unit of the code, float64 (N, latent_dim) on the CPU; one fewer for a generator that
        normalises its code, without the direction of the code itself, in which nothing changes.

    Raises:
        TypeError: If the module has no generator.
        ValueError: If ``num_codes`` is not positive, labels do not fit, an example has fewer dimensions than a code, so
            that some directions of the code cannot change it, a code of one number is normalised, the generator is yet
            to grow, or a derivative is NaN or infinite.
    """
    checked_generator(module, "jacobian_spectrum")
    if not has_grown(module):
        raise ValueError(
            f"The generator of {type(module).__name__} has not grown to the resolution of its data yet, so the pixels "
            "that it repeats would count as dimensions; measure it when it has."
        )
    num_codes = as_count("num_codes", num_codes)
    labels = module.choose_condition(num_codes, labels, None, generator)
    z = module.sample_latent(num_codes, generator=generator)
    rows = in_float64(generator_jacobian(module, z, labels=labels).flatten(2).cpu())
    if rows.shape[1] > rows.shape[2]:
        raise ValueError(
            f"{type(module).__name__} maps codes of latent_dim={rows.shape[1]} to examples of {rows.shape[2]} "
            "dimensions, so its Jacobian has no inverse and no condition number; measure a generator of images."
        )
    if not torch.isfinite(rows).all():  # of which there are no singular values
        raise ValueError(
            "A derivative of the generator is NaN or infinite: the model has diverged, or its weights are damaged."
        )
    if getattr(module.generator, "normalises_code", False):
        if module.latent_dim == 1:
            raise ValueError(
                f"{type(module).__name__} normalises its code of latent_dim=1, of which only the sign is left, so "
                "there is no direction to measure; measure a generator with more."
            )
        # An orthonormal basis of each code's directions, the first of them its own.
        basis, _ = torch.linalg.qr(in_float64(z.cpu())[..., None], mode="complete")
        rows = basis[..., 1:].mT @ rows
    return torch.linalg.svdvals(rows)


def has_grown(module: Any) -> bool:
    """Returns whether a generator makes examples in their own resolution, as all do that do not grow."""
    return bool(getattr(module.generator, "has_grown", True))


def condition_numbers(spectrum: Tensor) -> Tensor:
    """Returns the logarithm of the condition number of J^T J, in nats, (N,), of ``jacobian_spectrum``'s (N, D)."""
    largest, least = spectrum[:, 0], spectrum[:, -1]
    return 2 * (largest.log() - torch.maximum(least, RESOLUTION * largest).log())


def mean_condition_number(spectrum: Tensor) -> float:
    """Returns the mean of ``condition_numbers`` over codes, in nats.

    Raises:
        ValueError: If all derivatives at a code are zero.
    """
    value = condition_numbers(spectrum).mean().item()
    if not math.isfinite(value):
        raise ValueError(
            "All derivatives of the generator at a code are zero: the model has diverged, or its weights are damaged."
        )
    return value


def evaluate_conditioning(
    module: Any, *, num_codes: int = NUM_CODES, split: str = "test", seed: int = 0
) -> dict[str, float]:
    """Measures the mean logarithm of the condition number of J^T J over codes of the model.

    Of a generator that normalises its code, the direction of the code itself is left out; see ``jacobian_spectrum``.

    Args:
        module: A GAN: it ``HasGenerator``.
        num_codes: Number of codes.
        split: First word of the name.
        seed: Seed of the codes, as of the first block of samples.

    Returns:
        ``{"test/log_condition_number-64": nats}``, equal on all processes.

    Raises:
        TypeError: If the module has no generator.
        ValueError: If ``num_codes`` is not positive, examples have fewer dimensions than codes, the generator is yet to
            grow, a derivative is NaN or infinite, or all derivatives at a code are zero.
    """
    spectrum = jacobian_spectrum(module, num_codes, generator=block_generator(seed, 0))
    return same_everywhere({f"{split}/log_condition_number-{num_codes}": mean_condition_number(spectrum)})
