from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

import neuros_mechint
from neuros_mechint.core.errors import InputError, StorageError
from neuros_mechint.core.fingerprint import fingerprint_array, fingerprint_module
from neuros_mechint.core.provenance import Provenance, package_versions, summarize_argument

BUILD_AND_PRINT = """
import torch
from neuros_mechint.core.fingerprint import fingerprint_module
from tests_fingerprint_model import build
print(fingerprint_module(build()))
"""
MODEL = """
import torch
def build():
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.BatchNorm1d(4))
    with torch.no_grad():
        for number, tensor in enumerate(model.state_dict().values()):
            tensor.copy_(torch.arange(tensor.numel()).reshape(tensor.shape) + number)
    return model
"""


def small_model() -> torch.nn.Module:
    names: dict[str, object] = {}
    exec(MODEL, names)
    return names["build"]()  # type: ignore[operator]


class WithConfig(torch.nn.Module):
    def __init__(self, config: object) -> None:
        super().__init__()
        self.config = config


class DictConfig:
    def __init__(self, **settings: object) -> None:
        self.settings = settings

    def to_dict(self) -> dict[str, object]:
        return dict(self.settings)


def test_fingerprint_is_the_same_in_another_process(tmp_path):
    (tmp_path / "tests_fingerprint_model.py").write_text(MODEL)
    paths = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    printed = subprocess.run(
        [sys.executable, "-c", BUILD_AND_PRINT],
        env={**os.environ, "PYTHONPATH": paths, "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert printed == fingerprint_module(small_model())


@pytest.mark.parametrize("index", range(5))
def test_fingerprint_sees_one_changed_value_of_every_small_tensor(index):
    model, changed = small_model(), small_model()
    tensor = [t for t in changed.state_dict().values() if t.ndim][index]
    tensor.view(-1)[-1] += 1
    assert fingerprint_module(model) != fingerprint_module(changed)


def _one_weight(weight):
    with torch.no_grad():
        weight[7, 11] += 1


def _row_behind_torch(weight):
    weight.data[7] = 0


def _column_behind_torch(weight):
    weight.data[:, 11] = 0


def _other_memory(weight):
    weight.data = weight.data.clone()
    weight.data[7, 11] += 1


@pytest.mark.parametrize("change", [_one_weight, _row_behind_torch, _column_behind_torch, _other_memory])
def test_a_fingerprint_taken_before_is_not_trusted_after_a_change(change):
    layer = torch.nn.Linear(128, 256)
    before = fingerprint_module(layer)
    assert fingerprint_module(layer) == before == fingerprint_module(copy.deepcopy(layer))
    change(layer.weight)
    assert fingerprint_module(layer) != before
    assert fingerprint_module(layer) == fingerprint_module(copy.deepcopy(layer))


@pytest.mark.parametrize("change", [_row_behind_torch, _column_behind_torch])
def test_the_fingerprint_of_a_large_tensor_sees_every_row_and_column(change):
    layer = torch.nn.Linear(1024, 512)
    before = fingerprint_module(layer)
    change(layer.weight)
    assert fingerprint_module(layer) != before


def test_fingerprint_sees_classes_and_settings_without_parameters():
    variants = [
        torch.nn.Sequential(torch.nn.ReLU()),
        torch.nn.Sequential(torch.nn.Tanh()),
        torch.nn.Sequential(torch.nn.Dropout(0.1)),
        torch.nn.Sequential(torch.nn.Dropout(0.2)),
        WithConfig(DictConfig(n_heads=2)),
        WithConfig(DictConfig(n_heads=4)),
        WithConfig({"n_heads": 2, "extra": True}),
    ]
    assert len({fingerprint_module(variant) for variant in variants}) == len(variants)


def test_fingerprint_ignores_mode_and_where_the_model_came_from():
    model = small_model()
    before = fingerprint_module(model)
    assert fingerprint_module(model.eval()) == before
    assert fingerprint_module(model.requires_grad_(False)) == before
    first, second = ({"n": 1, "_name_or_path": path, "device": path} for path in ("a", "b"))
    assert fingerprint_module(WithConfig(first)) == fingerprint_module(WithConfig(second))


def test_settings_that_json_cannot_hold_are_stable():
    first, second = (WithConfig({"dtype": torch.float16, "initializer": object(), "act": np.tanh}) for _ in range(2))
    assert fingerprint_module(first) == fingerprint_module(second)


def test_fingerprint_samples_large_tensors_and_sees_a_global_change():
    model = torch.nn.Linear(1024, 1024)
    before = fingerprint_module(model)
    with torch.no_grad():
        model.weight.mul_(1.5)
    assert fingerprint_module(model) != before


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.complex64, torch.int8, torch.bool])
def test_fingerprint_takes_every_dtype_layout_and_size(dtype):
    module = torch.nn.Module()
    module.register_buffer("scalar", torch.ones((), dtype=dtype))
    module.register_buffer("empty", torch.ones((0, 3), dtype=dtype))
    module.register_buffer("turned", torch.ones((3, 2), dtype=dtype).T)
    before = fingerprint_module(module)
    module.turned[0, 1] = 0
    assert fingerprint_module(module) != before


def test_fingerprint_leaves_the_model_alone():
    model = small_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fingerprint_module(model)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert model.training


def test_what_is_not_a_finished_module_is_refused():
    with pytest.raises(InputError, match="torch modules"):
        fingerprint_module("gpt2")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="not initialized"):
        fingerprint_module(torch.nn.LazyLinear(3))


