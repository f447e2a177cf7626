"""The in-memory loader against a DataLoader over torchvision transforms, in images per second."""

import itertools
from collections.abc import Iterable

import torch
from common import interleaved, row
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from datamodules import FashionMNIST

BATCH = 64
SOME = 100  # batches of the slow loaders; ours is measured over a whole epoch, its shuffling included


class PerPicture(Dataset[tuple[Tensor, int]]):
    """What torchvision.datasets.MNIST does in ``__getitem__``, with the usual transforms."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels
        self.transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(0.5, 0.5)])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        picture = Image.fromarray(self.images[index].numpy())
        return self.transform(picture), int(self.labels[index])


def main() -> None:
    datamodule = FashionMNIST(batch_size=BATCH)
    datamodule.prepare_data()
    datamodule.setup("fit")
    images, labels = datamodule.images("train")
    per_picture = PerPicture(images[:, 0], labels)
    usual = {workers: DataLoader(per_picture, BATCH, shuffle=True, num_workers=workers) for workers in (0, 2)}
    torch.testing.assert_close(per_picture[0][0], images[0].float() / 127.5 - 1)

    whole = len(datamodule.train_dataloader())

    def take(loader: Iterable[object], batches: int) -> None:
        for _ in itertools.islice(loader, batches):
            pass

    seconds = interleaved(
        {
            "ours": lambda: take(datamodule.train_dataloader(), whole),
            "usual": lambda: take(usual[0], SOME),
            "usual, 2 workers": lambda: take(usual[2], SOME),
        },
        rounds=5,
    )
    rate = {name: BATCH * (whole if name == "ours" else SOME) / value for name, value in seconds.items()}
    ratio = rate["ours"] / rate["usual"]
    with_workers = rate["ours"] / rate["usual, 2 workers"]
    row(
        "in-memory loader / DataLoader over torchvision transforms",
        ">= 40",
        f"{ratio:.0f} ({rate['ours']:,.0f} / {rate['usual']:,.0f} images per second; two workers: {with_workers:.0f})",
        ratio >= 40,
    )


if __name__ == "__main__":
    main()
