"""The discriminator of behaviours."""

import torch

from lightning_modules.networks.behaviour import BehaviourDiscriminator


def test_padding_does_not_reach_the_discriminator() -> None:
    torch.manual_seed(0)
    discriminator = BehaviourDiscriminator(5, 6)
    behaviour, lengths = torch.randn(4, 7, 5), torch.tensor([7, 3, 1, 5])
    spoilt = behaviour.clone()
    spoilt[torch.arange(7) >= lengths[:, None]] = 1e3
    torch.testing.assert_close(discriminator(spoilt, lengths), discriminator(behaviour, lengths))
    alone = discriminator(behaviour[1:2, :3], torch.tensor([3]))
    torch.testing.assert_close(discriminator(behaviour, lengths)[1:2], alone)
