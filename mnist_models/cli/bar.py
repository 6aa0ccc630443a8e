"""What a training run, or a search, shows while it runs."""

from __future__ import annotations

import functools
import sys

from tqdm import tqdm

from mnist_models.cli.actions import plain
from mnist_models.plural import counted
from mnist_models.search.arm import Arm
from mnist_models.sweep import Listener
from mnist_models.sweep import Progress as SweepProgress
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


class SearchBar:
    """One bar over all epochs of a search that are known to come."""

    def __init__(self) -> None:
        self._bar = tqdm(
            total=0, desc="search", unit="epoch", dynamic_ncols=True, smoothing=0, file=sys.stderr
        )
        self._before = 0

    def __enter__(self) -> SearchBar:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End its line."""
        self._bar.close()

    def batch(self, epochs: int, runs: int) -> Listener:
        """The listener of a further batch."""
        self._before = self._bar.total or 0
        self._bar.total = self._before + epochs
        return functools.partial(self._progress, runs)

    def _progress(self, runs: int, progress: SweepProgress) -> None:
        self._bar.n = self._before + progress.finished
        self._bar.set_postfix_str(
            f"{progress.states.total()} of {counted(runs, 'run')} of these arms"
        )

    def tell(self, arm: Arm) -> None:
        """Write what became of an arm above the bar."""
        score = "" if arm.mean is None else f", {arm.mean:.3f} %"
        said = f"arm {arm.number} {arm.state}{score}: {settings_of(arm)}"
        self._bar.write(plain(f"{said} {arm.cause}"), file=sys.stderr)


def settings_of(arm: Arm) -> str:
    """What an arm changes, in words."""
    return " ".join(f"{key}={value}" for key, value in arm.values.items()) or "as it is"
