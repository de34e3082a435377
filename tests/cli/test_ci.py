"""The action, the hook and every example of docs/ci.md, run as they are written."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "ci.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)
ACTION = yaml.safe_load((ROOT / "action.yml").read_text())

LOADER = """
import numpy as np

num_records = 1000

def batches(seed, steps):
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        yield np.flatnonzero(rng.random(1000) < 0.05)
"""
CLAIM = """
target = "../my_loader.py"
[claim]
epsilon = {epsilon}
delta = 1e-5
noise_multiplier = 1.0
epochs = 10
num_records = 1000
scheme = {{ name = "poisson", rate = 0.05 }}
[audit]
steps = 100
"""


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """Make a repository with a loader that does what its claim says, and `dpaudit` on the path."""
    (tmp_path / "my_loader.py").write_text(LOADER)
    (tmp_path / "requirements.txt").write_text("")
    (tmp_path / "audits").mkdir()
    (tmp_path / "audits" / "main.toml").write_text(CLAIM.format(epsilon=4.8))
    programs = tmp_path / ".programs"
    programs.mkdir()
    program = programs / "dpaudit"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m dpaudit "$@"\n')
    program.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(
        "PATH", f"{programs}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    )
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for name in ("GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT", "GITHUB_ACTIONS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def blocks(language: str, containing: str = "") -> list[str]:
    found = [text for name, text in BLOCKS if name == language and containing in text]
    assert found
    return found


def bash(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]  # as GitHub calls it
    return subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )


class Workflow:
    """Runs the shell steps of an action the way GitHub does, and leaves out the steps of others."""

    def __init__(self, directory: Path, inputs: dict[str, str]) -> None:
        self.directory = directory
        known = {name: one.get("default", "") for name, one in ACTION["inputs"].items()}
        assert set(inputs) <= set(known)
        self.values = {f"inputs.{name}": value for name, value in (known | inputs).items()}
        self.values |= {"github.action_path": str(ROOT), "github.sha": "0" * 40, "runner.os": "Linux"}
        self.log = ""

    def run(self, *, skip: str = "") -> int:
        for step in ACTION["runs"]["steps"]:
            if "run" not in step:
                self.check_expressions(step)
            elif step["name"] != skip and (code := self.shell(step)):
                return code
        return 0

    def shell(self, step: dict) -> int:
        assert step["shell"] == "bash"
        assert "${{" not in step["run"]  # what comes from outside reaches a shell as environment only
        output = self.directory / "output.txt"
        output.write_text("")
        environment = {name: self.expand(text) for name, text in step.get("env", {}).items()}
        done = bash(
            step["run"],
            **environment,
            GITHUB_OUTPUT=str(output),
            GITHUB_STEP_SUMMARY=str(self.directory / "summary.md"),
            GITHUB_ACTIONS="true",
            RUNNER_TEMP=str(self.directory / "temp"),
        )
        self.log += done.stdout + done.stderr
        for line in output.read_text().splitlines():
            name, _, value = line.partition("=")
            self.values[f"steps.{step['id']}.outputs.{name}"] = value
        return done.returncode

    def expand(self, text: str) -> str:
        return re.sub(r"\$\{\{ (.+?) \}\}", lambda match: self.value(match[1]), text)

    def value(self, expression: str) -> str:
        """Evaluate `a.b || c.d`, all that the action needs of GitHub's expressions."""
        for name in expression.split(" || "):
            if self.values.get(name):
                return self.values[name]
        return ""

    def check_expressions(self, step: dict) -> None:
        outputs = {"steps.check.outputs.sarif", "steps.check.outputs.reports"}
        for name in re.findall(r"[a-z]+(?:\.[\w-]+)+", " ".join(re.findall(r"\$\{\{(.+?)\}\}", str(step)))):
            assert name in self.values or name in outputs


@pytest.mark.parametrize(("epsilon", "code"), [(4.8, 0), (4.0, 1)])
def test_the_action_runs_as_it_is_written(project, epsilon: float, code: int) -> None:
    (project / "audits" / "main.toml").write_text(CLAIM.format(epsilon=epsilon))
    (project / "temp").mkdir()
    workflow = Workflow(project, {"args": "--jobs 2"})
    assert workflow.run(skip="Install dpaudit") == code, workflow.log
    assert workflow.values["steps.check.outputs.exit-code"] == str(code)
    reports = Path(workflow.values["steps.check.outputs.reports"])
    assert sorted(path.name for path in reports.iterdir()) == ["junit.xml", "main.html", "main.json"]
    assert Path(workflow.values["steps.check.outputs.sarif"]).is_file()
    assert f"# dpaudit: {'passed' if code == 0 else 'failed'}" in (project / "summary.md").read_text()
    annotation = "::error file=audits/../my_loader.py,title=DPA201 main::Refuted: "
    assert (annotation in workflow.log) is (code == 1)


