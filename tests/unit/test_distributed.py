"""Work on a Dask cluster of two processes: the numbers of one process, whatever happens to the workers."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from functools import partial

import cloudpickle
import joblib
import numpy as np
import pytest
import torch

import neuros_mechint as nm
from neuros_mechint.core.errors import InputError
from neuros_mechint.core.parallel import parallel_map
from tests.slow import slow_case

distributed = pytest.importorskip("distributed", reason="pip install 'neuros-mechint[distributed]'")
psutil = pytest.importorskip("psutil")
cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import tests

MODEL_BYTES = 50_000_000
N_ITEMS = 100


@pytest.fixture(scope="module")
def client():
    dashboard = {"dashboard_address": None, "memory_limit": None}
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, **dashboard) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture
def on_cluster(client):
    client.wait_for_workers(2, timeout=60)
    with joblib.parallel_config(backend="dask"):
        yield client


class Model:
    """Counts how often it is packed, here, and unpacked, in each process."""

    packed, unpacked = 0, 0

    def __init__(self) -> None:
        self.weights = np.random.default_rng(0).integers(0, 256, MODEL_BYTES, dtype=np.uint8)

    def __getstate__(self) -> dict[str, object]:
        type(self).packed += 1
        return self.__dict__

    def __setstate__(self, state: dict[str, object]) -> None:
        os.environ["MODEL_UNPACKED"] = str(int(os.environ.get("MODEL_UNPACKED", "0")) + 1)
        self.__dict__.update(state)

    def __call__(self, item: int) -> tuple[int, int, int]:
        time.sleep(0.02)
        return int(self.weights[item]), os.getpid(), int(os.environ.get("MODEL_UNPACKED", "0"))


def loopback_bytes() -> int:
    counters = psutil.net_io_counters(pernic=True)
    return next(one.bytes_sent for name, one in counters.items() if name.startswith("lo"))


def test_a_model_goes_to_each_worker_once(on_cluster):
    model, before = Model(), loopback_bytes()
    found = parallel_map(model, range(N_ITEMS))
    moved = loopback_bytes() - before
    assert [value for value, _, _ in found] == model.weights[:N_ITEMS].tolist()
    assert {unpacked for _, _, unpacked in found} == {1}
    assert len({process for _, process, _ in found}) == 2
    assert Model.packed == 1
    # to the scheduler and to two workers; other programs of this machine may use the loopback too
    assert moved < 6 * MODEL_BYTES


def test_processes_of_this_machine_get_a_model_once():
    Model.packed = 0
    found = parallel_map(Model(), range(N_ITEMS), n_jobs=2)
    assert {unpacked for _, _, unpacked in found} == {1}
    assert Model.packed == 1


def run_sweep(_):
    module = nm.load_model("induction")
    tokens = torch.randint(1, 60, (6, 12), generator=torch.Generator().manual_seed(0))
    corrupted = tokens.clone()
    corrupted[:, 3] = 5
    patcher = nm.ActivationPatcher(nm.adapt(module), nm.logit_difference(tokens[:, 1], tokens[:, 2]))
    effects = patcher.sweep(tokens, corrupted, "blocks.*.z", by=("head", "position"), batch_size=2)
    return effects.data["per_sample"].values


def run_loop(_):
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
    with torch.no_grad():
        for number, weights in enumerate(module.parameters()):
            weights.copy_(torch.linspace(-1, 1 + number, weights.numel()).reshape(weights.shape))
    random = torch.Generator().manual_seed(0)
    pair = torch.randn(5, 3, generator=random), torch.randn(5, 3, generator=random)
    patcher = nm.ActivationPatcher(nm.adapt(module), lambda output: output[:, 0])
    return patcher.sweep(*pair, sites="0", by=("unit",), engine="loop").data["per_sample"].values


def run_rsa(_, compare, inference):
    random = np.random.default_rng(0)
    truth, noise = random.random(45), random.random((5, 45))
    models = {"true": truth, "other": random.random(45)}
    result = nm.RSA(compare=compare).evaluate(models, truth + noise, inference, n_resamples=60, seed=3)
    return np.concatenate([result.data[name].values.ravel() for name in ("score", "p")])


def run_layers(folder):
    model = nm.adapt(torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 8)).eval())
    with torch.no_grad():
        for weights in model.module.parameters():
            weights.copy_(torch.linspace(-1, 1, weights.numel()).reshape(weights.shape))
    x = torch.randn(300, 4, generator=torch.Generator().manual_seed(0))
    saes = nm.fit_layers(model, x, ["0", "2"], 16, folder / "acts.zarr", k=2, epochs=1, seed=1)
    return np.concatenate([sae.decoder.detach().numpy().ravel() for sae in saes.values()])


def brain():
    random = np.random.default_rng(0)
    layers = {f"layer {k}": random.normal(size=(60, 20)) for k in range(3)}
    regions = {"early": layers["layer 0"][:, :3], "late": layers["layer 2"] @ random.normal(size=(20, 4))}
    return layers, regions


def run_map(_):
    return nm.layer_region_map(*brain(), cv=3).data["fold_score"].values


JOBS = {
    "sweep": run_sweep,
    "loop": run_loop,
    "bootstrap": partial(run_rsa, compare="spearman", inference="dual"),
    "permutation": partial(run_rsa, compare="tau-a", inference="permutation"),
    "autoencoders": run_layers,
    "layers x regions": run_map,
}
SLOW = ("loop", "permutation", "autoencoders")


@pytest.mark.parametrize("job", [slow_case(name) if name in SLOW else name for name in JOBS])
@pytest.mark.filterwarnings("ignore:.*5 subjects:UserWarning")
def test_the_cluster_gives_the_same_bits(job, on_cluster, tmp_path):
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    there = JOBS[job](tmp_path / "there")
    with joblib.parallel_config(backend="sequential"):
        here = JOBS[job](tmp_path / "here")
    np.testing.assert_array_equal(there, here)


def survive(folder, item):
    """Kill the worker that first gets item 7, and say who computes what."""
    number, values = item
    with open(folder / f"{number}.log", "a") as log:
        log.write(f"{os.getpid()}\n")
    if number == 7 and len((folder / "7.log").read_text().splitlines()) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.05)
    return number, float(values.sum())


def test_a_killed_worker_loses_nothing_and_doubles_nothing(on_cluster, tmp_path):
    items = [(number, np.full(1000, float(number))) for number in range(30)]
    found = parallel_map(partial(survive, tmp_path), items)
    assert found == [(number, 1000.0 * number) for number in range(30)]
    first, second = (tmp_path / "7.log").read_text().split()
    assert first != second
    assert not psutil.pid_exists(int(first))
    runs = [len((tmp_path / f"{number}.log").read_text().split()) for number in range(30)]
    assert min(runs) == 1
    assert sum(runs) < 60  # what was done is not done again


class KillingRidge(nm.RidgeEncoding):
    """Kills the first worker that uses it."""

    mark = ""

    def score(self, X, Y, cv=5, groups=None, seed=0):
        if self.mark and not os.path.exists(self.mark):
            open(self.mark, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().score(X, Y, cv=cv)


@pytest.mark.slow
def test_a_map_of_layers_and_regions_survives_a_killed_worker(on_cluster, tmp_path):
    method = KillingRidge()
    with joblib.parallel_config(backend="sequential"):
        here = nm.layer_region_map(*brain(), cv=3, method=method)
    method.mark = str(tmp_path / "killed")
    there = nm.layer_region_map(*brain(), cv=3, method=method)
    assert os.path.exists(method.mark)
    np.testing.assert_array_equal(there.data["fold_score"], here.data["fold_score"])


def refuse(item):
    time.sleep(0.01)
    if item == 3:
        raise InputError("three is not allowed", expected="another number", got=item)
    return item


def test_an_error_comes_back_with_its_item(on_cluster):
    with pytest.raises(InputError, match="three is not allowed") as caught:
        parallel_map(refuse, range(200))
    assert "while working on item 3 of 200 (counted from 0)" in caught.value.__notes__
    assert "expected: another number" in str(caught.value)
    assert_idle(on_cluster)


def linger(folder, item):
    (folder / f"{item}").touch()
    time.sleep(0.2)
    return item


@pytest.mark.parametrize(("backend", "progress"), [("dask", True), ("dask", False), ("loky", True)])
def test_an_interruption_leaves_nothing_running(backend, progress, client, tmp_path):
    client.wait_for_workers(2, timeout=60)
    parallel_map(refuse, range(3), n_jobs=2)  # loky's workers take seconds to start

    def interrupt():
        while len(list(tmp_path.iterdir())) < 4:
            time.sleep(0.01)
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # shells start jobs in the background without one
    try:
        threading.Thread(target=interrupt, daemon=True).start()
        with joblib.parallel_config(backend=backend, n_jobs=2), pytest.raises(KeyboardInterrupt):
            parallel_map(partial(linger, tmp_path), range(100), progress=progress)
    finally:
        signal.signal(signal.SIGINT, before)
    if backend == "dask":
        assert_idle(client)
    begun = len(list(tmp_path.iterdir()))
    time.sleep(0.5)
    assert len(list(tmp_path.iterdir())) == begun < 20


def assert_idle(client):
    give_up = time.monotonic() + 10
    while any(client.processing().values()):
        assert time.monotonic() < give_up
        time.sleep(0.02)


def test_what_cannot_travel_is_refused():
    lock = threading.Lock()
    with pytest.raises(InputError, match="cannot be sent to another process") as caught:
        parallel_map(lambda item: (item, lock), range(3), n_jobs=2)
    assert "backend='threading'" in str(caught.value)


def nested(item):
    return sum(parallel_map(abs, range(-item, 1)))


def test_a_map_in_a_map_and_numbers_of_jobs(on_cluster):
    assert parallel_map(nested, range(4)) == [0, 1, 3, 6]
    processes = parallel_map(lambda _: os.getpid(), range(3), n_jobs=1)
    assert processes == [os.getpid()] * 3
    assert parallel_map(refuse, []) == []
