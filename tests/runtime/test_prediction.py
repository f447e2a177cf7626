"""``Trainer.predict``: samples for every generative method, in every form in which a loader can ask for them."""

from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import seed_everything
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from datamodules import Ring, SampleRequests
from lightning_modules import METHODS, Classifier, GenerativeModule, MinimaxGAN
from lightning_modules.callbacks import EMA
from tests.processes import on_two
from tests.standins import quiet_trainer
from tests.training import TinyData, build, data_of, train

GENERATIVE = [name for name, method in METHODS.items() if issubclass(method, GenerativeModule)]


def gan(**settings: Any) -> MinimaxGAN:
    return MinimaxGAN.for_data(Ring().spec, width=2, **settings)


def ring(**sizes: int) -> Ring:
    return Ring(**{"batch_size": 4, "train_size": 8, "val_size": 4, "test_size": 6, **sizes})


def predicted(module: Any, loader: Any = None, callbacks: Any = (), **settings: Any) -> list[Tensor]:
    result: Any = quiet_trainer(callbacks, **settings).predict(module, loader)
    return result


@pytest.mark.parametrize("name", GENERATIVE)
def test_every_generative_method_samples_what_a_datamodule_or_a_number_asks_for(name: str) -> None:
    module, shape = build(name)
    data = TinyData(shape, **data_of(name))
    batches = predicted(module, SampleRequests(5, batch_size=3))
    assert [len(x) for x in batches] == [3, 2]
    assert all(x.isfinite().all() and x.shape[1:] == shape for x in batches)
    with_data = predicted(module, data, limit_predict_batches=1)
    assert [x.shape for x in with_data] == [(8, *shape)]
    assert module.training


def test_a_classifier_predicts_logits() -> None:
    data = TinyData((1, 8, 8))
    module = Classifier.for_data(data.spec, width=2)
    batches = predicted(module, data)
    expected = module.eval()(next(iter(data.test_dataloader())).x)  # type: ignore[union-attr]
    assert torch.equal(batches[0], expected)
    assert sum(len(x) for x in batches) == len(data.source("test"))


@pytest.mark.parametrize(
    ("loader", "sizes"),
    [
        (DataLoader([3, 2], batch_size=None), [3, 2]),  # type: ignore[arg-type]
        ([np.int64(3), np.uint8(2)], [3, 2]),
        ((np.int64(3), 2), [3, 2]),
        (DataLoader([3, 2], batch_size=None, collate_fn=np.int64), [3, 2]),  # type: ignore[arg-type]
        (DataLoader(torch.tensor([3, 2]), batch_size=None), [3, 2]),  # type: ignore[arg-type]
        (DataLoader(torch.zeros(5, 2), batch_size=3), [3, 2]),  # type: ignore[arg-type]
        (DataLoader(TensorDataset(torch.zeros(5, 2), torch.zeros(5)), batch_size=3), [3, 2]),
        (DataLoader([{"num_samples": 3}, {"num_samples": 2}], batch_size=None), [3, 2]),  # type: ignore[arg-type]
        (ring(), [4, 2]),
        (ring().test_dataloader(), [4, 2]),
        (SampleRequests(7), [7]),
    ],
)
def test_a_loader_says_how_many(loader: Any, sizes: list[int]) -> None:
    assert [tuple(x.shape) for x in predicted(gan(), loader)] == [(size, 2) for size in sizes]


@pytest.mark.parametrize(
    "loader",
    [
        DataLoader(torch.arange(6), batch_size=4),  # type: ignore[arg-type]
        DataLoader(TensorDataset(torch.arange(6)), batch_size=4),
        DataLoader(TensorDataset(torch.zeros(6, 2), torch.arange(6)), batch_size=4),
        SampleRequests(labels=range(6), batch_size=4),
    ],
)
def test_a_loader_says_which_classes(loader: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    module = gan(num_classes=8)
    asked: list[Tensor] = []
    sample = module.sample

    def recorded(num_samples: int, *, labels: Tensor, generator: torch.Generator) -> Tensor:
        asked.append(labels)
        return sample(num_samples, labels=labels, generator=generator)

    monkeypatch.setattr(module, "sample", recorded)
    assert [len(x) for x in predicted(module, loader)] == [4, 2]
    assert torch.cat(asked).tolist() == list(range(6))


@pytest.mark.parametrize(
    ("requests", "captions"),
    [
        (SampleRequests(5, 2, captions=["a bar", "bar", "leaning"]), ["a bar", "bar", "leaning", "a bar", "bar"]),
        (SampleRequests(captions=["a bar", "bar"]), ["a bar", "bar"]),
        (SampleRequests(3, 2, captions="bar"), ["bar"] * 3),
    ],
)
def test_requests_say_which_captions_in_turn(
    requests: SampleRequests, captions: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    module, _ = build("CaptionGAN")
    asked: list[str] = []
    sample: Any = module.sample

    def recorded(num_samples: int, *, captions: list[str], generator: torch.Generator) -> Tensor:
        assert len(captions) == num_samples
        asked.extend(captions)
        return sample(num_samples, captions=captions, generator=generator)

    monkeypatch.setattr(module, "sample", recorded)
    assert sum(len(x) for x in predicted(module, requests)) == len(captions)
    assert asked == captions


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"captions": []}, r"captions=\[\] has no caption"),
        ({"captions": ""}, "captions has '', which has no words"),
        ({"captions": ["bar", " ,"]}, "captions has ' ,', which has no words"),
        ({"captions": ["bar", None]}, "captions must be strings, but None is of NoneType"),
        ({"num_samples": 1, "captions": ["bar", "a bar"]}, "2 captions are more than num_samples=1"),
        ({"labels": [0, 1], "captions": ["bar"] * 3}, "3 captions are more than num_samples=2"),
        ({}, "num_samples=None must be a positive integer"),
    ],
)
def test_requests_of_no_sense_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SampleRequests(**arguments)


