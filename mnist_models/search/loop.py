"""The loop of a search: which arms come next, training them, and what became of each."""

from __future__ import annotations

import itertools
import json
import random
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mnist_models.board import board_in
from mnist_models.data import Source
from mnist_models.models import Experiment
from mnist_models.record import Record, folder_of, load_record
from mnist_models.search.arm import POOLED, Arm, State
from mnist_models.search.candidate import breach, built, refuse_slips, suggest
from mnist_models.search.space import Choice, SpaceError, Value
from mnist_models.search.study import (
    Question,
    arms,
    load_optuna,
    storage_errors,
)
from mnist_models.sweep import Listener, plan, sweep

if TYPE_CHECKING:
    import optuna

_STARTUP = 5  # finished arms before their median prunes one


@dataclass(frozen=True)
class Effort:
    """How much a search does, and where.

    Attributes:
        arms: how many at most, those that the study has ended among them; None for all
            combinations.
        batch: arms that are under way at once.
        sampler: of ranges: ``random``, or ``tpe``, which learns from the other arms.
        prune: whether an arm below the median of the others gets no further seeds.
        source: what the workers load.
        threads: of each worker.
        stacked: seeds of an arm that are trained side by side, at most.
    """

    arms: int | None
    batch: int
    sampler: Literal["tpe", "random"]
    prune: bool
    source: Source
    threads: int
    stacked: int = 1


def search(
    study: optuna.Study,
    question: Question,
    effort: Effort,
    executor: Executor,
    listener: Callable[[int, int], Listener],
) -> Iterator[Arm]:
    """Train the arms that are still to be trained; each, as it ends.

    Arms that failed before are trained again, from where they stopped.

    Args:
        study: from `load_study`.
        question: what it was opened with.
        effort: how much to do.
        executor: where to train.
        listener: given the numbers of epochs and of runs of some arms, what is told of them.

    Raises:
        SpaceError: a setting that the experiment does not have, or a value that it cannot take.
        SearchError: the database cannot be read or written.
        RecordError, CheckpointError, DataError, SweepError: as `sweep`.
    """
    refuse_slips(question)
    return _Search(study, question, effort, executor, listener).arms()


def enqueue(study: optuna.Study, question: Question, most: int | None) -> None:
    """Queue the experiment itself and, where no range is sampled, combinations of the choices.

    Where they are more than `most`, an even sample of them: in an order that is the same each
    time, so that a larger `most` adds to what is there.
    """
    ended = [arm for arm in arms(study) if arm.state != "failed"]
    known = [_name(question, arm.values) for arm in ended]
    wanted: list[dict[str, Value]] = [{}, *(dict(values) for values in question.listed)]
    if question.settings and not question.sampled:
        choices = [setting for setting in question.settings if isinstance(setting, Choice)]
        names = [choice.name for choice in choices]
        products = itertools.product(*(choice.values for choice in choices))
        combinations: list[dict[str, Value]] = [
            dict(zip(names, values, strict=True)) for values in products
        ]
        if most is not None and len(combinations) >= most:
            random.Random(0).shuffle(combinations)
            combinations = combinations[: most - 1]
        wanted += combinations
    else:  # those that failed were sampled before
        wanted += [dict(arm.values) for arm in arms(study) if arm.state == "failed"]
    for values in wanted:
        name = _name(question, values)
        if name not in known:
            known.append(name)
            study.enqueue_trial({}, user_attrs={"values": values})


def _name(question: Question, values: Mapping[str, Value]) -> str:
    """Of an arm's experiment: the same for values that are written in other ways, or left out."""
    return question.arm(values).name


