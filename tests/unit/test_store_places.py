"""Stores behind URLs: they hold what a folder holds, and what cannot be written says so."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
import uuid

import fsspec
import pytest
import torch

import neuros_mechint as nm
from neuros_mechint.core.errors import StorageError
from neuros_mechint.core.stores.places import folder_at
from neuros_mechint.core.stores.store import ActivationStore
from tests.unit.store_samples import assert_holds, rows_of, small_chunks


@pytest.fixture(scope="module")
def bucket():
    """Lend a bucket of a server on this machine that speaks S3."""
    pytest.importorskip("s3fs", reason="pip install s3fs 'moto[server]'")
    moto = pytest.importorskip("moto.server", reason="pip install s3fs 'moto[server]'")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        fsspec.filesystem("s3").mkdir("bucket")
        yield "s3://bucket"
    server.stop()


@pytest.fixture(params=["memory", "file", "s3"])
def url(request, tmp_path):
    match request.param:
        case "file":
            return f"file://{tmp_path}/bucket/acts.zarr"
        case "s3":
            return f"{request.getfixturevalue('bucket')}/{uuid.uuid4().hex}/acts.zarr"
    return f"memory://{uuid.uuid4().hex}/acts.zarr"


def test_a_store_behind_a_url_is_written_resumed_and_read(url, acts):
    store = small_chunks(url)
    for start, stop in ((0, 3), (3, 9)):
        store.append(rows_of(acts, start, stop))
    store.close()
    assert ActivationStore.samples_written(url) == 9
    assert_holds(ActivationStore.open(url, partial=True), type(acts)(rows_of(acts, 0, 9), store._dims))
    with pytest.raises(StorageError, match=r"not complete: 9 samples(.|\n)*resume"):
        ActivationStore.open(url)
    with ActivationStore.resume(url) as resumed:
        resumed.append(rows_of(acts, 9, 23))
        with pytest.raises(StorageError, match="not open for writing"):
            store.append(rows_of(acts, 9, 12))
    opened = ActivationStore.open(url)
    assert_holds(opened, acts)
    assert url.removeprefix("file://") in repr(opened)
    rows = torch.cat(list(opened.batches("logit", 5, seed=1)))
    assert torch.equal(rows.sort(0).values, acts["logit"].float()[:, None].sort(0).values)
    with pytest.raises(StorageError, match="something at"):
        ActivationStore.create(url, {"x": ("sample",)}, {"x": ()}, {"x": torch.float32})


def test_what_an_interrupted_batch_left_does_not_count(url, acts, monkeypatch):
    store = small_chunks(url)
    store.append(rows_of(acts, 0, 7))
    with monkeypatch.context() as patch:
        patch.setattr(type(store._log), "commit", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            store.append(rows_of(acts, 7, 20))
    assert ActivationStore.samples_written(url) == 7
    with ActivationStore.resume(url) as resumed:
        resumed.append(rows_of(acts, 7, 23))
    assert_holds(ActivationStore.open(url), acts)


def test_the_first_of_two_writers_is_refused(url, acts):
    first = small_chunks(url)
    first.append(rows_of(acts, 0, 7))
    second = ActivationStore.resume(url)
    with pytest.raises(StorageError, match="another process has resumed"):
        first.append(rows_of(acts, 7, 9))
    second.append(rows_of(acts, 7, 9))
    assert_holds(ActivationStore.open(url, partial=True), type(acts)(rows_of(acts, 0, 9), first._dims))


@pytest.mark.parametrize("damage", ["missing", "flipped"])
def test_damage_is_told(url, acts, damage):
    with small_chunks(url) as store:
        store.append(acts)
    files = fsspec.open(url).fs
    chunk = f"{url}/logit/c/0"
    content = bytearray(files.cat_file(chunk))
    content[3] ^= 1
    files.pipe_file(chunk, bytes(content)) if damage == "flipped" else files.rm_file(chunk)
    with pytest.raises(StorageError, match=r"site 'logit' is damaged(.|\n)*acts.zarr/logit"):
        ActivationStore.open(url)["logit"]


def test_a_model_is_captured_to_a_url(url):
    model = nm.adapt(torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU()))
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    store = model.capture(x, ["0"], batch_size=10, to=url)
    assert torch.equal(store["0"], model.capture(x, ["0"], batch_size=10)["0"])
    again = model.capture(x, ["0"], batch_size=10, to=url)  # finished: read, not captured
    assert torch.equal(again["0"], store["0"])
    with pytest.raises(StorageError, match="another capture"):
        model.capture(x + 1, ["0"], to=url)


def test_a_zip_archive_is_read_and_not_written(finished, acts, tmp_path):
    archive = shutil.make_archive(str(tmp_path / "packed"), "zip", finished.path.parent, finished.path.name)
    url = f"zip://acts.zarr::file://{archive}"
    assert_holds(ActivationStore.open(url), acts)
    for other in ("new.zarr", "acts.zarr"):
        with pytest.raises(StorageError):
            ActivationStore.for_activations(f"zip://{other}::file://{archive}", acts)
    with pytest.raises(StorageError, match=r"nothing can be written(.|\n)*copy it there"):
        ActivationStore.for_activations(f"zip://new.zarr::file://{archive}", acts)


@pytest.mark.parametrize("url", ["no-such-system://bucket/acts.zarr", "s3x://a"])
def test_an_unknown_kind_of_url_is_refused(url, acts):
    with pytest.raises(StorageError, match="cannot reach"):
        ActivationStore.open(url)


def test_nothing_behind_a_url_is_no_store():
    with pytest.raises(StorageError, match=r"no activation store(.|\n)*nothing"):
        ActivationStore.open("memory://nowhere/acts.zarr")
    fsspec.filesystem("memory").pipe_file("/somewhere/else", b"")
    with pytest.raises(StorageError, match=r"no activation store(.|\n)*a folder without zarr.json"):
        ActivationStore.open("memory://somewhere")


class NoCredentialsError(Exception):
    """As libraries of object storage raise it: no `OSError`."""


REQUESTS = {
    "info": ("holds", "held"),
    "exists": ("state",),
    "ls": ("names", "h"),
    "cat_file": ("read", "held"),
    "pipe_file": ("replace", "held", b"2"),
    "rm_file": ("remove", "held"),
}


@pytest.mark.parametrize("request_name", REQUESTS)
def test_a_place_that_does_not_answer_is_told_at_every_request(request_name, monkeypatch):
    folder = folder_at(f"memory://{uuid.uuid4().hex}/acts.zarr")
    folder.replace("held", b"1")

    def refuse(*_, **__):
        raise NoCredentialsError("unable to locate credentials")

    monkeypatch.setattr(type(fsspec.filesystem("memory")), request_name, refuse)
    verb, *arguments = REQUESTS[request_name]
    with pytest.raises(StorageError, match=r"acts.zarr(.|\n)*NoCredentialsError: unable to locate"):
        getattr(folder, verb)(*arguments)


def test_a_bucket_that_is_not_there_is_not_made(bucket, acts):
    with pytest.raises(StorageError, match=r"lies nowhere(.|\n)*make the bucket first"):
        ActivationStore.for_activations(f"{bucket}-mistyped/acts.zarr", acts)
    assert not fsspec.filesystem("s3").exists(f"{bucket}-mistyped")


def test_a_truncated_object_is_damage(bucket, acts):
    url = f"{bucket}/truncated/acts.zarr"
    with small_chunks(url) as store:
        store.append(acts)
    files = fsspec.filesystem("s3")
    for name in ("logit/c/0", "logit/zarr.json"):
        whole = files.cat_file(f"{url}/{name}")
        files.pipe_file(f"{url}/{name}", whole[: len(whole) // 2])
        with pytest.raises(StorageError, match=r"site 'logit' is damaged"):
            ActivationStore.open(url)["logit"]
        files.pipe_file(f"{url}/{name}", whole)
    assert_holds(ActivationStore.open(url), acts)


WRITE_SLOWLY = """
import sys, torch
from neuros_mechint.core.stores.store import ActivationStore

