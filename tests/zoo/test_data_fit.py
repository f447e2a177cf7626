"""Recipes with other data than their own: what is worked out, what is kept, what is refused and with which offer."""

from pathlib import Path
from typing import Any

import pytest
import yaml

import zoo
import zoo.cli
from datamodules.spec import DataSpec
from lightning_modules import VAE
from tests.datamodules.small_data import POEM, image_folder
from tests.zoo.running import RECIPE, fails
from zoo.__main__ import main
from zoo.cli import ZooCLI, recorded
from zoo.data_fit import Fit, full_names, name_after
from zoo.paths import recipe_names, recipe_path


class Fitted(Exception):
    """Carries what a command would build; nothing is built."""

    def __init__(self, fit: Fit, spec: DataSpec | None) -> None:
        super().__init__()
        self.fit, self.spec = fit, spec
        self.model = fit.config["model"].init_args.as_dict()
        self.callbacks = [c.class_path.rpartition(".")[2] for c in fit.config["trainer"]["callbacks"] or []]


class Fitting(ZooCLI):
    """Reads a recipe and its overrides, fits the model to the data, and stops before anything is built."""

    def before_instantiate_classes(self) -> None:
        fit = Fit(self.config, yaml.safe_load(self.recipe.read_text()), self.given)
        raise Fitted(fit, fit.apply())


def fitted(recipe: str, *overrides: str) -> Fitted:
    with pytest.raises(Fitted) as caught:
        Fitting(recipe_path(recipe), list(overrides), Path("runs/x"))
    return caught.value


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """The working directory, with a folder of three classes of images, one with captions of three words, and a text."""
    image_folder(tmp_path / "pets")
    image_folder(tmp_path / "captioned")
    for index, path in enumerate(sorted((tmp_path / "captioned").rglob("*.*"))):
        path.with_suffix(".txt").write_text("a cat" if index % 2 else "a dog")
    (tmp_path / "poem.txt").write_text(POEM)
    return tmp_path


FOLDER = ("--data", "ImageFolder", "--data.data_dir", "pets")
CAPTIONED = ("--data", "CaptionedFolder", "--data.data_dir", "captioned")
GREY = "discretized_logistic_mixture"
TEXT = ("--data", "TextFile", "--data.path", "poem.txt")


@pytest.mark.parametrize("recipe", recipe_names())
def test_recipes_fit_their_own_data_as_they_are(recipe: str) -> None:
    found = fitted(recipe)
    assert found.fit.lines == []
    assert not found.fit.has_other_data
    stated = yaml.safe_load(recipe_path(recipe).read_text())["model"]["init_args"]
    assert {key: found.model[key] for key in stated if key != "noise_density"} == {
        key: value for key, value in stated.items() if key != "noise_density"
    }


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("recipe", "overrides", "expected"),
    [
        ("wgan_gp.fashion_mnist", FOLDER, {"shape": [3, 64, 64], "num_classes": None, "architecture": "dcgan"}),
        ("sngan.fashion_mnist.conditional", FOLDER, {"shape": [3, 64, 64], "num_classes": 3}),
        ("sngan.fashion_mnist.conditional", (*FOLDER[:3], "pets/cat"), {"num_classes": None}),
        ("classifier.fashion_mnist", FOLDER, {"shape": [3, 64, 64], "num_classes": 3, "extractor_name": "pets"}),
        ("vae.fashion_mnist", (*FOLDER, "--data.grey", "true", "--data.image_size", "32"), {"shape": [1, 32, 32]}),
        ("vae.fashion_mnist_binary", FOLDER, {"shape": [3, 64, 64], "likelihood": "bernoulli"}),
        (
            "vae.fashion_mnist_binary",
            (*FOLDER, "--data.binarize", "false"),
            {"likelihood": GREY, "architecture": "gated_mlp"},
        ),
        ("pixelcnn_pp.fashion_mnist_binary", ("--data.binarize", "false"), {"likelihood": GREY}),
        ("caption_gan.emoji", CAPTIONED, {"num_words": 3}),
        ("flow_matching.emoji", CAPTIONED, {"num_words": 3}),
        ("rbm.fashion_mnist", FOLDER, {"shape": [3, 64, 64]}),
        ("gaussian.fashion_mnist", FOLDER, {"shape": [3, 64, 64]}),
        ("ebm.fashion_mnist", FOLDER, {"shape": [3, 64, 64]}),
        ("wgan_gp.fashion_mnist", ("--data=Ring",), {"shape": [2], "architecture": "mlp"}),
        ("r3gan.fashion_mnist", ("--data=Ring",), {"shape": [2], "architecture": "mlp", "augment": None}),
        ("teacher_forcing.tinyshakespeare", TEXT, {"vocabulary_size": len(set(POEM)), "length": 1000}),
        ("teacher_forcing.tinyshakespeare", (*TEXT, "--data.symbols", "bytes"), {"vocabulary_size": 256}),
        ("professor_forcing.tinyshakespeare", TEXT, {"vocabulary_size": len(set(POEM))}),
        ("teacher_forcing.jsb_chorales", TEXT, {"vocabulary_size": len(set(POEM)), "step_shape": []}),
    ],
)
def test_what_the_data_decide_is_worked_out(recipe: str, overrides: tuple[str, ...], expected: dict[str, Any]) -> None:
    found = fitted(recipe, *overrides)
    assert {key: found.model[key] for key in expected} == expected
    stated = yaml.safe_load(recipe_path(recipe).read_text())["model"]["init_args"]
    for key, value in expected.items():
        if stated.get(key, value) != value:
            assert any(line.startswith(f"{key}=") for line in found.fit.lines), f"{key} is said"


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("recipe", "overrides", "size"),
    [
        ("wgan_gp.fashion_mnist", FOLDER, 16),  # of 30 images 24 are for training
        ("wgan_gp.fashion_mnist", (*FOLDER, "--data.test_size", "0", "--data.val_size", "29"), 1),
        ("wgan_gp.fashion_mnist", (*FOLDER, "--data.batch_size", "64"), 64),
        ("teacher_forcing.tinyshakespeare", (*TEXT, "--data.window", "20"), 32),
    ],
)
def test_batches_are_no_larger_than_the_data(recipe: str, overrides: tuple[str, ...], size: int) -> None:
    found = fitted(recipe, *overrides)
    assert found.fit.config["data"].init_args["batch_size"] == size
    assert any(f"batch_size={size}" in line for line in found.fit.lines) == ("--data.batch_size" not in overrides)


