"""Traces of several ranks put together, and the place where ranks meet."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dpaudit.errors import DpauditError
from dpaudit.instrument.facts import LoaderFacts
from dpaudit.instrument.methods import Method
from dpaudit.instrument.result import Recording
from dpaudit.instrument.script import Ending, FedOptimizer, How, Program, ReadClaim, ScriptRun
from dpaudit.instrument.script.content_sample import content_sample
from dpaudit.instrument.script.exchange import Exchange, join_ranks
from dpaudit.instrument.script.rank_part import RankFacts, RankPart, collect, leave
from dpaudit.instrument.script.union import _copies, _drift, check_together, joint_run, unite
from dpaudit.trace import SamplingTrace


def part(batches, steps=None, records=10, names=None, made=None, marks=False, epochs=None, **facts):
    numbers = np.arange(len(batches)) if steps is None else np.array(steps)
    told = {"in_group": True, "sample": (10, 1), "method": "carried index", **facts}
    trace = SamplingTrace.from_batches(
        batches, num_records=records, numbered_by_appearance=marks, epoch_starts=epochs
    )
    return RankPart(
        facts=RankFacts(steps=made or int(numbers[-1]) + 1, **told),
        trace=trace,
        step_numbers=numbers,
        names=None if names is None else np.array(names),
    )


def joined(*parts: RankPart, stated: int | None = None) -> list[list[int]]:
    return [sorted(batch.tolist()) for batch in unite(parts, stated).trace.batches()]


def test_a_step_holds_the_batches_of_all_ranks() -> None:
    assert joined(part([[0, 2], [], [4]]), part([[1], [], [3, 4]])) == [[0, 1, 2], [], [3, 4, 4]]


def test_the_union_is_that_of_a_slow_obvious_version() -> None:
    rng = np.random.default_rng(0)
    parts, slow = [], [[] for _ in range(40)]
    for _ in range(3):
        names = rng.permutation(30)[:12]
        names.sort()
        fed = np.flatnonzero(rng.random(40) < 0.8)
        batches = [rng.integers(0, 12, rng.poisson(2)) for _ in fed]
        parts.append(part(batches, steps=fed, records=12, names=names, made=40))
        for step, batch in zip(fed, batches, strict=True):
            slow[step] += names[batch].tolist()
    every = np.unique(np.concatenate([one.names for one in parts]))
    fed = np.unique(np.concatenate([one.step_numbers for one in parts]))
    union = unite(parts, None).trace
    seen = [sorted(every[batch].tolist()) for batch in union.batches()]
    assert seen == [sorted(slow[step]) for step in fed]
    assert union.num_records == len(every)


def test_ranks_are_aligned_by_the_step_of_the_optimizer() -> None:
    one, other = part([[0], [1]], steps=[0, 2], made=3), part([[5], [6], [7]])
    assert joined(one, other) == [[0, 5], [6], [1, 7]]


def test_only_steps_that_all_ranks_made_are_joined() -> None:
    one, other = part([[0], [1]], epochs=[0, 1]), part([[5], [6], [7]])
    union = unite([one, other], None)
    assert (union.steps, [batch.tolist() for batch in union.trace.batches()]) == (2, [[0, 5], [1, 6]])
    assert union.trace.epoch_starts is not None
    assert union.trace.epoch_starts.tolist() == [0, 1]
    assert "2 on rank 0, 3 on rank 1" in _drift([one, other])
    assert _drift([one, one]) == ""


def test_subsets_of_one_data_set_are_told_apart() -> None:
    even, odd = part([[0, 1]], records=3, names=[0, 2, 4]), part([[0, 2]], records=3, names=[1, 3, 5])
    assert joined(even, odd) == [[0, 1, 2, 5]]
    assert unite([even, odd], None).trace.num_records == 6


def test_streams_are_joined_by_content() -> None:
    one = part([[0, 1]], records=2, names=[77, 12], marks=True)
    other = part([[0, 1]], records=2, names=[12, 5], marks=True)
    union = unite([one, other], None).trace
    assert union.indices.tolist() == [0, 1, 1, 2]
    assert (union.num_records, union.numbered_by_appearance) == (3, True)


def test_equal_batches_are_wrong_only_where_ranks_split_the_data() -> None:
    same = [part([[0], [1]]), part([[0], [1]])]
    assert "split the model" in _copies(same)
    wrapped = [replace(one, facts=replace(one.facts, data_parallel=True)) for one in same]
    assert _copies(wrapped) == ""
    assert _copies([part([[0], [1]]), part([[0], [2]])]) == ""


def test_what_cannot_be_judged_on_one_rank_cannot_be_judged_of_all() -> None:
    parts = [part([[0], [1]]), part([[2], [3]])]
    recording = Recording(
        trace=parts[0].trace, method=Method.CARRIED, facts=LoaderFacts(loader="a loader"), seed=None, notes=()
    )
    main = FedOptimizer(
        number=1, optimizer="SGD", recording=recording, batches=2, step_numbers=parts[0].step_numbers
    )
    first = ScriptRun(
        program=Program("train.py"), ending=Ending(How.FINISHED), traces=(main,), claim=ReadClaim(), steps=2,
        notes=(), unjudgeable="Nobody knows.", doubt="Some doubt.",
    )  # fmt: skip
    joint = joint_run(first, parts, None)
    assert (joint.unjudgeable, joint.doubt) == ("Nobody knows.", "Some doubt.")
    equal = joint_run(replace(first, unjudgeable=""), [parts[0], parts[0]], None)
    assert "split the model" in equal.unjudgeable
    first = replace(first, unjudgeable="", doubt="")
    assert joint_run(first, parts, None).unjudgeable == ""
    told = {"unjudgeable": "Rank 1 does not know.", "doubt": "Rank 1 doubts."}
    other = joint_run(first, [parts[0], part([[2], [3]], **told)], None)
    assert (other.unjudgeable, other.doubt) == ("Rank 1 does not know.", "Rank 1 doubts.")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"records": 20}, "10 on rank 0, 20 on rank 1"),
        ({"sample": (10, 2)}, "rank 0 and rank 1 read different data sets"),
        ({"optimizer": "Adam"}, "differ in their optimizer"),
        ({"method": "fingerprint"}, "differ in their method"),
    ],
)
def test_ranks_that_do_not_belong_together_are_refused(change: dict, says: str) -> None:
    with pytest.raises(DpauditError, match=says):
        check_together([part([[0]]), part([[0]], **change)], None)


def test_trainings_side_by_side_are_refused() -> None:
    alone = part([[0]], in_group=False)
    with pytest.raises(DpauditError, match="no process group"):
        check_together([alone, alone], None)


def test_data_that_cannot_be_read_twice_need_a_stated_number() -> None:
    unsure = part([[0]], sample=None)
    with pytest.raises(DpauditError, match="cannot be told") as caught:
        check_together([unsure, unsure], None)
    assert "--num-records" in caught.value.hint
    check_together([unsure, unsure], 10)


def test_content_tells_data_sets_apart() -> None:
    data = [(float(row), row % 3) for row in range(100)]
    assert content_sample(data) == content_sample(list(data)) is not None
    assert content_sample(data) != content_sample(data[1:] + data[:1])
    assert content_sample(data) != content_sample(data + data)

    class Noisy:
        def __len__(self) -> int:
            return 5

        def __getitem__(self, row: int) -> bytes:
            return os.urandom(8)

    assert content_sample(Noisy()) is None


def test_a_part_comes_back_as_it_was_left(tmp_path: Path) -> None:
    left = part([[0, 1], [], [2]], names=range(10), epochs=[0, 2], dataset="Points")
    leave(tmp_path / "rank-1.npz", left)
    read = collect(tmp_path / "rank-1.npz", 1)
    assert read.facts == left.facts
    assert joined(read) == joined(left)
    leave(tmp_path / "rank-1.npz", DpauditError("saw nothing", "Train."))
    with pytest.raises(DpauditError, match="rank 1: saw nothing"):
        collect(tmp_path / "rank-1.npz", 1)
    (tmp_path / "rank-1.npz").write_bytes(b"PK")
    with pytest.raises(DpauditError, match="what rank 1 left cannot be read"):
        collect(tmp_path / "rank-1.npz", 1)


def environment(rank: int, **more: str) -> dict[str, str]:
    return {"WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_WORLD_SIZE": "2", "MASTER_PORT": "1", **more}


def meet(rank: int, shared: Path, patience: float = 5.0) -> Exchange:
    exchange = join_ranks(environment(rank), shared, patience)
    assert exchange is not None
    return exchange


def test_one_process_is_no_rank(tmp_path: Path) -> None:
    assert join_ranks({}, None, 1.0) is None
    assert join_ranks({"WORLD_SIZE": "1", "RANK": "0"}, None, 1.0) is None


def test_all_ranks_get_the_code_of_the_first(tmp_path: Path) -> None:
    first, second = meet(0, tmp_path), meet(1, tmp_path)
    assert first.directory.stat().st_mode & 0o077 == 0
    codes: list[int] = []
    waiting = threading.Thread(target=lambda: codes.append(second.await_code()))
    waiting.start()
    leave(second.part(1), part([[0]]))
    first.await_parts()
    threading_main = threading.Thread(target=lambda: first.publish(3))  # leaves SIGTERM of the tests alone
    threading_main.start()
    threading_main.join()
    waiting.join()
    assert codes == [3]
    assert not first.directory.exists()


def test_a_rank_that_never_comes_is_named(tmp_path: Path) -> None:
    with pytest.raises(DpauditError, match=r"rank 1 \(not seen at all\) left no trace: 0.1 seconds"):
        meet(0, tmp_path, patience=0.1).await_parts()


def test_a_rank_that_died_is_named_at_once(tmp_path: Path) -> None:
    first = meet(0, tmp_path, patience=60.0)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    meet(1, tmp_path)
    here = first.directory / "rank-1.here"
    here.write_text(f"{here.read_text().split()[0]} {gone.pid}")
    with pytest.raises(DpauditError, match="rank 1 left no trace: it died"):
        first.await_parts()


def test_places_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DpauditError, match="several machines"):
        join_ranks(environment(0, LOCAL_WORLD_SIZE="1"), None, 1.0)
    with pytest.raises(DpauditError, match=r"outside 0\.\.1"):
        join_ranks(environment(2), tmp_path, 1.0)
    exchange = meet(0, tmp_path)
    with pytest.raises(DpauditError, match="left from another run"):
        meet(0, tmp_path)
    exchange.directory.chmod(0o755)
    with pytest.raises(DpauditError, match="open to others"):
        meet(1, tmp_path)
