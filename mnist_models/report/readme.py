"""The text of the generated blocks of the README, and of the list of records."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from mnist_models.figures.catalogue import FOLDER, OWN, Picture, catalogue
from mnist_models.plural import singular
from mnist_models.project import colab_url
from mnist_models.record import Record
from mnist_models.report.frontier import frontier
from mnist_models.report.markdown import shown, table
from mnist_models.report.reproduction import reproduction, rows, section, systems
from mnist_models.report.scale import how_long
from mnist_models.report.status import Requirement, status
from mnist_models.tables import percent


def blocks(
    slug: str, records: Mapping[str, Sequence[Record]], required: Sequence[Requirement]
) -> dict[str, str]:
    """The text of every generated block of the README, by name."""
    found = rows(records)
    of_system = {
        system: [row for row in found if row.experiment.system is system]
        for system in (*systems(published=False), *systems(published=True))
    }
    shown = {picture.file: _picture(picture) for picture in catalogue(records)}
    curves = {system: shown.pop(f"curves-{system.name}.svg", "") for system in of_system}

    def sections(*, published: bool) -> str:
        return "".join(
            section(system, of_system[system], curves[system])
            for system in systems(published=published)
        )

    own = "".join(f"{frontier(of_system[system])}\n" for system in systems(published=False))
    makers: dict[str, Callable[[], str]] = {
        "status": lambda: status(required),
        "durations": lambda: how_long(OWN, records.get(OWN, ())),
        "reproduction": lambda: reproduction(found),
        "own": lambda: own + sections(published=False),
        "systems": lambda: sections(published=True),
        "pictures": lambda: "".join(shown.values()),
        "clone": lambda: _fenced("bash", f"git clone https://github.com/{slug}"),
        "workflow": lambda: _fenced("yaml", _student(slug)),
        "notebooks": lambda: _notebooks(slug),
    }
    return {name: make() for name, make in makers.items()}


def _picture(picture: Picture) -> str:
    return f"![{picture.alt}]({(FOLDER / picture.file).as_posix()})\n\n"


def _fenced(language: str, text: str) -> str:
    return f"```{language}\n{text}\n```\n"


def _student(slug: str) -> str:
    """The workflow of a student's repository, in six lines."""
    return (
        "on: push\njobs:\n  check:\n"
        f"    uses: {slug}/.github/workflows/check.yml@main\n"
        "    with:\n      model: model.py:Net"
    )


def _notebooks(slug: str) -> str:
    names = [("walkthrough", "From the data to the final model, step by step")] + [
        (system.name.replace("-", "_"), f"{system.title}: its claims, checked again")
        for system in systems(published=True)
    ]
    return table(
        ("notebook", "what it shows", ""),
        [
            (
                f"[{name}](notebooks/{name}.ipynb)",
                text,
                f"[open in Colab]({colab_url(slug, f'{name}.ipynb')})",
            )
            for name, text in names
        ],
    )


def index(records: Mapping[str, Sequence[Record]]) -> str:
    """A line per published record."""
    lines = [
        (
            f"[`{record.experiment}`]({record.data.name}-{record.data.split}/{record.experiment})",
            str(record.seed),
            f"{record.parameters:,}",
            str(len(record.epochs)),
            ", ".join(f"{epoch.test_correct:,}" for epoch in record.epochs[-3:]),
            percent(record.final.test_correct, record.final.test_total),
            shown(singular(record.provenance.device)),
        )
        for group in records.values()
        for record in group
    ]
    header = ("experiment", "seed", "parameters", "epochs", "correct, last three epochs", "final")
    return (
        "# Published records\n\n"
        "Written by `python -m mnist_models report`. Correct answers of 10,000 test images; the "
        "final epoch counts.\n\n" + table((*header, "device"), lines)
    )
