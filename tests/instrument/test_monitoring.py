from __future__ import annotations

import itertools
import logging
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, Subset, TensorDataset

import dpaudit
from dpaudit.errors import ClaimError, DpauditError, SamplingRefutedError, TargetError
from dpaudit.instrument import capture
from dpaudit.instrument.monitoring import LiveRecorder

N, Q = 400, 0.05
CLAIM = dpaudit.Poisson(Q)


class PoissonBatches:
    def __init__(self, steps: int = 60) -> None:
        self.steps = steps

    def __iter__(self):
        for _ in range(self.steps):
            yield torch.nonzero(torch.rand(N) < Q).flatten().tolist()

    def __len__(self) -> int:
        return self.steps


def data() -> TensorDataset:
    return TensorDataset(torch.arange(N).float())


def honest(workers: int = 0) -> DataLoader:
    return DataLoader(data(), batch_sampler=PoissonBatches(), num_workers=workers)


def shuffled() -> DataLoader:
    return DataLoader(data(), batch_size=20, shuffle=True)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("claim", [None, CLAIM])
def test_the_loader_gives_the_same_batches(tmp_path, workers, claim) -> None:
    loader = honest(workers)
    torch.manual_seed(0)
    plain = [batch[0] for _ in range(2) for batch in loader]
    watched = dpaudit.watch(loader, claim=claim, stream=tmp_path / "trace")
    torch.manual_seed(0)
    again = [batch[0] for _ in range(2) for batch in watched]
    assert len(again) == len(plain) == 120
    assert all(torch.equal(one, other) for one, other in zip(plain, again, strict=True))
    trace = watched.trace()
    assert [batch.tolist() for batch in trace.batches()] == [batch.long().tolist() for batch in plain]
    assert trace.epoch_starts.tolist() == [0, 60]
    assert (trace.num_records, trace.remarks) == (N, ())
    assert watched.recording().notes
    if claim is not None:
        assert watched.monitor.state.steps == 120
        assert not watched.monitor.state.refuted


def test_the_refuting_batch_is_not_delivered() -> None:
    watched = dpaudit.watch(shuffled(), claim=CLAIM, stop_on="refuted")
    trained: list[object] = []
    with pytest.raises(SamplingRefutedError, match="refuted at step") as caught:
        trained.extend(watched)
    assert watched.monitor.state.steps == len(trained) + 1 < 12
    assert "dpaudit explain DPA" in caught.value.hint
    assert sum(1 for _ in watched) == 20  # whoever goes on in spite of it is left alone


def test_a_callback_or_a_log_line_instead(caplog) -> None:
    states = []
    watched = dpaudit.watch(shuffled(), claim=CLAIM, stop_on="refuted", on_refuted=states.append)
    assert sum(1 for _ in watched) == 20
    assert [state.refuted for state in states] == [True]
    with caplog.at_level(logging.WARNING, "dpaudit"):
        assert sum(1 for _ in dpaudit.watch(shuffled(), claim=CLAIM)) == 20
    assert [record.message for record in caplog.records if "is refuted at step" in record.message] != []

    def stop(state):
        raise RuntimeError("stop it")

    with pytest.raises(RuntimeError, match="stop it"):
        list(dpaudit.watch(shuffled(), claim=CLAIM, on_refuted=stop))


def test_a_stream_of_record_numbers() -> None:
    watched = dpaudit.watch(PoissonBatches(), claim=CLAIM, num_records=N, stop_on="refuted")
    assert len(list(watched)) == 60
    assert watched.monitor.state.steps == 60
    cyclic = [range(first, first + 20) for first in range(0, N, 20)]
    with pytest.raises(SamplingRefutedError):
        list(dpaudit.watch(cyclic, claim=CLAIM, num_records=N, stop_on="refuted"))


def test_rows_of_a_subset_are_records(tmp_path) -> None:
    half = Subset(data(), range(100, 300))
    watched = dpaudit.watch(
        DataLoader(half, batch_size=50), stream=tmp_path / "t", claim=dpaudit.Poisson(0.25)
    )
    list(watched)
    assert watched.monitor.num_records == 200
    assert watched.trace().indices.tolist() == list(range(200))


