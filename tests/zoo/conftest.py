"""Checkpoints of a tiny method, registered for the duration of a test, and of a tiny recipe; a tiny study."""

import shutil
import subprocess
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor

import lightning_modules
import zoo
import zoo.data
from datamodules import DATAMODULES, Emoji, Ring
from datamodules.images.synthetic import SyntheticImages
from datamodules.spec import DataSpec
from lightning_modules import WGANGP, Classifier
from lightning_modules.callbacks.ema import EMA
from lightning_modules.metrics.reference_statistics import ship_statistics
from tests.datamodules.small_data import small
from tests.zoo.running import RECIPE, run
from tests.zoo.sequence_checkpoints import LETTERS, SPECS, built
from tests.zoo.tiny import TinyGAN
from tests.zoo.tiny_study import SOURCE

if TYPE_CHECKING:
    from zoo.studies.study import Study

SPEC = DataSpec("tiny_images", "image", (1, 8, 8), value_range=(-1.0, 1.0))


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(lightning_modules.METHODS, "TinyGAN", TinyGAN)


@pytest.fixture
def module(registered: None) -> TinyGAN:
    module = TinyGAN()
    module.data_spec = SPEC
    module.generator(torch.randn(16, 4))  # batch statistics and power iterations leave their first values
    module.discriminator(torch.randn(16, 1, 8, 8))
    return module


@pytest.fixture
def averaging(module: TinyGAN) -> Trainer:
    """A trainer whose EMA callback averaged weights that the module has left since."""
    ema = EMA()
    trainer = Trainer(callbacks=[ema], logger=False, enable_checkpointing=False, accelerator="cpu")
    ema.averaged_state_dict(module)
    with torch.no_grad():
        for parameter in module.generator.parameters():
            parameter.add_(1.0)
    return trainer


@pytest.fixture(scope="session")
def saved_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(lightning_modules.METHODS, "TinyGAN", TinyGAN)
        module = TinyGAN()
        module.data_spec = SPEC
        folder = tmp_path_factory.mktemp("saved") / "tiny"
        zoo.save(module, folder, metrics={"test/fid-tiny-10k": 12.5})
    return folder


@pytest.fixture
def checkpoint(saved_once: Path, tmp_path: Path, registered: None) -> Path:
    """The folder of a saved checkpoint, which the test may damage."""
    return Path(shutil.copytree(saved_once, tmp_path / "tiny"))


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a tiny recipe was trained by the command."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "tiny.yaml").write_text(RECIPE)
    done = run(folder, "train", "tiny.yaml", "--model.lr", "1e-3", "--trainer.limit_val_batches", "0")
    assert "runs/tiny/zoo" in done.stdout
    return folder


class Named(SyntheticImages):
    """Synthetic images that a datamodule is found for by their name."""

    name = "synthetic"

    def __init__(self) -> None:
        super().__init__(num_classes=4, size=64, val_size=16, test_size=50)


@pytest.fixture
def named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[Named]:
    """Registers the datamodule of the synthetic images, with a cache of statistics of its own."""
    monkeypatch.setitem(DATAMODULES, "Named", Named)
    monkeypatch.setenv("GENERATIVE_ZOO_CACHE", str(tmp_path / "cache"))
    return Named


@pytest.fixture(scope="session")
def classified(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of the synthetic images, with statistics of real ones beside it."""
    folder = tmp_path_factory.mktemp("classifier") / "classifier.synthetic"
    data = SyntheticImages(num_classes=4, size=64, val_size=16, test_size=64)
    torch.manual_seed(0)
    zoo.save(Classifier.for_data(data.spec, width=2), folder)
    ship_statistics(zoo.load_classifier(str(folder)), data, "test", folder / "statistics")
    return folder


@pytest.fixture
def classifier(classified: Path, tmp_path: Path) -> Path:
    """A copy of the classifier's folder, which the test may change."""
    return Path(shutil.copytree(classified, tmp_path / "classifiers" / "classifier.synthetic"))


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a checkpoint of every kind of sequence, and of a GAN."""
    folder = tmp_path_factory.mktemp("sequences")
    for kind in SPECS:
        zoo.save(built(kind), folder / kind)
    torch.manual_seed(0)
    zoo.save(WGANGP.for_data(Ring().spec, width=8), folder / "ring")
    return folder


@pytest.fixture
def held_out(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[Tensor, Tensor]]:
    """Held-out examples of every kind, in place of those of a datamodule."""
    generator = torch.Generator().manual_seed(1)
    rolls = (torch.rand(9, 24, 88, generator=generator) < 0.1).float()
    pen = torch.randn(9, 10, 3, generator=generator)
    pen[..., 2] = (pen[..., 2] > 1).float()
    examples = {
        "letters": torch.randint(len(LETTERS), (9, 12), generator=generator),
        "bits": torch.randint(2, (9, 16), generator=generator),
        "nottingham": rolls,
        "pen": pen,
        "clips": torch.randint(256, (9, 6, 1, 8, 8), generator=generator) / 255,
    }
    lengths = torch.tensor([2, 3, 6, 6, 6, 6, 6, 6, 6])
    sequences = {name: (x, lengths) for name, x in examples.items()}

    class Data:
        def __init__(self, name: str) -> None:
            self.name = name

        def sequences(self, split: str) -> tuple[Tensor, Tensor]:
            assert split == "test"
            return sequences[self.name]

    monkeypatch.setattr(zoo.data, "datamodule_of", lambda card, data_dir=None: Data(card.data))
    return sequences


@pytest.fixture
def emoji(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Emoji:
    """Small emoji of 16 pixels with captions and attributes, of which compositions are held out."""
    data = small("Emoji", tmp_path / "small", monkeypatch, split="composition", val_size=4, with_attributes=True)
    assert isinstance(data, Emoji)
    data.setup()
    return data


@pytest.fixture
def even(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "Study":
    """A study of its own, the only one, in a file that the test may change."""
    from zoo.studies import study_results  # imports matplotlib, which most tests do not need

    path = tmp_path / "zoo" / "studies" / "even.py"
    path.parent.mkdir(parents=True)
    path.write_text(SOURCE)
    spec = spec_from_file_location("even", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(study_results, "MODULES", {"even": "even"})
    monkeypatch.setattr(study_results, "study_of", lambda name: module.even)
    return module.even


@pytest.fixture
def git(even: "Study", tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Git in a checkout whose only file is the study; the zoo is taken to be there."""
    from zoo.studies import study_results

    def run_git(*words: str) -> str:
        settings = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
        done = subprocess.run(["git", "-C", str(tmp_path), *settings, *words], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    monkeypatch.setattr(study_results, "PACKAGE", tmp_path.resolve() / "zoo")
    monkeypatch.setattr(study_results, "RESULTS", tmp_path.resolve() / "zoo" / "studies" / "results")
    run_git("init", "--quiet")
    return run_git
