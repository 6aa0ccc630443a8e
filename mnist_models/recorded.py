"""What a record holds, field by field; `record` reads and writes it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Data:
    """What was trained on and scored: names, sizes, md5 of the tensors."""

    name: str
    split: str
    train_images: int
    held_out_images: int
    md5: dict[str, str]


@dataclass(frozen=True)
class Epoch:
    """One epoch, counted from 1. Losses are mean cross-entropies in nats."""

    epoch: int
    learning_rate: float  # of the first step
    last_learning_rate: float  # of the last step
    train_loss: float
    train_correct: int
    train_total: int
    test_loss: float
    test_correct: int
    test_total: int


@dataclass(frozen=True)
class Weights:
    """A stored weight file and its sha256."""

    epoch: int
    file: str
    sha256: str


@dataclass(frozen=True)
class Provenance:
    """Where a record comes from; it may differ between two equal runs."""

    package_digest: str
    commit: str | None
    modified: bool | None  # whether the package differed from that commit; None without one
    versions: dict[str, str]
    device: str
    threads: int
    environments: list[str]  # in which it ran: one, or more where it was resumed in another
    finished: str  # ISO 8601, with its offset from UTC


@dataclass(frozen=True)
class Timing:
    """Wall-clock seconds, and what they include; they may differ between two equal runs."""

    seconds: float
    epoch_seconds: list[float]
    includes: str


@dataclass(frozen=True)
class Record:
    """One run. The fields after `misclassified` say how it came to be and where its weights are."""

    version: int
    experiment: str
    seed: int
    stacked: bool  # trained beside other seeds in one network
    parameters: int
    model_digest: str
    recipe: dict[str, Any]
    data: Data
    epochs: list[Epoch]
    confusion: list[list[int]]  # of the final epoch, confusion[truth][answer]
    misclassified: list[int]  # indices into the scored images, final epoch
    weights: list[Weights]
    provenance: Provenance
    timing: Timing
    digest: str = field(default="")

    @property
    def final(self) -> Epoch:
        """The last epoch: what counts, best or not."""
        return self.epochs[-1]

    @property
    def identity(self) -> dict[str, Any]:
        """What makes two runs the same run: one record can then stand for the other."""
        return {
            "experiment": self.experiment,
            "seed": self.seed,
            "recipe": self.recipe,
            "model": self.model_digest,
            "data": self.data.name,
            "split": self.data.split,
            "md5": self.data.md5,
        }