def test_captions_are_checked_before_the_first_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown word in the last of many batches would otherwise be said after all others were sampled."""
    requests = SampleRequests(4, 1, captions=["bar", "bar", "bar", "baar"])
    module, _ = build("CaptionGAN")
    monkeypatch.setattr(module, "sample", lambda *_, **__: pytest.fail("sampled"))
    with pytest.raises(ValueError, match="'baar'.*did you mean 'bar'"):
        predicted(module, requests)
    with pytest.raises(ValueError, match="captions were given to a model without captions"):
        predicted(gan(), requests)


def test_arguments_of_sample_are_passed_on() -> None:
    module, _ = build("TeacherForcing")
    (x,) = predicted(module, DataLoader([{"num_samples": 2, "length": 9, "temperature": 0.5}], batch_size=None))  # type: ignore[arg-type]
    assert x.shape == (2, 9)


@pytest.mark.parametrize(
    ("loader", "named"),
    [
        (None, "SampleRequests"),
        (ring(test_size=0), "ring8.*no test examples.*SampleRequests"),
        (DataLoader(torch.arange(4), batch_size=2), r"int64 \(2,\).*no classes"),  # type: ignore[arg-type]
        (DataLoader([0.5], batch_size=None), "num_samples.*not float"),  # type: ignore[arg-type]
        (DataLoader([3], batch_size=None, collate_fn=np.float64), "num_samples.*not float64"),  # type: ignore[arg-type]
        (DataLoader([3], batch_size=None, collate_fn=np.bool_), "num_samples.*not bool"),  # type: ignore[arg-type]
        (DataLoader([3], batch_size=None, collate_fn=bool), "num_samples.*not bool"),  # type: ignore[arg-type]
        (DataLoader(["x"], batch_size=None), "num_samples.*not str"),  # type: ignore[arg-type]
        (DataLoader(torch.rand(4), batch_size=2), r"float32 \(2,\)"),  # type: ignore[arg-type]
        (DataLoader([0], batch_size=None), "num_samples=0"),  # type: ignore[arg-type]
    ],
)
def test_what_asks_for_nothing_is_refused_by_a_sentence(loader: Any, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        predicted(gan(), loader)


def test_samples_follow_the_global_seed_and_are_new_each_time() -> None:
    module, results = gan(), []
    for seed in (0, 0, 1):
        seed_everything(seed, verbose=False)
        results.append([torch.cat(predicted(module, SampleRequests(4, batch_size=2))) for _ in range(2)])
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    assert not torch.equal(results[0][0], results[2][0])
    assert not torch.equal(results[0][0], results[0][1]), "a second call gives further samples"
    assert not torch.equal(results[0][0][:2], results[0][0][2:]), "and so does a second batch"


def test_averaged_weights_are_sampled_and_the_own_ones_come_back() -> None:
    trainer, module, _ = train("MinimaxGAN", 3)
    (ema,) = [callback for callback in trainer.callbacks if isinstance(callback, EMA)]  # type: ignore[attr-defined]
    own = {key: value.clone() for key, value in module.state_dict().items()}
    seed_everything(0, verbose=False)
    averaged = trainer.predict(module, SampleRequests(4))[0]  # type: ignore[index]
    seed_everything(0, verbose=False)
    raw = predicted(module, SampleRequests(4))[0]
    assert not torch.equal(averaged, raw)
    seed_everything(0, verbose=False)
    with ema.average_parameters(module):
        assert torch.equal(averaged, predicted(module, SampleRequests(4))[0])
    with pytest.raises(ValueError, match="num_samples=0"):
        trainer.predict(module, DataLoader([0], batch_size=None))  # type: ignore[arg-type]
    assert all(torch.equal(value, own[key]) for key, value in module.state_dict().items()), "also after an error"


def samples_of_this_process() -> Tensor:
    seed_everything(0, verbose=False)
    return torch.cat(predicted(gan(), SampleRequests(5, batch_size=2), devices=2, strategy="ddp"))


def test_processes_share_the_requests_and_sample_differently() -> None:
    first, second = on_two(samples_of_this_process)
    assert sorted(map(len, (first, second))) == [2, 3]
    assert not torch.equal(first[:2], second[:2])


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({}, "num_samples=None"),
        ({"num_samples": 0}, "num_samples=0"),
        ({"num_samples": True}, "num_samples=True"),
        ({"num_samples": 4, "batch_size": 0}, "batch_size=0"),
        ({"num_samples": 4, "labels": [1]}, "num_samples=4"),
        ({"labels": [0.5]}, "float32"),
        ({"labels": [True, False]}, "bool"),
    ],
)
def test_requests_check_their_arguments(arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        SampleRequests(**arguments)