@pytest.mark.usefixtures("own")
def test_the_command_line_wins_where_it_agrees_and_is_refused_where_not() -> None:
    overrides = (*FOLDER, "--model.num_classes", "3", "--model.shape=[3, 64, 64]")
    assert fitted("wgan_gp.fashion_mnist", *overrides).model["num_classes"] == 3
    for option in (["--model.shape", "[1, 28, 28]"], ["--model.init_args.shape=[1, 28, 28]"]):
        with pytest.raises(zoo.ZooError) as caught:
            Fitting(recipe_path("wgan_gp.fashion_mnist"), [*FOLDER, *option], Path("x"))
        for fact in ("[1, 28, 28]", "--model.shape '[3, 64, 64]'", "--data.image_size 28", "--data.grey true"):
            assert fact in str(caught.value)
    with pytest.raises(zoo.ZooError, match="num_classes=7.*num_classes=3"):
        Fitting(recipe_path("sngan.fashion_mnist.conditional"), [*FOLDER, "--model.num_classes", "7"], Path("x"))
    with pytest.raises(zoo.ZooError, match="num_words=7.*num_words=3"):
        Fitting(recipe_path("caption_gan.emoji"), [*CAPTIONED, "--model.num_words", "7"], Path("x"))
    with pytest.raises(zoo.ZooError, match="vocabulary_size=9"):
        Fitting(recipe_path("teacher_forcing.tinyshakespeare"), [*TEXT, "--model.vocabulary_size=9"], Path("x"))


def test_the_offer_is_one_that_works(own: Path) -> None:
    offered = ("--data.image_size", "28", "--data.grey", "true", "--model.shape", "[1, 28, 28]")
    assert fitted("wgan_gp.fashion_mnist", *FOLDER, *offered).model["shape"] == [1, 28, 28]
    offered = ("--model.shape", "[3, 64, 64]")
    assert fitted("wgan_gp.fashion_mnist", *FOLDER, *offered).model["shape"] == [3, 64, 64]


@pytest.mark.usefixtures("own")
def test_metrics_that_are_for_other_data_are_left_out_and_said() -> None:
    found = fitted("wgan_gp.fashion_mnist", *FOLDER)
    assert found.callbacks == ["EMA", "SampleGrid", "LatentInterpolation", "ModelCheckpoint"]
    (said,) = (line for line in found.fit.lines if "ImageMetrics" in line)
    assert "classifier.fashion_mnist" in said
    grey = (*FOLDER, "--data.grey", "true", "--data.image_size", "28")
    assert "ImageMetrics" in fitted("wgan_gp.fashion_mnist", *grey).callbacks
    assert "ModeCoverage" not in fitted("wgan_gp.ring8", *FOLDER).callbacks
    assert "LatentInterpolation" not in fitted("wgan_gp.fashion_mnist", "--data", "Ring").callbacks


@pytest.mark.usefixtures("own")
def test_parts_that_are_loaded_for_other_data_are_refused_with_an_offer() -> None:
    with pytest.raises(zoo.ZooError, match=r"noise_density.*gaussian_mixture.*\[1, 28, 28\].*--data\.image_size 28"):
        Fitting(recipe_path("nce.fashion_mnist"), list(FOLDER), Path("x"))
    offered = ("--data.image_size", "28", "--data.grey", "true")
    assert fitted("nce.fashion_mnist", *FOLDER, *offered).model["shape"] == [1, 28, 28]


