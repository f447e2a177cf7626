"""What all sequence models share: carried state, causality, padding, sampling, how they are trained."""

import itertools
import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from datamodules import TextFile
from datamodules.spec import Batch
from lightning_modules import METHODS, TeacherForcing
from lightning_modules.autoregressive.sequence_module import SequenceModule, step_mask
from tests.autoregressive.rates import RecordedRates, warmed_up
from tests.training import SEQUENCES, TinyData

SEQUENCE_METHODS = [name for name, method in METHODS.items() if issubclass(method, SequenceModule)]
TOKENS = {"length": 12, "vocabulary_size": 5, "width": 16}
CORES = [
    pytest.param({**TOKENS, "architecture": "lstm", "num_layers": 2}, id="lstm"),
    pytest.param({**TOKENS, "architecture": "gru"}, id="gru"),
    pytest.param({**TOKENS, "architecture": "transformer", "num_layers": 2, "context": 5}, id="transformer"),
    pytest.param({"length": 6, "step_shape": [7], "vocabulary_size": None, "width": 8}, id="independent"),
    pytest.param({"length": 6, "step_shape": [7], "vocabulary_size": None, "width": 8, "output": "nade"}, id="nade"),
    pytest.param(
        {"length": 4, "step_shape": [1, 8, 8], "vocabulary_size": None, "width": 4, "architecture": "conv_lstm"},
        id="conv_lstm",
    ),
]


def build(settings: dict[str, Any]) -> TeacherForcing:
    torch.manual_seed(0)
    module = TeacherForcing(**settings).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter) / math.sqrt(max(parameter.shape[-1], 1)))
    return module


