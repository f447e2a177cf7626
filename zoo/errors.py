"""The errors of the zoo."""

from zoo.escaping import printable


class ZooError(ValueError):
    """A checkpoint, name or recipe that cannot be used; the message says what to do instead.

    A message may quote a stranger's text, so it is shown without control characters.
    """

    def __str__(self) -> str:
        return printable(Exception.__str__(self))  # that of a KeyError would be the quoted repr of the sentence


class UnknownNameError(ZooError, KeyError):
    """A name that the zoo does not have; also a ``KeyError``, as for any look-up by name."""

    __str__ = Exception.__str__  # KeyError would show the quoted repr of the sentence


class NotFiniteWeights(UserWarning):
    """A checkpoint holds weights that are NaN or infinite; the commands, which would compute with them, refuse it."""


class UsageError(ZooError):
    """Arguments of the command line that do not exist or do not fit together."""
