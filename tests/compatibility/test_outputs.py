"""Every checkpoint computes what it computed when it was recorded in ``outputs.npz``.

Another processor rounds otherwise, and a sampler that draws bits, symbols or long Markov chains turns one rounding into
another sample: of these the log-probabilities of fixed inputs are compared, of all others the samples, too.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import zoo
from tests.compatibility.record_outputs import outputs

STORED = Path(__file__).parent / "outputs.npz"
AMPLIFY_ROUNDING = {
    "Categorical",  # grey values
    "EBM",  # a Markov chain
    "NCE",  # a Markov chain, or a choice among proposals
    "RBM",  # a Markov chain of bits
    "PixelCNNPlusPlus",
    "MixtureDensityRNN",
    "TeacherForcing",
    "ScheduledSampling",
    "ProfessorForcing",
}
"""Methods whose samples depend on choices among bits or symbols, or on many steps of a chain."""

OF_SOLVED = 1e-4
"""Of densities by a differential equation in float32: two processors differed by up to 0.02 of 800 nats, 2.5e-5."""


def comparable(name: str, found: dict[str, Tensor]) -> dict[str, Tensor]:
    """Returns the outputs that agree up to rounding on any machine."""
    samples = found.get("samples", torch.empty(0))
    amplified = zoo.card(name).method in AMPLIFY_ROUNDING or set(samples.unique().tolist()) <= {0.0, 1.0}
    return {key: value for key, value in found.items() if not (amplified and key in ("samples", "continued"))}


@pytest.fixture(scope="module")
def stored() -> dict[str, np.ndarray]:
    with np.load(STORED) as file:
        return dict(file)


@pytest.mark.parametrize("name", zoo.names())
def test_outputs_are_those_of_before(name: str, stored: dict[str, np.ndarray]) -> None:
    found = outputs(name)
    assert {f"{name}/{key}" for key in found} == {key for key in stored if key.startswith(f"{name}/")}
    compared = comparable(name, found)
    assert compared
    for key, value in compared.items():
        expected = torch.from_numpy(stored[f"{name}/{key}"])
        assert value.dtype == expected.dtype
        rtol = OF_SOLVED if (zoo.card(name).method, key) == ("FlowMatching", "log_prob") else 1e-5
        torch.testing.assert_close(value, expected, atol=1e-4, rtol=rtol, msg=lambda m, k=key: f"{k}: {m}")


def test_everything_stored_is_of_a_checkpoint(stored: dict[str, np.ndarray]) -> None:
    assert {key.partition("/")[0] for key in stored} == set(zoo.names())
