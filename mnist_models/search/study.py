"""Choosing among variants of an experiment on the validation slice: arms, kept by Optuna.

Every arm trains the same seeds; its score is the mean over them of the accuracy in their last
epochs, pooled. What is finished is in the study's database and in the records of its runs: a
search that was stopped, or killed, goes on where it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnist_models.atomic import make_folder
from mnist_models.data import Dataset
from mnist_models.models import Experiment
from mnist_models.provenance import model_digest
from mnist_models.search.arm import Arm
from mnist_models.search.space import Range, Setting, Value, vary

if TYPE_CHECKING:
    import optuna

FILE_NAME = "search.db"


class SearchError(Exception):
    """A search that cannot begin or go on: what was found, what to do."""


@dataclass(frozen=True)
class Question:
    """What a study compares; the same for all of its arms.

    Attributes:
        base: the experiment that is varied.
        fixed: settings that every arm has; the first arm is the experiment with these alone.
        seeds: that every arm trains.
        settings: what is varied. Where one is a range, all arms but the first are sampled.
        listed: arms beside all combinations of the settings, each by what it has.
        data: with a validation slice as its scored images.
        out: folder of the database and of the records.
    """

    base: Experiment
    fixed: Mapping[str, Value]
    seeds: tuple[int, ...]
    settings: tuple[Setting, ...]
    data: Dataset
    out: Path
    listed: tuple[Mapping[str, Value], ...] = ()

    @property
    def sampled(self) -> bool:
        """Whether there is a range to sample arms from."""
        return any(isinstance(setting, Range) for setting in self.settings)

    def arm(self, values: Mapping[str, Value]) -> Experiment:
        """The experiment of an arm.

        Raises:
            SpaceError: as `vary`.
        """
        return vary(self.base, {**self.fixed, **values})

    def to_dict(self) -> dict[str, Any]:
        """What must be the same whenever the study goes on."""
        first = self.arm({})
        return {
            "experiment": self.base.name,
            "fixed": dict(self.fixed),
            "recipe": first.recipe.to_dict(),
            "model": model_digest(first.build()),
            "seeds": list(self.seeds),
            # A list may grow; what is sampled must stay what it is.
            "settings": {
                setting.name: setting.text if self.sampled else "listed"
                for setting in sorted(self.settings, key=lambda setting: setting.name)
            },
            "data": {"name": self.data.name, "split": self.data.split, "md5": self.data.md5},
        }


def load_study(out: Path, name: str, question: Question | None = None) -> optuna.Study:
    """Open the study of that name in the folder's database, or begin it with a question.

    Raises:
        SearchError: Optuna is not installed, the file is no such database, the study asks another
            question, or there is none to show.
    """
    library = load_optuna()
    path = out / FILE_NAME
    if question is None and not path.exists():
        raise SearchError(f"{path} does not exist: no search has written there yet")
    make_folder(out, "--out")
    try:
        with storage_errors(path):
            storage = storage_of(path)
            study: optuna.Study = (
                library.load_study(study_name=name, storage=storage)
                if question is None
                else library.create_study(
                    study_name=name, storage=storage, direction="maximize", load_if_exists=True
                )
            )
    except KeyError:
        names = ", ".join(sorted(library.get_all_study_names(storage))) or "none"
        raise SearchError(f"{path} holds no study {name!r}; there are: {names}") from None
    if question is None:
        if "question" not in study.user_attrs:
            raise SearchError(f"{path}: study {name!r} was never begun: search again")
        return study
    asked, begun = question.to_dict(), study.user_attrs.get("question")
    if begun is None:
        study.set_user_attr("question", asked)
    elif begun != asked:
        other = ", ".join(key for key in asked if begun.get(key) != asked[key])
        raise SearchError(
            f"{path}: study {name!r} was begun with another {other}; choose another --study"
        )
    return study


def storage_of(path: Path) -> optuna.storages.RDBStorage:
    """The database, which no connection is kept to: none is left for nobody to close."""
    import optuna  # noqa: PLC0415 - the extra "search"
    from sqlalchemy.pool import NullPool  # noqa: PLC0415 - what Optuna keeps studies with

    url = f"sqlite:///{path.resolve()}"
    return optuna.storages.RDBStorage(url, engine_kwargs={"poolclass": NullPool})


@contextmanager
def storage_errors(path: Path = Path(FILE_NAME)) -> Iterator[None]:
    """Raise SearchError for whatever the database behind a study refuses."""
    try:
        yield
    except Exception as error:
        if isinstance(error, KeyError) or not _of_storage(error):
            raise
        said = " ".join(str(error.__cause__ or error).split())[:300]
        raise SearchError(f"{path} cannot be used as a study: {said}") from error


def _of_storage(error: Exception) -> bool:
    return type(error).__module__.split(".")[0] in ("optuna", "sqlalchemy", "sqlite3", "alembic")


def load_optuna() -> Any:
    """The module optuna, of the extra "search".

    Raises:
        SearchError: it is not installed.
    """
    try:
        import optuna  # noqa: PLC0415 - the extra "search"
    except ImportError as error:
        raise SearchError(
            f'search needs the extra "search" ({error}): pip install "mnist-models[search]"'
        ) from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def arms(study: optuna.Study) -> list[Arm]:
    """All arms of a study, in the order in which they were asked."""
    return [_arm(trial.number, trial.user_attrs) for trial in study.get_trials(deepcopy=False)]


def _arm(number: int, kept: Mapping[str, Any]) -> Arm:
    return Arm(
        number=number,
        values=kept.get("values", {}),
        state=kept.get("state", "waiting"),
        parameters=kept.get("parameters"),
        correct={int(seed): value for seed, value in kept.get("correct", {}).items()},
        total=kept.get("total", 0),
        loss={int(seed): value for seed, value in kept.get("loss", {}).items()},
        cause=kept.get("cause", ""),
    )
