"""Style transfer: nothing is lost at its target, and colours, weights and scales do what they say."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from datamodules.spec import Batch
from lightning_modules import StyleTransfer
from lightning_modules.parts.colours import luminance
from tests.image.small_images import SmallFeatures, data_of, fit, method


def image(seed: int, height: int = 32, width: int = 32) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def prepared(content: Tensor, *styles: Tensor, **settings: Any) -> StyleTransfer:
    module = StyleTransfer(list(content.shape[1:]), features="random", num_scales=1, **settings)
    module.use_features(SmallFeatures())
    module.use_styles(styles)
    module.prepare(Batch(content), 0)
    return module


def test_loss_and_gradient_are_zero_at_the_target() -> None:
    x = image(0).requires_grad_()
    losses = prepared(image(0), image(0)).losses(x)
    assert {name: value.item() for name, value in losses.items()} == {"style": 0.0, "content": 0.0}
    (gradient,) = torch.autograd.grad(losses["style"] + losses["content"], x)
    assert not gradient.any()
    other = prepared(image(0), image(1)).losses(image(2))
    assert min(map(float, other.values())) > 1e-3


def test_the_style_is_a_weighted_mean_over_styles_and_layers() -> None:
    x = image(3)
    single = [float(prepared(image(0), image(seed), style_weight=1.0).losses(x)["style"]) for seed in (1, 2)]
    both = prepared(image(0), image(1), image(2), style_weight=10.0, style_weights=[3.0, 1.0]).losses(x)["style"]
    assert float(both) == pytest.approx(10 * (0.75 * single[0] + 0.25 * single[1]), rel=1e-5)


def test_terms_of_weight_zero_are_not_computed() -> None:
    module = prepared(image(0), image(1), content_weight=0.0)
    assert set(module.losses(image(2))) == {"style"}
    assert set(prepared(image(0), image(1), variation_weight=1.0).losses(image(2))) == {"style", "content", "variation"}


def test_the_gram_distance_falls_a_thousandfold(tmp_path: Path) -> None:
    data = data_of(tmp_path, "StyleTransfer")
    module = method("StyleTransfer", data, content_weight=0.0, style_weight=1.0)
    first = fit(module, data, 1).callback_metrics["train/style"]
    again = method("StyleTransfer", data, content_weight=0.0, style_weight=1.0)
    assert fit(again, data, 60).callback_metrics["train/style"] < first / 1000


def test_luminance_keeps_the_hues_of_the_content(tmp_path: Path) -> None:
    data = data_of(tmp_path, "StyleTransfer")
    module = method("StyleTransfer", data, preserve_colour="luminance", style_weight=100.0)
    fit(module, data, 8)
    content = next(iter(data.val_dataloader())).x  # type: ignore[union-attr]
    shown = module.image()
    inside = (shown.abs() < 1).all(1, keepdim=True)
    difference = (shown - content).masked_select(inside.expand_as(shown)).view(3, -1)
    assert difference.abs().max() > 0.01  # the brightness has changed
    assert (difference - difference[:1]).abs().max() < 1e-5  # by the same amount in all colours


def test_covariance_gives_the_style_the_colours_of_the_content() -> None:
    """So a style that is the content in other colours is no style at all."""
    content = image(0)
    turned = 0.5 * content.flip(1) + 0.2
    x = content.clone()
    plain, kept = (prepared(content, turned, preserve_colour=mode) for mode in (None, "covariance"))
    assert float(kept.losses(x)["style"]) < float(plain.losses(x)["style"]) / 3


def test_only_the_brightness_is_compared_for_luminance() -> None:
    module = prepared(image(0), image(1), preserve_colour="luminance")
    x = image(2)
    same = x + (torch.tensor([0.587, -0.299, 0.0]) * 0.3).view(1, 3, 1, 1)
    torch.testing.assert_close(luminance(x), luminance(same))
    found, expected = module.losses(same), module.losses(x)
    for name in found:
        torch.testing.assert_close(found[name], expected[name])


def test_a_scale_begins_with_the_result_of_the_coarser_one(tmp_path: Path) -> None:
    data = data_of(tmp_path, "StyleTransfer", (64, 64))
    module: Any = method("StyleTransfer", data, num_scales=2, coarse_steps=3)
    fit(module, data, 3)
    assert int(module.begun) == 0
    assert module.image().shape == (1, 3, 64, 64)
    coarse = module.images[0].detach().clone()
    module.coarse_steps = 0  # the next step would be of the second scale
    enlarged = torch.nn.functional.interpolate(coarse, (64, 64), mode="bicubic", antialias=True)
    torch.testing.assert_close(module.image(), enlarged.clamp(-1, 1), atol=0.2, rtol=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"content_weight": -1.0}, r"content_weight=-1\.0"),
        ({"style_weight": float("nan")}, "style_weight=nan"),
        ({"variation_weight": -0.1}, r"variation_weight=-0\.1"),
        ({"style_weights": [1.0, -2.0]}, r"style_weights\[1\]=-2\.0"),
        ({"style_weights": [0.0]}, "All weights are 0"),
        ({"content_weight": 0.0, "style_weight": 0.0}, "All weights are 0"),
        ({"start": "noise"}, "start='noise' is not one of content, mean"),
        ({"preserve_colour": "hue"}, "preserve_colour='hue'"),
        ({"optimizer": "sgd"}, "optimizer='sgd' is not one of lbfgs, adam"),
        ({"num_scales": 4}, "num_scales=4 begins with 12 x 8 pixels"),
        ({"num_scales": 0}, "num_scales=0"),
        ({"num_scales": 10**9}, "num_scales=1000000000 begins with 1 x 1 pixels"),
        ({"coarse_steps": 0}, "coarse_steps=0"),
        ({"history_size": 0}, "history_size=0"),
        ({"lr": 0.0}, r"lr=0\.0"),
        ({"tile": 100}, "tile=100"),
        ({"shape": [1, 64, 96]}, r"shape=\[1, 64, 96\]"),
    ],
)
def test_arguments_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StyleTransfer(**{"shape": [3, 64, 96], **settings})


def test_styles_are_needed_and_checked(tmp_path: Path) -> None:
    data = data_of(tmp_path, "StyleTransfer", styles=[])
    with pytest.raises(ValueError, match="has no style: use SingleImage"):
        fit(method("StyleTransfer", data), data, 1)
    with pytest.raises(ValueError, match="style_weights has 2 weights for 1 styles"):
        prepared(image(0), image(1), style_weights=[1.0, 1.0])
    with pytest.raises(ValueError, match=r"must be an image \(1, 3, H, W\), not \(3, 32, 32\)"):
        prepared(image(0), image(1)[0])
    for style in (torch.zeros(1, 3, 0, 32), "style.png"):
        with pytest.raises(ValueError, match=r"must be an image \(1, 3, H, W\), not"):
            prepared(image(0), style)  # type: ignore[arg-type]
    for style in ((127.5 * (image(1) + 1)).byte(), 9 * image(1), torch.nan * image(1)):
        with pytest.raises(ValueError, match=r"must have values in \[-1, 1\], not"):
            prepared(image(0), style)
    with pytest.raises(ValueError, match=r"styles must be a list of images, not a Tensor"):
        StyleTransfer([3, 32, 32], num_scales=1).use_styles(image(1))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no layer 'conv9'; its layers are first, second"):
        prepared(image(0), image(1), style_layers=["conv9"])
