from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from dpaudit.audit import kinds
from dpaudit.audit_report import AuditReport
from dpaudit.cli.main import run
from dpaudit.verdict import Outcome

ROOT = Path(__file__).parents[2]
LOADER = """
import numpy as np

def batches(seed, steps):
    rng = np.random.default_rng(seed)
    for epoch in range(100):
        yield from rng.permutation(1000).reshape(20, 50)
"""
CLAIM = """
target = "{loader}.py"
{expected}
[claim]
epsilon = {epsilon}
delta = 1e-5
noise_multiplier = 1.0
epochs = 10
num_records = 1000
scheme = {{ name = "poisson", rate = 0.05 }}
[audit]
steps = {steps}
"""


@pytest.fixture
def workplace(tmp_path, monkeypatch) -> Path:
    audits = tmp_path / "audits"
    audits.mkdir()
    (audits / "loader.py").write_text(LOADER)
    monkeypatch.chdir(tmp_path)
    for name in ("GITHUB_STEP_SUMMARY", "GITHUB_ACTIONS"):
        monkeypatch.delenv(name, raising=False)
    return audits


def write(
    audits: Path,
    name: str,
    expected: str = "",
    *,
    epsilon: float = 2.0,
    loader: str = "loader",
    steps: int = 100,
) -> None:
    line = f'expected = "{expected}"' if expected else ""
    text = CLAIM.format(expected=line, epsilon=epsilon, loader=loader, steps=steps)
    (audits / f"{name}.toml").write_text(text)


@pytest.fixture
def quick(monkeypatch, report) -> None:
    """Read loaders as an audit does, and answer at once: refuted, unless epsilon is 100."""
    from dpaudit.claim_file import read_claim_file
    from dpaudit.instrument import capture, load_target

    def plan(path: Path) -> kinds.PlannedAudit:
        file = read_claim_file(path)

        def audit(command: object, tell: object) -> AuditReport:
            capture(load_target(file.target, seed=0), steps=3)
            outcome = Outcome.CONSISTENT if file.claim.epsilon == 100 else Outcome.REFUTED
            return replace(
                report, target=file.target, claim=file.claim, verdict=replace(report.verdict, outcome=outcome)
            )

        return kinds.PlannedAudit(file.title, file.expected, audit)

    monkeypatch.setitem(kinds.KINDS, "sampler", plan)


def check(*arguments: str) -> int:
    """Run in this process: quicker, and the same but for `--jobs`."""
    return run(["check", "--jobs", "0", *arguments])


@pytest.mark.parametrize(("expected", "code"), [("refuted", 0), ("consistent", 1), ("", 1)])
def test_expectations_decide_and_without_them_the_verdict(workplace, quick, expected, code) -> None:
    write(workplace, "a", expected)
    assert check() == code


def test_a_covered_claim_passes_and_reports_are_written(workplace, capsys) -> None:
    write(workplace, "covered", epsilon=100.0)
    write(workplace, "shown", "refuted")
    assert check("audits", "--reports", "out", "--pdf") == 0
    assert sorted(path.suffix for path in Path("out").glob("covered.*")) == [".html", ".json", ".pdf"]
    assert json.loads(Path("out/shown.json").read_text())["verdict"]["outcome"] == "refuted"
    text = capsys.readouterr().out
    assert "1 of 1 audits reached the expected verdict" in text
    assert max(map(len, text.splitlines())) <= 80


def test_reports_keep_names_with_dots(workplace, quick) -> None:
    write(workplace, "model.v2", epsilon=100.0)
    assert check("--reports", "out") == 0
    assert sorted(path.name for path in Path("out").iterdir()) == ["model.v2.html", "model.v2.json"]


def test_the_policy_applies(workplace, quick, capsys) -> None:
    write(workplace, "covered", epsilon=100.0)
    Path("dpaudit.toml").write_text('[gate]\nmax_epsilon = 8.0\nrequired = ["other"]\n')
    assert check() == 1
    text = capsys.readouterr().out
    assert "DPA401" in text
    assert "DPA402" in text


def test_the_policy_applies_to_what_is_expected_to_be_consistent(workplace, quick) -> None:
    write(workplace, "covered", "consistent", epsilon=100.0)
    assert check() == 0
    Path("dpaudit.toml").write_text("[gate]\nmax_epsilon = 8.0\n")
    assert check() == 1


def test_a_demonstration_is_present_where_it_is_required(workplace, quick) -> None:
    write(workplace, "shown", "refuted")
    Path("dpaudit.toml").write_text('[gate]\nmax_epsilon = 1.0\nrequired = ["shown"]\n')
    assert check() == 0


