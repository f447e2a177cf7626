"""A validation within a window of accumulated batches changes nothing."""

import pytest
import torch

from tests.standins import quiet_trainer
from tests.training import TinyData, build, data_of


@pytest.mark.parametrize("method", ["LSGAN", "WGANGP", "ProgressiveGAN", "RothGAN"])
@pytest.mark.parametrize("window", [2, 3])
def test_a_validation_within_a_window_keeps_its_gradients(method: str, window: int) -> None:
    weights = []
    for limit in (0, 1):
        torch.manual_seed(0)
        module, shape = build(method, accumulate_batches=window)
        trainer = quiet_trainer(max_epochs=-1, max_steps=8, val_check_interval=1, limit_val_batches=limit)
        torch.manual_seed(1)
        trainer.fit(module, TinyData(shape, **data_of(method)))
        weights.append({key: value.clone() for key, value in module.state_dict().items()})
    for key, value in weights[0].items():
        assert torch.equal(value, weights[1][key]), key
