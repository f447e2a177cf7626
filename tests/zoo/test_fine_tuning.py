"""Continuing the training of a checkpoint on a folder of images."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import zoo
import zoo.fine_tuning
from datamodules import DataSpec, Ring, SyntheticImages
from lightning_modules import METHODS, SNGAN, VAE, WGANGP, CreativeAdversarialNetwork, GenerativeModule, ProgressiveGAN
from tests.datamodules.small_data import image_folder
from tests.zoo.running import fails, run
from zoo.__main__ import main
from zoo.class_change import with_classes
from zoo.data import datamodule_of


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps what is remembered of one's own data out of the user's cache."""
    monkeypatch.setenv("GENERATIVE_ZOO_CACHE", str(tmp_path / "cache"))


def test_fine_tune(trained: Path) -> None:
    images = trained / "images-of-mine"
    images.mkdir()
    for index in range(20):
        Image.new("RGB", (40, 30), (index * 10, 255 - index * 10, 90)).save(images / f"{index}.png")
    done = run(
        trained, "fine-tune", "runs/tiny/zoo", "--data", str(images), "--steps", "5", "--batch-size", "8",
        "--out", "tuned",
    )  # fmt: skip
    assert "optimizers" in done.stdout, "their state is in no checkpoint of the zoo"
    tuned, start = zoo.load(str(trained / "tuned")), zoo.load(str(trained / "runs/tiny/zoo"), weights="raw")
    assert tuned.data_spec.name == "images-of-mine"
    card = zoo.card(trained / "tuned")
    assert (card.name, card.averaged, card.batches, card.planned_batches) == ("tiny.images_of_mine", True, 5, 5)
    assert "All 20 images" in done.stdout
    for network in ("generator", "discriminator"):
        pairs = zip(getattr(tuned, network).parameters(), getattr(start, network).parameters(), strict=True)
        assert any(not torch.equal(new, old) for new, old in pairs), network
    facts = {"tiny", "5", "8", "20"}
    assert set(re.findall(r"tiny|\d+", card.notes)) == facts, "where from, how many batches of what size, on how many"
    assert card.notes in (trained / "tuned/README.md").read_text()
    assert (trained / "tuned-run/metrics.csv").is_file()
    assert [path.name for path in (trained / "tuned-run/samples").iterdir()] != []
    assert (trained / "tuned-run/checkpoints/last.ckpt").is_file()


def test_a_network_that_has_grown_does_not_grow_again() -> None:
    """The schedule of a recipe is longer than a fine-tuning, and would begin with the lowest resolution."""
    module = ProgressiveGAN(width=2, growth_steps=900, decay_steps=1000)
    module.data_spec = DataSpec("own", "image", (1, 28, 28), (-1.0, 1.0))
    module.generator.set_stage(1, 0.5)  # type: ignore[operator]
    tuned = zoo.fine_tuning.with_schedule(module, 5)
    assert (tuned.hparams["growth_steps"], tuned.hparams["decay_steps"]) == (0, 5)
    assert all(torch.equal(value, tuned.state_dict()[key]) for key, value in module.state_dict().items())


@pytest.mark.parametrize("method", ["VAE", "LadderVAE"])
def test_a_divergence_is_not_warmed_up_again(method: str) -> None:
    """The warm-up of a recipe is longer than a fine-tuning: codes would be free to leave the prior for all of it."""
    settings: dict[str, Any] = {"latent_dims": [3, 2]} if method == "LadderVAE" else {"latent_dim": 3}
    module: Any = METHODS[method](**settings, **{"hidden": 4, "kl_warmup_steps": 40_000})
    module.data_spec = DataSpec("own", "image", (1, 28, 28), (0.0, 1.0))
    tuned = zoo.fine_tuning.with_schedule(module, 5)
    assert (tuned.hparams["kl_warmup_steps"], tuned.hparams["decay_steps"]) == (0, 5)


