"""Each way to make a check of a workflow pass that is known here is noticed in the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from .test_workflow_rules import ACTION, FILES, identify
from .workflow_clone import CHECK, CI, TRAIN
from .workflow_weakenings import weakenings

SCORE = "      - name: Score the published weights again\n"
VERIFY = "        run: python -m mnist_models verify\n"
TEST = "        run: python -m pytest tests/\n"
EXECUTE = "python -m pytest --nbmake notebooks/"
REPORT = "      - name: Everything generated is as it would be written now\n"
CHECK_ALL = "      - name: Every verdict is the one expected\n        if: ${{ !cancelled() }}\n"
BEFORE = "permissions: {}\n\nenv:\n"
REQUIRED = '      REQUIRE_MNIST: "1"'


@pytest.mark.parametrize("path", FILES, ids=identify)
def test_as_they_are_they_weaken_nothing(path: Path) -> None:
    assert weakenings(path) == []


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        pytest.param(path, old, new, id=name)
        for name, path, old, new in [
            ("job errs on", CI, "  verify:\n", "  verify:\n    continue-on-error: true\n"),
            ("step errs on", CI, SCORE, f"{SCORE}        continue-on-error: true\n"),
            (
                "lint errs on",
                CI,
                "      - name: ruff\n",
                "      - name: ruff\n        continue-on-error: ${{ github.ref != 'x' }}\n",
            ),
            ("job never runs", CI, "  test:\n", "  test:\n    if: false\n"),
            ("job runs for some", CI, "  report:\n", "  report:\n    if: github.actor == 'me'\n"),
            ("step never runs", CI, SCORE, f"{SCORE}        if: false\n"),
            ("report never runs", CI, REPORT, f"{REPORT}        if: ${{{{ failure() }}}}\n"),
            ("condition lost", CI, CHECK_ALL, CHECK_ALL.partition("        if")[0]),
            ("publishes of all", CI, "github.event_name == 'push' && ", ""),
            ("addopts", CI, REQUIRED, f'{REQUIRED}\n      PYTEST_ADDOPTS: "--collect-only"'),
            ("addopts of all", CI, "env:\n  #", "env:\n  PYTEST_ADDOPTS: -k badges\n  #"),
            ("addopts of a step", CI, TEST, f"        env:\n          PYTEST_ADDOPTS: -x\n{TEST}"),
            ("plugins", CI, REQUIRED, f"{REQUIRED}\n      PYTEST_PLUGINS: quiet"),
            ("another shell's start", CI, REQUIRED, f"{REQUIRED}\n      BASH_ENV: .ci/quiet"),
            ("MNIST not required", CI, REQUIRED, '      REQUIRE_MNIST: "0"'),
            ("carried on", CI, TEST, '        run: echo "PYTEST_ADDOPTS=-x" >> "$GITHUB_ENV"\n'),
            ("some tests", CI, "pytest tests/", "pytest tests/ -k badges"),
            ("one test", CI, "pytest tests/", "pytest tests/test_badges.py"),
            ("collects", CI, "pytest tests/", "pytest --collect-only tests/"),
            ("marks", CI, "pytest tests/", "pytest -m sweep tests/"),
            ("collects notebooks", CI, EXECUTE, f"{EXECUTE} --collect-only"),
            ("no tests", CI, f"      - name: Test\n{TEST}", ""),
            ("ignores paths", CI, '["**"]', '["**"]\n    paths-ignore: ["records/**"]'),
            ("looks at paths", CI, '["**"]', '["**"]\n    paths: ["mnist_models/**"]'),
            ("ignores branches", CI, '["**"]', '["**"]\n    branches-ignore: ["x"]'),
            ("one branch", CI, '["**"]', '["main"]'),
            ("pull requests", CI, "  pull_request:\n", "  pull_request:\n    types: [labeled]\n"),
            ("typed", CI, '--verify "$VERIFY"', "--verify success"),
            ("typed variable", CI, "${{ needs.verify.result }}", "success"),
            (
                "typed otherwise",
                CI,
                "${{ needs.verify.result }}",
                "${{ needs.verify.result && 'success' }}",
            ),
            ("another job's", CI, "needs.verify.result", "needs.notebooks.result"),
            (
                "default shell",
                CI,
                BEFORE,
                f'defaults:\n  run:\n    shell: bash -c "exit 0" {{0}}\n{BEFORE}',
            ),
            (
                "job's shell",
                CI,
                "  verify:\n",
                "  verify:\n    defaults:\n      run:\n        shell: bash {0}\n",
            ),
            ("step's shell", CI, VERIFY, f"        shell: bash {{0}}\n{VERIFY}"),
            ("elsewhere", CI, VERIFY, f"        working-directory: notebooks\n{VERIFY}"),
            ("or true", CI, "models verify", "models verify || true"),
            ("or nothing", CI, "run: .ci/lint-workflows", 'run: ".ci/lint-workflows || :"'),
            ("not e", CI, "          mypy\n", "          set +e\n          mypy\n          true\n"),
            ("piped", CI, "          mypy\n", "          mypy | cat\n"),
            ("ends early", CI, "          ruff check", "          exit 0\n          ruff check"),
            ("beside", CI, "          ruff format --check .", "          ruff format --check . &"),
            ("some records", CI, "models verify", "models verify --records records/one"),
            ("no check", CI, "report --check", "report"),
            ("one verdict", CI, "check --all", "check frontier-8k"),
            ("no job", CI, "  verify:\n", "  verified:\n"),
            (
                "fewer combinations",
                CI,
                "      matrix:\n",
                "      matrix:\n        exclude:\n          - python: '3.11'\n",
            ),
            (
                "another tree",
                CI,
                "          persist-credentials: false\n",
                "          persist-credentials: false\n          ref: good\n",
            ),
            ("in a container", CI, "  verify:\n", "  verify:\n    container: quiet\n"),
            ("checks errs on", CHECK, "  check:\n", "  check:\n    continue-on-error: true\n"),
            ("another ref's checks", CHECK, "ref: main", "ref: mine"),
            (
                "checks never run",
                CHECK,
                "        id: check\n",
                "        id: check\n        if: false\n",
            ),
            ("unscored", TRAIN, VERIFY, "        run: echo verified\n"),
            ("scored or not", TRAIN, VERIFY, VERIFY.replace("verify", "verify || true")),
            ("handed over anyhow", TRAIN, "!cancelled() && steps.train", "always() || steps.train"),
            ("trains on what there is", TRAIN, "DEVICE: cuda", "DEVICE: auto"),
            (
                "action errs on",
                ACTION,
                "      id: check\n",
                "      id: check\n      continue-on-error: true\n",
            ),
            ("action's shell", ACTION, "shell: bash\n", "shell: bash {0}\n"),
            ("action or true", ACTION, '-- "$MODEL"', '-- "$MODEL" || true'),
            ("action's assignment", ACTION, '"$ASSIGNMENT"', "mine.toml"),
        ]
    ],
)
def test_a_weakening_is_noticed(path: Path, old: str, new: str, tmp_path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    mutant = tmp_path / path.name
    mutant.write_text(text.replace(old, new, 1), encoding="utf-8")
    assert weakenings(mutant) != []
