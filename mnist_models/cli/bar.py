"""What a training run shows while it runs."""

from __future__ import annotations

import sys

from tqdm import tqdm

from mnist_models.tables import percent
from mnist_models.train import Progress

_REFRESH = 20  # steps between two looks at the loss: each look makes the host wait for a GPU


class Bar:
    """A progress bar over all steps of a run, and a line for every finished epoch."""

    def __init__(self, name: str, split: str, *, quiet: bool) -> None:
        self.name, self.split = name, split
        self.bar: tqdm | None = None
        self.quiet = quiet

    def __call__(self, progress: Progress) -> None:
        if self.bar is None:
            self.bar = tqdm(
                total=progress.epochs * progress.steps,
                initial=(progress.epoch - 1) * progress.steps,
                desc=self.name,
                unit="step",
                dynamic_ncols=True,
                mininterval=0.5,
                file=sys.stderr,
            )
        if progress.finished is not None:
            self._epoch(progress)
            return
        self.bar.update()
        if progress.step % _REFRESH == 0:
            self.bar.set_postfix_str(
                f"epoch {progress.epoch}/{progress.epochs} loss {progress.loss.item():.4f} "
                f"accuracy {percent(int(progress.correct.item()), progress.seen)} "
                f"lr {progress.learning_rate:.2g}",
                refresh=False,
            )

    def _epoch(self, progress: Progress) -> None:
        epoch = progress.finished
        assert epoch is not None
        if not self.quiet:
            which = "" if progress.seed is None else f"seed {progress.seed}  "
            tqdm.write(
                f"{which}epoch {epoch.epoch:2}/{progress.epochs}"
                f"  lr {epoch.learning_rate:.2g} -> {epoch.last_learning_rate:.2g}"
                f"  train loss {epoch.train_loss:.4f}"
                f" {percent(epoch.train_correct, epoch.train_total)}"
                f"  {self.split} loss {epoch.test_loss:.4f}"
                f" {epoch.test_correct:,}/{epoch.test_total:,}"
                f" {percent(epoch.test_correct, epoch.test_total)}",
                file=sys.stdout,
            )

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self.bar is not None:
            self.bar.close()
