"""What a trained generator is asked for: samples, decoded codes, classes."""

import pytest
import torch

from datamodules import SyntheticImages
from lightning_modules import NonSaturatingGAN
from tests.adversarial.games import POINTS, fit


def test_codes_and_labels_must_pair_up() -> None:
    module = NonSaturatingGAN(**POINTS, num_classes=3)
    with pytest.raises(ValueError, match=r"labels.*\(4,\)"):
        module.decode(torch.zeros(4, 2))
    with pytest.raises(ValueError, match=r"labels.*\(600,\)"):
        module.decode(torch.zeros(600, 2), labels=torch.zeros(500, dtype=torch.long))
    with pytest.raises(ValueError, match="labels.*num_classes"):
        NonSaturatingGAN(**POINTS).decode(torch.zeros(4, 2), labels=torch.zeros(4, dtype=torch.long))


def test_samples_are_a_function_of_the_generator_and_leave_the_world_alone() -> None:
    module = NonSaturatingGAN(width=2, latent_dim=4, num_classes=3)
    module.train()
    state, weights = torch.get_rng_state(), {k: v.clone() for k, v in module.state_dict().items()}
    first, second = (module.sample(7, generator=torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(module.sample(7), module.sample(7))
    assert torch.equal(torch.get_rng_state(), state)
    assert module.training
    assert all(torch.equal(value, weights[key]) for key, value in module.state_dict().items())
    assert not first.requires_grad


def test_large_requests_are_chunked_without_a_trace() -> None:
    module = NonSaturatingGAN(width=2, latent_dim=4, num_classes=3).eval()
    z, labels = torch.randn(1201, 4), torch.arange(1201) % 3
    with torch.no_grad():
        whole = module.generator(z, labels)
    torch.testing.assert_close(module.decode(z, labels=labels), whole, rtol=1e-4, atol=1e-5)


def test_unlabelled_requests_follow_the_class_counts_of_the_data() -> None:
    data = SyntheticImages(shape=[1, 28, 28], size=64, batch_size=8, num_classes=4)
    module = NonSaturatingGAN.for_data(data.spec, num_classes=4, width=2, latent_dim=4)
    fit(module, 1, data=data)
    counts = torch.tensor(data.spec.class_counts, dtype=torch.float32)
    torch.testing.assert_close(module.class_probabilities, counts / counts.sum())
