"""The arithmetic floor: a training step's operations over the device's measured matrix rate."""

from __future__ import annotations

import torch

from mnist_models.bench.turns import now
from mnist_models.data import Dataset
from mnist_models.models import Experiment
from mnist_models.run import start
from mnist_models.step import train_step
from mnist_models.train import batches

_SIDE = {"cpu": 1_024, "cuda": 8_192}  # of the matrices: large enough to keep the device busy
_PRODUCTS = 4  # timed together


def flops_per_step(experiment: Experiment, data: Dataset) -> int:
    """Floating-point operations of one training step, forward and backward.

    Products and convolutions, a multiplication and an addition counted as two; what works on
    each element (activations, BatchNorm, Dropout, the update) is not counted.
    """
    from torch.utils.flop_counter import FlopCounterMode  # noqa: PLC0415 - it imports triton

    run = start(experiment, 0, len(data.train), data.train.images.device)
    run.model.train()
    batch = next(batches(data, experiment.recipe, 0, 1))
    with FlopCounterMode(display=False) as counter:
        train_step(run, *batch)
    return int(counter.get_total_flops())


class Matrices:
    """Large float32 matrices to multiply, with the threads that training has."""

    def __init__(self, device: torch.device) -> None:
        self.side = _SIDE.get(device.type, 1_024)
        self.device = device
        self._left = torch.rand(self.side, self.side, device=device)
        self._right = torch.rand(self.side, self.side, device=device)
        self.rate()  # the first product of a process takes longer

    def rate(self) -> float:
        """Operations per second, measured now."""
        matmul = torch.backends.cuda.matmul
        own, matmul.allow_tf32 = matmul.allow_tf32, torch.backends.cudnn.allow_tf32
        try:  # as precisely as the convolutions compute: on a GPU, that decides the rate
            began = now(self.device)
            for _ in range(_PRODUCTS):
                self._left @ self._right
            return _PRODUCTS * 2 * self.side**3 / (now(self.device) - began)
        finally:
            matmul.allow_tf32 = own
