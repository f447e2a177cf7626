"""The parts of a sequence network: what does not fit together is refused."""

from typing import Any

import pytest

from lightning_modules import TeacherForcing


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"architecture": "rnn"}, "architecture='rnn'"),
        ({"architecture": "conv_lstm"}, "conv_lstm"),
        ({"output": "rbm"}, "output='rbm' is not one of independent, those of tokens"),
        ({"output": "nade"}, "output='nade' is not one of independent, those of tokens"),
        ({"step_shape": [88], "output": "nade"}, "output='nade' is not one of independent, those of tokens"),
        ({"step_shape": [88], "vocabulary_size": None, "output": "mixture"}, "independent, nade, those of notes"),
        (
            {"architecture": "conv_lstm", "step_shape": [1, 8, 8], "output": "nade"},
            "independent, mixture, those of vid",
        ),
        ({"width": 0}, "width=0"),
        ({"dropout": 1.0}, "dropout=1.0"),
        ({"clip_norm": 0.0}, "clip_norm=0.0"),
        ({"embedding": 0}, "embedding=0"),
        ({"architecture": "conv_lstm", "step_shape": [1, 8, 8], "embedding": 4}, "embedding=4"),
        ({"architecture": "conv_lstm", "step_shape": [1, 7, 8]}, r"\[1, 7, 8\]"),
        ({"architecture": "conv_lstm", "step_shape": [1, 0, 8]}, r"step_shape=\[1, 0, 8\]"),
        ({"architecture": "conv_lstm", "step_shape": [1, 8, 8], "dropout": 0.1}, r"dropout=0\.1.*conv_lstm"),
        ({"architecture": "gru", "context": 8}, "context=8 has no effect without architecture=.transformer."),
        ({"vocabulary_size": None}, r"step_shape=\[\] and vocabulary_size=None"),
        ({"vocabulary_size": 0}, "vocabulary_size=0"),
        ({"step_shape": [88]}, r"step_shape=\[88\] and vocabulary_size=5"),
        ({"step_shape": [88, 2], "vocabulary_size": None}, r"step_shape=\[88, 2\]"),
        ({"step_shape": [0], "vocabulary_size": None}, r"step_shape=\[0\]"),
        ({"step_shape": [-3], "vocabulary_size": None}, r"step_shape=\[-3\]"),
        ({"architecture": "transformer", "width": 7}, "width=7"),
    ],
)
def test_parts_that_do_not_fit_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TeacherForcing(**{"vocabulary_size": 5, "width": 16, **settings})
