from __future__ import annotations

import functools
import hashlib
import re
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from neuros_mechint.core.errors import OptionError, StorageError
from neuros_mechint.datasets import fetch as fetching
from neuros_mechint.datasets.fetch import DataFile, data_files, fetch

CONTENT = b"the right content"


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / "server"
    folder.mkdir()
    handler = functools.partial(_QuietHandler, directory=folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
        yield folder, f"http://127.0.0.1:{http.server_port}/sample.bin"
        http.shutdown()


@pytest.fixture
def sample(server, tmp_path, monkeypatch):
    entry = DataFile("samples", server[1], hashlib.sha256(CONTENT).hexdigest(), "made for this test")
    monkeypatch.setattr(fetching, "_FILES", {"sample.bin": entry})
    monkeypatch.setenv("NEUROS_MECHINT_DATA", str(tmp_path / "mine"))
    monkeypatch.setattr("pooch.os_cache", lambda project: tmp_path / "cache" / project)
    return entry


def _put(path, content):
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return path


def test_file_in_the_users_folder_comes_before_the_cache(sample, tmp_path):
    mine = _put(tmp_path / "mine/samples/sample.bin", CONTENT)
    _put(tmp_path / "cache/neuros-mechint/samples/sample.bin", CONTENT)
    assert fetch("sample.bin") == mine


def test_file_in_the_cache_is_used_without_download(sample, tmp_path):
    cached = _put(tmp_path / "cache/neuros-mechint/samples/sample.bin", CONTENT)
    assert fetch("sample.bin", download=False) == cached


@pytest.mark.parametrize("folder", ["mine", "cache/neuros-mechint"])
def test_changed_content_is_refused_wherever_it_lies(sample, tmp_path, folder):
    _put(tmp_path / folder / "samples/sample.bin", b"something else")
    with pytest.raises(StorageError, match=sample.sha256):
        fetch("sample.bin")


def test_missing_file_is_downloaded_into_the_cache_once(sample, server, tmp_path):
    (server[0] / "sample.bin").write_bytes(CONTENT)
    path = fetch("sample.bin", progress=False)
    assert path == tmp_path / "cache/neuros-mechint/samples/sample.bin"
    assert path.read_bytes() == CONTENT
    (server[0] / "sample.bin").unlink()
    assert fetch("sample.bin") == path


def test_download_of_other_content_is_refused_and_not_kept(sample, server, tmp_path):
    (server[0] / "sample.bin").write_bytes(b"something else")
    with pytest.raises(StorageError, match="could not be downloaded"):
        fetch("sample.bin", progress=False)
    assert not list(tmp_path.glob("cache/**/sample.bin"))


def test_failed_download_says_where_to_put_the_file(sample):
    with pytest.raises(StorageError, match="NEUROS_MECHINT_DATA"):
        fetch("sample.bin", progress=False)


def test_without_download_a_missing_file_is_an_error(sample, server):
    (server[0] / "sample.bin").write_bytes(CONTENT)
    with pytest.raises(StorageError, match="not on this machine"):
        fetch("sample.bin", download=False)


def test_unknown_name_suggests_the_near_one():
    with pytest.raises(OptionError, match=r"92_brainRDMs\.mat"):
        fetch("92_brainRDM.mat")


def test_every_address_names_one_fixed_commit():
    for name, entry in data_files().items():
        assert entry.url.endswith("/" + name)
        assert re.search(r"/[0-9a-f]{40}/", entry.url), "an address of one fixed commit"
        assert len(entry.sha256) == 64


@pytest.mark.parametrize("name", data_files())
def test_known_files_have_their_checksum(name):
    try:
        path = fetch(name, download=False)
    except StorageError as error:
        if "not on this machine" not in str(error):
            raise
        pytest.skip(f"{name} is not on this machine: set NEUROS_MECHINT_DATA")
    assert hashlib.sha256(path.read_bytes()).hexdigest() == data_files()[name].sha256