class _Search:
    """A search that is going on."""

    def __init__(
        self,
        study: optuna.Study,
        question: Question,
        effort: Effort,
        executor: Executor,
        listener: Callable[[int, int], Listener],
    ) -> None:
        self._study, self._question, self._effort = study, question, effort
        self._executor, self._listener = executor, listener
        self._optuna = load_optuna()

    def arms(self) -> Iterator[Arm]:
        with storage_errors():
            enqueue(self._study, self._question, self._effort.arms)
            while batch := list(self._ask()):
                yield from self._train(batch)

    def _ask(self) -> Iterator[optuna.Trial]:
        """The next arms: those that were begun, those that wait, then new ones."""
        study, effort, states = self._study, self._effort, self._optuna.trial.TrialState
        # Seeded by how many are drawn: a search that goes on does not draw the same ones again.
        seed = sum("values" in trial.user_attrs for trial in study.get_trials(deepcopy=False))
        samplers = self._optuna.samplers
        study.sampler = (
            samplers.RandomSampler(seed)
            if effort.sampler == "random"
            else samplers.TPESampler(seed=seed, constant_liar=True)
        )
        study.pruner = self._optuna.pruners.MedianPruner(n_startup_trials=_STARTUP)
        begun = study.get_trials(deepcopy=False, states=(states.RUNNING,))[: effort.batch]
        for frozen in begun:
            yield self._valued(self._optuna.Trial(study, frozen._trial_id))
        for _ in range(effort.batch - len(begun)):
            waiting = len(study.get_trials(deepcopy=False, states=(states.WAITING,)))
            full = effort.arms is not None and _counted(arms(study)) - waiting >= effort.arms
            if full or (not self._question.sampled and not waiting):
                return
            yield self._valued(study.ask())

    def _valued(self, trial: optuna.Trial) -> optuna.Trial:
        """The trial, with values: a search may have been killed before it drew them."""
        if "values" not in trial.user_attrs:
            values = {
                setting.name: suggest(self._question, trial, setting)
                for setting in self._question.settings
            }
            trial.set_user_attr("values", values)
        return trial

    def _train(self, batch: Sequence[optuna.Trial]) -> Iterator[Arm]:
        """Train some arms; seed by seed, where the hopeless are pruned between."""
        live = {}
        for trial in batch:
            try:
                experiment, network = built(self._question, trial.user_attrs["values"])
                cause, parameters = breach(experiment, network)
            except SpaceError as error:
                cause, parameters = str(error), None
            trial.set_user_attr("parameters", parameters)
            if cause:
                yield self._end(trial, "refused", cause)
            else:
                live[trial] = experiment
        seeds = self._question.seeds
        for rung in [(seed,) for seed in seeds] if self._effort.prune else [seeds]:
            causes = self._sweep(list(live.values()), rung)
            for trial, experiment in list(live.items()):
                lost = causes.get(experiment.name, {})
                self._score(trial, experiment, [seed for seed in rung if seed not in lost])
                if lost:
                    del live[trial]
                    yield self._end(trial, "failed", "; ".join(lost.values()))
                elif rung[-1] != seeds[-1] and trial.should_prune():
                    del live[trial]
                    yield self._end(trial, "pruned")
        for trial in live:
            yield self._end(trial, "finished")

    def _sweep(
        self, experiments: Sequence[Experiment], seeds: Sequence[int]
    ) -> dict[str, dict[int, str]]:
        """Train these runs; by experiment and seed, why those failed that did."""
        question, effort = self._question, self._effort
        unique = list({experiment.name: experiment for experiment in experiments}.values())
        with board_in(question.out) as board:
            planned = plan(
                unique,
                seeds,
                question.data,
                question.out,
                board=board,
                source=effort.source,
                threads=effort.threads,
                stacked=effort.stacked,
            )
            told = self._listener(planned.epochs, len(planned.jobs))
            outcomes = list(sweep(planned, self._executor, told))
        causes: dict[str, dict[int, str]] = {}
        for outcome in outcomes:
            if outcome.state == "failed":
                said = f"seed {outcome.seed}: {outcome.cause}"
                causes.setdefault(outcome.experiment, {})[outcome.seed] = said
        return causes

    def _score(self, trial: optuna.Trial, experiment: Experiment, seeds: Sequence[int]) -> None:
        """Keep the scores of these seeds, and report the mean so far after each."""
        data, out = self._question.data, self._question.out
        correct, loss = (dict(trial.user_attrs.get(key, {})) for key in ("correct", "loss"))
        for seed in (seed for seed in seeds if str(seed) not in correct):
            folder = folder_of(out, data.name, data.split, experiment.name, seed)
            correct[str(seed)], loss[str(seed)] = pooled(load_record(folder))
            trial.report(_percent(correct.values(), len(data.held_out)), len(correct))
        trial.set_user_attr("correct", correct)
        trial.set_user_attr("loss", loss)
        trial.set_user_attr("total", len(data.held_out))

    def _end(self, trial: optuna.Trial, state: State, cause: str = "") -> Arm:
        states = self._optuna.trial.TrialState
        trial.set_user_attr("state", state)
        trial.set_user_attr("cause", cause)
        if state == "finished":
            kept = trial.user_attrs
            self._study.tell(trial, _percent(kept["correct"].values(), kept["total"]))
        else:
            self._study.tell(trial, state=states.FAIL if state == "failed" else states.PRUNED)
        return arms(self._study)[trial.number]


def _counted(found: Sequence[Arm]) -> int:
    """Arms, those aside that failed and are trained again."""
    return len({json.dumps(dict(arm.values), sort_keys=True) for arm in found})


def pooled(record: Record) -> tuple[float, float]:
    """Scored images correct and the loss on them: means of the last epochs."""
    last = record.epochs[-POOLED:]
    correct = statistics.mean(epoch.test_correct for epoch in last)
    return correct, statistics.mean(epoch.test_loss for epoch in last)


def _percent(correct: Iterable[float], total: int) -> float:
    return 100 * statistics.mean(correct) / total
