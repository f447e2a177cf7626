"""What every sequence datamodule promises about its arguments and its spec."""

import json
from pathlib import Path

import pytest

from datamodules import DATAMODULES, DataSpec

SEQUENCES = [
    *("TextFile", "TinyShakespeare", "JSBChorales", "Nottingham"),
    *("PixelSequence", "Strokes", "MarkovSource", "MovingFashionMNIST"),
]


@pytest.mark.parametrize("name", SEQUENCES)
def test_arguments_and_spec_are_json_values_and_rebuild_the_datamodule(name: str) -> None:
    Path("some.txt").write_text("some text")
    given = {"path": "some.txt"} if name == "TextFile" else {}
    data = DATAMODULES[name](**given)
    arguments = json.loads(json.dumps(dict(data.hparams)))
    again = DATAMODULES[name](**arguments)
    assert dict(again.hparams) == dict(data.hparams)
    assert again.spec == data.spec == DataSpec.from_json(json.loads(json.dumps(data.spec.to_json())))


@pytest.mark.parametrize("name", SEQUENCES)
@pytest.mark.parametrize(("argument", "value"), [("batch_size", 0), ("batch_size", -1), ("seed", -1)])
def test_arguments_out_of_range_are_refused(name: str, argument: str, value: int) -> None:
    given = {"path": "some.txt"} if name == "TextFile" else {}
    with pytest.raises(ValueError, match=rf"{argument}={value}\b"):
        DATAMODULES[name](**given, **{argument: value})