@pytest.mark.usefixtures("own")
def test_metrics_that_were_asked_for_are_refused_instead() -> None:
    extractor = "{class_path: zoo.load_classifier, init_args: {name: classifier.fashion_mnist}}"
    metrics = "--trainer.callbacks=lightning_modules.callbacks.ImageMetrics"
    asked = [metrics, f"--trainer.callbacks.extractor={extractor}"]
    with pytest.raises(zoo.ZooError, match=r"ImageMetrics.*\[1, 28, 28\].*pets.*\[3, 64, 64\]"):
        Fitting(recipe_path("wgan_gp.fashion_mnist"), [*FOLDER, *asked], Path("x"))


OWN_RECIPE = RECIPE.replace(
    "class_path: datamodules.SyntheticImages\n  init_args: {batch_size: 16, size: 64, val_size: 16, test_size: 64}",
    "class_path: datamodules.ImageFolder\n  init_args: {batch_size: 4, data_dir: pets}",
)


def test_a_recipe_for_grey_data_given_coloured_images_is_refused_with_an_offer(
    own: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (own / "mine.yaml").write_text(OWN_RECIPE)
    monkeypatch.setattr(ZooCLI, "fit", lambda self: pytest.fail("it trained"))
    error = fails(["train", "mine.yaml"], capsys)
    for fact in ("[1, 28, 28]", "[3, 64, 64]", "pets", "--data.image_size 28", "--data.grey true"):
        assert fact in error


def test_a_recipe_that_does_not_state_a_shape_gets_it(own: Path) -> None:
    (own / "mine.yaml").write_text(OWN_RECIPE.replace("shape: [1, 28, 28], ", ""))
    assert fitted("mine.yaml").model["shape"] == [3, 64, 64]


def test_binarized_data_for_a_model_of_other_values_are_refused_before_anything_is_built() -> None:
    with pytest.raises(zoo.ZooError, match=r"WGANGP.*\[0\.0, 1\.0\].*binarize"):
        Fitting(recipe_path("wgan_gp.fashion_mnist"), ["--data.binarize", "true"], Path("x"))


class OwnVAE(VAE):
    """A class of the user, which no card can name."""


def test_a_class_that_cannot_be_saved_is_refused_before_it_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.yaml").write_text(
        RECIPE.replace("lightning_modules.WGANGP", f"{__name__}.OwnVAE").replace(", width: 2, latent_dim: 4", "")
    )
    monkeypatch.setattr(ZooCLI, "fit", lambda self: pytest.fail("it trained"))
    assert "OwnVAE" in fails(["train", "mine.yaml"], capsys)


@pytest.mark.parametrize(
    ("given", "full"),
    [
        (["--data", "ImageFolder"], ["--data", "datamodules.ImageFolder"]),
        (["--data=TextFile"], ["--data=datamodules.TextFile"]),
        (["--data.class_path", "Ring"], ["--data.class_path", "datamodules.Ring"]),
        (["--data.root", "pics"], ["--data.data_dir", "pics"]),
        (["--data.root=pics"], ["--data.data_dir=pics"]),
        (["--data", "mine.Folder", "--model", "Ring"], ["--data", "mine.Folder", "--model", "Ring"]),
    ],
)
def test_data_are_named_in_short(given: list[str], full: list[str]) -> None:
    assert full_names(given) == full


@pytest.mark.parametrize(
    ("start", "data", "former", "name"),
    [
        ("wgan_gp.fashion_mnist", "pics", None, "wgan_gp.pics"),
        ("wgan_gp.fashion_mnist.conditional", "My holiday (2)", None, "wgan_gp.My_holiday_2.conditional"),
        ("someone/vae.x", "pics", "x", "vae.pics"),
        ("tiny", "Ω", None, "tiny.own_data"),
        ("vae.x", "x", "x", "vae.x.fine-tuned"),
        ("a\x1bb.x", "y", None, "a_b.y"),
    ],
)
def test_a_model_is_named_after_its_data(start: str, data: str, former: str | None, name: str) -> None:
    assert name_after(start, data, former) == name


def test_a_run_of_other_data_has_its_own_folder_and_name(
    own: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (own / "tiny.yaml").write_text(RECIPE)
    monkeypatch.setenv("GENERATIVE_ZOO_CACHE", str(own / "cache"))
    monkeypatch.setattr(zoo.cli, "recipes_dir", lambda: own)
    folder = ["--data", "ImageFolder", "--data.root", str(own / "pets")]
    options = ["--data.image_size", "16", "--data.batch_size", "4", "--trainer.limit_val_batches", "0"]
    assert main(["train", str(own / "tiny.yaml"), *folder, *options]) == 0
    card = zoo.card("runs/tiny.pets/zoo")
    assert (card.name, card.data, card.recipe) == ("tiny.pets", "pets", "tiny")
    assert Path("runs/tiny.pets/metrics.csv").is_file()
    assert not Path("runs/tiny").exists()
    assert str(own) not in Path("runs/tiny.pets/zoo/README.md").read_text()
    assert "--data datamodules.ImageFolder --data.data_dir pets" in " ".join(card.overrides)


def test_the_place_of_public_data_is_not_recorded() -> None:
    given = ["--data.data_dir", "/home/me/data", "--model.lr", "1"]
    assert recorded(given, own=False) == ["--model.lr", "1"]
    assert recorded(["--data.path=/home/me/x.txt"], own=True) == ["--data.path=x.txt"]
