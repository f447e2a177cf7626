"""Coverage of the 1 000 classes of stacked images: three garments in the three channels of an image.

A classifier of single images names the class of every channel. Its errors move probability between the classes, so the
reference is its own histogram of real stacks, not the uniform one.

References:
    Metz et al. (2017), Unrolled Generative Adversarial Networks, https://arxiv.org/abs/1611.02163
    Lin et al. (2018), PacGAN, https://arxiv.org/abs/1712.04086
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from lightning_modules.metrics.protocol import extract_images
from lightning_modules.parts.precision import in_float64

CLASSES = 10


class StackCoverage(NamedTuple):
    """Results of ``stack_coverage``.

    Attributes:
        modes: Number of classes that at least one stack falls into, out of those of the reference.
        kl: Kullback-Leibler divergence, in nats, of the frequencies from those of the reference.
    """

    modes: int
    kl: float


def stacked_classes(extractor: nn.Module, images: Tensor) -> Tensor:
    """Returns the classes 100 a + 10 b + c of stacks, int64 (N,), as the classifier names their channels.

    Args:
        extractor: A ``FeatureExtractor`` of grey images, whose logits are of ten classes.
        images: uint8 (N, 3, H, W).

    Raises:
        ValueError: If the images are not uint8 of three channels.
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"Expected stacks uint8 (N, 3, H, W), got {images.dtype} of {tuple(images.shape)}.")
    names = extract_images(extractor, images.flatten(0, 1)[:, None]).logits.argmax(1).view(-1, 3)
    return (names * torch.tensor([CLASSES**2, CLASSES, 1])).sum(1)


def stack_coverage(classes: Tensor, reference: Tensor) -> StackCoverage:
    """Compares the classes of generated stacks with those of real ones.

    Args:
        classes: int64 (N,), each in 0..999.
        reference: Of real stacks, int64 (M,), each in 0..999.

    Raises:
        ValueError: If there is no stack, a number is not that of a class, or one falls into a class that no real stack
            does.
    """
    if not len(classes) or not len(reference):
        raise ValueError(f"There are {len(classes)} stacks and {len(reference)} real ones; both must be at least 1.")
    least, most = torch.cat([classes, reference]).aminmax()
    if least < 0 or most >= CLASSES**3:
        raise ValueError(f"Classes of stacks are 0 to {CLASSES**3 - 1}, but those given span [{least}, {most}].")
    counts, real = (torch.bincount(found, minlength=CLASSES**3) for found in (classes, reference))
    if outside := int(counts[real == 0].sum()):
        raise ValueError(
            f"{outside} of {len(classes)} stacks are of classes that none of {len(reference)} real stacks has, so the "
            "divergence is infinite: compare with more real stacks."
        )
    p, q = in_float64(counts) / len(classes), in_float64(real) / len(reference)
    kl = torch.special.xlogy(p, p) - torch.special.xlogy(p, q.clamp_min(torch.finfo(q.dtype).tiny))
    return StackCoverage(modes=int((counts > 0).sum()), kl=kl.sum().item())