def sampled(module: TeacherForcing, num: int = 3) -> Tensor:
    return module.sample(num, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("settings", CORES)
@torch.no_grad()
def test_state_handed_on_equals_the_whole_sequence(settings: dict[str, Any]) -> None:
    module = build(settings)
    x = sampled(module)
    whole, _ = module.step_log_prob(x)
    for cut in (1, 3):
        first, state = module.step_log_prob(x[:, :cut])
        second, _ = module.step_log_prob(x[:, cut:], (x[:, cut - 1 : cut], state))
        torch.testing.assert_close(torch.cat([first, second], 1), whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("settings", CORES)
def test_no_step_sees_itself_or_the_future(settings: dict[str, Any]) -> None:
    module = build(settings)
    x = sampled(module, 1)
    inputs = module.network.inputs(x)
    embedded = module.network.emission.embed(inputs).detach().requires_grad_()
    features, _ = module.network.core(embedded)
    for t in range(x.shape[1]):
        (gradient,) = torch.autograd.grad(features[:, t].sum(), embedded, retain_graph=True)
        seen = gradient.flatten(2).abs().sum(2)[0]
        assert (seen[t + 1 :] == 0).all()
        oldest = max(0, t + 1 - 2 * 4 - 1) if settings.get("architecture") == "transformer" else 0
        assert (seen[max(oldest, t - 3) : t + 1] > 0).all()


@pytest.mark.parametrize("settings", CORES)
@torch.no_grad()
def test_sampling_step_by_step_equals_reading_the_prefix_anew(settings: dict[str, Any]) -> None:
    """The same uniform numbers give the same steps when every step reads the whole prefix anew."""
    module = build(settings)
    prefix = sampled(module, 2)[:, :2]
    generator = torch.Generator().manual_seed(3)
    fast = module.continue_sequence(prefix, 3, generator=generator)
    generator.manual_seed(3)
    slow = prefix
    for _ in range(3):
        start = module.network.emission.start(2, slow.device).to(slow.dtype)
        features, _ = module.network(torch.cat([start, slow], 1))
        step = module.network.emission.sample(features[:, -1:], lambda *shape: torch.rand(shape, generator=generator))
        slow = torch.cat([slow, step], 1)
    torch.testing.assert_close(fast, slow)
    assert torch.equal(fast[:, :2], prefix)


@torch.no_grad()
def test_probabilities_of_all_sequences_sum_to_one() -> None:
    module = build({"length": 4, "vocabulary_size": 3, "width": 8}).double()
    every = torch.tensor(list(itertools.product(range(3), repeat=4)))
    assert module.log_prob(every).exp().sum().item() == pytest.approx(1, abs=1e-12)


@torch.no_grad()
def test_padding_changes_nothing() -> None:
    module = build({**TOKENS, "architecture": "gru"})
    x = sampled(module)
    lengths = torch.tensor([12, 5, 1])
    padded = torch.where(step_mask(lengths, 12).bool(), x, (x + 1) % 5)
    torch.testing.assert_close(module.log_prob(x, lengths), module.log_prob(padded, lengths))
    assert step_mask(lengths, 12).sum(1).tolist() == [12, 5, 1]


@torch.no_grad()
def test_truncated_back_propagation_continues_where_a_row_continues() -> None:
    module = build({**TOKENS, "architecture": "lstm"})
    x, lengths = sampled(module), torch.full((3,), 6)
    start, continues = torch.zeros(3, dtype=torch.bool), torch.tensor([True, False, True])
    first = Batch(x[:, :6], lengths=lengths, continues=start)
    assert module.carried_into(first, "train") is None
    _, state = module.step_log_prob(x[:, :6])
    module.carry(first, state, "train")
    second = Batch(x[:, 6:], lengths=lengths, continues=continues)
    values, _ = module.step_log_prob(x[:, 6:], module.carried_into(second, "train"))
    whole, _ = module.step_log_prob(x)
    anew, _ = module.step_log_prob(x[:, 6:])
    torch.testing.assert_close(values[continues], whole[:, 6:][continues])
    torch.testing.assert_close(values[1], anew[1])
    assert not any(value.requires_grad for value in module.rank_state().values())
    restored = build({**TOKENS, "architecture": "lstm"})
    restored.load_rank_state(module.rank_state())
    again, _ = restored.step_log_prob(x[:, 6:], restored.carried_into(second, "train"))
    assert torch.equal(again, values)


def test_held_out_streams_predict_each_step_from_all_steps_before_it() -> None:
    """Also in a second validation, which does not continue the first."""
    module = build({**TOKENS, "architecture": "lstm"})
    x, starts = sampled(module), torch.zeros(3, dtype=torch.bool)
    batches = [
        Batch(x[:, :6], lengths=torch.full((3,), 6), continues=starts),
        Batch(x[:, 6:], lengths=torch.tensor([6, 1, 4]), continues=~starts),
    ]
    loader: Any = DataLoader(range(2), collate_fn=lambda chosen: batches[chosen[0]])  # type: ignore[arg-type]
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    with torch.no_grad():
        nats = -module.log_prob(x, torch.tensor([12, 7, 10])).sum().item() / 29
    for _ in range(2):
        (measures,) = trainer.validate(module, loader, verbose=False)
        assert measures == {
            "val/nats_per_step-exact_state_carried": pytest.approx(nats, rel=1e-5),
            "val/bits_per_step-exact_state_carried": pytest.approx(nats / math.log(2), rel=1e-5),
        }


def test_a_low_temperature_samples_the_likeliest_symbol() -> None:
    module = build(TOKENS)
    x = module.sample(4, temperature=1e-3, generator=torch.Generator().manual_seed(0))
    y = module.sample(4, top_k=1, generator=torch.Generator().manual_seed(1))
    assert torch.equal(x, y)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"length": 0}, "length=0"),
        ({"temperature": 0.0}, "temperature=0.0"),
        ({"temperature": -1.0}, "temperature=-1.0"),
        ({"top_k": 0}, "top_k=0"),
        ({"top_p": 0.0}, "top_p=0.0"),
        ({"top_p": 1.5}, "top_p=1.5"),
    ],
)
def test_bad_requests_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(TOKENS).sample(2, **arguments)