def test_a_wrong_claim_file_fails_the_action_without_a_sarif_file(project) -> None:
    (project / "audits" / "main.toml").write_text("[claims]\n")
    (project / "temp").mkdir()
    workflow = Workflow(project, {})
    assert workflow.run(skip="Install dpaudit") == 2
    assert "unknown key 'claims'" in workflow.log
    assert workflow.value("steps.check.outputs.sarif") == ""


def test_inputs_are_words_and_never_code(project) -> None:
    (project / "temp").mkdir()
    workflow = Workflow(project, {"path": "$(touch hacked) `touch hacked` ; touch hacked #"})
    assert workflow.run(skip="Install dpaudit") == 2
    assert not (project / "hacked").exists()


@pytest.mark.slow
def test_the_action_installs_what_it_is_told_to(project, monkeypatch) -> None:
    venv = project / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    # The packages that dpaudit needs are there already, as after a project's own install step.
    site = next(venv.glob("lib/python3*/site-packages"))
    (site / "there.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    monkeypatch.setenv("PATH", f"{venv / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("PYTHONPATH")
    (project / "temp").mkdir()
    workflow = Workflow(project, {"install": str(ROOT)})
    assert workflow.run() == 0, workflow.log
    assert (venv / "bin" / "dpaudit").exists()


def test_the_documented_inputs_are_those_of_the_action() -> None:
    rows = re.findall(r"^\| `([\w-]+)` \| (?:`(.*?)`|this release|none) \|", DOCUMENT, re.MULTILINE)
    assert dict(rows) == {name: one.get("default", "") for name, one in ACTION["inputs"].items()}


@pytest.mark.slow
def test_the_documented_workflow_uses_the_action_as_it_is(project) -> None:
    (workflow,) = [yaml.safe_load(text) for text in blocks("yaml", "runs-on")]
    steps = workflow["jobs"]["dpaudit"]["steps"]
    (ours,) = [step for step in steps if step.get("uses", "").startswith("dpaudit/dpaudit@")]
    (project / "temp").mkdir()
    run = Workflow(project, ours["with"])
    assert run.run(skip="Install dpaudit") == 0, run.log
    commands = [step["run"] for step in steps if "run" in step]
    assert commands == ["python -m pip install -r requirements.txt"]


@pytest.mark.slow
def test_the_documented_commands_run(project) -> None:
    for script in (*blocks("sh", "dpaudit check"), *_gitlab_script()):
        done = bash(script)
        assert done.returncode == 0, done.stdout + done.stderr
    for name in ("junit.xml", "baseline.json", "dpaudit.sarif", "reports/main.html"):
        assert (project / name).is_file()


def _gitlab_script() -> list[str]:
    (job,) = [yaml.safe_load(text)["dpaudit"] for text in blocks("yaml", "script:")]
    assert job["artifacts"]["reports"]["junit"] in job["script"][0]
    return job["script"]


@pytest.mark.slow
def test_the_documented_policy_is_read(project) -> None:
    from dpaudit.config import read_config

    (text,) = blocks("toml")
    (project / "dpaudit.toml").write_text(text)
    config = read_config(project)
    assert config.gate.max_epsilon == 8.0
    assert config.waivers[0].audit == "main"
    assert bash("dpaudit check").returncode == 0


@pytest.mark.slow
def test_the_documented_tests_pass(project) -> None:
    (text,) = blocks("python")
    (project / "test_claims.py").write_text(text)
    command = f"{shlex.quote(sys.executable)} -m pytest -q -p dpaudit.pytest_plugin -p no:cacheprovider"
    # Where dpaudit is installed the plugin comes by itself, and must not come twice.
    environment = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": f"{ROOT}{os.pathsep}{project}"}
    done = bash(command, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


def test_the_hook_runs_as_it_is_declared(project) -> None:
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    (config,) = [yaml.safe_load(text) for text in blocks("yaml", "repos:")]
    (used,) = config["repos"][0]["hooks"]
    assert used["id"] == hook["id"]
    done = bash(shlex.join([*shlex.split(hook["entry"]), *used["args"]]))
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_hook_is_declared_as_pre_commit_wants_it(tmp_path) -> None:
    clientlib = pytest.importorskip("pre_commit.clientlib")
    clientlib.load_manifest(str(ROOT / ".pre-commit-hooks.yaml"))
    config = tmp_path / ".pre-commit-config.yaml"
    config.write_text(blocks("yaml", "repos:")[0])
    clientlib.load_config(str(config))