def test_waivers_let_pass_and_are_shown(workplace, quick, capsys) -> None:
    write(workplace, "a")
    Path("dpaudit.toml").write_text(
        "".join(
            f'[[waiver]]\nrule = "{rule}"\nreason = "a known fault"\nuntil = 2099-01-01\napproved_by = "X"\n'
            for rule in ("DPA201", "DPA301", "DPA300")
        )
    )
    assert check("--reports", "out") == 0
    assert "WAIVED DPA201 a: " in capsys.readouterr().out
    assert "a known fault" in Path("out/a.html").read_text()
    Path("dpaudit.toml").write_text(Path("dpaudit.toml").read_text().replace("2099", "2020"))
    assert check() == 1
    assert "expired" in capsys.readouterr().out


def test_too_few_steps_are_inconclusive(workplace) -> None:
    (workplace / "poisson.py").write_text(
        "import numpy as np\n\ndef batches(seed, steps):\n    rng = np.random.default_rng(seed)\n"
        "    for _ in range(steps):\n        yield np.flatnonzero(rng.random(1000) < 0.05)\n"
    )
    write(workplace, "a", loader="poisson", steps=2, epsilon=100.0)
    assert check() == 3
    assert check("--exit-zero") == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["empty"], "no claim file"),
        (["absent"], "absent"),
        (["--pdf"], "--reports"),
        ([], "names no target"),
        (["audits", "other"], "two audits are called 'a'"),
        (["unknown.toml"], "Did you mean 'sampler'?"),
        (["--config", "absent.toml"], "absent.toml"),
        (["-o", "absent/x.json"], "absent"),
    ],
)
def test_bad_input(workplace, capsys, arguments, message) -> None:
    Path("empty").mkdir()
    Path("empty/pyproject.toml").write_text("")
    Path("other").mkdir()
    (workplace / "a.toml").write_text("[claim]\n")
    Path("other/a.toml").write_text("[claim]\n")
    Path("unknown.toml").write_text('kind = "sampeler"\n')
    assert check(*arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""


def test_a_failing_audit_does_not_lose_the_others(workplace, quick, capsys) -> None:
    (workplace / "broken.py").write_text("1 / 0\n")
    write(workplace, "a_broken", loader="broken")
    write(workplace, "b_fine", epsilon=100.0)
    assert check("--reports", "out", "--exit-zero") == 2
    text = capsys.readouterr().out
    assert "ZeroDivisionError" in text
    assert "FAILED" in text
    assert sorted(path.name for path in Path("out").iterdir()) == ["b_fine.html", "b_fine.json"]


def test_a_fault_of_dpaudit_never_reads_as_refuted(workplace, capsys, monkeypatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("ours")

    plan = kinds.PlannedAudit("", None, broken)
    monkeypatch.setitem(kinds.KINDS, "sampler", lambda path: plan)
    write(workplace, "a")
    assert check("--exit-zero") == 70
    text = capsys.readouterr().out
    assert "internal error of dpaudit: RuntimeError: ours" in text
    assert "refuted" not in text


def test_a_kind_is_one_entry_of_the_table(workplace, monkeypatch, report) -> None:
    seen = []

    def plan(path: Path) -> kinds.PlannedAudit:
        seen.append(path)
        return kinds.PlannedAudit("A title", "refuted", lambda command, tell: report)

    monkeypatch.setitem(kinds.KINDS, "other", plan)
    (workplace / "by_key.toml").write_text('kind = "other"\n')
    (workplace / "by_table.toml").write_text("[other]\n")
    assert check("--no-cache") == 0
    assert {path.name for path in seen} == {"by_key.toml", "by_table.toml"}


def test_every_format_names_every_audit(workplace, quick, capsys) -> None:
    write(workplace, "bad")
    write(workplace, "shown", "refuted")
    write(workplace, "surprise", "consistent")
    (workplace / "broken.py").write_text("1 / 0\n")
    write(workplace, "broken", loader="broken")
    for form in ("text", "json", "markdown", "sarif", "junit"):
        assert check("--format", form) == 2
        text = capsys.readouterr().out.replace("\\", "")
        for rule in ("DPA201", "DPA407", "DPA408")[: 3 if form != "text" else 1]:
            assert rule in text
        assert "broken" in text
    assert check("--format", "json") == 2
    record = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in record["audits"]] == ["bad", "broken", "shown", "surprise"]
    assert [one["as_expected"] for one in record["audits"]] == [True, False, True, False]
    assert record["exit_code"] == 2


def test_junit_fails_by_what_the_gate_fails_by(workplace, quick) -> None:
    from junitparser import JUnitXml

    write(workplace, "covered", epsilon=100.0)
    write(workplace, "shown", "refuted")
    Path("dpaudit.toml").write_text('[gate]\nmax_epsilon = 8.0\nrequired = ["other"]\n')
    assert check("--junit", "junit.xml", "--sarif", "x.sarif") == 1
    (suite,) = JUnitXml.fromfile("junit.xml")
    assert {case.name: bool(case.result) for case in suite} == {"covered": True, "other": True}
    results = json.loads(Path("x.sarif").read_text())["runs"][0]["results"]
    assert {result["ruleId"] for result in results} == {"DPA401", "DPA402"}


def test_github_is_told(workplace, quick, monkeypatch, capsys) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "summary.md")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    write(workplace, "a")
    Path("dpaudit.toml").write_text('[gate]\nrequired = ["100%,: a", "b\\n::stop-commands::b"]\n')
    assert check() == 1
    out, err = capsys.readouterr()
    assert "\n::" not in out
    assert "::error file=audits/loader.py,title=DPA201 a::Refuted: " in err
    assert "title=DPA402 100%25%2C%3A a::The required audit" in err
    assert "# dpaudit: failed" in Path("summary.md").read_text()


