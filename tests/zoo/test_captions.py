"""Models of captions in the zoo: what a checkpoint keeps, and ``--caption`` on the command line."""

import inspect
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from PIL import Image

import zoo
from datamodules import CaptionedFolder, SampleRequests
from lightning_modules import METHODS, NonSaturatingGAN
from lightning_modules.base import GenerativeModule
from lightning_modules.callbacks import LatentInterpolation, SampleGrid
from lightning_modules.rendering.image_rows import SCALE
from lightning_modules.rendering.images import PADDING
from tests.datamodules.small_data import image_folder
from tests.datamodules.small_emoji import captioned_folder
from tests.zoo.running import fails
from zoo.__main__ import main
from zoo.data import datamodule_of


def data_of(folder: Path) -> CaptionedFolder:
    data = CaptionedFolder(str(folder), image_size=8, batch_size=4, val_size=4, test_size=5)
    data.setup()
    return data


NAMES = ["NonSaturatingGAN", "CaptionGAN", "FlowMatching"]


def model(data: CaptionedFolder, name: str = "NonSaturatingGAN", **settings: Any) -> Any:
    """A small model of captions; a U-Net at first returns its noise, so its weights are changed, as by training."""
    small: dict[str, Any] = {"width": 4, "depth": 1, "steps": 2} if name == "FlowMatching" else {"latent_dim": 3}
    small |= {"architecture": "mlp", "width": 2} if name != "FlowMatching" else {}
    module = METHODS[name].for_data(data.spec, **{"num_words": len(data.spec.vocabulary), **small, **settings})
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return module


@pytest.fixture
def pets(tmp_path: Path) -> CaptionedFolder:
    torch.manual_seed(0)
    return data_of(captioned_folder(tmp_path / "pets"))


HELD_OUT = {"FlowMatching": "velocity_error"}


@pytest.mark.parametrize("classes", [{}, {"num_classes": 3}], ids=["captions", "both"])
@pytest.mark.parametrize("name", NAMES)
def test_training_held_out_data_grids_and_predictions_take_captions(
    pets: CaptionedFolder, name: str, classes: dict[str, int]
) -> None:
    module = model(pets, name, **classes)
    trainer = Trainer(
        max_steps=6,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[SampleGrid(num_samples=4), LatentInterpolation(rows=2, steps=3)],
    )
    trainer.fit(module, pets)
    loss = HELD_OUT.get(name, "discriminator_loss")
    assert f"val/{loss}" in trainer.callback_metrics
    assert list(Path("samples").glob("*.png"))
    assert list(Path("interpolation").glob("*.png"))
    (values,) = trainer.test(module, pets, verbose=False)
    assert np.isfinite(values[f"test/{loss}"])
    of_data = torch.cat(trainer.predict(module, pets))  # type: ignore[arg-type]
    assert len(of_data) == 5
    asked = torch.cat(trainer.predict(module, SampleRequests(3)))  # type: ignore[arg-type]
    assert len(asked) == 3
    labels = [0, 1, 2] if classes else None
    of_captions = trainer.predict(module, SampleRequests(3, captions=["a cat", "a dog"], labels=labels))  # type: ignore[arg-type]
    assert len(torch.cat(of_captions)) == 3  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["CaptionGAN", "FlowMatching"])
def test_classes_that_training_has_no_caption_of_are_shown_nowhere(pets: CaptionedFolder, name: str) -> None:
    """All images of a small class may be held out; samples of it need captions that a person gives."""
    kept = [place for place, label in enumerate(pets.spec.caption_classes) if label != 1]
    captions, classes = ([of[place] for place in kept] for of in (pets.spec.captions, pets.spec.caption_classes))
    pets.spec = replace(pets.spec, captions=tuple(captions), caption_classes=tuple(classes))
    module = model(pets, name, num_classes=3)
    callbacks = [SampleGrid(num_samples=4), LatentInterpolation(rows=2, steps=3)]
    trainer = Trainer(max_steps=2, limit_train_batches=2, logger=False, callbacks=callbacks, enable_progress_bar=False)
    trainer.fit(module, pets)
    assert list(Path("samples").glob("*.png"))
    assert list(Path("interpolation").glob("*.png"))
    zoo.save(module, "small_class")
    assert Path("small_class/samples.png").exists()
    assert main(["draw", "./small_class", "interpolation", "--num", "2", "--out", "codes.png"]) == 0
    labels = torch.tensor([0, 1])
    assert len(module.sample(2, captions=["a cat"], labels=labels)) == 2
    with pytest.raises(ValueError, match="No training example has the class 1"):
        module.sample(2, labels=labels)


