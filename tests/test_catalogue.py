"""The catalogue: a picture that is stale, edited, damaged, missing or too many is found."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from mnist_models.figures import catalogue as module
from mnist_models.figures.catalogue import (
    FOLDER,
    OWN,
    Problem,
    catalogue,
    stale,
    write,
    write_plots,
)
from mnist_models.figures.stamp import code_digest
from mnist_models.figures.style import new_figure
from mnist_models.models import EXPERIMENTS
from mnist_models.record import Record

from .endless import huge, pipe, within
from .test_plots import LARGEST, group, rising
from .test_repository import imports

Records = Mapping[str, Sequence[Record]]


@pytest.fixture(scope="module")
def records() -> Records:
    return {
        OWN: group(OWN, rising(9_950), rising(9_945)),
        "attempt-3": group("attempt-3", rising(9_930)),
    }


@pytest.fixture(scope="module")
def drawn(records: Records, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all pictures as they should be; blank ones stand for those with digits."""
    root = tmp_path_factory.mktemp("drawn")
    write_plots(root, records)
    for picture in catalogue(records):
        if picture.needs_data:
            write(root, picture, new_figure(1))
    return root


@pytest.fixture
def root(drawn: Path, tmp_path: Path) -> Path:
    shutil.copytree(drawn, tmp_path, dirs_exist_ok=True)
    return tmp_path


def only(problems: Sequence[Problem]) -> Problem:
    assert len(problems) == 1, problems
    return problems[0]


def test_a_picture_for_each_system_with_records(records: Records) -> None:
    files = [picture.file for picture in catalogue(records)]
    assert files == [
        "curves-frontier.svg",
        "curves-attempt.svg",
        "confusion.svg",
        "accuracy-against-parameters.svg",
        "samples.png",
        "receptive-field.png",
        "augmented.png",
        "misclassified.png",
    ]
    assert [picture.file for picture in catalogue({})] == ["samples.png", "receptive-field.png"]
    systems = {experiment.system.name for experiment in EXPERIMENTS.values()}
    everything = {name: group(name, rising(9_900)) for name in EXPERIMENTS}
    assert {f"curves-{name}.svg" for name in systems} <= {p.file for p in catalogue(everything)}


def test_every_picture_is_described(records: Records) -> None:
    for picture in catalogue(records):
        assert picture.alt.endswith(".")
        assert picture.alt.count(". ") == 0  # one sentence
        assert picture.digest.startswith("sha256:")
        assert picture.needs_data == picture.file.endswith(".png")


def test_nothing_is_stale_after_writing(root: Path, records: Records) -> None:
    assert stale(root, records) == []
    assert write_plots(root, records) == []
    for path in (root / FOLDER).iterdir():
        assert path.stat().st_size < LARGEST


def test_a_missing_picture_is_found_and_drawn(root: Path, records: Records) -> None:
    plot, image = FOLDER / "confusion.svg", FOLDER / "samples.png"
    (root / plot).unlink()
    (root / image).unlink()
    assert [str(problem) for problem in stale(root, records)] == [
        "docs/figures/confusion.svg: it is missing; run: python -m mnist_models report",
        "docs/figures/samples.png: it is missing; run: python -m mnist_models figures",
    ]
    assert write_plots(root, records) == [root / plot]
    assert only(stale(root, records)).file == image.as_posix()


def test_an_edited_picture_is_found_and_mended(root: Path, records: Records) -> None:
    path = root / FOLDER / "curves-attempt.svg"
    before = path.read_bytes()
    path.write_bytes(before.replace(b"#0072b2", b"#0072b3", 1))
    assert only(stale(root, records)).reason == "it was edited after it was drawn"
    write_plots(root, records)
    assert path.read_bytes() == before


def test_a_picture_of_something_else_is_found(root: Path, records: Records) -> None:
    folder = root / FOLDER
    shutil.copy(folder / "curves-frontier.svg", folder / "curves-attempt.svg")
    assert only(stale(root, records)).reason == "it shows other than what models and records give"


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", b"<svg></svg>\n"])
def test_a_damaged_picture_is_found_and_mended(
    root: Path, records: Records, content: bytes
) -> None:
    path = root / FOLDER / "confusion.svg"
    path.write_bytes(content)
    assert only(stale(root, records)).file == "docs/figures/confusion.svg"
    write_plots(root, records)
    assert stale(root, records) == []


