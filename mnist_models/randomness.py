"""Where random numbers come from: a seed for each place of a run, a device's global generator."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor


def seed_of(seed: int, *place: int | str) -> int:
    """A 63-bit seed for one place of one run: the initial weights, an epoch's order, a step."""
    text = "/".join(map(str, (seed, *place)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def default_generator(device: torch.device) -> torch.Generator:
    """What draws on this device where no generator is named.

    To seed it costs a microsecond. ``torch.manual_seed`` asks every kind of device there might be
    and takes seventy, in every step.
    """
    if device.type != "cuda":
        return torch.default_generator
    index = torch.cuda.current_device() if device.index is None else device.index
    return torch.cuda.default_generators[index]


def seed_global_generators(seed: int) -> None:
    """Seed every generator that code may draw from without naming one.

    ``torch.manual_seed`` notes the caller's stack for each kind of device that may start later,
    which takes longer than a forward pass; where there is no such device it is left out.
    """
    if torch.accelerator.is_available():
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)


class Streams:
    """The random numbers of networks side by side: each draws what it would draw alone."""

    def __init__(self, count: int) -> None:
        self._states: list[Tensor | None] = [None] * count
        self._generators: list[torch.Generator] = []

    def seed(self, seeds: Sequence[int], device: torch.device) -> None:
        """Do for each network what ``torch.manual_seed`` does for one that trains alone."""
        if device.type == "cuda":
            for generator, seed in zip(self.generators(device), seeds, strict=True):
                generator.manual_seed(seed)
            return
        generator = default_generator(device)
        for lane, seed in enumerate(seeds):
            generator.manual_seed(seed)
            self._states[lane] = generator.get_state()

    def generators(self, device: torch.device) -> list[torch.Generator]:
        """One for each network, on a GPU, where a recording has to know them."""
        if not self._generators:
            self._generators = [torch.Generator(device) for _ in self._states]
        return self._generators

    def each(self, device: torch.device, draw: Callable[[int], Tensor]) -> list[Tensor]:
        """What `draw` gives for each network, called with the network's own numbers in use.

        Where the global generators of the devices are left is not said.
        """
        generator = default_generator(device)
        drawn: list[Tensor] = []
        if device.type == "cuda":
            own = generator.graphsafe_get_state()
            try:
                for lane, other in enumerate(self.generators(device)):
                    generator.graphsafe_set_state(other)  # shared: what is drawn moves it on
                    drawn.append(draw(lane))
            finally:
                generator.graphsafe_set_state(own)
            return drawn
        for lane, state in enumerate(self._states):
            if state is not None:
                generator.set_state(state)
            drawn.append(draw(lane))
            self._states[lane] = generator.get_state()
        return drawn