# The cache


@pytest.fixture
def same_environment(monkeypatch) -> None:
    monkeypatch.setattr("dpaudit.cli.check.environment", lambda: "the same")


def kept(capsys) -> list[bool]:
    capsys.readouterr()
    check("--format", "json")
    return [one["from_cache"] for one in json.loads(capsys.readouterr().out)["audits"]]


def test_an_audit_is_kept_until_something_it_read_changes(workplace, quick, same_environment, capsys) -> None:
    (workplace / "helper.py").write_text("SIZE = 50\n")
    (workplace / "sizes.txt").write_text("20")
    text = LOADER.replace("reshape(20, 50)", "reshape(int(open(FILE).read()), helper.SIZE)")
    head = "import helper\nfrom pathlib import Path\nFILE = Path(__file__).with_name('sizes.txt')\n"
    (workplace / "reading.py").write_text(head + text)
    write(workplace, "b_reading", "refuted", loader="reading")
    write(workplace, "a_other", "refuted")
    assert kept(capsys) == [False, False]
    assert kept(capsys) == [True, True]
    for name, content, again in (
        ("helper.py", "SIZE = 50  # changed\n", "helper"),
        ("sizes.txt", "20\n", "data"),
        ("reading.py", head + text + "\n", "loader"),
        ("b_reading.toml", (workplace / "b_reading.toml").read_text() + "seed = 1\n", "claim"),
    ):
        (workplace / name).write_text(content)
        # Within the clock's grain a change before an audit is not told from one during it.
        time.sleep(0.02)
        assert kept(capsys) == [True, False], again
        assert kept(capsys) == [True, True], again
    assert check("--no-cache", "-q") == 0
    assert (Path(".dpaudit_cache") / ".gitignore").read_text() == "*\n"


def test_a_cache_that_cannot_be_written_is_told_before_the_audits(workplace, quick, capsys) -> None:
    write(workplace, "a", "refuted")
    Path(".dpaudit_cache").write_text("")
    assert check("--reports", "out") == 2
    assert "--no-cache" in capsys.readouterr().err
    assert not list(Path("out").iterdir())
    assert check("--no-cache") == 0


def test_a_summary_page_that_cannot_be_written_changes_nothing(workplace, quick, monkeypatch, capsys) -> None:
    write(workplace, "a", "refuted")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "absent/page.md")
    assert check() == 0
    assert "absent/page.md" in capsys.readouterr().err


def test_what_was_not_there_and_environment_variables_count_as_read(
    workplace, quick, same_environment, monkeypatch, capsys
) -> None:
    (workplace / "data").mkdir()
    (workplace / "data" / "sizes.txt").write_text("20")
    head = """
import contextlib, os
os.environ.get("BATCH_SIZE")
with contextlib.suppress(OSError):
    open("override.json")
with contextlib.suppress(ImportError):
    import settings_of_this_machine
os.chdir("audits/data")
open("sizes.txt").read()
os.chdir("../..")
"""
    (workplace / "loader.py").write_text(head + LOADER)
    write(workplace, "a", "refuted")
    time.sleep(0.02)
    assert kept(capsys) + kept(capsys) == [False, True]
    monkeypatch.setenv("BATCH_SIZE", "64")
    assert kept(capsys) + kept(capsys) == [False, True], "variable"
    for new in ("override.json", "audits/settings_of_this_machine.py", "audits/data/sizes.txt"):
        Path(new).write_text("")
        time.sleep(0.02)
        assert kept(capsys) + kept(capsys) == [False, True], new
    assert '"64"' not in next(Path(".dpaudit_cache").glob("a-*.json")).read_text()


