"""The command figures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from mnist_models import idx
from mnist_models.cli import main
from mnist_models.figures.catalogue import FOLDER, stale, write_plots
from mnist_models.report import published

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture
def root(tmp_path: Path) -> Path:
    shutil.copytree(REPOSITORY / "records", tmp_path / "records")
    return tmp_path


def test_figures_draws_what_is_stale_and_nothing_else(
    root: Path, mnist_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["figures", "--root", str(root), "--data-root", str(mnist_root)]
    assert main([*command, "--json"]) == 0
    written = json.loads(capsys.readouterr().out)["written"]
    assert [Path(path).name for path in written] == [
        "samples.png",
        "receptive-field.png",
        "augmented.png",
        "misclassified.png",
    ]
    records = published(root / "records")
    write_plots(root, records)
    assert stale(root, records) == []
    path = root / FOLDER / "augmented.png"
    before = path.read_bytes()
    path.write_bytes(before[:-1])
    assert main(command) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines()[0] == f"{path}: written"
    assert "3 pictures left alone" in captured.out
    assert "100%" in captured.err  # the progress bar
    assert path.read_bytes() == before
    assert main([*command[:3], "--data-root", str(root)]) == 0  # no data set, and nothing to draw
    capsys.readouterr()
    assert main([*command, "--force", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["written"]) == 4


def test_the_stand_in_is_no_data_set_for_pictures(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(idx, "MIRRORS", ("http://127.0.0.1:9/",))  # where nobody listens
    assert main(["figures", "--root", str(root), "--data-root", str(root)]) == 2
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    assert "the embedded digits cannot stand in" in errors
    assert "--dataset" not in errors
    assert not (root / FOLDER).exists()


def test_a_folder_without_records_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["figures", "--root", str(tmp_path)]) == 2
    assert "found no folder records in it" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