def test_prefixes_that_the_model_does_not_know_are_named() -> None:
    module = build(TOKENS)
    with pytest.raises(ValueError, match=r"\b5\b.*\[0, 9\]"):
        module.continue_sequence(torch.tensor([[0, 9]]), 2)
    frames = build({"length": 6, "step_shape": [7], "vocabulary_size": None, "width": 8})
    with pytest.raises(ValueError, match=r"0\.5"):
        frames.continue_sequence(torch.full((1, 2, 7), 0.5), 2)
    with pytest.raises(ValueError, match="top_k"):
        frames.sample(1, top_k=3)


def test_another_text_with_as_many_symbols_is_refused(tmp_path: Path) -> None:
    """Token 1 would be another letter, in silence: where a trained model is trained further, and in a resumed run."""
    data = {}
    for name, letters in (("first", "abc"), ("second", "axc")):
        (tmp_path / name).write_text(letters * 400)
        data[name] = TextFile(str(tmp_path / name), window=8, batch_size=4, evaluation_streams=1)
        data[name].setup()
    settings: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    settings |= {"accelerator": "cpu", "limit_val_batches": 0, "default_root_dir": tmp_path}
    module = TeacherForcing.for_data(data["first"].spec, width=4)
    trainer = Trainer(max_steps=2, **settings)
    trainer.fit(module, data["first"])
    trainer.save_checkpoint(tmp_path / "run.ckpt")
    with pytest.raises(ValueError, match="1.*'b'.*'c'"):
        Trainer(max_steps=4, **settings).fit(module, data["second"])
    anew = TeacherForcing.for_data(data["second"].spec, width=4)
    with pytest.raises(ValueError, match="1.*'b'.*'c'"):
        Trainer(max_steps=4, **settings).fit(anew, data["second"], ckpt_path=tmp_path / "run.ckpt", weights_only=True)


# Training, of every method


def fit(method: str, steps: int, *callbacks: Callback, optimizer: Any = None, **settings: Any) -> SequenceModule:
    """Trains a small model of the kind of sequences that the method is for, with another optimizer if one is given."""
    kind = next(kind for kind in SEQUENCES if kind in METHODS[method].kinds)
    data = TinyData(SEQUENCES[kind], sequences=kind)
    torch.manual_seed(0)
    module = METHODS[method].for_data(data.spec, width=8, **settings)
    assert isinstance(module, SequenceModule)
    module.build_optimizer = optimizer or module.build_optimizer
    Trainer(
        accelerator="cpu",
        max_steps=steps,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        callbacks=list(callbacks),
    ).fit(module, data)
    return module


@pytest.mark.parametrize("method", SEQUENCE_METHODS)
def test_no_step_is_longer_than_the_bound_of_the_gradient_allows(method: str) -> None:
    """With SGD of rate 1 a step of the network is its gradient; the discriminator's is not bounded."""
    steps = {}
    for bound in (None, 1e-3):
        before = weights(fit(method, 0, clip_norm=bound))
        after = weights(fit(method, 1, clip_norm=bound, optimizer=partial(torch.optim.SGD, lr=1.0)))
        steps[bound] = (after - before).norm().item()
    assert steps[None] > 1e-2
    assert steps[1e-3] == pytest.approx(1e-3, rel=1e-2)


def weights(module: SequenceModule) -> Tensor:
    """All weights of the network, one after the other."""
    return torch.cat([parameter.detach().flatten() for parameter in module.network.parameters()])


@pytest.mark.parametrize("decay_steps", [None, 9])
@pytest.mark.parametrize("method", SEQUENCE_METHODS)
def test_the_learning_rate_rises_to_its_peak_and_falls_along_a_cosine(method: str, decay_steps: int | None) -> None:
    """The rates of eight steps of a run; that of professor forcing's discriminator is constant."""
    recorded = RecordedRates()
    adversary = {"discriminator_lr": 0.02} if method == "ProfessorForcing" else {}
    fit(method, 8, recorded, lr=0.1, warmup_steps=3, decay_steps=decay_steps, **adversary)
    assert recorded.rates.pop(0) == pytest.approx(warmed_up(0.1, 3, decay_steps, 8), rel=1e-6)
    assert {rate for rates in recorded.rates.values() for rate in rates} == set(adversary.values())
