"""Every command of README, docs/ and deploy/ is run by a test, or is listed with the reason why not."""

from __future__ import annotations

import functools
import os
import re
import shlex
import signal
import subprocess
import sys
import urllib.request
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import typer

from flows.cli.main import app, run
from flows.runtime.runtime import Runtime
from tests.flows.docs.pages import PAGES, Command, commands
from tests.paths import ROOT

ELSEWHERE = [
    (
        r"README\.md layerprint sql --store layerprint-demo",
        "tests/flows/docs/test_readme.py::test_the_commands_after_the_demo",
    ),
    (r"README\.md layerprint status --store", "tests/flows/docs/test_readme.py::test_the_commands_after_the_demo"),
    (r"README\.md layerprint (?!open|serve|sql)", "tests/flows/docs/test_readme.py::test_the_commands_of_an_audit"),
    (
        r"README\.md make demo",
        "tests/flows/demo/test_run.py::test_the_memorizer_and_the_planted_release_are_flagged_and_no_other",
    ),
    (r"docs/sql\.md layerprint sql", "tests/flows/cli/sql/test_shell.py::test_the_commands_of_the_page"),
    (r"docs/tutorial\.md (layerprint|python)", "tests/flows/docs/test_tutorial.py::test_the_tutorial_is_true"),
    (
        r".* layerprint serve",
        "tests/flows/orchestration/test_schedule_e2e.py::test_releases_are_audited_without_a_hand",
    ),
    (r".* (layerprint stack|make stack-)", "tests/flows/local_stack/test_stack.py::test_every_service_answers"),
    (
        r".* source layerprint-stack/environment\.sh",
        "tests/flows/local_stack/test_stack.py::test_every_service_answers",
    ),
    (r".* prefect --no-prompt deploy --all", "tests/deploy/test_prefect.py::test_every_deployment_is_made"),
    (r".* prefect deployment run audit_release", "tests/flows/test_deployments.py::test_a_gate_fails_the_flow"),
    (
        r".* prefect (flow-run ls|work-pool|deployment ls|concurrency-limit|automation)",
        "tests/deploy/test_prefect.py::test_the_commands_of_the_pages",
    ),
    (
        r".* python -m benchmarks\.cost_model",
        "tests/benchmarks/test_cost_model.py::test_the_page_shows_the_tables_of_the_model",
    ),
    (r".* make docs", "tests/flows/docs/test_site.py::test_the_site_loads_nothing_from_other_hosts"),
]
"""Pattern of a page and the start of a command, and the test that runs it."""

NOT_RUN = [
    (r"make (setup|test|check|bench|help)", "runs the tests themselves, or takes half an hour; its recipe is expanded"),
    (r"python -m benchmarks\.", "takes minutes to hours, some need data sets; module and options are checked"),
    (
        r"(kubectl|helm|kind) ",
        "needs a Kubernetes cluster; tests/deploy checks the files that it names",
    ),
    (r"(docker|dc|alias) ", "needs a Docker daemon; tests/deploy checks the files that it names"),
    (r"(aws|ray) ", "needs an account, or a running Ray cluster"),
    (r"prefect (deployment|flow-run (logs|cancel))", "needs a run, a worker or a schedule; its options are checked"),
    (r"(git clone|cp|export|source|P=)", "sets up the shell"),
]
"""Pattern of the start of a command, and why no test runs it."""

MEANT = [
    (r"[\[\]](?=--|$| )", ""),  # optional options
    (r"s3://…/spec\.yaml|\bSPEC\b", "spec.yaml"),
    (r"s3://…", "./audits"),
    (r"NAME@VERSION", "glow@80"),
    (r"\bNAME\b", "glow"),
    (r"\bA B\b", "glow glow@80"),
]
"""Placeholders, as patterns, and their values."""

ALL = [command for page in PAGES for command in commands(page)]


def meant(text: str) -> str:
    for pattern, value in MEANT:
        text = re.sub(pattern, value, text)
    return text


def elsewhere(command: Command) -> str | None:
    return next((test for pattern, test in ELSEWHERE if re.match(pattern, f"{command.page} {command.text}")), None)


DONE = {meant(command.text) for command in ALL if command.block and elsewhere(command)}
"""Commands that the tests of other pages run: none is run twice."""


def to_run() -> list[str]:
    """The commands of `layerprint` that only this module runs. In a sentence, one without arguments is just a name."""
    texts = {
        meant(command.text): command.block or (command.text.count(" ") > 1 and "…" not in meant(command.text))
        for command in sorted(ALL, key=lambda command: command.block)
        if command.text.startswith("layerprint ") and not elsewhere(command) and "open" not in command.text
    }
    return [text for text, complete in texts.items() if complete and text not in DONE]