@pytest.mark.parametrize(("damage", "said"), [(pipe, "no regular file"), (huge, "are read")])
def test_what_cannot_be_read_whole_is_drawn_again(
    root: Path, records: Records, damage: Callable[[Path], None], said: str
) -> None:
    damage(root / FOLDER / "confusion.svg")
    damage(root / FOLDER / "samples.png")
    with within():
        found = stale(root, records)
        assert [(problem.file, said in problem.reason) for problem in found] == [
            ("docs/figures/confusion.svg", True),
            ("docs/figures/samples.png", True),
        ]
        write_plots(root, records)
        assert only(stale(root, records)).file == "docs/figures/samples.png"  # it shows digits


def test_a_changed_record_makes_stale_what_shows_it(root: Path, records: Records) -> None:
    final = replace(records["attempt-3"][0].epochs[-1], test_correct=9_931)
    record = records["attempt-3"][0]
    changed = replace(record, epochs=[*record.epochs[:-1], final])
    found = stale(root, {**records, "attempt-3": [changed]})
    assert [problem.file for problem in found] == [
        "docs/figures/curves-attempt.svg",
        "docs/figures/accuracy-against-parameters.svg",
    ]
    own = replace(records[OWN][1], misclassified=[*records[OWN][1].misclassified[:-1], 9_999])
    problem = only(stale(root, {**records, OWN: [records[OWN][0], own]}))
    assert problem.file == "docs/figures/misclassified.png"
    assert problem.command == "python -m mnist_models figures"


def test_changed_code_makes_stale_what_it_draws(
    root: Path, records: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "package"
    shutil.copytree(Path(module.__file__).parent, package / "figures")
    shutil.copy(Path(module.__file__).parent.parent / "augment.py", package)
    monkeypatch.setattr(module, "_PACKAGE", package)
    assert stale(root, records) == []
    for name, drawn_by_it in {
        "augment.py": {"augmented"},
        "figures/against_parameters.py": {"accuracy-against-parameters"},
        "figures/plots.py": {"curves-frontier", "curves-attempt", "confusion"},
        "figures/images.py": {"samples", "receptive-field", "augmented", "misclassified"},
        "figures/style.py": {Path(picture.file).stem for picture in catalogue(records)},
    }.items():
        source = package / name
        before = source.read_text()
        source.write_text(before + "\n# a comment\n")
        assert stale(root, records) == []
        source.write_text(before + "\nX = 1\n")
        found = stale(root, records)
        assert {Path(problem.file).stem for problem in found} == drawn_by_it
        assert all("the code that draws it has changed" in problem.reason for problem in found)
        source.write_text(before)


def test_a_stray_file_is_found_and_left_alone(root: Path, records: Records) -> None:
    without = {OWN: records[OWN]}
    write_plots(root, without)
    problem = only(stale(root, without))
    assert problem.file == "docs/figures/curves-attempt.svg"
    assert problem.command == "rm docs/figures/curves-attempt.svg"
    assert (root / problem.file).exists()
    (root / problem.file).unlink()
    (root / FOLDER / "more").mkdir()
    (root / FOLDER / "more" / "a b.txt").touch()
    assert only(stale(root, without)).command == "rm 'docs/figures/more/a b.txt'"


def test_what_draws_a_picture_is_all_counted(records: Records) -> None:
    graph = imports()
    helpers = {"mnist_models.figures.plotted", "mnist_models.figures.catalogue"}  # only say what
    for picture in catalogue(records):
        named = {f"mnist_models.{s.removesuffix('.py').replace('/', '.')}" for s in picture.sources}
        drawing = {name for file in named for name in graph[file] if ".figures." in name} - helpers
        others = {"mnist_models.figures.against_parameters"}  # which plots only passes on
        assert drawing - others <= named
        assert picture.code == code_digest(*(module._PACKAGE / name for name in picture.sources))


def test_the_catalogue_needs_no_data_set() -> None:
    graph, seen, todo = imports(), set(), ["mnist_models.figures.catalogue"]
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += graph[name]
    assert not seen & {f"mnist_models.{name}" for name in ("data", "train", "augment", "report")}
