"""Models of one's own files: trained by a command, named after their data, evaluated, primed and drawn."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import zoo
import zoo.data_record
from datamodules import DATAMODULES, ImageFolder, TextFile
from lightning_modules import SNGAN, VAE, Classifier, TeacherForcing
from tests.datamodules.small_data import POEM, image_folder
from tests.datamodules.small_emoji import captioned_folder
from tests.standins import quiet_trainer
from tests.zoo.damage import edit_config
from tests.zoo.running import fails
from zoo.__main__ import main
from zoo.data import datamodule_of
from zoo.data_record import record_of, remembered

TEXT_RECIPE = """
model:
  class_path: lightning_modules.TeacherForcing
  init_args: {length: 60, vocabulary_size: 65, architecture: lstm, width: 4, num_layers: 1}
data:
  class_path: datamodules.TinyShakespeare
  init_args: {window: 8, batch_size: 4}
trainer: {accelerator: cpu, max_steps: 2, enable_progress_bar: false, logger: false, limit_val_batches: 0}
"""
IMAGE_RECIPE = """
model:
  class_path: lightning_modules.VAE
  init_args: {shape: [1, 28, 28], likelihood: bernoulli, architecture: mlp, hidden: 4, latent_dim: 2, depth: 1}
data:
  class_path: datamodules.FashionMNIST
  init_args: {batch_size: 4, binarize: true}
trainer: {accelerator: cpu, max_steps: 2, enable_progress_bar: false, logger: false, limit_val_batches: 0}
"""
pytestmark = pytest.mark.filterwarnings(
    "ignore:(Samples were not compared|Exposure bias was not|Windows were not|.*logging interval)"
)


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model of a text and a model of a folder of images, trained by the command."""
    folder = tmp_path_factory.mktemp("own")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("GENERATIVE_ZOO_CACHE", str(folder / "cache"))
        image_folder(folder / "pets")
        Path("poem.txt").write_text(POEM * 4)
        Path("text.some.yaml").write_text(TEXT_RECIPE)
        Path("vae.some.yaml").write_text(IMAGE_RECIPE)
        assert main(["train", "text.some.yaml", "--data", "TextFile", "--data.path", "poem.txt"]) == 0
        arguments = ["--data", "ImageFolder", "--data.data_dir", "pets", "--data.image_size", "8"]
        assert main(["train", "vae.some.yaml", *arguments]) == 0
    return folder