def test_masks_stand_for_their_places(tmp_path) -> None:
    rng = np.random.default_rng(0)
    masks = [rng.random(N) < Q for _ in range(30)]
    watched = dpaudit.watch(masks, claim=CLAIM, num_records=N, stream=tmp_path / "t")
    list(watched)
    assert watched.monitor.state.steps == 30
    assert watched.trace().batch(3).tolist() == np.flatnonzero(masks[3]).tolist()


def test_where_the_rate_and_n_come_from() -> None:
    claim = dpaudit.PrivacyClaim(num_records=N)
    assert dpaudit.watch(shuffled(), claim=claim).monitor.sampling_rate == 20 / N
    claim = dpaudit.PrivacyClaim(num_records=N, scheme=CLAIM)
    assert dpaudit.watch([[1]], claim=claim).monitor.num_records == N
    with pytest.raises(ClaimError, match="no sampling rate"):
        dpaudit.watch([[1]], claim=dpaudit.PrivacyClaim(num_records=N))
    with pytest.raises(ClaimError, match="Shuffle"):
        dpaudit.watch([[1]], claim=dpaudit.Shuffle(20, True, False), num_records=N)
    with pytest.raises(TargetError, match="number of records"):
        dpaudit.watch([[1]], claim=CLAIM)
    with pytest.raises(ValueError, match="stop_on"):
        dpaudit.watch([[1]], claim=CLAIM, stop_on="always")
    with pytest.raises(ValueError, match="need a claim"):
        dpaudit.watch([[1]], stop_on="refuted")


def test_a_test_goes_on_after_a_checkpoint(tmp_path) -> None:
    torch.manual_seed(3)
    watched = dpaudit.watch(honest(), claim=CLAIM)
    list(watched)
    watched.monitor.save(tmp_path / "monitor.npz")
    monitor = dpaudit.SamplingMonitor.load(tmp_path / "monitor.npz")
    torch.manual_seed(3)  # as a training that is resumed with the seed that it began with
    again = dpaudit.watch(honest(), claim=monitor, stop_on="refuted")
    with pytest.raises(SamplingRefutedError, match="replayed batches"):
        list(again)
    assert again.monitor.state.steps == 61
    with pytest.raises(ClaimError, match="400 records, the loader has 9"):
        dpaudit.watch([[1]], claim=monitor, num_records=9)


class Endless(IterableDataset):
    def __iter__(self):
        return iter(torch.arange(50.0))


def test_records_without_numbers_are_refused() -> None:
    with pytest.raises(TargetError, match="cannot be followed"):
        dpaudit.watch(DataLoader(Endless(), batch_size=5), claim=CLAIM, num_records=50)


def test_no_trace_without_a_place_for_it() -> None:
    watched = dpaudit.watch(honest(), claim=CLAIM)
    list(watched)
    with pytest.raises(DpauditError, match="no trace was kept"):
        watched.trace()


@pytest.mark.parametrize(
    "batches", [[[1], ["a", "b"], [2]], [[1], [0.5], [2]], [[1], [N + 1], [2]], [[1], [True] * 7, [2]]]
)
def test_our_failure_is_told_once_and_does_not_end_the_training(tmp_path, caplog, batches) -> None:
    watched = dpaudit.watch(batches, claim=CLAIM, num_records=N, stop_on="refuted", stream=tmp_path / "t")
    with caplog.at_level(logging.WARNING, "dpaudit"):
        assert list(watched) == batches
    assert len(caplog.records) == 1
    assert "stopped" in caplog.text
    assert watched.trace().steps == 1


def test_a_full_disk_does_not_end_the_training(tmp_path, caplog) -> None:
    watched = dpaudit.watch(PoissonBatches(), num_records=N, stream=tmp_path / "t")
    batches = iter(watched)
    first = next(batches)
    watched._watch.recorder._writer.flush()
    (tmp_path / "t" / "sizes.bin").rename(tmp_path / "away")
    watched._watch.recorder._writer._chunk_draws = 1
    assert len(list(batches)) == 59
    assert "cannot write" in caplog.text
    (tmp_path / "away").rename(tmp_path / "t" / "sizes.bin")
    assert dpaudit.SamplingTrace.load(tmp_path / "t").batch(0).tolist() == first