@pytest.mark.parametrize("page", PAGES)
def test_every_command_has_its_test_or_its_reason(page: str) -> None:
    here = {*to_run(), *DONE}
    for command in commands(page):
        known = elsewhere(command) or any(re.match(pattern, command.text) for pattern, _ in NOT_RUN)
        if command.text.startswith("layerprint "):  # its options are checked below in any case
            assert known or not command.block or meant(command.text) in here or " open " in command.text, command
        else:
            assert known, command


@pytest.mark.parametrize("pattern", [pattern for pattern, _ in [*ELSEWHERE, *NOT_RUN]])
def test_no_entry_is_stale(pattern: str) -> None:
    of_page = pattern in dict(ELSEWHERE)
    texts = (f"{command.page} {command.text}" if of_page else command.text for command in ALL)
    assert any(re.match(pattern, text) for text in texts)


@pytest.mark.parametrize("test", sorted({test for _, test in ELSEWHERE}))
def test_the_tests_that_run_them_exist(test: str) -> None:
    file, name = test.split("::")
    assert re.search(rf"^def {name}\(", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("text", to_run())
def test_a_command_runs(
    runtime: Runtime, workplace: Path, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(workplace)
    assert run(shlex.split(text)[1:]) == 0
    assert capsys.readouterr().out


@pytest.mark.parametrize(
    "text", sorted({meant(command.text) for command in ALL if command.text.startswith("layerprint open ")})
)
def test_reports_are_served(runtime: Runtime, workplace: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workplace)
    assert run(["report", "spec.yaml"]) == 0
    command = [sys.executable, "-m", "flows.cli.main", *shlex.split(text)[1:]]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as server:
        assert server.stdout is not None
        try:
            with urllib.request.urlopen(server.stdout.readline().split()[0], timeout=20) as reply:
                assert b"glow" in reply.read()
        finally:
            server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=20) == 0


@pytest.mark.parametrize("text", sorted({command.text for command in ALL if command.text.startswith("layerprint ")}))
def test_the_options_exist(text: str) -> None:
    """The parser knows the options of every command, in sentences too."""
    words = [word for word in shlex.split(meant(text).partition(" && ")[0].partition(" < ")[0])[1:] if word != "…"]
    command: Any = typer.main.get_command(app)
    if words[0].startswith("--"):  # an option of the program
        words = words[:1]
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    options = {name for parameter in command.params for name in parameter.opts} | {"--help"}
    assert {word for word in words if word.startswith("--")} <= options


@pytest.mark.parametrize("text", sorted({command.text for command in ALL if re.match("python -m|make ", command.text)}))
@pytest.mark.usefixtures("processes")
def test_modules_options_and_targets_exist(text: str) -> None:
    words = text.split()
    if words[0] == "make":
        subprocess.run(["make", "--dry-run", words[1]], cwd=ROOT, check=True, capture_output=True)
        return
    module = find_spec(words[2])
    assert module is not None
    assert module.origin is not None
    source = Path(module.origin).read_text(encoding="utf-8")
    for word in words:
        if word.startswith("--"):  # argparse has its name, Typer a parameter
            assert f'"{word}"' in source or re.search(rf"\b{word[2:]}: ", source), word


@functools.cache
def help_of_prefect(*path: str) -> str:
    """The help of a command, which takes seconds to print."""
    program = Path(sys.executable).parent / "prefect"
    return subprocess.run([program, *path, "--help"], check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize(
    "text", sorted({command.text for command in ALL if command.text.startswith("prefect ") and not elsewhere(command)})
)
@pytest.mark.usefixtures("processes")
def test_prefect_knows_the_options(text: str) -> None:
    words = text.split()[1:]
    options = {word for word in words if re.match("--?[a-z]", word)}
    path = [
        word for word in words[: next((i for i, word in enumerate(words) if word in options), None)] if word.islower()
    ]
    shown = help_of_prefect(*path[:3])
    assert all(re.search(rf"(^|[ ,]){option}\b", shown) for option in options)


@pytest.mark.parametrize("page", PAGES)
def test_the_named_files_exist(page: str) -> None:
    texts = "\n".join(command.text for command in commands(page) if command.block)
    for path in re.findall(r"(?<![\w/.])(deploy/[\w./-]+)", texts):
        assert (ROOT / path).exists() or path == "deploy/.env", path