def test_array_fingerprint_depends_on_values_dtype_and_shape_only():
    array = np.arange(6)
    variants = [array, array.astype(np.int32), array.reshape(2, 3), array + 1, array.astype(float)]
    assert len({fingerprint_array(variant) for variant in variants}) == len(variants)
    assert fingerprint_array(np.arange(12)[::2] // 2) == fingerprint_array(array)
    assert fingerprint_array(xr.DataArray(array)) == fingerprint_array(array)
    assert fingerprint_array(torch.arange(3)) != fingerprint_array(torch.arange(3) + 1)
    assert fingerprint_array(np.array(["a", "b"], dtype=object)) != fingerprint_array(
        np.array(["a", "c"], dtype=object)
    )


def test_large_arrays_are_sampled_but_still_told_apart():
    large = np.zeros(3_000_000)
    assert fingerprint_array(large) != fingerprint_array(large + 1)
    assert fingerprint_array(large) == fingerprint_array(large.copy())


def test_arrays_of_objects_have_no_fingerprint():
    with pytest.raises(InputError, match="stable hash"):
        fingerprint_array(np.array([{}, []], dtype=object))


def test_record_holds_what_took_part():
    record = Provenance.record(seed=3, model=small_model(), arguments={"x": np.zeros((2, 3)), "method": "exact"})
    assert record.versions["numpy"] == np.__version__
    assert record.versions["torch"] == torch.__version__
    assert record.versions["neuros-mechint"] == neuros_mechint.__version__
    assert record.seed == 3
    assert record.model == fingerprint_module(small_model())
    assert record.arguments["x"] == {
        "shape": [2, 3],
        "dtype": "float64",
        "hash": fingerprint_array(np.zeros((2, 3)))[:16],
    }
    assert abs((datetime.now(UTC) - datetime.fromisoformat(record.timestamp)).total_seconds()) < 5


def test_only_loaded_model_libraries_are_listed(monkeypatch):
    monkeypatch.delitem(sys.modules, "brian2", raising=False)
    assert "brian2" not in package_versions()
    monkeypatch.setitem(sys.modules, "brian2", sys)
    assert "brian2" in package_versions()


def test_recording_imports_no_library():
    code = (
        "import sys; from neuros_mechint.core.provenance import Provenance; Provenance.record(seed=0);"
        "assert not {'torch', 'transformers', 'xarray'} & set(sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_json_round_trip_of_every_kind_of_argument():
    @dataclass
    class Options:
        k: int
        weights: np.ndarray

    arguments = {
        "nothing": None,
        "flag": np.bool_(True),
        "number": np.float32(0.5),
        "not_a_number": float("nan"),
        "complex": 1 + 2j,
        "nested": {"a": [1, (2, "x")], 3: {"b", "a"}},
        "path": Path("folder/file.nc"),
        "tensor": torch.zeros(2),
        "function": np.mean,
        "object": object(),
        "options": Options(2, np.ones(3)),
        "long": list(range(1000)),
        "ragged": np.array([{}, []], dtype=object),
    }
    record = Provenance.record(seed=np.random.default_rng(0), model="abc", arguments=arguments)
    assert Provenance.from_json(record.to_json()) == record
    json.loads(record.to_json(), parse_constant=pytest.fail)
    assert record.arguments["nested"] == {"a": [1, [2, "x"]], "3": ["a", "b"]}
    assert record.arguments["function"] == "numpy.mean"
    assert record.arguments["long"]["length"] == 1000
    assert record.arguments["options"]["k"] == 2
    assert "0x" not in record.to_json()


def test_generators_are_told_apart_by_their_state():
    source = np.random.default_rng(0)
    before = Provenance.record(seed=source).seed
    assert isinstance(before, str)
    assert before.startswith("PCG64")
    assert Provenance.record(seed=source).seed == before
    source.normal()
    assert Provenance.record(seed=source).seed != before


def test_long_lists_that_differ_get_different_hashes():
    assert summarize_argument(list(range(100))) != summarize_argument([*range(99), 0])


def test_records_cannot_be_changed():
    record = Provenance.record(arguments={"a": 1})
    with pytest.raises(AttributeError):
        record.seed = 1  # type: ignore[misc]
    with pytest.raises(TypeError):
        record.arguments["a"] = 2  # type: ignore[index]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"seed": 1}', "null"])
def test_text_that_is_no_record_is_refused(text):
    with pytest.raises(StorageError, match="not a provenance record"):
        Provenance.from_json(text)


def test_bad_seed_or_model_is_refused():
    with pytest.raises(InputError, match="seed"):
        Provenance.record(seed=True)
    with pytest.raises(InputError, match="torch modules"):
        Provenance.record(model=3)  # type: ignore[arg-type]


def test_results_name_the_seed_that_was_given_and_not_what_was_drawn_from_it():
    model = neuros_mechint.adapt(torch.nn.Linear(4, 1, bias=False))
    inputs = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    first = inputs[0] - inputs[1]
    metric = lambda output: output[:, 0]  # noqa: E731
    found = [
        neuros_mechint.lesion(model, inputs, ":in", 0.5, metric, n_controls=2, seed=3),
        neuros_mechint.steer(model, inputs, ":in", first, [0, 1], metric, n_controls=2, seed=3),
        neuros_mechint.induction_check(neuros_mechint.adapt(neuros_mechint.load_model("induction")), lags=[5], seed=3),
    ]
    assert [result.provenance.seed for result in found] == [3, 3, 3]
