"""The loop of a search: which arms come next, training them, and what became of each."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mnist_models.checks import check_module
from mnist_models.job import Source
from mnist_models.models import Experiment
from mnist_models.record import Record, folder_of, load_record
from mnist_models.search.space import Choice, Range, Setting, Value
from mnist_models.search.study import POOLED, Arm, Question, State, arms, load_optuna
from mnist_models.sweep import Listener, board_in, plan, sweep

if TYPE_CHECKING:
    import optuna

_STARTUP = 5  # finished arms before their median prunes one


def enqueue(study: optuna.Study, settings: Sequence[Setting], most: int | None) -> bool:
    """Queue the experiment itself and every combination of choices; whether that is all.

    Where a setting is a range, or the combinations are more than `most`, the arms are sampled
    instead, one by one, as they are needed.
    """
    if not study.trials:
        study.enqueue_trial({}, user_attrs={"values": {}})
    choices = [setting for setting in settings if isinstance(setting, Choice)]
    combinations = math.prod(len(choice.values) for choice in choices)
    if len(choices) < len(settings) or (most is not None and combinations >= most):
        return False
    known = [trial.user_attrs.get("values") for trial in study.trials]
    for values in itertools.product(*(choice.values for choice in choices)):
        arm = {choice.name: value for choice, value in zip(choices, values, strict=True)}
        if arm not in known:
            study.enqueue_trial({}, user_attrs={"values": arm})
    return True


@dataclass(frozen=True)
class Effort:
    """How much a search does, and where.

    Attributes:
        settings: what is varied.
        arms: how many at most, those the study has already among them; None for all combinations.
        batch: arms that are under way at once.
        sampler: of the arms that are sampled: ``random``, or ``tpe``, which learns from the others.
        prune: whether an arm below the median of the others gets no further seeds.
        source: what the workers load.
        threads: of each worker.
    """

    settings: Sequence[Setting]
    arms: int | None
    batch: int
    sampler: Literal["tpe", "random"]
    prune: bool
    source: Source
    threads: int


def search(
    study: optuna.Study,
    question: Question,
    effort: Effort,
    executor: Executor,
    listener: Callable[[int, int], Listener],
) -> Iterator[Arm]:
    """Train the arms that are still to be trained; each, as it ends.

    Args:
        study: from `load_study`.
        question: what it was opened with.
        effort: how much to do.
        executor: where to train.
        listener: given the numbers of epochs and of runs of some arms, what is told of them.

    Raises:
        SpaceError: a setting that the experiment does not have, or a value that it cannot take.
        RecordError, CheckpointError, DataError, SweepError: as `sweep`.
    """
    for setting in effort.settings:  # before anything is queued: a slip costs nothing
        ends = setting.values if isinstance(setting, Choice) else (setting.low, setting.high)
        for value in ends:
            whole = isinstance(setting, Range) and setting.whole
            question.arm({setting.name: int(value) if whole else value})
    return _Search(study, question, effort, executor, listener).arms()


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
        listed = enqueue(self._study, self._effort.settings, self._effort.arms)
        while batch := list(self._ask(listed=listed)):
            yield from self._train(batch)

    def _ask(self, *, listed: bool) -> Iterator[optuna.Trial]:
        """The next arms: those that were begun, those that wait, then new ones."""
        study, effort, states = self._study, self._effort, self._optuna.trial.TrialState
        # Seeded by what is there already: a search that goes on does not begin with the same arms.
        seed = len(study.trials)
        study.sampler = (
            self._optuna.samplers.RandomSampler(seed)
            if effort.sampler == "random"
            else self._optuna.samplers.TPESampler(seed=seed, constant_liar=True)
        )
        study.pruner = self._optuna.pruners.MedianPruner(n_startup_trials=_STARTUP)
        begun = study.get_trials(deepcopy=False, states=(states.RUNNING,))[: effort.batch]
        for frozen in begun:
            yield self._optuna.Trial(study, frozen._trial_id)
        for _ in range(effort.batch - len(begun)):
            waiting = len(study.get_trials(deepcopy=False, states=(states.WAITING,)))
            full = effort.arms is not None and len(study.trials) - waiting >= effort.arms
            if full or (listed and not waiting):
                return
            trial = study.ask()
            if "values" not in trial.user_attrs:
                values = {setting.name: _suggest(trial, setting) for setting in effort.settings}
                trial.set_user_attr("values", values)
            yield trial

    def _train(self, batch: Sequence[optuna.Trial]) -> Iterator[Arm]:
        """Train some arms; seed by seed, where the hopeless are pruned between."""
        live = {}
        for trial in batch:
            experiment = self._question.arm(trial.user_attrs["values"])
            cause, parameters = _breach(experiment)
            trial.set_user_attr("parameters", parameters)
            if cause:
                yield self._end(trial, "refused", cause)
            else:
                live[trial] = experiment
        seeds = self._question.seeds
        for rung in [(seed,) for seed in seeds] if self._effort.prune else [seeds]:
            causes = self._sweep(list(live.values()), rung)
            for trial, experiment in list(live.items()):
                if experiment.name in causes:
                    del live[trial]
                    yield self._end(trial, "failed", causes[experiment.name])
                    continue
                self._score(trial, experiment, rung)
                if rung[-1] != seeds[-1] and trial.should_prune():
                    del live[trial]
                    yield self._end(trial, "pruned")
        for trial in live:
            yield self._end(trial, "finished")

    def _sweep(self, experiments: Sequence[Experiment], seeds: Sequence[int]) -> dict[str, str]:
        """Train these runs; the name of each experiment with a run that failed, and why."""
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
            )
            told = self._listener(planned.epochs, len(planned.jobs))
            outcomes = list(sweep(planned, self._executor, told))
        return {
            outcome.experiment: f"seed {outcome.seed}: {outcome.cause}"
            for outcome in outcomes
            if outcome.state == "failed"
        }

    def _score(self, trial: optuna.Trial, experiment: Experiment, seeds: Sequence[int]) -> None:
        """Keep the scores of these seeds, and report the mean so far after each."""
        data, out = self._question.data, self._question.out
        correct = dict(trial.user_attrs.get("correct", {}))
        for seed in (seed for seed in seeds if str(seed) not in correct):
            folder = folder_of(out, data.name, data.split, experiment.name, seed)
            correct[str(seed)] = pooled(load_record(folder))
            trial.report(_percent(correct.values(), len(data.held_out)), len(correct))
        trial.set_user_attr("correct", correct)
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


def _suggest(trial: optuna.Trial, setting: Setting) -> Value:
    if isinstance(setting, Choice):
        return str(trial.suggest_categorical(setting.name, setting.values))
    if setting.whole:
        return trial.suggest_int(setting.name, int(setting.low), int(setting.high), log=True)
    return trial.suggest_float(setting.name, setting.low, setting.high, log=True)


def _breach(experiment: Experiment) -> tuple[str, int | None]:
    """Which limits of the assignment an arm breaks, and its parameters; a refusal costs no run."""
    checks, found = check_module(experiment.build(), experiment.assignment)
    broken = [f"{check.name}: {check.cause}" for check in checks if check.passed is not True]
    limit = experiment.assignment.epochs
    if limit is not None and not limit.holds(experiment.recipe.epochs):
        broken.append(f"epochs: {experiment.recipe.epochs}, expected {limit}")
    return "; ".join(broken), found.parameters


def pooled(record: Record) -> float:
    """Scored images correct: the mean of the last epochs."""
    return statistics.mean(epoch.test_correct for epoch in record.epochs[-POOLED:])


def _percent(correct: Iterable[float], total: int) -> float:
    return 100 * statistics.mean(correct) / total
