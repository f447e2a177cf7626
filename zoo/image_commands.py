"""``python -m zoo stylize``, ``texture`` and ``restore``: image files in, image files out."""

import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import UsageError, ZooError

if TYPE_CHECKING:
    from torch import Tensor

    from datamodules.images.single_image import SingleImage
    from datamodules.sources.photographs import Photograph
    from lightning_modules.image.deep_image_prior import DeepImagePrior
    from lightning_modules.image.image_optimization import ImageOptimization
    from lightning_modules.image.pixel_optimization import PixelOptimization
    from lightning_modules.networks.feature_networks import FeatureNetwork
    from zoo.image_runs import Bounds, Outcome


def stylize(arguments: Namespace) -> int:
    """Gives an image the style of others, and writes it; returns the exit code."""
    out = _out(arguments, f"{Path(arguments.content).stem}-stylized.png")
    weights = arguments.style_weights
    if weights is not None and len(weights) != len(arguments.styles):
        raise UsageError(f"--style-weights has {len(weights)} weights for {len(arguments.styles)} styles.")
    bounds = _bounds(arguments, "stylize")
    from datamodules.images.single_image import SingleImage
    from lightning_modules.image.style_transfer import StyleTransfer

    style_size = arguments.style_size or arguments.size
    data = SingleImage(arguments.content, arguments.size, styles=arguments.styles, style_size=style_size)
    _read(data, arguments)
    settings = {
        "content_weight": arguments.content_weight,
        "style_weight": arguments.style_weight,
        "style_weights": weights,
        "variation_weight": arguments.smooth,
        "start": arguments.start,
        "preserve_colour": arguments.keep_colours,
        "content_layers": arguments.content_layers,
        "style_layers": arguments.style_layers,
    }
    size = data.spec.shape[1], data.spec.shape[2]
    compared = {path: style.size for path, style in zip(arguments.styles, data.style_photographs, strict=True)}
    module, steps = _planned(StyleTransfer, data, size, compared, settings, arguments, bounds)
    outcome = _fit(module, data, bounds, arguments, steps)
    origin = replace(data.photograph, is_grey=_is_grey(data, arguments))
    _write(module.image(), origin, out, outcome, arguments, f"features {module.network.name}")
    return outcome.exit_code


def _is_grey(data: "SingleImage", arguments: Namespace) -> bool:
    """Whether a stylized image has greys only: where a style has colours, they are given to a grey content, too."""
    coloured = [style for style in data.style_photographs if not style.is_grey]
    return data.photograph.is_grey and (arguments.keep_colours is not None or not coloured)


def texture(arguments: Namespace) -> int:
    """Makes more of a texture, and writes it; returns the exit code."""
    out = _out(arguments, f"{Path(arguments.image).stem}-texture.png")
    bounds = _bounds(arguments, "texture")
    from datamodules.images.single_image import SingleImage
    from lightning_modules.image.texture_synthesis import TextureSynthesis

    data = SingleImage(arguments.image, arguments.exemplar_size)
    _read(data, arguments)
    width, height = arguments.size
    settings = {
        "size": [height, width],
        "seamless": arguments.seamless,
        "variation_weight": arguments.smooth,
        "layers": arguments.layers,
    }
    compared = {arguments.image: data.photograph.size}
    module, steps = _planned(TextureSynthesis, data, (height, width), compared, settings, arguments, bounds)
    outcome = _fit(module, data, bounds, arguments, steps)
    facts = f"features {module.network.name}, Gram distance {_value(outcome.last, 'gram')}"
    origin = replace(data.photograph, opacity=None)  # which has another size
    _write(module.image(), origin, out, outcome, arguments, facts)
    return outcome.exit_code


