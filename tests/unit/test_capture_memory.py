"""Capturing far more activations than fit the allowance streams them to disk: memory stays bounded."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.slow import slow_case

SCRIPT = """
import sys, tempfile, threading, time
import psutil, torch
import neuros_mechint as nm

torch.set_num_threads(1)


class Steps(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.steps = torch.nn.ModuleList(torch.nn.Hardtanh() for _ in range(32))

    def forward(self, x):
        for step in self.steps:
            x = step(x) * 0.9
        return x


inputs = torch.randn(int(sys.argv[2]), 16, 512)
model = nm.adapt(Steps())
model.run(inputs[:64])
process = psutil.Process()
before, peak, done = process.memory_info().rss, [0], threading.Event()


def watch():
    while not done.is_set():
        peak[0] = max(peak[0], process.memory_info().rss)
        time.sleep(0.005)


threading.Thread(target=watch).start()
with tempfile.TemporaryDirectory(dir=sys.argv[1]) as folder:
    store = model.capture(inputs, "steps.*", batch_size=64, to=folder + "/store")
    done.set()
    print(store.nbytes, peak[0] - before)
    last = store["steps.31"]
    expected = model.run(inputs[-2:], capture="steps.31").activations["steps.31"]
    assert torch.equal(last[-2:], expected)
"""


@pytest.mark.parametrize("gigabytes", [0.75, slow_case(2)])
def test_gigabytes_are_captured_within_600_megabytes(gigabytes, tmp_path):
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, str(tmp_path), str(int(1024 * gigabytes))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    captured, above = map(int, run.stdout.split())
    assert captured >= gigabytes * 1_000_000_000
    assert above < 600_000_000