ENDED = """
import sys, dpaudit
loader = dpaudit.watch([[1, 2], [], [3]], num_records=9, stream=sys.argv[1])
for batch in loader:
    pass
sys.exit(5)
"""


def test_the_end_of_the_program_ends_the_file(tmp_path) -> None:
    child = subprocess.run([sys.executable, "-c", ENDED, str(tmp_path / "t")], check=False)
    assert child.returncode == 5
    trace = dpaudit.SamplingTrace.load(tmp_path / "t")
    assert [batch.tolist() for batch in trace.batches()] == [[1, 2], [], [3]]
    assert trace.remarks == ()


def test_a_recording_goes_to_disk_run_by_run(tmp_path) -> None:
    def make():
        return honest()

    kept = capture(make, steps=70, runs=2, seed=1)
    streamed = capture(
        make, steps=70, runs=2, seed=1, recorder=LiveRecorder(stream=tmp_path / "t", tolerant=False)
    )
    assert np.array_equal(kept.trace.indices, streamed.trace.indices)
    assert np.array_equal(kept.trace.offsets, streamed.trace.offsets)
    assert kept.trace.run_starts.tolist() == streamed.trace.run_starts.tolist() == [0, 70]
    assert kept.trace.epoch_starts.tolist() == streamed.trace.epoch_starts.tolist()
    assert kept.notes == streamed.notes


def test_a_recording_to_disk_that_fails_says_so(tmp_path) -> None:
    with pytest.raises(DpauditError, match="record numbers"):
        capture([[1], ["a"]], num_records=N, recorder=LiveRecorder(stream=tmp_path / "t", tolerant=False))


def test_a_live_test_holds_no_batch() -> None:
    recorder = LiveRecorder(listen=lambda records, facts: Counter())
    recorder.opened(capture_source(), N)
    for batch in itertools.islice(PoissonBatches(), 20):
        recorder.add(batch)
    assert recorder.steps == recorder.steps_of_run == 20
    assert not len(recorder._log.sizes)


class Counter:
    def update(self, batch) -> None: ...
    def start_pass(self) -> None: ...
    def start_run(self) -> None: ...


def capture_source():
    from dpaudit.instrument.sources import open_source

    return open_source([[1]], seed=0)


def test_the_loader_that_opacus_makes(tmp_path) -> None:
    data_loader = pytest.importorskip("opacus.data_loader")
    loader = data_loader.DPDataLoader.from_data_loader(DataLoader(data(), batch_size=20))
    watched = dpaudit.watch(loader, claim=dpaudit.PrivacyClaim(), stop_on="refuted", stream=tmp_path / "t")
    for _ in range(10):
        list(watched)
    assert watched.monitor.sampling_rate == loader.sample_rate == Q
    assert watched.monitor.state.steps == 200
    assert watched.trace().steps == 200


class Invents(DataLoader):
    def __iter__(self):
        yield from super().__iter__()
        yield "a batch that no data set gave"


def test_a_loader_that_cannot_be_followed_to_its_end_is_not_disturbed(tmp_path, caplog) -> None:
    watched = dpaudit.watch(
        Invents(data(), batch_size=100), stream=tmp_path / "t", claim=dpaudit.Poisson(0.25)
    )
    assert len(list(watched)) == 5
    assert "stopped recording at batch 4" in caplog.text
    assert any("failed after 4 batches" in note for note in watched.recording().notes)


def test_a_trace_that_is_gone_at_the_end_is_told_without_a_traceback(tmp_path) -> None:
    code = "import shutil\n" + ENDED.replace("sys.exit(5)", "shutil.rmtree(sys.argv[1])")
    child = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "t")], check=False, capture_output=True, text=True
    )
    assert child.returncode == 0
    assert "could not finish the recording" in child.stderr
    assert "Traceback" not in child.stderr
