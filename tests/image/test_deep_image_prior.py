"""Deep image prior: hidden pixels have no gradient, A is the reduction of the data, and the fit is stopped in time."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from PIL import Image, ImageDraw, ImageFilter

from datamodules import SingleImage
from datamodules.spec import Batch
from lightning_modules import DeepImagePrior
from lightning_modules.image.variance_stopping import LEVELS, VarianceStopping
from tests.image.small_images import data_of, fit, method


def batch_of(data: SingleImage) -> Batch:
    data.setup("fit")
    return next(iter(data.train_dataloader()))


def with_hole(folder: Path) -> str:
    mask = Image.new("L", (32, 32), 255)
    mask.paste(0, (10, 12, 22, 20))
    mask.save(folder / "mask.png")
    return str(folder / "mask.png")


def test_masked_pixels_have_no_gradient(tmp_path: Path) -> None:
    data = data_of(tmp_path, "DeepImagePrior", mask=with_hole(tmp_path))
    batch, module = batch_of(data), method("DeepImagePrior", data)
    assert isinstance(module, DeepImagePrior)
    assert batch.mask is not None
    y = torch.zeros(1, 3, 32, 32, requires_grad=True)
    (gradient,) = torch.autograd.grad(module.reconstruction_loss(y, batch), y)
    hidden = (batch.mask == 0).expand_as(y)
    assert not gradient[hidden].any()
    torch.testing.assert_close(gradient[~hidden], -2 * batch.x[~hidden] / (~hidden).sum())


def test_the_loss_is_zero_at_the_target_for_every_damage(tmp_path: Path) -> None:
    masked = data_of(tmp_path, "DeepImagePrior", mask=with_hole(tmp_path))
    blurred = Image.open(tmp_path / "image.png").filter(ImageFilter.GaussianBlur(3))  # else overshoots are clipped
    blurred.save(tmp_path / "blurred.png")
    reduced = SingleImage(str(tmp_path / "blurred.png"), scale=2)
    for data, settings in ((masked, {}), (reduced, {"scale": 2, "depth": 1})):
        module, batch = method("DeepImagePrior", data, **settings), batch_of(data)
        assert isinstance(module, DeepImagePrior)
        assert batch.target is not None
        # Images have 256 levels, and Pillow rounds after rows and after columns.
        assert float(module.reconstruction_loss(batch.target, batch)) <= (2 * 0.5 / 127.5) ** 2
        assert float(module.reconstruction_loss(-batch.target, batch)) > 0.01


class Quality(Callback):
    """Notes the PSNR of each output's running average, and of the damaged image."""

    def __init__(self) -> None:
        self.psnr: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self.psnr.append(float(pl_module.last_losses["psnr"]))  # type: ignore[index]


def test_psnr_rises_above_the_noisy_image_and_falls_again(tmp_path: Path) -> None:
    torch.manual_seed(0)
    image = Image.new("RGB", (48, 48), (60, 90, 150))
    draw = ImageDraw.Draw(image)
    draw.ellipse([6, 8, 34, 36], fill=(220, 180, 60))
    draw.rectangle([26, 24, 44, 44], fill=(170, 40, 50))
    image.save(tmp_path / "shapes.png")
    data = SingleImage(str(tmp_path / "shapes.png"), noise=50, steps_per_epoch=100)
    batch = batch_of(data)
    module = DeepImagePrior.for_data(
        data.spec, width=16, depth=3, input_noise=0.0, average_decay=0.8, window=20, patience=10_000
    )
    noisy = float(module.quality(batch.x, batch)["psnr"])
    quality = Quality()
    fit(module, data, 250, callbacks=[quality], limit_val_batches=0)
    assert max(quality.psnr) > noisy + 5
    assert quality.psnr[-1] < max(quality.psnr) - 4
    assert module.stopping is not None
    assert float(module.quality(module.image(), batch)["psnr"]) > noisy + 5  # chosen without the truth
    assert f"step {int(module.stopping.chosen_step)} of 250" in module.stopping.report()


def test_a_run_ends_when_the_variance_has_not_fallen(tmp_path: Path) -> None:
    data = data_of(tmp_path, "DeepImagePrior", noise=25.0)
    module = method("DeepImagePrior", data, lr=0.05, window=2, patience=3)
    trainer = fit(module, data, 400)
    assert isinstance(module, DeepImagePrior)
    assert module.stopping is not None
    assert trainer.global_step < 400
    assert int(module.stopping.steps) - int(module.stopping.chosen_step) == 3


def test_the_variance_is_that_of_the_window() -> None:
    outputs = torch.rand(9, 1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    outputs[5:8] = outputs[5] + 0.01 * outputs[5:8]
    outputs = (outputs * LEVELS).round() / LEVELS  # what it keeps, so that nothing is rounded
    stopping = VarianceStopping((1, 3, 4, 4), window=3, patience=1)
    variances = []
    for number, output in enumerate(outputs):
        stopping.update(output, torch.full((1, 3, 4, 4), float(number)))
        assert stopping.has_chosen == (number >= 2)
        if number >= 2:
            variances.append(outputs[number - 2 : number + 1].double().var(0, unbiased=False).mean())
            torch.testing.assert_close(stopping.variance.double(), variances[-1], atol=0, rtol=1e-6)
    assert int(stopping.chosen_step) == 8
    assert stopping.chosen.unique().tolist() == [7.0]
    assert stopping.is_over


def test_nothing_is_chosen_before_the_window_is_full(tmp_path: Path) -> None:
    data = data_of(tmp_path, "DeepImagePrior", noise=25.0)
    module = method("DeepImagePrior", data, window=50)
    fit(module, data, 3)
    assert isinstance(module, DeepImagePrior)
    assert module.stopping is not None
    assert "chosen nothing: it needs 50 steps, and there were 3" in module.stopping.report()
    assert torch.equal(module.image(), module.average.clamp(-1, 1))


def test_the_output_is_averaged_with_the_decay(tmp_path: Path) -> None:
    module = method("DeepImagePrior", data_of(tmp_path, "DeepImagePrior"), average_decay=0.75)
    assert isinstance(module, DeepImagePrior)
    for value in (1.0, 0.0, 0.5):
        module._take(torch.full((1, 3, 32, 32), value))
    assert module.average.unique().tolist() == [0.75 * 0.75 * 1.0 + 0.25 * 0.5]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scale": 0}, "scale=0"),
        ({"width": 0}, "width=0"),
        ({"skip_width": -1}, "skip_width=-1"),
        ({"upsampling": "cubic"}, "upsampling='cubic'"),
        ({"average_decay": 1.0}, r"average_decay=1\.0"),
        ({"input_noise": -0.1}, r"input_noise=-0\.1"),
        ({"lr": 0.0}, r"lr=0\.0"),
        ({"window": 0}, "window=0"),
        ({"patience": 0}, "patience=0"),
        ({"depth": 6}, "depth=6 halves the sides 6 times, so an image needs at least 128 pixels a side, not 64 x 64"),
    ],
)
def test_arguments_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DeepImagePrior(**{"shape": [3, 64, 64], "width": 4, **settings})


def test_a_target_of_another_size_is_refused(tmp_path: Path) -> None:
    data = data_of(tmp_path, "DeepImagePrior", scale=2)
    module = method("DeepImagePrior", data, depth=1)
    with pytest.raises(ValueError, match=r"target of a batch has \[32, 32\] pixels, not \[16, 16\].*scale=1"):
        module.check_batch(batch_of(data))
