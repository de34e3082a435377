from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]
ROOT = Path(__file__).parent.parent

LOADERS = """
import numpy as np

num_records = 1000

def poisson(seed, steps):
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        yield np.flatnonzero(rng.random(1000) < 0.05)

def shuffled(seed, steps):
    rng = np.random.default_rng(seed)
    for epoch in range(100):
        yield from rng.permutation(1000).reshape(20, 50)
"""
CLAIM = """
target = "loaders.py:{loader}"
{expected}
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


def claim(loader: str, expected: str = "", epsilon: float = 4.8) -> str:
    line = f'expected = "{expected}"' if expected else ""
    return CLAIM.format(loader=loader, expected=line, epsilon=epsilon)


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch) -> pytest.Pytester:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    # Where dpaudit is installed the plugin comes by itself, and must not come twice.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makeini("[pytest]\n")
    pytester.makepyfile(loaders=LOADERS)
    return pytester


def run(project: pytest.Pytester) -> pytest.RunResult:
    """Run pytest in a process of its own, as a user does, with the plugin loaded by its name."""
    return project.runpytest_subprocess("-p", "dpaudit.pytest_plugin", "-p", "no:cacheprovider")


def test_claims_are_tests(project) -> None:
    for name, text in {
        "good": claim("poisson"),
        "shown": claim("shuffled", "refuted"),
        "bad": claim("shuffled"),
    }.items():
        (project.path / f"{name}.toml").write_text(text)
    project.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("name", ["good", "shown", "bad"])
        def test_claim(dpaudit, name):
            report = dpaudit.check(f"{name}.toml")
            assert report.kind == "sampler"
        """
    )
    result = run(project)
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*report = dpaudit.check(*",
            "E  *Refuted: what runs is less private than claimed.",
            "E  *but what runs (shuffle) has epsilon at least *",
            "E  *epsilon what runs (shuffle): at least *",
            "E  *How to fix it: *",
        ]
    )
    assert "pytest_plugin.py" not in result.stdout.str()  # the failure points at the test


@pytest.mark.slow
def test_the_policy_of_the_project_applies(project) -> None:
    (project.path / "good.toml").write_text(claim("poisson"))
    (project.path / "dpaudit.toml").write_text('[gate]\nmax_epsilon = 1.0\nrequired = ["another"]\n')
    project.makepyfile('def test_claim(dpaudit):\n    dpaudit.check("good.toml")\n')
    result = run(project)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E  *DPA401*exceeds the limit 1.*"])
    assert "DPA402" not in result.stdout.str()


@pytest.mark.slow
def test_waivers_of_other_audits_are_not_the_business_of_one(project) -> None:
    (project.path / "good.toml").write_text(claim("poisson"))
    waiver = '[[waiver]]\nrule = "DPA202"\nreason = "x"\nuntil = {}\napproved_by = "X"\n'
    other = waiver.format("2001-01-01") + 'audit = "other"\n'
    strict = '[gate]\nrules = { DPA406 = "error" }\n'
    (project.path / "dpaudit.toml").write_text(strict + other + waiver.format("2999-01-01"))
    project.makepyfile('def test_claim(dpaudit):\n    dpaudit.check("good.toml")\n')
    run(project).assert_outcomes(passed=1)
    (project.path / "dpaudit.toml").write_text(waiver.format("2001-01-01"))
    run(project).assert_outcomes(failed=1)


def test_loaders_are_tested_as_they_are(project) -> None:
    project.makepyfile(
        """
        import loaders
        import pytest

        def test_poisson(dpaudit):
            report = dpaudit.sampler(loaders.poisson, sampling_rate=0.05, steps=100, num_records=1000)
            assert report.evidence.observed.rate.claimed == 0.05

        def test_shuffled(dpaudit):
            dpaudit.sampler(loaders.shuffled, sampling_rate=0.05, steps=100, num_records=1000)

        def test_too_few(dpaudit):
            dpaudit.sampler(loaders.poisson, sampling_rate=0.05, steps=2, num_records=1000)

        def test_contradiction(dpaudit):
            with pytest.raises(ValueError, match="got both"):
                dpaudit.sampler(loaders.poisson, sampling_rate=0.05, scheme=None)
        """
    )
    result = run(project)
    result.assert_outcomes(passed=2, failed=2)
    result.stdout.fnmatch_lines(["E  *Unsupported: *", "E  *steps are needed*"])


@pytest.mark.slow
def test_an_audit_that_cannot_be_made_says_why(project) -> None:
    (project.path / "breaks.py").write_text("1 / 0\n")
    (project.path / "broken.toml").write_text('target = "breaks.py"\n[claim]\n')
    project.makepyfile(
        'def test_claim(dpaudit):\n    dpaudit.check("broken.toml")\n\n\n'
        'def test_absent(dpaudit):\n    dpaudit.check("absent.toml")\n'
    )
    result = run(project)
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["*ZeroDivisionError*", "*broken.toml: cannot import breaks.py*"])
    result.stdout.fnmatch_lines(["*cannot read *absent.toml*"])


def test_the_start_of_pytest_stays_light() -> None:
    code = "import sys, dpaudit.pytest_plugin; print(sorted({m.split('.')[0] for m in sys.modules}))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    ).stdout
    for heavy in ("numpy", "scipy", "torch", "numba", "rich", "click", "jinja2"):
        assert f"'{heavy}'" not in loaded


def test_the_plugin_is_declared() -> None:
    import tomllib

    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["pytest11"]
    assert declared == {"dpaudit": "dpaudit.pytest_plugin"}