@pytest.mark.parametrize("name", NAMES)
def test_a_checkpoint_keeps_words_and_captions(pets: CaptionedFolder, name: str) -> None:
    module = model(pets, name)
    zoo.save(module, "pets_gan")
    loaded = zoo.load("./pets_gan")
    assert isinstance(loaded, GenerativeModule)
    assert loaded.data_spec == pets.spec
    assert loaded.data_spec.captions == pets.captions("train")
    for arguments in ({}, {"captions": ["a cat", "an owl".replace("an", "a")]}):
        one, two = (m.sample(3, generator=torch.Generator().manual_seed(1), **arguments) for m in (module, loaded))  # type: ignore[arg-type]
        assert torch.equal(one, two)
    assert Path("pets_gan/samples.png").exists()
    caption = pets.captions("train")[0]
    text = Path("pets_gan/README.md").read_text()
    assert f'captions=["{caption}"]' in text
    assert f"--caption '{caption}'" in text


def test_a_lightning_checkpoint_keeps_them_too(pets: CaptionedFolder) -> None:
    trainer = Trainer(max_steps=2, accelerator="cpu", logger=False, enable_progress_bar=False, barebones=False)
    trainer.fit(model(pets), pets)
    trainer.save_checkpoint("run.ckpt")
    loaded: LightningModule = NonSaturatingGAN.load_from_checkpoint("run.ckpt", map_location="cpu")
    assert isinstance(loaded, NonSaturatingGAN)
    assert loaded.data_spec == pets.spec


