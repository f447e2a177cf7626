"""Names of metrics, which contain the protocol: ``"val/fid-fashion_mnist-5k"``."""

from datamodules.spec import DataSpec


def metric_name(stage: str, name: str, extractor: str, num_samples: int, spec: DataSpec | None = None) -> str:
    """Returns the name of a metric of images.

    Samples of a binarised model are compared with binarised images. That is a different task, so its name is different:
    ``"val/fid-fashion_mnist_binarized-5k"``.

    Samples that are compared with the real images of all splits have a name that ends in ``-all``, as
    ``"test/fid-emoji-10k-all"``: most of these images were trained on, so it says nothing about copies.

    Args:
        stage: ``"val"``, ``"test"`` or ``"all"``.
        name: Name of the metric, ``"fid"``.
        extractor: Name of the feature extractor.
        num_samples: Number of images that were measured.
        spec: Spec of the images.
    """
    binarized = "_binarized" if spec is not None and spec.is_binarized else ""
    stage, compared = ("test", "-all") if stage == "all" else (stage, "")
    return f"{stage}/{name}-{extractor}{binarized}-{short_count(num_samples)}{compared}"


def short_count(number: int) -> str:
    """Returns 10000 as ``"10k"`` and 2500 as ``"2500"``."""
    return f"{number // 1000}k" if number % 1000 == 0 else str(number)