store = ActivationStore.create(sys.argv[1], {"x": ("sample", "unit")}, {"x": (512,)}, {"x": torch.float32})
for start in range(0, 200_000, 700):
    store.append({"x": torch.arange(start, start + 700.0)[:, None].expand(700, 512)})
    print(store.n_samples, flush=True)
"""


@pytest.mark.slow
def test_a_writer_to_object_storage_killed_while_it_writes_loses_no_finished_batch(bucket):
    url = f"{bucket}/killed/acts.zarr"
    with subprocess.Popen([sys.executable, "-c", WRITE_SLOWLY, url], stdout=subprocess.PIPE, text=True) as writer:
        reported = [int(writer.stdout.readline()) for _ in range(8)]  # a chunk, and more behind it
        read = ActivationStore.open(url, partial=True)["x"]  # while it writes
        assert len(read) >= reported[-1]
        time.sleep(0.13)
        writer.kill()
        reported += [int(line) for line in writer.stdout.read().splitlines()]
    store = ActivationStore.resume(url)
    n = store.n_samples
    assert n in (reported[-1], reported[-1] + 700)
    store.append({"x": torch.full((1, 512), float(n))})
    store.finish()
    assert torch.equal(ActivationStore.open(url)["x"], torch.arange(n + 1.0)[:, None].expand(n + 1, 512))


APPEND = """
import os, sys, torch
from neuros_mechint.core.errors import StorageError
from neuros_mechint.core.stores.store import ActivationStore

path = sys.argv[1]
refused = 0
print("ready", flush=True)
sys.stdin.readline()
while refused < 3 and not os.path.exists(path + ".stop"):
    try:
        store = ActivationStore.resume(path)
        for _ in range(3):
            n = store.n_samples
            store.append({"x": torch.arange(n, n + 5.0)[:, None].expand(5, 700)})
    except StorageError as error:
        assert "another process has resumed" in str(error), error
        refused += 1
open(path + ".stop", "w").close()
print(refused)
"""


@pytest.mark.slow
def test_writers_that_take_a_store_from_each_other_leave_it_whole(tmp_path):
    path = tmp_path / "acts.zarr"
    ActivationStore.create(path, {"x": ("sample", "unit")}, {"x": (700,)}, {"x": torch.float32}).close()
    command, pipe = [sys.executable, "-c", APPEND, str(path)], subprocess.PIPE
    writers = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(2)]
    assert [writer.stdout.readline() for writer in writers] == ["ready\n"] * 2
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    refused = [int(writer.communicate(timeout=120)[0]) for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0]
    assert sum(refused) > 2  # they did take it from each other
    store = ActivationStore.open(path, partial=True)
    n = store.n_samples
    assert n % 5 == 0
    assert torch.equal(store["x"], torch.arange(float(n))[:, None].expand(n, 700))
