"""A discriminator that also says which style an example has: one trunk, two linear heads."""

from torch import Tensor, nn

from lightning_modules.networks.blocks import ProjectionHead


class RealnessAndStyle(nn.Module):
    """Logit of real against generated, and logits of the styles, both linear in the features.

    Args:
        linear: The head that tells real from generated examples, with one output.
        num_styles: Number of styles.
    """

    def __init__(self, linear: nn.Linear, num_styles: int) -> None:
        super().__init__()
        self.linear, self.styles = linear, nn.Linear(linear.in_features, num_styles)

    def forward(self, h: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Maps features (N, in_features) to logits (N,) of being real and (N, num_styles) of the styles."""
        return self.linear(h).squeeze(1), self.styles(h)


def with_style_head(discriminator: nn.Module, num_styles: int) -> nn.Module:
    """Replaces the head of a discriminator of the registry, unconditional, by one of realness and style; returns it."""
    head = discriminator.head
    assert isinstance(head, ProjectionHead)
    discriminator.head = RealnessAndStyle(head.linear, num_styles)
    return discriminator
