"""Steps of sequences: what is wrong with those of a caller, and how further ones are sampled."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm.auto import tqdm

from datamodules.spec import DataSpec
from lightning_modules.autoregressive.emissions import Categorical
from lightning_modules.autoregressive.sequence_network import Emission, SequenceNetwork
from lightning_modules.networks.sequence_cores import State
from lightning_modules.parts.checks import as_count, as_share, as_temperature


def choice_of(emission: Emission, temperature: Any, top_k: Any, top_p: Any) -> dict[str, Any]:
    """Returns the keyword arguments of an emission's ``sample``.

    Raises:
        ValueError: If a number is out of range, or ``top_k`` or ``top_p`` is given for steps other than tokens.
    """
    temperature = as_temperature(temperature)
    top_k = None if top_k is None else as_count("top_k", top_k)
    top_p = None if top_p is None else as_share("top_p", top_p)
    if isinstance(emission, Categorical):
        return {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    if top_k is not None or top_p is not None:
        raise ValueError("top_k and top_p are for tokens, which these steps are not: use temperature.")
    return {"temperature": temperature}


def continued(
    network: SequenceNetwork,
    prefix: Tensor,
    length: int,
    uniform: Callable[..., Tensor],
    choice: dict[str, Any],
    progress: bool,
    state: State | None = None,
) -> Tensor:
    """Returns prefixes (N, t, ...) and ``length`` further steps of each, (N, t + length, ...).

    Args:
        network: The network, which processes the prefix once and then each new step once.
        prefix: The steps given, t >= 0.
        length: Number of steps to sample.
        uniform: ``uniform(*shape)`` returns uniform samples in [0, 1).
        choice: Keyword arguments of the emission's ``sample``.
        progress: Whether to show a progress bar.
        state: State before the first step, or ``None``.

    Where an emission has ends, no more is sampled once all rows have ended.
    """
    start = network.emission.start(len(prefix), prefix.device)
    features, state = network(torch.cat([start.to(prefix.dtype), prefix], 1), state)
    ends_with = getattr(network.emission, "ends_with", None)
    has_ended = torch.zeros(len(prefix), dtype=torch.bool, device=prefix.device)
    steps = [prefix]
    for t in tqdm(range(length), disable=not progress, leave=False, unit="step"):
        step = network.emission.sample(features[:, -1:], uniform, **choice)
        steps.append(step)
        if ends_with is not None:
            has_ended |= ends_with(step)
            if has_ended.all():  # what follows is padding
                return F.pad(torch.cat(steps, 1), (0, 0, 0, length - t - 1))
        if t + 1 < length:
            features, state = network(step, state)
    return torch.cat(steps, 1)


def vocabulary_problem(known: DataSpec, spec: DataSpec) -> str | None:
    """Names the first symbol that differs between the data trained on and other data, if one does."""
    for token, (own, other) in enumerate(zip(known.vocabulary, spec.vocabulary, strict=False)):
        if own != other:
            return (
                f"was trained on data in which token {token} is {own!r}, but in these data it is {other!r}: train a "
                "new model for another vocabulary."
            )
    return None
