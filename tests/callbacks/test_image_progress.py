"""The image that is optimized is seen while it comes about."""

from pathlib import Path

import pytest
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger
from PIL import Image

from datamodules import SyntheticImages
from lightning_modules import VAE
from lightning_modules.callbacks.image_progress import Frames, OptimizedImage, rendered
from tests.image.small_images import data_of, fit, method


class Logger(CSVLogger):
    """Keeps the images that it is given."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.images: list[tuple[str, int, Image.Image]] = []

    def log_image(self, key: str, images: list[Image.Image], step: int) -> None:
        self.images.append((key, step, images[0]))


def test_images_are_logged_and_written(tmp_path: Path) -> None:
    data = data_of(tmp_path, "StyleTransfer")
    module, logger = method("StyleTransfer", data), Logger(tmp_path / "log")
    Trainer(
        max_steps=5,
        accelerator="cpu",
        logger=logger,
        callbacks=[OptimizedImage(every_n_batches=2)],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(module, data)
    assert [(key, step) for key, step, _ in logger.images] == [("image", 2), ("image", 4)]
    files = sorted(Path(logger.log_dir).glob("image/*.png"))
    assert [file.name for file in files] == ["step-00000002.png", "step-00000004.png"]
    assert Image.open(files[1]).tobytes() == logger.images[1][2].tobytes()
    assert logger.images[0][2].size == (32, 32)


def test_frames_are_thinned_out_as_the_run_goes_on(tmp_path: Path) -> None:
    data = data_of(tmp_path, "DeepImagePrior")
    module, frames = method("DeepImagePrior", data), Frames(most=3, longest=16)
    fit(module, data, 20, callbacks=[frames])
    assert frames.every_n_batches == 4
    assert len(frames.frames) == 5
    assert {frame.size for frame in frames.frames} == {(16, 16)}
    assert frames.frames[-1].tobytes() == rendered(module, 16).tobytes()


def test_the_last_frame_is_the_result(tmp_path: Path) -> None:
    data = data_of(tmp_path, "DeepImagePrior")
    module, frames = method("DeepImagePrior", data), Frames(most=2)
    fit(module, data, 7, callbacks=[frames])
    assert frames.every_n_batches == 2
    assert len(frames.frames) == 4
    assert frames.frames[-1].tobytes() == rendered(module).tobytes()


@pytest.mark.parametrize("callback", [OptimizedImage(), Frames()])
def test_modules_whose_result_is_no_image_are_refused(callback: OptimizedImage | Frames) -> None:
    data = SyntheticImages(size=16, val_size=4, test_size=4, batch_size=4)
    with pytest.raises(TypeError, match=f"{type(callback).__name__} needs VAE.image"):
        fit(VAE.for_data(data.spec, width=2), data, 1, callbacks=[callback])  # type: ignore[arg-type]


def test_a_number_of_batches_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="every_n_batches=0"):
        OptimizedImage(0)
