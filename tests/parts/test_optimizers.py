"""Optimizers that are built from plain hyperparameters: what is decayed, and what is refused."""

import pytest
import torch
from torch import nn

from lightning_modules.parts.optimizers import adam, adam_with, adamw, fused_if_possible


def test_weight_decay_is_on_matrices_alone() -> None:
    """Without a gradient AdamW multiplies what it decays by 1 - lr weight_decay, and leaves the rest."""
    network = nn.Sequential(nn.Conv1d(2, 3, 2), nn.LayerNorm(3), nn.Linear(3, 2))
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    optimizer = adamw(0.1, 0.5, None, 0, None)["optimizer"](network.parameters())
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in network.named_parameters():
        factor = 1 - 0.1 * 0.5 if parameter.ndim > 1 else 1
        torch.testing.assert_close(parameter.detach(), factor * before[name], msg=name)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(before)


@pytest.mark.parametrize(
    ("kind", "fused"),
    [(torch.optim.Adam, True), (torch.optim.AdamW, True), (torch.optim.SGD, True), (torch.optim.RMSprop, None)],
)
def test_what_has_a_fused_form_is_fused(kind: type[torch.optim.Optimizer], fused: bool | None) -> None:
    optimizer = fused_if_possible(kind, [nn.Parameter(torch.zeros(2))], lr=0.1)
    assert type(optimizer) is kind
    assert optimizer.defaults.get("fused") == fused
    assert optimizer.defaults["lr"] == 0.1


def test_betas_and_bounds_reach_their_places() -> None:
    weight = [nn.Parameter(torch.zeros(2, 2))]
    assert adam(0.1, None, (0.5, 0.99))["optimizer"](weight).defaults["betas"] == (0.5, 0.99)
    assert adam_with(0.1)(weight).defaults["betas"] == (0.9, 0.999)
    training = adamw(0.1, 0.0, 2.5, 3, 7)
    assert training["clip_norm"] == 2.5
    assert training["lr_schedule"].end == 7


def test_numbers_out_of_range_are_named() -> None:
    for lr in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match=f"lr={lr}"):
            adam(lr, None)
        with pytest.raises(ValueError, match=f"lr={lr}"):
            adamw(lr, 0.0, None, 0, None)
    with pytest.raises(ValueError, match="weight_decay=-0.1"):
        adamw(0.1, -0.1, None, 0, None)
    for betas in ((0.9,), (0.9, 1.0), (-0.1, 0.9)):
        with pytest.raises(ValueError, match="betas="):
            adam(0.1, None, betas)
    with pytest.raises(ValueError, match="decay_steps=0"):
        adam(0.1, 0)
    with pytest.raises(ValueError, match="warmup_steps=5.*decay_steps=5"):
        adamw(0.1, 0.0, None, 5, 5)