def test_fine_tune_refuses_a_target_before_it_trains(
    classified: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("thesis.tex").touch()
    monkeypatch.setattr(zoo.fine_tuning, "load_folder", lambda *_, **__: pytest.fail("it continued"))
    assert "thesis.tex" in fails(["fine-tune", str(classified), "--data", ".", "--out", "thesis.tex"], capsys)


def test_fine_tune_needs_a_model_of_images(
    classified: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(zoo.fine_tuning, "ImageFolder", lambda **_: pytest.fail("it continued"))
    zoo.save(WGANGP.for_data(Ring().spec, width=8), tmp_path / "ring")
    zoo.save(WGANGP(width=2), tmp_path / "unknown")
    for name in ("./ring", "./unknown", str(classified)):
        assert zoo.card(name).name in fails(["fine-tune", name, "--data", "."], capsys)


def images_spec(method: str) -> DataSpec:
    return SyntheticImages(shape=[1, 8, 8], binarize=method == "RBM", dequantize=method not in ("RBM", "EBM")).spec


def fine_tuned(name: str, *arguments: str) -> zoo.Card:
    """Fine-tunes for a few batches on the folder ``pets``."""
    fixed = ["--data", "pets", "--steps", "2", "--batch-size", "4", "--out", "tuned"]
    assert main(["fine-tune", name, *fixed, *arguments]) == 0
    return zoo.card("tuned")


SMALL = {
    "GaussianMixture": {"num_components": 2, "covariance": "low_rank", "rank": 2},
    "Gaussian": {},
    "RBM": {"num_hidden": 4},
    "NCE": {"width": 4, "oversampling": 5, "steps": 2},
    "PixelCNNPlusPlus": {"width": 4, "depth": 1, "num_scales": 2, "warmup_steps": 100},
    "InstanceNoiseGAN": {"width": 2, "noise_steps": 100},
    "RothGAN": {"width": 2, "gamma_steps": 100, "decay_steps": 100},
    "R3GAN": {"width": 2, "schedule_steps": 100},
}


@pytest.mark.parametrize("method", SMALL)
def test_methods_with_nothing_to_average_and_long_schedules_are_fine_tuned(method: str, tmp_path: Path) -> None:
    image_folder(tmp_path / "pets")
    spec = SyntheticImages(shape=[1, 8, 8]).spec if method == "PixelCNNPlusPlus" else images_spec(method)
    density = {"noise_density": METHODS["Gaussian"].for_data(spec)} if method == "NCE" else {}
    zoo.save(METHODS[method].for_data(spec, **SMALL[method], **density), tmp_path / "start", samples=False)
    card = fine_tuned("./start")
    assert card.method == method
    assert card.data_spec is not None
    assert card.data_spec["value_range"] == list(spec.value_range or ())


@pytest.mark.filterwarnings("ignore:Samples were not compared")
def test_what_is_held_out_is_said_and_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image_folder(tmp_path / "pets")
    zoo.save(VAE.for_data(images_spec("RBM"), likelihood="bernoulli", hidden=4, latent_dim=2), tmp_path / "start")
    assert "24 of 30" in fine_tuned("./start", "--hold-out", "0.2").notes
    assert {"24 of 30", "6 are held out"} <= set(re.findall("24 of 30|6 are held out", capsys.readouterr().out))
    datamodule = datamodule_of(zoo.card("tuned"))
    assert [len(datamodule.source(split)) for split in ("train", "val", "test")] == [24, 0, 6]
    assert main(["evaluate", "tuned"]) == 0
    assert "test/nll" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:Samples were not compared")
def test_a_model_that_was_trained_on_everything_is_measured_on_that_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image_folder(tmp_path / "pets")
    zoo.save(VAE.for_data(images_spec("RBM"), likelihood="bernoulli", hidden=4, latent_dim=2), tmp_path / "start")
    fine_tuned("./start")
    capsys.readouterr()
    with pytest.warns(UserWarning, match="train"):
        assert main(["evaluate", "tuned"]) == 0
    measured = capsys.readouterr().out
    assert "train/nll" in measured
    assert "test/" not in measured
    image_folder(tmp_path / "others/pets")
    (tmp_path / "others/pets/cat/00.png").unlink()
    with pytest.warns(UserWarning, match="other data"):
        assert main(["evaluate", "tuned", "--data-dir", "others/pets"]) == 0
    assert "test/nll" in capsys.readouterr().out, "no image of another folder was trained on"


@pytest.mark.parametrize("fraction", ["1", "-0.1", "nan"])
def test_fractions_out_of_range_are_refused(
    fraction: str, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image_folder(tmp_path / "pets")
    arguments = ["fine-tune", str(trained / "runs/tiny/zoo"), "--data", "pets", f"--hold-out={fraction}"]
    assert fraction in fails(arguments, capsys)


def conditional(*names: str, method: str = "SNGAN") -> GenerativeModule:
    spec = DataSpec("toys", "image", (3, 8, 8), (-1.0, 1.0), len(names), names)
    kind: type[GenerativeModule] = {"SNGAN": SNGAN, "VAE": VAE, "CAN": CreativeAdversarialNetwork}[method]
    return kind.for_data(spec, width=2, **{kind.labels_are: len(names)})


@pytest.mark.parametrize("method", ["SNGAN", "VAE", "CAN"])
def test_classes_of_the_same_name_keep_their_embeddings(method: str) -> None:
    module = conditional("dog", "fox", method=method)
    spec = DataSpec("pets", "image", (3, 8, 8), (-1.0, 1.0), 3, ("cat", "dog", "owl"))
    other, said = with_classes(module, spec)
    assert getattr(other, other.labels_are) == 3
    assert said.index("cat, dog, owl") < said.index("cat, owl")
    before, after = module.state_dict(), other.state_dict()
    embeddings = [key for key in before if before[key].shape != after[key].shape and before[key].ndim == 2]
    assert embeddings
    for key in embeddings:
        assert torch.equal(after[key][1], before[key][0]), key
        assert not torch.equal(after[key][0], before[key][1]), key
    for key in before.keys() - embeddings:
        if before[key].shape == after[key].shape:
            assert torch.equal(after[key], before[key]), key


def test_styles_are_those_of_a_folder(tmp_path: Path) -> None:
    image_folder(tmp_path / "pets")
    zoo.save(conditional("cat", "fox", method="CAN"), tmp_path / "start")
    assert fine_tuned("./start").hyperparameters["num_styles"] == 3
    assert zoo.load("tuned").sample(2).shape == (2, 3, 8, 8)


def test_as_many_classes_of_other_names_are_other_classes() -> None:
    module = conditional("ant", "bee")
    spec = DataSpec("pets", "image", (3, 8, 8), (-1.0, 1.0), 2, ("bee", "ant"))
    swapped, _ = with_classes(module, spec)
    key = next(key for key, value in module.state_dict().items() if "embedding" in key and value.ndim == 2)
    assert torch.equal(swapped.state_dict()[key], module.state_dict()[key].flip(0))
    same, said = with_classes(module, DataSpec("x", "image", (3, 8, 8), (-1.0, 1.0), 2, ("ant", "bee")))
    assert same is module
    assert "ant, bee" in said


def test_a_conditional_model_takes_the_classes_of_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image_folder(tmp_path / "pets")
    zoo.save(conditional("cat", "fox"), tmp_path / "start")
    card = fine_tuned("./start")
    assert card.hyperparameters["num_classes"] == 3
    assert "dog, owl" in capsys.readouterr().out
    samples = zoo.load("tuned", SNGAN).sample(3, labels=torch.arange(3))
    assert samples.shape == (3, 3, 8, 8)
    error = fails(["fine-tune", "./start", "--data", "pets/cat", "--out", "other"], capsys)
    assert "2 classes" in error
    assert "sub-folder" in error
