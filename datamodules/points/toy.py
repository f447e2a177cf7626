"""Points in the plane: distributions that can be plotted, with modes that can be counted.

The scales are those of the toy experiments of Improved Training of Wasserstein GANs (Gulrajani et al., 2017,
https://arxiv.org/abs/1704.00028). Arguments are in natural units. Points, ``spec.modes`` and ``spec.mode_scale`` are
natural units divided by a constant of the class (``divisor``), which brings them near unit scale. Points are float32
(N, 2), without bounds.

The name of a distribution has the settings that are not the usual ones, ``"ring8_scale0.2"``, so that two distributions
do not share a name.
"""

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from datamodules.datamodule import SPLITS, ZooDataModule
from datamodules.loader import SAMPLES, TensorSource, seeded
from datamodules.spec import DataSpec


class PointsSource(TensorSource):
    """Points of a training split that are sampled anew for every epoch."""

    def __init__(self, data: Tensor, labels: Tensor, datamodule: "PointsDataModule") -> None:
        super().__init__(data, labels)
        self.datamodule = datamodule

    def for_epoch(self, epoch: int) -> TensorSource:
        """Returns the points of this epoch, a function of (seed, epoch)."""
        return TensorSource(*self.datamodule.sampled("train", len(self), epoch))


class PointsDataModule(ZooDataModule):
    """Abstract: points sampled from a distribution; a subclass says from which.

    Args:
        spec: Describes the points; its name is of the usual settings.
        differing: Settings that make the distribution another one, by name: their values and the usual values.
        batch_size: Points per process and batch.
        train_size: Number of points per epoch.
        val_size: Number of points for validation; 0 for none.
        test_size: Number of points for testing; 0 for none.
        fresh: Sample new training points for every epoch, instead of one fixed set.
        seed: Seed of points and order.

    Attributes:
        former_name: Name of the data in checkpoints of former versions, whatever the settings.

    Raises:
        ValueError: If an argument is out of range.
    """

    divisor: ClassVar[float] = 1.0
    """Natural units that make one unit of the points."""

    def __init__(
        self,
        spec: DataSpec,
        differing: Mapping[str, tuple[float, float]],
        batch_size: int,
        train_size: int,
        val_size: int,
        test_size: int,
        fresh: bool,
        seed: int,
    ) -> None:
        super().__init__()
        for name, value, least in (
            ("batch_size", batch_size, 1),
            ("train_size", train_size, 1),
            ("val_size", val_size, 0),
            ("test_size", test_size, 0),
            ("seed", seed, 0),
        ):
            if value < least:
                raise ValueError(f"{name}={value} must be at least {least}.")
        settings = [f"_{name}{value:g}" for name, (value, usual) in differing.items() if value != usual]
        self.former_name, self.spec = spec.name, replace(spec, name=spec.name + "".join(settings))
        self.batch_size, self.fresh, self.seed = batch_size, fresh, seed
        self.sizes = dict(zip(SPLITS, (train_size, val_size, test_size), strict=True))

    @abstractmethod
    def draw(self, num_samples: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Samples points in natural units, float32 (N, 2), and their labels, int64 (N,)."""

    def sampled(self, split: str, num_samples: int, epoch: int = 0) -> tuple[Tensor, Tensor]:
        """Samples the points of a split, divided by ``divisor``; a function of (seed, split, epoch).

        Returns:
            Points (N, 2) float32 and labels (N,) int64.
        """
        points, labels = self.draw(num_samples, seeded(SAMPLES, self.seed, SPLITS.index(split), epoch))
        return points / self.divisor, labels

    def setup(self, stage: str | None = None) -> None:
        """Samples the splits, once."""
        if self.sources:
            return
        sources = {split: TensorSource(*self.sampled(split, size)) for split, size in self.sizes.items()}
        if self.fresh:
            sources["train"] = PointsSource(sources["train"].data, sources["train"].labels, self)
        self.sources = {**sources}
        self._count_classes()

    def points(self, split: str) -> tuple[Tensor, Tensor]:
        """Returns all points of a split; those of the first epoch, where they are fresh.

        Args:
            split: "train", "val" or "test".

        Returns:
            Points (N, 2) float32 and labels (N,) int64.

        Raises:
            ValueError: If ``split`` is none of these.
        """
        source = self.source(split)
        return next(source.stream([torch.arange(len(source))])), source.labels


class Mixture(PointsDataModule):
    """Abstract: a mixture of Gaussians of equal weight and equal deviation; the label is the component."""

    def __init__(
        self,
        name: str,
        centres: list[tuple[float, float]],
        scale: float,
        differing: Mapping[str, tuple[float, float]],
        batch_size: int,
        train_size: int,
        val_size: int,
        test_size: int,
        fresh: bool,
        seed: int,
    ) -> None:
        if not (math.isfinite(scale) and scale > 0):
            raise ValueError(f"scale={scale} must be a positive number.")
        spec = DataSpec(
            name=name,
            kind="points",
            shape=(2,),
            num_classes=len(centres),
            modes=tuple((x / self.divisor, y / self.divisor) for x, y in centres),
            mode_scale=scale / self.divisor,
        )
        super().__init__(spec, differing, batch_size, train_size, val_size, test_size, fresh, seed)
        self.centres, self.scale = torch.tensor(centres), scale

    def draw(self, num_samples: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Samples components, then points around their centres."""
        labels = torch.randint(len(self.centres), (num_samples,), generator=generator)
        noise = torch.randn(num_samples, 2, generator=generator)
        return self.centres[labels] + self.scale * noise, labels


class Ring(Mixture):
    """Gaussians evenly spaced on a circle, divided by 1.414: by default radius 1.414, deviation 0.0141.

    Args:
        num_modes: Number of Gaussians.
        radius: Radius of the circle, before division.
        scale: Standard deviation of each Gaussian, before division.
        batch_size: Points per process and batch.
        train_size: Number of points per epoch.
        val_size: Number of points for validation; 0 for none.
        test_size: Number of points for testing; 0 for none.
        fresh: Sample new training points for every epoch, instead of one fixed set.
        seed: Seed of points and order.

    Raises:
        ValueError: If an argument is out of range.
    """

    divisor = 1.414

    def __init__(
        self,
        num_modes: int = 8,
        radius: float = 2.0,
        scale: float = 0.02,
        batch_size: int = 256,
        train_size: int = 100_000,
        val_size: int = 10_000,
        test_size: int = 10_000,
        fresh: bool = False,
        seed: int = 0,
    ) -> None:
        if num_modes < 1 or not (math.isfinite(radius) and radius > 0):
            raise ValueError(f"num_modes={num_modes} and radius={radius} must be positive.")
        # Not linspace from 0 to 2 pi: it would count the first direction twice.
        angles = [2 * math.pi * mode / num_modes for mode in range(num_modes)]
        centres = [(radius * math.cos(angle), radius * math.sin(angle)) for angle in angles]
        name, differing = f"ring{num_modes}", {"radius": (radius, 2.0), "scale": (scale, 0.02)}
        super().__init__(name, centres, scale, differing, batch_size, train_size, val_size, test_size, fresh, seed)
        self.save_hyperparameters(logger=False)


class Grid(Mixture):
    """Gaussians on a square grid around 0, divided by 2.828: by default spacing 0.707, deviation 0.0177.

    Args:
        side: Gaussians per side; there are ``side ** 2``.
        spacing: Distance between neighbours, before division.
        scale: Standard deviation of each Gaussian, before division.
        batch_size: As in ``Ring``.
        train_size: As in ``Ring``.
        val_size: As in ``Ring``.
        test_size: As in ``Ring``.
        fresh: As in ``Ring``.
        seed: As in ``Ring``.

    Raises:
        ValueError: If an argument is out of range.
    """

    divisor = 2.828

    def __init__(
        self,
        side: int = 5,
        spacing: float = 2.0,
        scale: float = 0.05,
        batch_size: int = 256,
        train_size: int = 100_000,
        val_size: int = 10_000,
        test_size: int = 10_000,
        fresh: bool = False,
        seed: int = 0,
    ) -> None:
        if side < 1 or not (math.isfinite(spacing) and spacing > 0):
            raise ValueError(f"side={side} and spacing={spacing} must be positive.")
        steps = [spacing * (step - (side - 1) / 2) for step in range(side)]
        centres = [(x, y) for x in steps for y in steps]
        name, differing = f"grid{side**2}", {"spacing": (spacing, 2.0), "scale": (scale, 0.05)}
        super().__init__(name, centres, scale, differing, batch_size, train_size, val_size, test_size, fresh, seed)
        self.save_hyperparameters(logger=False)


class SwissRoll(PointsDataModule):
    """A spiral (t cos t, t sin t), t uniform in [1.5 pi, 4.5 pi], plus noise, divided by 7.5: values within about 2.

    Args:
        noise: Standard deviation of the noise, before division.
        batch_size: As in ``Ring``.
        train_size: As in ``Ring``.
        val_size: As in ``Ring``.
        test_size: As in ``Ring``.
        fresh: As in ``Ring``.
        seed: As in ``Ring``.

    Raises:
        ValueError: If an argument is out of range.
    """

    divisor = 7.5

    def __init__(
        self,
        noise: float = 0.25,
        batch_size: int = 256,
        train_size: int = 100_000,
        val_size: int = 10_000,
        test_size: int = 10_000,
        fresh: bool = False,
        seed: int = 0,
    ) -> None:
        check_noise(noise)
        spec = DataSpec(name="swiss_roll", kind="points", shape=(2,))
        super().__init__(spec, {"noise": (noise, 0.25)}, batch_size, train_size, val_size, test_size, fresh, seed)
        self.save_hyperparameters(logger=False)
        self.deviation = noise

    def draw(self, num_samples: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Samples places on the spiral, then noise."""
        t = 1.5 * math.pi * (1 + 2 * torch.rand(num_samples, generator=generator))
        curve = torch.stack([t * t.cos(), t * t.sin()], dim=1)
        noise = torch.randn(num_samples, 2, generator=generator)
        return curve + self.deviation * noise, torch.zeros(num_samples, dtype=torch.int64)


class TwoMoons(PointsDataModule):
    """Two interleaving half circles of radius 1, together centred on 0; the label is the half circle.

    Args:
        noise: Standard deviation of the noise.
        batch_size: As in ``Ring``.
        train_size: As in ``Ring``.
        val_size: As in ``Ring``.
        test_size: As in ``Ring``.
        fresh: As in ``Ring``.
        seed: As in ``Ring``.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        noise: float = 0.1,
        batch_size: int = 256,
        train_size: int = 100_000,
        val_size: int = 10_000,
        test_size: int = 10_000,
        fresh: bool = False,
        seed: int = 0,
    ) -> None:
        check_noise(noise)
        spec = DataSpec(name="two_moons", kind="points", shape=(2,), num_classes=2, class_names=("upper", "lower"))
        super().__init__(spec, {"noise": (noise, 0.1)}, batch_size, train_size, val_size, test_size, fresh, seed)
        self.save_hyperparameters(logger=False)
        self.deviation = noise

    def draw(self, num_samples: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Samples a moon, a place on it, then noise."""
        labels = torch.randint(2, (num_samples,), generator=generator)
        angle = math.pi * torch.rand(num_samples, generator=generator)
        sign = 1 - 2 * labels  # the lower moon is the upper one, turned by half a circle
        curve = sign[:, None] * torch.stack([angle.cos() - 0.5, angle.sin() - 0.25], dim=1)
        noise = torch.randn(num_samples, 2, generator=generator)
        return curve + self.deviation * noise, labels


def check_noise(noise: float) -> None:
    """Checks a standard deviation.

    Raises:
        ValueError: If ``noise`` is not a finite number of at least 0.
    """
    if not (math.isfinite(noise) and noise >= 0):
        raise ValueError(f"noise={noise} must be a finite number, at least 0.")
