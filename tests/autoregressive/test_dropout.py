"""Dropout is on in training and off in every public density of a sequence, whatever the module's mode."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_modules import METHODS, PixelCNNPlusPlus, TeacherForcing
from lightning_modules.autoregressive.sequence_module import SequenceModule
from lightning_modules.parts.sampling import measuring
from tests.test_contract import cases, fit, tiny_data
from tests.test_public_calls import module_and_data

SEQUENCES = [case for case in cases() if issubclass(METHODS[str(case.values[0])], SequenceModule)]
CORES: list[Any] = [{"architecture": name, "num_layers": 2, "width": 8} for name in ("lstm", "gru", "transformer")]


class Seen(nn.Module):
    """A layer that notes in which mode it is called, and with which dropout other layers are."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self.modes = layer, []

    def forward(self, x: Tensor) -> Tensor:
        self.modes.append(self.training)
        return self.layer(x)


@pytest.mark.parametrize(("name", "kind"), SEQUENCES)
def test_log_prob_has_no_dropout_and_training_has(name: str, kind: str) -> None:
    settings = {} if kind == "video" else {"dropout": 0.5}
    module, x = module_and_data(name, kind, **settings)
    core = module.network.core
    if kind != "video":
        core.dropout = Seen(core.dropout)
    module.train()
    first, second = module.log_prob(x), module.log_prob(x)
    assert torch.equal(first, second)
    assert torch.equal(first, module.eval().log_prob(x))
    if kind == "video":  # a convolutional LSTM has none
        return
    assert core.dropout.modes == [False] * 3
    assert torch.equal(module.step_log_prob(x)[0], module.step_log_prob(x)[0])
    core.dropout.modes.clear()
    module.train()
    assert not torch.equal(module.step_log_prob(x)[0], module.step_log_prob(x)[0])
    fit(module, tiny_data(kind, name))
    assert len(core.dropout.modes) > 4
    assert any(core.dropout.modes[2:])
    assert module.training


@pytest.mark.parametrize("settings", CORES)
def test_dropout_between_layers_and_on_attention_is_off_too(settings: Any) -> None:
    torch.manual_seed(0)
    module = TeacherForcing(length=6, vocabulary_size=5, dropout=0.5, **settings).train()
    x = torch.randint(5, (4, 6))
    with torch.no_grad():
        quietly = module.log_prob(x)
    values = module.log_prob(x)
    torch.testing.assert_close(values, quietly)
    assert torch.equal(values, module.log_prob(x))
    values.sum().backward()
    assert all(p.grad is not None for p in module.network.parameters())
    assert [layer.dropout for layer in module.modules() if isinstance(layer, nn.RNNBase)] in ([], [0.5])
    assert all(part.training for part in module.modules())


def test_recurrent_layers_stay_differentiable_on_cuda() -> None:
    """cuDNN's layers have no backward pass in evaluation mode: with gradients they train without dropout instead."""
    module = TeacherForcing(length=6, vocabulary_size=5, width=8, num_layers=2, dropout=0.5).train()
    layers = module.network.core.layers
    assert isinstance(layers, nn.LSTM)
    with measuring(module):
        assert (layers.training, layers.dropout) == (True, 0.0)
        assert not module.network.core.dropout.training
    with torch.no_grad(), measuring(module):
        assert not layers.training
    assert (layers.training, layers.dropout) == (True, 0.5)
    with pytest.raises(RuntimeError, match="stop"), measuring(module):
        raise RuntimeError("stop")
    assert (layers.training, layers.dropout) == (True, 0.5)


def test_a_pixelcnn_drops_in_training_alone() -> None:
    module = PixelCNNPlusPlus(shape=[1, 4, 4], likelihood="bernoulli", width=4, num_scales=1, dropout=0.5).train()
    x = torch.ones(2, 1, 4, 4)
    assert torch.equal(module.log_prob(x), module.log_prob(x))
    assert not torch.equal(module(x, None, module.noise.uniform), module(x, None, module.noise.uniform))
