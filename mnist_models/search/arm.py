"""One variant of a study, as it ended: what is kept of it, and what a table shows."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from mnist_models.search.space import Value

POOLED = 3  # last epochs: their mean is steadier than the final one alone

State = Literal["finished", "pruned", "refused", "failed", "waiting"]


@dataclass(frozen=True)
class Arm:
    """One variant.

    Attributes:
        number: in the order in which they were asked, from 0.
        values: the settings in which it differs from the experiment, as they were written.
        state: finished; pruned after some seeds; refused since it breaks a limit of the
            assignment; failed; or waiting for some of its seeds.
        parameters: of its network.
        correct: seed -> scored images correct, mean of its last epochs.
        total: scored images.
        loss: seed -> loss on the scored images, mean of the same epochs; empty in older studies.
        cause: why it was refused or failed.
    """

    number: int
    values: Mapping[str, Value]
    state: State
    parameters: int | None = None
    correct: dict[int, float] = field(default_factory=dict)
    total: int = 0
    loss: dict[int, float] = field(default_factory=dict)
    cause: str = ""

    @property
    def mean(self) -> float | None:
        """Per cent correct over its seeds."""
        return 100 * statistics.mean(self.correct.values()) / self.total if self.correct else None
