"""Error spent over reruns: the levels, the budget, and its file."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpaudit.canary import ErrorBudget, SpendingFileError, begin_attempt, read_budget, settle_attempt
from dpaudit.canary.error_budget import spending

p_values = st.lists(st.one_of(st.none(), st.floats(0, 1)), max_size=30)


@given(p_values, st.floats(1e-9, 0.999))
def test_refuted_means_that_some_attempt_passed_its_own_level(values, significance):
    budget = ErrorBudget(significance, tuple(values))
    expected = any(
        value is not None and value <= spending(significance, place + 1) for place, value in enumerate(values)
    )
    assert budget.refuted == expected
    assert budget.next_level == spending(significance, len(values) + 1)


@given(p_values, st.lists(st.floats(0, 1), max_size=10))
def test_a_refutation_stands_and_levels_only_fall(values, later):
    budget = ErrorBudget(0.01, tuple(values))
    for value in later:
        longer = budget.begin() if value < 0.1 else budget.spend(value)
        assert longer.next_level < budget.next_level
        assert longer.refuted or not budget.refuted
        budget = longer


@given(st.floats(1e-9, 0.999), st.integers(1, 300))
def test_levels_of_any_number_of_attempts_stay_within_the_significance(significance, attempts):
    total = sum(spending(significance, attempt) for attempt in range(1, attempts + 1))
    assert total < significance
    # The rest of the series is what the integral of 1 / x^2 leaves.
    assert total > significance * (1 - 6 / (3.14159**2 * attempts)) - 1e-12


@given(p_values)
def test_a_budget_survives_its_json(values):
    budget = ErrorBudget(1e-3, tuple(values))
    assert ErrorBudget.from_json(json.loads(json.dumps(budget.to_json()))) == budget


def test_an_attempt_is_settled_once():
    budget = ErrorBudget(1e-3).begin().begin().settle(2, 0.5)
    assert budget.p_values == (None, 0.5)
    for attempt in (0, 2, 3):
        with pytest.raises(ValueError, match="not begun, or is settled"):
            budget.settle(attempt, 0.5)
    with pytest.raises(ValueError, match="outside"):
        budget.settle(1, 1.5)


def test_file_counts_attempts_from_when_they_begin(tmp_path):
    path = tmp_path / "spending.json"
    assert read_budget(path) is None
    first = begin_attempt(path, 1e-3)
    assert (first.number, first.level) == (1, spending(1e-3, 1))
    # Broken off: whoever runs again finds the next level.
    second = begin_attempt(path, 1e-3)
    assert (second.number, second.level) == (2, spending(1e-3, 2))
    assert not settle_attempt(path, second, 0.2).refuted
    # The first one may still end, and refutes at its own level.
    assert settle_attempt(path, first, 5e-4).refuted
    assert read_budget(path) == ErrorBudget(1e-3, (5e-4, 0.2))


def test_attempts_at_the_same_time_get_numbers_of_their_own(tmp_path):
    path = tmp_path / "spending.json"
    with ThreadPoolExecutor(8) as pool:
        numbers = [one.number for one in pool.map(lambda _: begin_attempt(path, 1e-3), range(40))]
    assert sorted(numbers) == list(range(1, 41))
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith(".spending.json.")] == [
        ".spending.json.lock"
    ]


@pytest.mark.slow
def test_processes_get_numbers_of_their_own(tmp_path):
    begin = "for _ in range(10): begin_attempt(sys.argv[1], 1e-3)"
    script = "import sys; from dpaudit.canary import begin_attempt\n" + begin
    command = [sys.executable, "-c", script, str(tmp_path / "spending.json")]
    running = [subprocess.Popen(command, cwd=Path(__file__).parents[2]) for _ in range(3)]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    assert read_budget(tmp_path / "spending.json").attempts == 30


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", '{"p_values": []}', '{"significance": 2, "p_values": []}',
     '{"significance": 1e-3, "p_values": ["x"]}', '{"significance": 1e-3, "p_values": [7]}', b"\xff\xfe"],
)  # fmt: skip
def test_a_corrupted_file_is_an_error_and_stays_as_it_is(tmp_path, content):
    path = tmp_path / "spending.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    before = path.read_bytes()
    with pytest.raises(SpendingFileError, match="is no spending file") as error:
        begin_attempt(path, 1e-3)
    assert "would forget" in error.value.hint
    assert path.read_bytes() == before


def test_a_file_of_another_gate_is_refused(tmp_path):
    path = tmp_path / "spending.json"
    attempt = begin_attempt(path, 1e-3)
    with pytest.raises(SpendingFileError, match=r"significance of 0\.001, not 0\.05"):
        begin_attempt(path, 0.05)
    settle_attempt(path, attempt, 0.5)
    with pytest.raises(SpendingFileError, match="settled already"):
        settle_attempt(path, attempt, 0.9)
    path.unlink()
    with pytest.raises(SpendingFileError, match="was removed"):
        settle_attempt(path, attempt, 0.9)
    with pytest.raises(SpendingFileError, match="cannot write"):
        begin_attempt(tmp_path / "missing" / "spending.json", 1e-3)
