"""Metrics of further seeds stand in the card of a checkpoint, if nothing else differs."""

import json
from pathlib import Path
from typing import Any

import pytest

import zoo
from tests.zoo.running import fails
from zoo.__main__ import main
from zoo.cards import CONFIG_FILE, read_card
from zoo.checkpoint_commands import commands, is_done, other_seeds_left
from zoo.errors import ZooError
from zoo.model_card import readme
from zoo.other_seeds import check_other_seed, seed_of, without_seed
from zoo.saving import update_metrics

NAME = "wgan_gp.ring8"


def copied(folder: Path, **changed: Any) -> Path:
    """Copies a checkpoint of the zoo, with other facts in its card."""
    folder.mkdir(parents=True)
    for name in ("model.safetensors", CONFIG_FILE):
        (folder / name).write_bytes((zoo.card(NAME).path / name).read_bytes())
    config = json.loads((folder / CONFIG_FILE).read_text())
    (folder / CONFIG_FILE).write_text(json.dumps(config | changed))
    return folder


@pytest.fixture
def other(tmp_path: Path) -> Path:
    return copied(tmp_path / "other/zoo", overrides=["--seed_everything", "1"], metrics={"val/kl-2500": 0.5})


def test_the_numbers_stand_beside_those_of_the_checkpoint(
    tmp_path: Path, other: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = copied(tmp_path / "own", metrics={"test/kl-2500": 7.0, "val/kl-2500": 0.25})
    main(["evaluate", str(own), "--other-seed", str(other), "--write"])
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["METRIC", "SEED", "1", "CHECKPOINT"]
    (line,) = [line for line in lines if line.startswith("test/kl-2500")]
    assert line.split()[2] == "7"

    found = read_card(own)
    assert found.metrics == {"test/kl-2500": 7.0, "val/kl-2500": 0.25}, "those of the checkpoint itself stay"
    (row,) = found.other_seeds.values()
    assert set(found.other_seeds) == {"1"}
    assert row["val/kl-2500"] == 0.5
    assert row["test/kl-2500"] == pytest.approx(float(line.split()[1]), rel=1e-4)
    assert row["test/kl-2500"] == pytest.approx(zoo.card(NAME).metrics["test/kl-2500"], abs=5e-4)
    text = (own / "README.md").read_text()
    assert "| metric | value | seed 1 |" in text
    assert "| val/kl-2500 | 0.25 | 0.5 |" in text

    update_metrics(own, {"test/modes-2500": 3}, other_seed=1)
    update_metrics(own, {"test/kl-2500": 2.0}, other_seed=2)
    update_metrics(own, {"test/extra": 2.0})
    found = read_card(own)
    assert found.other_seeds["1"] == {**row, "test/modes-2500": 3.0}
    assert found.other_seeds["2"] == {"test/kl-2500": 2.0}
    assert "| test/extra | 2 |  |  |" in readme(found)


def test_cards_without_other_seeds_stay_as_they_are() -> None:
    card = zoo.card(NAME)
    assert card.other_seeds == {}
    assert "other_seeds" not in card.to_json()
    assert "| metric | value |\n" in readme(card)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({}, r"has the seed 0 of wgan_gp.ring8 itself"),
        ({"overrides": ["--seed_everything=0"]}, r"has the seed 0 of"),
        ({"overrides": ["--seed_everything", "1", "--model.lr", "1"]}, r"arguments is \['--model.lr', '1'\] in place"),
        ({"overrides": ["--seed_everything", "true"]}, "'true', which is no whole number"),
        ({"recipe": "wgan_gp.grid25"}, "recipe is 'wgan_gp.grid25' in place of 'wgan_gp.ring8'"),
        ({"recipe": None}, "recipe is None"),
        ({"planned_batches": 7}, "planned_batches is 7 in place of 40000"),
        ({"method": "WGAN"}, "it is a WGAN"),
        ({"data_spec": {**zoo.card(NAME).data_spec, "name": "grid25"}}, "data is 'grid25' in place of 'ring8'"),
        ({"hyperparameters": {**zoo.card(NAME).hyperparameters, "lr": 1.0}}, "lr is 1.0 in place of 0.0005"),
        ({"hyperparameters": {**zoo.card(NAME).hyperparameters, "accumulate_batches": 2}}, "accumulate_batches is 2"),
    ],
)
def test_whatever_differs_by_more_than_the_seed_is_refused(
    tmp_path: Path, changed: dict[str, Any], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copied(tmp_path / "run", **changed)
    with pytest.raises(ZooError, match=named):
        check_other_seed(zoo.card(NAME), read_card(folder))
    before = zoo.card(NAME).to_json()
    assert named.split()[-1].strip("'") in fails(["evaluate", NAME, "--other-seed", str(folder), "--write"], capsys)
    assert zoo.card(NAME).to_json() == before


def test_what_a_former_version_did_not_write_is_not_compared(tmp_path: Path) -> None:
    """Hyperparameters that a method has got since have their defaults in its checkpoints."""
    later = {**zoo.card(NAME).hyperparameters, "accumulate_batches": 1}
    seed = {"overrides": ["--seed_everything", "1"]}
    assert "accumulate_batches" not in zoo.card(NAME).hyperparameters
    run = read_card(copied(tmp_path / "run", hyperparameters=later, precision="32-true", **seed))
    assert check_other_seed(zoo.card(NAME), run) == 1
    written = read_card(copied(tmp_path / "own", precision="bf16-mixed"))
    with pytest.raises(ZooError, match="precision is '32-true' in place of 'bf16-mixed'"):
        check_other_seed(written, run)


def test_a_checkpoint_without_a_recipe_has_no_known_seed(tmp_path: Path) -> None:
    with pytest.raises(ZooError, match="was not trained by a recipe"):
        seed_of(read_card(copied(tmp_path / "run", recipe=None)))


def test_a_strangers_method_is_named(tmp_path: Path) -> None:
    own, run = (read_card(copied(tmp_path / name, method="Nonsense")) for name in ("own", "run"))
    with pytest.raises(ZooError, match="the method 'Nonsense', which is unknown"):
        check_other_seed(own, run)


def test_the_seed_is_taken_out_of_the_arguments() -> None:
    assert without_seed(["--a", "1", "--seed_everything", "3", "--b=2"]) == (("--a", "1", "--b=2"), "3")
    assert without_seed(["--seed_everything=4"]) == ((), "4")
    assert without_seed([]) == ((), None)


@pytest.mark.parametrize("rows", [[], {"1": 3}, {"1": {"a": "b"}}, {"1": {"a": True}}])
def test_a_damaged_card_is_refused(tmp_path: Path, rows: Any) -> None:
    with pytest.raises(ZooError, match="other_seeds"):
        read_card(copied(tmp_path / "run", other_seeds=rows))


def test_a_second_seed_is_trained_once(tmp_path: Path, other: Path) -> None:
    target = copied(Path("new"))
    assert is_done(target)
    assert not is_done(target, seeds=2)
    assert other_seeds_left(target, 3) == [1, 2]

    def said(seeds: int) -> list[str]:
        return [" ".join(words) for words in commands(NAME, target, seeds)]

    assert said(1) == []
    run = f"runs/{NAME}.seed-1"
    quiet = "--trainer.enable_progress_bar false"
    train = f"zoo train {NAME} {quiet} --seed_everything 1 --trainer.default_root_dir {run}"
    measure = f"zoo evaluate new --other-seed {run}/zoo --write"
    assert said(2) == [train, measure]
    (Path(run) / "checkpoints").mkdir(parents=True)
    (Path(run) / "checkpoints/last.ckpt").touch()
    recipe = zoo.paths.recipe_path(NAME).read_text()
    (Path(run) / "config.yaml").write_text(recipe)
    assert said(2) == [train, measure], "that run has another seed"
    (Path(run) / "config.yaml").write_text(recipe.replace("seed_everything: 0", "seed_everything: 1"))
    assert said(2) == [f"zoo resume {run} {quiet}", measure]
    other.rename(Path(run) / "zoo")
    assert said(2) == [measure]
    update_metrics(target, {"test/kl-2500": 1.0}, other_seed=1)
    assert said(2) == []
    assert is_done(target, seeds=2)
