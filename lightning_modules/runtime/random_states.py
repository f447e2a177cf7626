"""Random states in the checkpoint, so that a resumed run draws the same random numbers as an uninterrupted one.

A Lightning checkpoint holds weights, optimizers, loops and loaders, but no random state, and every
process loads the file that process 0 wrote. So the states of all processes are gathered into it.
"""

import random
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from lightning_modules.parts.processes import rank, world_size
from lightning_modules.runtime.distributed import gather_objects
from lightning_modules.runtime.resumed_epochs import begin_the_next_epoch, draw_seeds_of_loaders


class RandomStates(Callback):
    """Saves the states of torch, CUDA, NumPy and Python of every process, and restores them.

    In a new run of several processes it gives each its own random stream, derived from the seed and the process
    index: ``seed_everything`` seeds all processes alike, and they would draw the same noise. Process 0 keeps the
    stream that it would have in a run of one process.

    NOTE: A run with the loaders of this library resumes exactly from any batch. With a plain loader it does so at the
    end of an epoch, if validation is off or follows every epoch: the place in a shuffled epoch is in no random state.

    NOTE: The states are restored when training starts. Numbers that a later callback draws from the global generators
    in its ``on_train_start`` are drawn again on resume.
    """

    def __init__(self) -> None:
        self._loaded: dict[str, Any] | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuses to resume on another number of processes.

        Raises:
            ValueError: If the checkpoint was written by another number of processes than run now.
        """
        if self._loaded is not None and len(self._loaded["processes"]) != world_size():
            written = len(self._loaded["processes"])
            raise ValueError(
                f"The checkpoint was written by {written} process(es), but there are {world_size()} now, and each has "
                f"its own random states. Resume with devices * num_nodes = {written}, or start a new run from the "
                "weights alone."
            )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restores the states of the checkpoint, or seeds the processes of a new run differently."""
        if self._loaded is not None:
            begin_the_next_epoch(trainer)
            _restore(self._loaded["processes"][rank()])
            draw_seeds_of_loaders(trainer)
            self._loaded = None
        elif rank() > 0:
            _seed(np.random.SeedSequence([torch.initial_seed(), rank()]))

    def state_dict(self) -> dict[str, Any]:
        """Gathers the states of all processes; every process must call it, as saving a checkpoint does."""
        return {"processes": gather_objects(_current())}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keeps the states until training starts."""
        self._loaded = state_dict

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Discards states that were loaded for an evaluation, which does not need them."""
        self._loaded = None


def _current() -> dict[str, Any]:
    # Plain numbers and tensors: the file must load with weights_only=True.
    _, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    version, internal, python_gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None,
        "numpy": [torch.from_numpy(np.asarray(keys, dtype=np.int64)), int(position), int(has_gauss), float(gauss)],
        "python": [version, torch.tensor(internal), python_gauss],
    }


def _restore(states: dict[str, Any]) -> None:
    torch.set_rng_state(states["torch"].cpu())
    if states["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"].cpu())
    keys, position, has_gauss, gauss = states["numpy"]
    np.random.set_state(("MT19937", keys.cpu().numpy().astype(np.uint32), position, has_gauss, gauss))
    version, internal, python_gauss = states["python"]
    random.setstate((version, tuple(internal.tolist()), python_gauss))


def _seed(sequence: np.random.SeedSequence) -> None:
    torch_seed, numpy_seed, python_seed = (int(word) for word in sequence.generate_state(3, np.uint32))
    torch.manual_seed(torch_seed)
    np.random.seed(numpy_seed)
    random.seed(python_seed)
