"""Discriminator of professor forcing: tells teacher-forced from free-running sequences of hidden states."""

from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


class BehaviourDiscriminator(nn.Module):
    """A bidirectional GRU over the features of a sequence, and a perceptron on the mean of its states.

    The two modes differ a little at every step. A mean over steps accumulates these differences; the last states alone
    lose them.

    Args:
        features: Size of the features per step.
        width: Units of each direction, and of the perceptron's hidden layers.

    Shapes: features (N, T, features) and lengths (N,) to logits (N,).
    """

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.read = nn.GRU(features, width, batch_first=True, bidirectional=True)
        self.judge = nn.Sequential(  # a name in the state of every checkpoint
            nn.Linear(2 * width, width),
            nn.LeakyReLU(0.2),
            nn.Linear(width, width),
            nn.LeakyReLU(0.2),
            nn.Linear(width, 1),
        )

    def forward(self, behaviour: Tensor, lengths: Tensor) -> Tensor:
        """Returns logits, positive for sequences classified as teacher-forced."""
        if bool((lengths == behaviour.shape[1]).all()):
            states, _ = self.read(behaviour)
        else:  # the backward direction must start at a sequence's own end, not in the padding
            packed = pack_padded_sequence(behaviour, lengths.cpu(), batch_first=True, enforce_sorted=False)
            states, _ = pad_packed_sequence(self.read(packed)[0], batch_first=True)
        return self.judge(states.sum(1) / lengths[:, None]).squeeze(1)