@pytest.mark.parametrize("name", NAMES)
def test_the_command_samples_for_captions(pets: CaptionedFolder, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    zoo.save(model(pets, name), "pets_gan")
    captions = ["a cat", "a dog, number 3", "a owl"]
    given = [word for caption in captions for word in ("--caption", caption)]
    assert main(["sample", "./pets_gan", *given, "--num", "6", "--seed", "2", "--out", "some.png"]) == 0
    with Image.open("some.png") as image:
        side = model(pets, name).data_spec.shape[1] + PADDING
        assert image.height == SCALE * (3 * side + PADDING)  # a row for each caption, two columns beside their texts
        assert image.width > SCALE * (2 * side + PADDING)
    assert main(["sample", "./pets_gan", "--caption", "a cat", "--num", "1", "--out", "one.png"]) == 0
    assert "Wrote one.png" in capsys.readouterr().out
    guided = ["sample", "./pets_gan", "--caption", "a cat", "--guidance", "2", "--num", "1", "--out", "guided.png"]
    if name == "FlowMatching":
        assert main(guided) == 0
    else:
        assert "has no option guidance" in fails(guided, capsys)


@pytest.mark.parametrize("name", NAMES)
def test_what_cannot_be_sampled_is_said(pets: CaptionedFolder, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    zoo.save(model(pets, name), "captioned")
    zoo.save(model(pets, "NonSaturatingGAN" if name == "CaptionGAN" else name, num_words=None), "plain")
    zoo.save(model(pets, name, num_classes=3), "both")
    sample = ["sample", "./captioned", "--caption"]
    assert "'dgo' (did you mean 'dog'" in fails([*sample, "a dgo"], capsys)
    assert "has no words" in fails([*sample, ""], capsys)
    too_many = fails([*sample, "a cat", "--caption", "a dog", "--num", "1"], capsys)
    assert "2 captions are more than num_samples=1" in too_many
    unconditional = fails(["sample", "./plain", "--caption", "a cat"], capsys)
    assert "without captions: leave out --caption" in unconditional
    assert "takes a class with each caption" in fails(["sample", "./both", "--caption", "a cat"], capsys)
    assert main(["sample", "./both", "--caption", "a cat", "--labels", "0", "--num", "2", "--out", "b.png"]) == 0


# Models that were saved without the datamodule, whose data the user names


def renamed(folder: Path, *words: tuple[str, str]) -> Path:
    """Changes words of the captions in a folder."""
    path = folder / "captions.jsonl"
    for old, new in words:
        path.write_text(path.read_text().replace(old, new))
    return folder


OF_CAPTIONS: list[tuple[str, str, dict[str, Any]]] = [
    ("VAE", "reconstructions", {"hidden": 4, "depth": 1}),
    ("PixelCNNPlusPlus", "completion", {"num_scales": 1}),
    ("NonSaturatingGAN", "inversion", {}),
]


@pytest.mark.parametrize(("name", "view", "settings"), OF_CAPTIONS)
def test_views_of_held_out_images_find_their_captions(
    name: str, view: str, settings: dict[str, Any], pets: CaptionedFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"architecture": "mlp", "width": 2, "latent_dim": 3, **settings}
    known = inspect.signature(METHODS[name]).parameters
    taken = {key: value for key, value in settings.items() if key in known}
    module: Any = METHODS[name].for_data(pets.spec, num_words=len(pets.spec.vocabulary), **taken)
    zoo.save(module, "captioned", samples=False)
    draw = ["draw", "./captioned", view, "--num", "2", "--out", "view.png", "--data-dir"]
    assert main([*draw, str(pets.folder)]) == 0
    image_folder(Path("plain"))
    assert "images have no caption" in fails([*draw, "plain"], capsys)


@pytest.mark.filterwarnings("ignore:Samples were not compared")
def test_other_captions_are_read_in_the_words_of_training(
    pets: CaptionedFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GENERATIVE_ZOO_CACHE", str(tmp_path / "cache"))
    zoo.save(model(pets, "FlowMatching"), "captioned", samples=False)
    assert main(["evaluate", "./captioned", "--data-dir", str(pets.folder), "--num-samples", "5"]) == 0
    assert "test/velocity_error" in capsys.readouterr().out
    other = renamed(captioned_folder(tmp_path / "other"), ("A dog", "owl owl owl"))
    data = datamodule_of(zoo.card("./captioned"), str(other))
    assert data.spec.vocabulary == pets.spec.vocabulary != CaptionedFolder(str(other)).spec.vocabulary
    tokens = next(iter(data.test_dataloader())).tokens[0]
    assert tokens[tokens > 0].tolist() == pets.spec.tokens(data.captions("test")[0])
    renamed(other, ("owl owl owl", "zebra"))
    assert "was not trained on 1 word(s) of the captions in" in (
        error := fails(["evaluate", "./captioned", "--data-dir", str(other)], capsys)
    )
    assert "zebra" in error


@pytest.mark.parametrize(("hold_out", "classes"), [("0", {}), ("0.2", {"num_classes": 3})], ids=["captions", "both"])
@pytest.mark.filterwarnings("ignore:Samples were not compared", "ignore:.*was trained on all of its images")
def test_a_model_of_captions_is_fine_tuned_on_captions_in_its_words(
    hold_out: str,
    classes: dict[str, int],
    pets: CaptionedFolder,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("GENERATIVE_ZOO_CACHE", str(tmp_path / "cache"))
    zoo.save(model(pets, "FlowMatching", **classes), "start", samples=False)
    tune = ["fine-tune", "./start", "--steps", "2", "--batch-size", "4", "--out", "tuned", "--hold-out", hold_out]
    other = renamed(captioned_folder(tmp_path / "other"), ("A dog", "owl owl owl"))
    assert main([*tune, "--data", str(other)]) == 0
    card, tuned = zoo.card("tuned"), zoo.load("./tuned")
    assert card.datamodule is not None
    assert card.datamodule["class"] == "CaptionedFolder"
    assert tuned.data_spec.vocabulary == pets.spec.vocabulary
    assert {"owl owl owl, number 0."} & set(tuned.data_spec.captions)
    assert main(["evaluate", "tuned", "--num-samples", "5"]) == 0
    assert main(["sample", "tuned", "--num", "2", "--out", "some.png"]) == 0
    renamed(other, ("owl owl owl", "zebra"))
    assert "zebra" in fails([*tune, "--data", str(other)], capsys)
    image_folder(Path("plain"))
    assert "images have no caption" in fails([*tune, "--data", "plain"], capsys)
