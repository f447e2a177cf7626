"""Names of metrics, which carry the protocol."""

from datamodules.spec import DataSpec
from lightning_modules.metrics.names import metric_name, short_count


def test_names_carry_the_protocol() -> None:
    names = [metric_name("test", "fid", "stand_in", number) for number in (10_000, 5000, 2000, 2500, 64)]
    assert [name.rsplit("-", 1)[1] for name in names] == ["10k", "5k", "2k", "2500", "64"]
    assert names[0] == "test/fid-stand_in-10k"
    assert [short_count(number) for number in (999, 1000, 1001)] == ["999", "1k", "1001"]


def test_metrics_of_binarized_images_have_another_name() -> None:
    for preprocessing, expected in (
        ("", "val/fid-fashion_mnist-5k"),
        ("dequantized", "val/fid-fashion_mnist-5k"),
        ("binarized", "val/fid-fashion_mnist_binarized-5k"),
        ("padded-binarized", "val/fid-fashion_mnist_binarized-5k"),
    ):
        spec = DataSpec("x", "image", (1, 2, 2), (0.0, 1.0), preprocessing=preprocessing)
        assert metric_name("val", "fid", "fashion_mnist", 5000, spec) == expected


def test_what_is_compared_with_all_real_images_says_so_at_the_end() -> None:
    assert metric_name("all", "fid", "emoji", 10_000) == "test/fid-emoji-10k-all"