def restore(arguments: Namespace) -> int:
    """Removes noise, fills what a mask hides or enlarges an image, and writes it; returns the exit code."""
    given = [name for name in ("mask", "noise", "scale") if getattr(arguments, name) is not None]
    if len(given) != 1:
        raise UsageError("Give one of --mask, --noise and --scale: it says what is to be restored.")
    if arguments.invert_mask and arguments.mask is None:
        raise UsageError("--invert-mask has no effect without --mask.")
    out = _out(arguments, f"{Path(arguments.image).stem}-restored.png")
    bounds = _bounds(arguments, "restore")
    import torch

    from datamodules.images.single_image import SingleImage
    from lightning_modules.image.deep_image_prior import DeepImagePrior
    from zoo.bounds import check_bounds
    from zoo.image_arguments import LARGEST_SIDE
    from zoo.image_plans import hourglass_memory
    from zoo.image_runs import check_memory, device_of, seeded

    scale, noise = arguments.scale or 1, arguments.noise or 0.0
    if not 0 <= noise <= 255:
        raise UsageError(f"--noise {noise} must lie in 0..255: it is a standard deviation in grey values.")
    if arguments.degrade and arguments.noise == 0:
        raise UsageError("--degrade has no effect with --noise 0: give the noise to add.")
    if scale < 1 or (arguments.scale == 1):
        raise UsageError(f"--scale {scale} must be at least 2: it is the factor by which the image is enlarged.")
    if arguments.patience is not None and arguments.noise is None:
        raise UsageError("--patience has no effect without --noise: no other fit is stopped early.")
    check_bounds("A network", {"width": arguments.width, "depth": arguments.depth})
    damage: dict[str, Any] = {"mask": arguments.mask, "invert_mask": arguments.invert_mask}
    if arguments.degrade:
        damage |= {"noise": noise, "scale": scale}
    data = SingleImage(arguments.image, arguments.size, seed=arguments.seed, **damage)
    _read(data, arguments)
    size = scale * data.spec.shape[1], scale * data.spec.shape[2]
    if arguments.scale is not None and max(size) > LARGEST_SIDE:
        raise UsageError(
            f"--scale {scale} gives {size[1]} x {size[0]} pixels: a side may have {LARGEST_SIDE:,} at most."
        )
    settings: dict[str, Any] = {"scale": scale, "width": arguments.width, "depth": arguments.depth}
    if arguments.patience is not None:
        settings["patience"] = arguments.patience
    settings["input_noise"] = 1 / 20 if noise >= 50 else 1 / 30
    if arguments.mask is not None:
        settings["upsampling"] = "nearest"
    settings["stop_early"] = arguments.noise is not None  # what is hidden is filled in better, the longer the fit
    with torch.device("meta"):  # refuses what does not fit the image, before any memory is taken
        DeepImagePrior.for_data(data.spec, **settings)
    seeded(arguments.seed)
    needed = hourglass_memory(arguments.width, arguments.depth, size, 100 if settings["stop_early"] else 0)
    smaller = max(64, max(size) // (2 * scale))
    remedy = f"a smaller --width ({max(8, arguments.width // 2)}) or --size ({smaller}) takes less"
    check_memory(needed, device_of(arguments.device), size, remedy)
    module = DeepImagePrior.for_data(data.spec, **settings)
    outcome = _fit(module, data, bounds, arguments, arguments.steps or (2000 if arguments.noise is None else 3000))
    image, quality = _restored(module, data)
    facts = [f"{name} {value:.4g} dB" for name, value in quality.items() if arguments.degrade]
    if module.stopping is not None:
        print(module.stopping.report())
    _write(image, data.photograph, out, outcome, arguments, ", ".join(facts))
    return outcome.exit_code


def _restored(module: "DeepImagePrior", data: "SingleImage") -> "tuple[Tensor, dict[str, float]]":
    """Returns the result, in which pixels that are known stay as they were, and its PSNR where the truth is known."""
    import torch

    from lightning_modules.parts.colours import luminance

    batch = next(iter(data.train_dataloader()))
    image = module.image().cpu()
    if batch.mask is not None:
        image = torch.where(batch.mask > 0, batch.x, image)
    if data.photograph.is_grey:  # and so is what is written
        image = luminance(image).expand_as(image)
    return image, {name: float(value) for name, value in module.quality(image, batch).items()}


def _out(arguments: Namespace, default: str) -> Path:
    from zoo.image_files import check_image_out

    out = Path(arguments.out or default)
    check_image_out(out)
    if arguments.gif is not None:
        check_image_out(Path(arguments.gif), (".gif",))
    return out


def _bounds(arguments: Namespace, description: str) -> "Bounds":
    if not arguments.minutes > 0:
        raise UsageError(f"--minutes {arguments.minutes} must be above 0.")
    from zoo.image_runs import Bounds

    return Bounds(description, 60 * arguments.minutes)


def _read(data: "SingleImage", arguments: Namespace) -> None:
    """Reads all files, so that one that is no image is known before the work starts."""
    from datamodules.images.single_image import resized_size
    from datamodules.sources.photographs import MAX_PIXELS, header_of
    from zoo.image_runs import BYTES_PER_PIXEL, check_memory, device_of

    given = data.hparams
    sizes = {**dict.fromkeys(given["styles"], given["style_size"]), given["path"]: given["size"]}
    try:
        for path, longest in sizes.items():
            height, width = resized_size(header_of(path), longest)
            if height * width > MAX_PIXELS:  # which take minutes to resize, so that the memory is estimated before
                needed, device = BYTES_PER_PIXEL * height * width, device_of(arguments.device)
                check_memory(needed, device, (height, width), f"ask for a smaller size of {path}")
        data.setup("fit")
        _ = data.style_photographs
    except ValueError as error:
        raise ZooError(str(error)) from error


def _planned(
    method: "type[PixelOptimization]",
    data: "SingleImage",
    size: tuple[int, int],
    compared: Mapping[str, tuple[int, int]],
    settings: Mapping[str, Any],
    arguments: Namespace,
    bounds: "Bounds",
) -> "tuple[Any, int]":
    """Builds a module whose scales and tiles fit into the time and the memory; returns it and the number of steps.

    Args:
        method: Its class.
        data: The image.
        size: Height and width of the result.
        compared: Heights and widths of the images that it is compared with, by their files.
        settings: Hyperparameters.
        arguments: Those of the command.
        bounds: The time that there is.
    """
    import time

    from lightning_modules.parts.reduction import coarser
    from lightning_modules.parts.tiles import OVERLAP
    from zoo.features import load_features
    from zoo.image_plans import Costs
    from zoo.image_runs import device_of, seeded

    seeded(arguments.seed)
    shared = {"features": arguments.features, "optimizer": arguments.optimizer, "num_scales": arguments.scales}
    if arguments.optimizer == "adam":
        shared["lr"] = 0.02
    # Refuses what does not fit, before anything is fetched.
    probe = method.for_data(data.spec, **settings, **shared, tile=arguments.tile)
    device = device_of(arguments.device)
    network = load_features(arguments.features)
    probe.use_features(network)
    layers = [*probe.statistics.gram_layers, *probe.statistics.content_layers]
    costs = Costs(network, layers, device)
    history = probe.optimizer_settings["history_size"]
    for path, whole in compared.items():
        _check_smallest(network.to(device), layers, path, coarser(whole, arguments.scales - 1))
    border = 2 * OVERLAP if probe.is_torus else 0
    computed = size[0] + border, size[1] + border
    tile = costs.tile(size, history, device, [*compared.values(), computed], arguments.tile)
    left = bounds.seconds - (time.monotonic() - bounds.begin)
    plan = costs.plan(computed, arguments.scales, arguments.steps, tile, left)
    module = method.for_data(data.spec, **settings, **shared, tile=plan.tile, coarse_steps=plan.coarse_steps)
    module.use_features(network)
    return module, plan.steps


def _check_smallest(network: "FeatureNetwork", layers: Sequence[str], path: str, size: tuple[int, int]) -> None:
    """Refuses an image that has nothing left in a layer at the coarsest scale."""
    import torch

    from lightning_modules.networks.feature_networks import LARGE_ENOUGH

    parameter = next(iter((*network.parameters(), *network.buffers())), torch.empty(0))
    try:
        with torch.no_grad():
            network(parameter.new_zeros(1, 3, *(min(length, LARGE_ENOUGH) for length in size)), layers)
    except ValueError as error:
        shown = f"{size[1]} x {size[0]} pixels at the coarsest scale"
        raise ZooError(
            f"{path} has {shown}, which is too small: use a larger one, or fewer --scales ({error})"
        ) from error


def _fit(
    module: "ImageOptimization", data: "SingleImage", bounds: "Bounds", arguments: Namespace, steps: int
) -> "Outcome":
    from lightning_modules.runtime.interruption import Interrupted
    from zoo.image_runs import fit

    gif_to = None if arguments.gif is None else Path(arguments.gif)
    try:
        outcome = fit(module, data, bounds, steps=steps, device=arguments.device, gif_to=gif_to)
    except Interrupted as stop:  # by a second signal
        print(stop.report(), file=sys.stderr)
        sys.exit(stop.exit_code)
    if not outcome.steps:
        raise ZooError("The run was stopped before its first step ended: nothing was written.")
    return outcome


def _write(
    image: "Tensor", origin: "Photograph | None", out: Path, outcome: "Outcome", arguments: Namespace, facts: str
) -> None:
    from zoo.image_files import as_picture, write_picture
    from zoo.image_runs import clock

    picture = as_picture(image, origin)
    write_picture(picture, out)
    ended = {"steps": "", "time": ", ended by --minutes", "early stopping": ", ended by early stopping"}
    why = ended.get(outcome.stopped_by, f", ended by {outcome.stopped_by}")
    shown = f"{picture.width} x {picture.height}, {outcome.steps} steps in {clock(outcome.seconds)}{why}"
    print(f"Wrote {out}: {shown}{', ' if facts else ''}{facts}")
    if arguments.gif is not None:
        print(f"Wrote {arguments.gif}")


def _value(values: Mapping[str, float], name: str) -> str:
    return f"{values[name]:.4g}" if name in values else "unknown"
