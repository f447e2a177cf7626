"""Whether networks fit each other and the data: those of the user's own are tried on a batch before the first step."""

from typing import Any

import torch
from torch import Tensor

from lightning_modules.networks.synchronised_norm import SynchronisedBatchNorm
from lightning_modules.parts.conditions import conditioned
from lightning_modules.parts.noise import Noise
from lightning_modules.parts.processes import world_size
from lightning_modules.parts.sampling import aside, in_type_of

ERRORS = (RuntimeError, ValueError, TypeError, IndexError, AttributeError)
"""What networks raise for inputs that they do not take, and their callers for outputs that are no tensors."""


def problem_with_players(module: Any, x: Tensor, condition: Tensor | None) -> str | None:
    """Tries generator and discriminator of an ``AdversarialModule``.

    Args:
        module: The module.
        x: Examples (N, *shape).
        condition: The condition (N, ...), or ``None``.

    Returns:
        A sentence that says what does not fit, or ``None``.
    """
    own = list(x.shape[1:])
    classes = ""
    if module.num_classes is not None and module.num_words is None:
        condition, classes = torch.tensor([0, module.num_classes - 1]), f" with num_classes={module.num_classes}"
    doubt = f"its generator does not take codes of latent_dim={module.latent_dim}{classes}"
    with aside(module, module.device):
        condition = None if condition is None else condition[[0, -1]].to(module.device)
        codes = torch.zeros(2, module.latent_dim, device=module.device).to(module.dtype)
        try:
            fake = conditioned(module.generator, condition, codes)
            if list(fake.shape[1:]) != own:
                return f"its generator makes examples of shape={list(fake.shape[1:])}, but a batch has {own}."
            doubt = f"its discriminator does not take examples of shape={own}{classes}"
            fake = in_type_of(module.discriminator, fake)
            return problem_with_logits(conditioned(module.discriminator, condition, fake), len(fake))
        except ERRORS as error:
            return f"{doubt} ({error})."


def problem_with_logits(logits: Tensor, num: int) -> str | None:
    """Returns a sentence about a discriminator's outputs for ``num`` examples that are not one logit for each."""
    if list(logits.shape) in ([num], [num, 1]):
        return None
    return f"its discriminator makes logits of shape={list(logits.shape)} of {num} examples, not one of each."


def problem_with_joint_players(module: Any, x: Tensor) -> str | None:
    """Tries generator, encoder and discriminator of a ``JointModule``.

    Args:
        module: The module.
        x: Examples (N, *shape).

    Returns:
        A sentence that says what does not fit, or ``None``.
    """
    own, size = list(x.shape[1:]), f"latent_dim={module.latent_dim}"
    doubt = f"its generator does not take codes of {size}"
    with aside(module, module.device):
        x = in_type_of(module.encoder, x[:2].to(module.device))
        codes = in_type_of(module.generator, torch.zeros(len(x), module.latent_dim, device=module.device))
        try:
            made = list(module(codes).shape[1:])
            if made != own:
                return f"its generator makes examples of shape={made}, but a batch has {own}."
            doubt = f"its encoder does not take examples of shape={own}"
            parameters = module.encoder(x)
            doubt = f"its encoder's outputs of shape={list(parameters.shape[1:])} are not those of codes of {size}"
            code = list(module.posterior.draw(parameters, Noise()).shape[1:])
            if code != [module.latent_dim]:
                return f"its encoder makes codes of shape={code}, but the generator takes {size}."
            doubt = f"its discriminator does not take examples of shape={own} with codes of {size}"
            return problem_with_logits(conditioned(module.discriminator, codes, x), len(x))
        except ERRORS as error:
            return f"{doubt} ({error})."


def problem_with_spread(module: Any, x: Tensor) -> str | None:
    """Returns a sentence about a batch of one example, which has no spread by which its code could be normalised."""
    normalised = any(isinstance(layer, SynchronisedBatchNorm) for layer in module.encoder.modules())
    if module.training and normalised and len(x) * world_size() == 1:
        return (
            "normalise_codes=true needs batches of at least two examples, but a batch has one: set batch_size, or "
            "drop_last of a loader of your own."
        )
    return None
