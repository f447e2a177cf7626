"""The text encoder: padding never leaks, words and their order count; and captions in every architecture."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from lightning_modules.networks import ARCHITECTURES
from lightning_modules.networks.autoencoder import AUTOENCODERS, Sizes, autoencoder
from lightning_modules.networks.blocks import initialize_normal
from lightning_modules.networks.growing import Discriminator, Generator
from lightning_modules.networks.pixelcnn import FullPasses, PixelCNN
from lightning_modules.networks.pixelcnn_cache import CachedPasses
from lightning_modules.networks.text_encoder import Captions, Condition, ConditionEncoder, TextEncoder, condition_of
from lightning_modules.parts.constraints import spectrally_normalized

SHAPE, WORDS, CLASSES = (1, 28, 28), 9, 3
CAPTIONS = torch.tensor([[1, 2, 3, 0, 0], [4, 0, 0, 0, 0], [5, 6, 7, 8, 9], [2, 1, 3, 0, 0]])
LABELS = torch.tensor([0, 1, 2, 0])
CONDITIONS: dict[str, tuple[Condition, Tensor]] = {
    "classes": (condition_of(CLASSES, None), LABELS),
    "captions": (condition_of(None, WORDS), CAPTIONS),
    "both": (condition_of(CLASSES, WORDS), torch.cat([LABELS[:, None], CAPTIONS], 1)),
}


def test_a_condition_is_what_is_given() -> None:
    assert condition_of(None, None) is None
    assert [kind for kind, _ in CONDITIONS.values()] == [3, Captions(9), Captions(9, 3)]
    with pytest.raises(ValueError, match="num_words=0"):
        condition_of(None, 0)


@pytest.mark.parametrize("training", [True, False])
def test_padding_never_leaks(training: bool) -> None:
    """Neither into the caption's vector nor into those of its words, whatever is beside it in the batch."""
    encoder = TextEncoder(WORDS).train(training)
    with torch.set_grad_enabled(training):
        together, words = encoder(CAPTIONS), encoder.words(CAPTIONS)
        longer = encoder(nn.functional.pad(CAPTIONS, (0, 7)))
        torch.testing.assert_close(longer, together)
        for index, length in enumerate((3, 1, 5, 3)):
            alone = CAPTIONS[index : index + 1, :length]
            torch.testing.assert_close(encoder(alone)[0], together[index])
            torch.testing.assert_close(encoder.words(alone)[0], words[index, :length])
            assert not words[index, length:].any()


def test_the_embedding_of_padding_has_no_influence_and_no_gradient() -> None:
    encoder = TextEncoder(WORDS)
    before = encoder(CAPTIONS)
    before.square().sum().backward()
    assert encoder.embedding.weight.grad is not None
    assert not encoder.embedding.weight.grad[0].any()
    assert encoder.embedding.weight.grad[1:].abs().amax(1).min() > 0
    with torch.no_grad():
        encoder.embedding.weight[0] = 100.0
    torch.testing.assert_close(encoder(CAPTIONS), before)


@pytest.mark.parametrize("change", ["none", "small weights", "spectral norm"])
def test_words_and_their_order_count(change: str) -> None:
    """Also in networks that begin with small weights, or keep them small; real captions have 2 000 words, too."""
    encoder = TextEncoder(2000).eval()
    if change == "small weights":
        initialize_normal(encoder)
    if change == "spectral norm":
        spectrally_normalized(encoder)
    vectors = encoder(torch.tensor([[1, 2, 3], [2, 1, 3], [1, 2, 4], [1, 2, 0]]))
    assert torch.cdist(vectors, vectors).add(100 * torch.eye(4)).min() > 0.05


@pytest.mark.parametrize("kind", ["captions", "both"])
def test_the_middle_between_captions_is_the_mean_of_their_encodings(kind: str) -> None:
    condition, values = CONDITIONS[kind]
    assert isinstance(condition, Captions)
    encoder = ConditionEncoder(condition)
    pairs = torch.stack([values, values.flip(0)], 1)
    encoded = encoder(values)
    torch.testing.assert_close(encoder(pairs), (encoded + encoded.flip(0)) / 2)
    torch.testing.assert_close(encoder(torch.stack([values, values], 1)), encoded)


Build = Callable[[Condition], nn.Module]


def encoder_of(name: str, which: int) -> Build:
    return lambda condition: autoencoder(name, Sizes(SHAPE, 6, 8, 1, 2, condition), 1)[which]


NETWORKS: dict[str, tuple[Build, tuple[int, ...]]] = {
    **{f"{name} generator": (partial(entry.generator, SHAPE, 6, 2), (6,)) for name, entry in ARCHITECTURES.items()},
    **{
        f"{name} discriminator": (partial(entry.discriminator, SHAPE, 2, batch_norm=False), SHAPE)  # type: ignore[call-arg]
        for name, entry in ARCHITECTURES.items()
    },
    "growing generator": (partial(Generator, SHAPE, 6, 2), (6,)),
    "growing discriminator": (partial(Discriminator, SHAPE, 2), SHAPE),
    **{f"{name} encoder": (encoder_of(name, 0), SHAPE) for name in AUTOENCODERS},
    **{f"{name} decoder": (encoder_of(name, 1), (6,)) for name in AUTOENCODERS},
    "pixelcnn": (partial(PixelCNN, SHAPE, 2, 3, 1, 2), SHAPE),
}
"""Every conditional network, as a function of the condition, with the shape of its input."""


@pytest.mark.parametrize("kind", CONDITIONS)
@pytest.mark.parametrize("name", NETWORKS)
def test_every_architecture_takes_classes_captions_and_both(name: str, kind: str) -> None:
    condition, values = CONDITIONS[kind]
    build, shape = NETWORKS[name]
    network, x = build(condition), torch.rand(4, *shape) * 2 - 1
    with torch.no_grad():  # some layers begin as the identity, for every condition
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    network(x, values).square().sum().backward()
    unused = ("images.0", "images.1")  # of lower resolutions
    without = [key for key, p in network.named_parameters() if p.grad is None and not key.startswith(unused)]
    assert without == []
    network.eval()
    before = network(x, values)
    for column in range(1 if values.ndim == 1 else 2):
        changed = values.clone()
        changed[:1].view(1, -1)[0, column] = 2 if kind != "captions" else 8
        after = network(x, changed)
        assert not torch.equal(after[0], before[0])
        torch.testing.assert_close(after[1:], before[1:])


@pytest.mark.parametrize("kind", ["captions", "both"])
def test_pixels_are_cached_for_captions(kind: str) -> None:
    condition, values = CONDITIONS[kind]
    network = PixelCNN((1, 4, 4), 2, 3, 1, 2, condition).eval()
    with torch.no_grad():
        cached, full = (passes(network, 4, values) for passes in (CachedPasses, FullPasses))
        for row in range(4):
            for column in range(4):
                torch.testing.assert_close(cached.parameters_at(row, column), full.parameters_at(row, column))
                for passes in (cached, full):
                    passes.put(row, column, torch.full((4, 1), 0.5))