def test_a_damaged_entry_is_made_anew(workplace, quick, same_environment, capsys) -> None:
    write(workplace, "a", "refuted")
    assert kept(capsys) == [False]
    (entry,) = Path(".dpaudit_cache").glob("a-*.json")
    whole = entry.read_text()
    for damage in (whole[:-100], "[]", "{}", whole.replace('"outcome": "refuted"', '"outcome": "fine"')):
        entry.write_text(damage)
        assert kept(capsys) == [False]
        assert entry.read_text() != damage


def test_another_environment_audits_anew(workplace, quick, capsys, monkeypatch) -> None:
    from dpaudit.audit.cache import environment

    marks = []
    for paths in ("a", "b", "a"):
        monkeypatch.setenv("PYTHONPATH", paths)
        marks.append(environment())
    assert marks[0] == marks[2] != marks[1]
    write(workplace, "a", "refuted")
    for mark, found in (("x", [False]), ("x", [True]), ("y", [False])):
        monkeypatch.setattr("dpaudit.cli.check.environment", lambda mark=mark: mark)
        assert kept(capsys) == found


def test_a_failure_is_not_kept(workplace, quick, same_environment, capsys) -> None:
    write(workplace, "a", loader="later")
    assert check() == 2
    (workplace / "later.py").write_text(LOADER)
    assert check() == 1


# Processes


def program(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "dpaudit", "check", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
        # A shell that runs the tests in the background has them ignore interrupts, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def test_a_process_that_dies_takes_no_other_with_it(workplace) -> None:
    (workplace / "dies.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    (workplace / "leaves.py").write_text("import os\nprint('to nobody')\nos._exit(0)\n")
    write(workplace, "a_dies", loader="dies")
    write(workplace, "b_leaves", loader="leaves")
    write(workplace, "c_fine", epsilon=100.0)
    process = program("--jobs", "2", "--reports", "out")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 70, err
    assert "its process was ended by SIGKILL" in " ".join(out.split())
    assert "its process ended with code 0 and gave no result" in " ".join(out.split())
    assert "to nobody" not in out
    assert Path("out/c_fine.json").is_file()
    names = [line.split()[0] for line in out.splitlines()[1:4]]
    assert names == ["a_dies", "b_leaves", "c_fine"]  # in the order of the files, whatever ended first


@pytest.mark.slow
def test_two_loaders_with_helpers_of_one_name_do_not_meet(workplace, capsys) -> None:
    for name, loader in (("one", "poisson"), ("two", "shuffled")):
        Path(name).mkdir()
        body = LOADER if loader == "shuffled" else LOADER.replace("range(100)", "range(0)")
        Path(name, "helper.py").write_text(body)
        Path(name, "loader.py").write_text("from helper import batches\n")
        write(Path(name), name)
    assert run(["check", "one", "two", "--format", "json"]) == 2  # the first loader yields nothing
    outcomes = [one["outcome"] for one in json.loads(capsys.readouterr().out)["audits"]]
    assert outcomes == [None, "refuted"]


def test_an_interrupt_ends_every_process_and_keeps_what_is_done(workplace) -> None:
    (workplace / "endless.py").write_text(
        "import os, time\nfrom pathlib import Path\n\ndef batches(seed, steps):\n"
        "    Path('started').write_text(str(os.getpid()))\n"
        "    while True:\n        time.sleep(0.05)\n        yield [0]\n"
    )
    write(workplace, "a_fine", epsilon=100.0)
    write(workplace, "b_endless", loader="endless", steps=1_000_000)
    process = program("--reports", "out")
    _wait_for(lambda: Path("started").exists() and Path("started").read_text())
    child = int(Path("started").read_text())
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert (out, err.strip()) == ("", "Interrupted.")
    assert Path("out/a_fine.html").is_file()
    _wait_for(lambda: not _alive(child))


def _wait_for(happened, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.1)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_options_come_from_the_environment_too(workplace, quick, monkeypatch, capsys) -> None:
    write(workplace, "a", "refuted")
    monkeypatch.setenv("DPAUDIT_CHECK_OUTPUT", "summary.txt")
    assert check() == 0
    assert capsys.readouterr().out == ""
    assert "Check: passed." in Path("summary.txt").read_text()
