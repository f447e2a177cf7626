"""Names of former versions in configs and on the command line."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from zoo.compatibility import current_config, current_file, current_overrides, current_path

WGAN = "lightning_modules.WGAN"


@pytest.mark.parametrize(
    ("former", "current"),
    [
        ("lightning_modules.tracking.Tracking", "lightning_modules.runtime.tracking.Tracking"),
        ("lightning_modules.callbacks.random_states.RandomStates", "lightning_modules.callbacks.RandomStates"),
        ("lightning_modules.callbacks.inception_score.InceptionScore", "lightning_modules.callbacks.InceptionScore"),
        ("lightning_modules.autoregressive.recurrent.TeacherForcing", "lightning_modules.TeacherForcing"),
        ("datamodules.celeba.CelebA", "datamodules.CelebA"),
        ("datamodules.images.FashionMNIST", "datamodules.FashionMNIST"),  # a package today, a module then
        ("datamodules.text.TextFile", "datamodules.TextFile"),
        ("lightning_modules.adversarial.wgan.WGAN", "lightning_modules.adversarial.wgan.WGAN"),
        ("lightning_modules.WGAN", "lightning_modules.WGAN"),
        ("lightning_modules.no.SuchClass", "lightning_modules.no.SuchClass"),
        ("runs/wgan.ckpt", "runs/wgan.ckpt"),
    ],
)  # fmt: skip
def test_former_paths_of_classes(former: str, current: str) -> None:
    assert current_path(former) == current
    assert current_config({"callbacks": [former, {"class_path": former}]}) == {
        "callbacks": [current, {"class_path": current}]
    }


def test_hyperparameters_of_a_second_config_are_those_of_the_recipes_method(tmp_path: Path) -> None:
    second = tmp_path / "second.yaml"
    second.write_text(yaml.safe_dump({"model": {"init_args": {"clip": 0.5}}, "trainer": {"max_steps": 3}}))
    for words in (["--config", str(second)], [f"--config={second}"]):
        path = current_overrides(words, WGAN)[-1].removeprefix("--config=")
        assert yaml.safe_load(Path(path).read_text())["model"] == {"init_args": {"weight_clip": 0.5}}
    assert current_file(second) == str(second)  # without a method nothing is known of its names


@pytest.mark.parametrize(
    ("words", "current"),
    [
        (["--model.clip", "0.5"], ["--model.weight_clip", "0.5"]),
        (["--model.init_args.clip=0.5"], ["--model.init_args.weight_clip=0.5"]),
        (["--model", "lightning_modules.MinimaxGAN", "--model.clip", "1"], None),
        (["--model", '{"class_path": "lightning_modules.WGAN", "init_args": {"clip": 0.5}}'],
         ["--model", '{"class_path": "lightning_modules.WGAN", "init_args": {"weight_clip": 0.5}}']),
        (["--trainer.callbacks+=zoo.announcing.AnnounceMeasures"],
         ["--trainer.callbacks+=lightning_modules.callbacks.AnnounceMetrics"]),
        (["--trainer.callbacks", '["zoo.announcing.AnnounceMeasures"]'],
         ["--trainer.callbacks", '["lightning_modules.callbacks.AnnounceMetrics"]']),
        (["--trainer.logger", "{broken"], None),
        (["--model.lr", "-1e-3"], None),
    ],
)  # fmt: skip
def test_arguments_of_the_command_line(words: list[str], current: Any) -> None:
    assert current_overrides(words, WGAN) == (words if current is None else current)