@pytest.fixture
def trained(trained_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, which the test may change; the data are remembered to lie where they lay in training."""
    for name in ("pets", "poem.txt", "runs"):
        source, target = trained_once / name, tmp_path / name
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    monkeypatch.setenv("GENERATIVE_ZOO_CACHE", str(tmp_path / "cache"))
    for data in (ImageFolder("pets"), TextFile("poem.txt")):
        record_of(data)
    return tmp_path


TEXT, IMAGES = "runs/text.poem/zoo", "runs/vae.pets/zoo"


def test_models_are_named_after_their_data(trained: Path) -> None:
    assert (zoo.card(TEXT).name, zoo.card(TEXT).data) == ("text.poem", "poem")
    assert (zoo.card(IMAGES).name, zoo.card(IMAGES).data) == ("vae.pets", "pets")
    assert zoo.card(IMAGES).hyperparameters["shape"] == [3, 8, 8]
    assert zoo.card(TEXT).hyperparameters["vocabulary_size"] == len(set(POEM))


@pytest.mark.parametrize("name", [TEXT, IMAGES])
def test_no_path_of_the_user_is_in_a_checkpoint(name: str, trained_once: Path) -> None:
    for path in (trained_once / name).iterdir():
        assert str(trained_once).encode() not in path.read_bytes(), path.name


@pytest.mark.parametrize(
    ("arguments", "result"),
    [
        (["evaluate", TEXT], "test/nats_per_step-exact"),
        (["evaluate", IMAGES], "test/nll"),
        (["sample", TEXT, "--prime", "3", "--num", "2", "--length", "4"], "text.poem.txt"),
        (["sample", TEXT, "--prefix", "Who", "--num", "1", "--length", "4"], "Who"),
        (["draw", IMAGES, "reconstructions", "--num", "2"], "vae.pets.reconstructions.png"),
        (["draw", TEXT, "continuation", "--num", "2"], "text.poem.continuation.png"),
    ],
)
def test_commands_find_the_data_of_training(
    arguments: list[str], result: str, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if "continuation" in arguments:
        config = json.loads((trained / TEXT / "config.json").read_text())["datamodule"]
        config["arguments"]["window"] = 100  # longer than the prefix of the view
        edit_config(trained / TEXT, datamodule=config)
    assert main(arguments) == 0
    assert result in capsys.readouterr().out


def test_the_splits_of_training_are_found_again(trained: Path) -> None:
    datamodule = datamodule_of(zoo.card(IMAGES))
    own = ImageFolder("pets", image_size=8, batch_size=4, binarize=True)
    for split in ("train", "val", "test"):
        assert datamodule.images(split)[0].equal(own.images(split)[0])
    assert datamodule_of(zoo.card(TEXT)).text("test") == TextFile("poem.txt", window=8).text("test")


@pytest.mark.parametrize(("name", "data"), [(TEXT, "poem.txt"), (IMAGES, "pets")])
@pytest.mark.parametrize("option", ["--data-dir", "--data"])
def test_data_that_have_moved_are_asked_for_and_named(
    name: str, data: str, option: str, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (trained / "elsewhere").mkdir()
    shutil.move(trained / data, trained / "elsewhere" / data)
    error = fails(["evaluate", name], capsys)
    assert "--data-dir" in error
    assert data in error
    assert main(["evaluate", name, option, f"elsewhere/{data}"]) == 0
    assert "test/" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "data"), [(TEXT, "poem.txt"), (IMAGES, "pets")])
def test_data_that_have_changed_are_not_taken_for_those_of_training(
    name: str, data: str, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if data == "pets":
        (trained / "pets/cat/00.png").unlink()
    else:
        (trained / data).write_text(POEM)
    error = fails(["evaluate", name], capsys)
    assert "changed" in error
    assert "--data-dir" in error
    with pytest.warns(UserWarning, match="other data"):
        assert main(["evaluate", name, "--data-dir", data]) == 0


def test_the_model_card_says_how_the_data_were_read(trained: Path) -> None:
    (line,) = (line for line in (trained / IMAGES / "README.md").read_text().splitlines() if "Datamodule" in line)
    assert "ImageFolder" in line
    assert '"image_size": 8' in line


@pytest.mark.parametrize("name", [TEXT, IMAGES])
def test_another_machine_asks_for_the_data(
    name: str, trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GENERATIVE_ZOO_CACHE", "other")
    for command in (["evaluate", name], ["draw", IMAGES, "reconstructions"], ["sample", TEXT, "--prime", "3"]):
        assert "--data-dir" in fails(command, capsys)


def test_other_texts_are_read_in_the_vocabulary_of_training(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (trained / "other.txt").write_text("more which is it?\n".replace("?", ",") * 60)
    with pytest.warns(UserWarning, match="other data"):
        assert main(["evaluate", TEXT, "--data-dir", "other.txt"]) == 0
    (trained / "other.txt").write_text("Ω" * 400)
    capsys.readouterr()
    with pytest.warns(UserWarning, match="other data"):
        assert "U+03A9" in fails(["evaluate", TEXT, "--data-dir", "other.txt"], capsys)


def test_cards_of_former_versions_take_their_data_from_the_user(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, data in ((TEXT, "poem.txt"), (IMAGES, "pets")):
        edit_config(trained / name, datamodule=None)
        assert "--data-dir" in fails(["evaluate", name], capsys)
        assert main(["evaluate", name, "--data-dir", data]) == 0


def test_what_python_saves_is_found_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lightning.pytorch import Trainer

    monkeypatch.setenv("GENERATIVE_ZOO_CACHE", str(tmp_path / "cache"))
    (tmp_path / "poem.txt").write_text(POEM)
    data = TextFile("poem.txt", window=8, batch_size=4)
    module = TeacherForcing.for_data(data.spec, width=4, num_layers=1)
    trainer = Trainer(max_steps=1, accelerator="cpu", logger=False, enable_checkpointing=False, limit_val_batches=0)
    trainer.fit(module, data)
    zoo.save(module, tmp_path / "poems")
    assert datamodule_of(zoo.card("./poems")).text("val") == data.text("val")


@pytest.mark.parametrize(("name", "data", "kind"), [(TEXT, "poem.txt", "TextFile"), (IMAGES, "pets", "ImageFolder")])
def test_exported_training_checkpoints_ask_for_their_data(
    name: str, data: str, kind: str, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (ckpt,) = (trained / name).parent.rglob("*.ckpt")
    assert main(["export", str(ckpt), "exported"]) == 0
    record = zoo.card("./exported").datamodule
    assert record is not None
    assert (record["class"], record["digest"]) == (kind, None)
    assert {"data_dir", "path"} & set(record["arguments"]) == set()
    assert "--data-dir" in fails(["evaluate", "./exported"], capsys)
    assert main(["evaluate", "./exported", "--data-dir", data]) == 0


@pytest.mark.parametrize("name", sorted(DATAMODULES))
def test_every_datamodule_is_described_without_the_place_of_its_data(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GENERATIVE_ZOO_CACHE", str(tmp_path / "cache"))
    captioned_folder(tmp_path / "pets")
    (tmp_path / "poem.txt").write_text(POEM)
    folder = {"data_dir": str(tmp_path / "pets")}
    places = {
        "ImageFolder": folder,
        "CaptionedFolder": folder,
        "SingleImage": {"path": str(tmp_path / "pets/cat/00.png")},
        "TextFile": {"path": str(tmp_path / "poem.txt")},
    }
    data = DATAMODULES[name](**{**places.get(name, {}), "seed": 3})
    record = record_of(data)
    assert record is not None
    assert str(tmp_path) not in json.dumps(record)
    assert (record["digest"] is not None) == (name in places)
    card = zoo.Card("x", Path(), "VAE", {}, "", data.spec.to_json(), datamodule=json.loads(json.dumps(record)))
    again = datamodule_of(card)
    assert type(again) is type(data)
    assert again.seed == 3
    assert again.spec == data.spec


@pytest.mark.filterwarnings("ignore:FID of")
def test_samples_are_compared_with_few_images_of_ones_own(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    zoo.save(Classifier.for_data(ImageFolder("pets", image_size=8, binarize=False).spec, width=2), "classifier")
    with pytest.warns(UserWarning, match="Precision"):
        assert main(["evaluate", IMAGES, "--extractor", "./classifier", "--num-samples", "20"]) == 0
    measured = capsys.readouterr().out
    assert "test/fid-pets_binarized-20" in measured
    assert "precision" not in measured


# Views


@pytest.fixture
def gan(trained: Path) -> Path:
    """A GAN that was trained on all images of a folder, and a classifier of them."""
    data = ImageFolder("pets", image_size=8, batch_size=8, val_size=0, test_size=0)
    torch.manual_seed(0)
    zoo.save(Classifier.for_data(data.spec, width=2), "classifier")
    module, trainer = SNGAN.for_data(data.spec, width=2, latent_dim=2), quiet_trainer(limit_val_batches=0)
    trainer.fit(module, data)
    zoo.save(module, "gan", trainer=trainer, samples=False)
    return trained


def test_images_of_training_are_not_shown_as_held_out(gan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.warns(UserWarning, match="gan was trained on all of its images: none of these is held out"):
        assert main(["draw", "./gan", "inversion", "--num", "2"]) == 0
    refused = fails(["draw", "./gan", "neighbours", "--extractor", "./classifier"], capsys)
    assert "gan was trained on all of its images" in refused


def test_neighbours_of_images_of_ones_own_are_found_by_an_extractor_that_is_named(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    zoo.save(Classifier.for_data(ImageFolder("pets", image_size=8, binarize=False).spec, width=2), "classifier")
    assert "--extractor" in fails(["draw", IMAGES, "neighbours"], capsys)
    assert main(["draw", IMAGES, "neighbours", "--num", "2", "--extractor", "./classifier"]) == 0
    with pytest.raises(SystemExit, match="2"):
        main(["draw", IMAGES, "reconstructions", "--extractor", "./classifier"])
    assert "compares no features: leave out --extractor" in capsys.readouterr().err


def test_fewer_test_images_than_were_asked_for_are_said(trained: Path) -> None:
    found = len(datamodule_of(zoo.card(IMAGES)).images("test")[0])
    with pytest.warns(UserWarning, match=f"There are {found} test examples, not 1000: these are shown"):
        assert main(["draw", IMAGES, "reconstructions", "--num", "1000"]) == 0


# Cards of strangers


def stranger(folder: Path, **record: Any) -> Path:
    config = json.loads((folder / "config.json").read_text())["datamodule"]
    edit_config(folder, datamodule=config | record)
    return folder


SECRET = {"path": "secret.txt"}


@pytest.mark.parametrize(
    ("record", "named"),
    [
        ({"arguments": SECRET}, "path"),
        ({"class": "ImageFolder", "arguments": {"data_dir": "/"}}, "data_dir"),
        ({"class": "TinyShakespeare", "arguments": {"data_dir": "/"}}, "data_dir"),
        ({"class": "os.system", "arguments": {"command": "touch ran"}}, "os.system"),
        ({"class": "ZooDataModule", "arguments": {}}, "ZooDataModule"),
        ({"class": "FashionMNIST", "arguments": {"colour": "red"}}, "colour"),
        ({"class": "FashionMNIST", "arguments": {"image_size": "big"}}, "FashionMNIST"),
        ({"class": "Ring", "arguments": {"num_modes": 10**9}}, "num_modes"),
        ({"class": "Grid", "arguments": {"side": 2000}}, "side"),
        ({"class": "SyntheticImages", "arguments": {"size": 10**12}}, "size"),
        ({"class": "SyntheticImages", "arguments": {"shape": [1, 10**9, 10**9]}}, "shape"),
        ({"class": "MarkovSource", "arguments": {"train_size": 2**21, "length": 1000}}, "numbers"),
        ({"digest": "../../../etc/passwd"}, "digest"),
        ({"digest": 3}, "datamodule"),
        ({"class": 3}, "datamodule"),
        ({"arguments": []}, "datamodule"),
    ],
)
def test_a_strangers_card_reads_no_file_and_runs_nothing(
    record: dict[str, Any],
    named: str,
    trained: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(ImageFolder, "digest", lambda self: pytest.fail("it read files"))
    monkeypatch.setattr(TextFile, "digest", lambda self: pytest.fail("it read files"))
    (trained / "secret.txt").write_text(POEM)
    folder = stranger(trained / TEXT, **record)
    assert named in fails(["sample", str(folder), "--prime", "3"], capsys)
    assert not Path("ran").exists()


def test_a_digest_that_this_user_never_trained_on_opens_nothing(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (trained / "secret.txt").write_text("secret " * 100)
    digest = TextFile("secret.txt").digest()
    assert remembered(digest) is None
    folder = stranger(trained / TEXT, digest=digest)
    assert "--data-dir" in fails(["sample", str(folder), "--prime", "3"], capsys)


def test_data_that_are_not_read_from_files_take_no_folder(tmp_path: Path) -> None:
    record = {"class": "Ring", "arguments": {}, "digest": None}
    card = zoo.Card("x", Path(), "WGANGP", {}, "", {"name": "ring8", "kind": "points", "shape": [2]}, datamodule=record)
    with pytest.raises(zoo.ZooError, match="Ring.*--data-dir"):
        datamodule_of(card, str(tmp_path))


def test_other_classes_than_those_of_a_conditional_model_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GENERATIVE_ZOO_CACHE", str(tmp_path / "cache"))
    data = ImageFolder(str(image_folder(tmp_path / "pets")), image_size=8)
    values = {"num_classes": 3}
    card = zoo.Card("x", Path(), "VAE", values, "", data.spec.to_json(), datamodule=record_of(data))
    assert datamodule_of(card).spec.class_names == ("cat", "dog", "owl")
    image_folder(tmp_path / "toys")
    (tmp_path / "toys/owl").rename(tmp_path / "toys/train")
    with (
        pytest.warns(UserWarning, match="other data"),
        pytest.raises(zoo.ZooError, match=r"cat, dog, owl.*cat, dog, train"),
    ):
        datamodule_of(card, str(tmp_path / "toys"))


def test_former_readers_read_the_config(trained: Path) -> None:
    """The format is the same: there are more keys, which they do not look at."""
    config = json.loads((trained / IMAGES / "config.json").read_text())
    assert config["format_version"] == 1
    assert zoo.load(IMAGES, VAE).data_spec.name == "pets"
    former = Path(__file__).parents[1] / "compatibility/fixtures/zoo/VAE/config.json"
    added = set(config) - set(json.loads(former.read_text()))
    assert added == {"datamodule", "precision", "hardware", "planned_batches"}
