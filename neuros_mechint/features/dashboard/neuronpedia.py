"""Dashboards as the JSON of SAEDashboard and Neuronpedia.

The layout is that of ``NeuronpediaDashboardBatch``, ``NeuronpediaDashboardFeature`` and
``NeuronpediaDashboardActivation`` in sae-dashboard 0.8.0; older files, which lack some fields, open too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from neuros_mechint.core.errors import CapabilityError, StorageError
from neuros_mechint.core.json_text import parse_json
from neuros_mechint.core.result_files import write_atomically

if TYPE_CHECKING:
    from neuros_mechint.features.dashboard.results import FeatureDashboard

_TOP = -1.0
"""What stands for a bin in SAEDashboard's group of top activations; its other groups are quantiles."""
_EMPTY: dict[str, Any] = {
    "feature_index": 0,
    "neuron_alignment_indices": [], "neuron_alignment_values": [], "neuron_alignment_l1": [],
    "correlated_neurons_indices": [], "correlated_neurons_l1": [], "correlated_neurons_pearson": [],
    "correlated_features_indices": [], "correlated_features_l1": [], "correlated_features_pearson": [],
    "neg_str": [], "neg_values": [], "pos_str": [], "pos_values": [], "frac_nonzero": 0,
    "freq_hist_data_bar_values": [], "freq_hist_data_bar_heights": [],
    "logits_hist_data_bar_heights": [], "logits_hist_data_bar_values": [],
    "n_prompts_total": 0, "n_tokens_in_prompt": 0, "dataset": "", "decoder_weights_dist": [], "activations": [],
    "vector": [],
}  # fmt: skip
"""The fields of a feature in their order, each with what sae-dashboard takes where it is not given."""
_LISTS = {  # variable: (field of words or numbers, field of values, dimension)
    "raised": ("pos_str", "pos_values", "rank"),
    "lowered": ("neg_str", "neg_values", "rank"),
    "count": ("freq_hist_data_bar_heights", "freq_hist_data_bar_values", "bin"),
    "logit_count": ("logits_hist_data_bar_heights", "logits_hist_data_bar_values", "logit_bin"),
    "activation_neighbour": ("correlated_features_indices", "correlated_features_pearson", "neighbour"),
}
_VALUES = {
    "raised": "raised_by",
    "lowered": "lowered_by",
    "count": "bin_centre",
    "logit_count": "logit_bin_centre",
    "activation_neighbour": "activation_correlation",
}
_LABELS = {
    "activation": "activation",
    "token": "token",
    "token_activation": "activation",
    "density": "share of observations in which it fires",
    "maximum": "largest activation",
    "raised": "output raised most",
    "lowered": "output lowered most",
    "raised_by": "effect on the logit",
    "lowered_by": "effect on the logit",
    "count": "number of observations",
    "bin_centre": "activation, where it is not zero",
    "logit_count": "number of outputs",
    "logit_bin_centre": "effect on the logit",
    "activation_neighbour": "feature that fires with it",
    "activation_correlation": "correlation of activations",
    "activation_cosine": "cosine of activations",
    "interval_low": "lower end of the interval of activations",
    "interval_high": "upper end of the interval of activations",
    "interval_share": "share of activations in the interval",
}
_UNITS = {
    "density": "fraction", "raised_by": "logits", "lowered_by": "logits", "logit_bin_centre": "logits",
    "count": "observations", "logit_count": "outputs", "interval_share": "fraction",
}  # fmt: skip
_WORDS = ("raised", "lowered")
_SHOWN = {
    "feature_index", "frac_nonzero", "activations", "correlated_features_l1",
    *(field for first, second, _ in _LISTS.values() for field in (first, second)),
}  # fmt: skip
_OF_ACTIVATION = {"bin_min", "bin_max", "bin_contains", "tokens", "values", "qualifying_token_index"}
_HEADER = ("model_id", "layer", "sae_set", "sae_id_suffix")


# -- writing -----------------------------------------------------------------------------------------------------


def write(dashboard: FeatureDashboard, path: Path, names: Mapping[str, str | None]) -> Path:
    """Write a dashboard; see `FeatureDashboard.to_neuronpedia`."""
    if "token" not in dashboard.data:
        raise CapabilityError(
            "this dashboard has no tokens, and Neuronpedia's files are about tokens",
            expected="a dashboard of a model that takes tokens",
            fix="use dashboard.save(path)",
        )
    target = path if path.suffix == ".json" else path / "batch-0.json"
    kept: Mapping[str, Any] = dashboard.attributes.get("neuronpedia", {})
    header = {**_header(dashboard), **kept.get("batch", {})}
    header |= {name: value for name, value in names.items() if name in header and value is not None}
    common = {
        "n_prompts_total": dashboard.attributes.get("n_samples", 0),
        "n_tokens_in_prompt": dashboard.attributes.get("n_positions", 0),
    }
    features: list[dict[str, Any]] = []
    for index, feature in enumerate(dashboard.features):
        others = kept.get("features", {}).get(str(feature), {})
        record = {**_EMPTY, **common, **others.get("fields", {}), **_feature(dashboard, index, others)}
        if names.get("dataset") is not None:
            record["dataset"] = names["dataset"]
        features.append(record)
    try:
        text = json.dumps({**header, "features": features}, allow_nan=False)
    except ValueError as error:
        raise StorageError(
            "the dashboard holds NaN or infinity, which JSON has not", fix="find out where they come from"
        ) from error
    write_atomically(target, lambda temporary: temporary.write_text(text, encoding="utf-8") and None)
    return target


def _header(dashboard: FeatureDashboard) -> dict[str, Any]:
    site = str(dashboard.attributes.get("site", ""))
    layer = re.search(r"blocks\.(\d+)\.", site)
    return {"model_id": "", "layer": int(layer[1]) if layer else 0, "sae_set": site, "sae_id_suffix": None}


def _feature(dashboard: FeatureDashboard, index: int, others: Mapping[str, Any]) -> dict[str, Any]:
    own = dashboard.data.isel(feature=index)
    record: dict[str, Any] = {"feature_index": dashboard.features[index]}
    for name, (what, amount, _) in _LISTS.items():
        if name in own:
            values = own[_VALUES[name]].values
            there = ~np.isnan(values)
            record[what] = own[name].values[there].tolist()
            record[amount] = values[there].tolist()
        else:
            record[what], record[amount] = [], []
    if "activation_cosine" in own:  # sae-dashboard's converter puts cosines there, in spite of the name
        there = ~np.isnan(own["activation_correlation"].values)
        record["correlated_features_l1"] = own["activation_cosine"].values[there].tolist()
    record["frac_nonzero"] = own["density"].item()
    extra = others.get("activations", [])
    record["activations"] = [
        {**(extra[example] if example < len(extra) else {}), **activation}
        for example in range(own.sizes["example"])
        if (activation := _activation(dashboard, index, example))
    ]
    return record


def _activation(dashboard: FeatureDashboard, index: int, example: int) -> dict[str, Any]:
    tokens, values, middle = dashboard._window(index, example)  # pyright: ignore[reportPrivateUsage]
    if not tokens:
        return {}
    own = dashboard.data.isel(feature=index)
    low, high, share = _TOP, own["maximum"].item(), _TOP
    if "interval_low" in own:
        low, high, share = (own[f"interval_{name}"].values[example].item() for name in ("low", "high", "share"))
    return {
        "bin_min": low, "bin_max": high, "bin_contains": share,
        "tokens": tokens, "values": values, "qualifying_token_index": middle,
    }  # fmt: skip


# -- reading -----------------------------------------------------------------------------------------------------


def read(path: Path) -> tuple[xr.Dataset, str, dict[str, Any]]:
    """Read dashboards; see `FeatureDashboard.from_neuronpedia`.

    Returns
    -------
    data : xarray.Dataset
    title : str
    attributes : dict
    """
    batches = [_batch(one) for one in _files(path)]
    headers = [{name: batch[name] for name in _HEADER if name in batch} for batch in batches]
    if any(header != headers[0] for header in headers):
        raise StorageError(f"the files in {path} are of different autoencoders", got=headers[:2])
    features = [feature for batch in batches for feature in batch["features"]]
    numbers = [feature["feature_index"] for feature in features]
    if len(set(numbers)) < len(numbers) or not numbers:
        raise StorageError(f"{path} holds no features, or one of them twice", expected="each feature once")
    others = {
        str(feature["feature_index"]): {
            "fields": {name: value for name, value in feature.items() if name not in _SHOWN},
            "activations": [
                {name: value for name, value in one.items() if name not in _OF_ACTIVATION}
                for one in feature["activations"]
            ],
        }
        for feature in features
    }
    first = {**_EMPTY, **features[0]}
    attributes = {
        "n_samples": first["n_prompts_total"],
        "n_positions": first["n_tokens_in_prompt"],
        "n_observations": first["n_prompts_total"] * first["n_tokens_in_prompt"],
        "words": True,
        "neuronpedia": {"batch": headers[0], "features": others},
    }
    title = ", ".join(str(headers[0][name]) for name in ("model_id", "sae_set") if headers[0].get(name))
    return _dataset(features), f"Features of {title}" if title else "Features", attributes


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    found = {int(match[1]): one for one in path.glob("batch-*.json") if (match := re.search(r"batch-(\d+)", one.name))}
    if not found:
        raise StorageError(f"nothing to open at {path}", expected="a file, or a folder with batch-0.json")
    return [found[number] for number in sorted(found)]


def _batch(path: Path) -> dict[str, Any]:
    def refuse(name: str) -> Any:
        raise StorageError(f"{path} holds {name}, which JSON has not", fix="write the file again")

    try:
        batch = parse_json(path.read_text(encoding="utf-8"), refuse)
    except ValueError as error:
        raise StorageError(f"{path} is damaged or is no JSON", got=error, fix="restore it from a copy") from error
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise StorageError(f"{path} cannot be read", got=error) from error
    if not isinstance(batch, dict):
        raise _unlike(path, "the batch", "an object with features", type(batch).__name__)
    for feature in _get(path, batch, "the batch", "features", list):
        if not isinstance(feature, dict):
            raise _unlike(path, "a feature", "an object", type(feature).__name__)
        _check_feature(path, feature)
    return batch


def _check_feature(path: Path, feature: dict[str, Any]) -> None:
    number = _get(path, feature, "a feature", "feature_index", int)
    where = f"feature {number}"
    _get(path, feature, where, "frac_nonzero", (int, float))
    for name, kind in (("n_prompts_total", int), ("n_tokens_in_prompt", int)):
        if name in feature:
            _get(path, feature, where, name, kind)
    for name, (what, amount, _) in _LISTS.items():
        if name in ("logit_count", "activation_neighbour") and what not in feature:
            continue
        kinds = str if name in _WORDS else int if name == "activation_neighbour" else (int, float)
        _same_length(path, feature, where, (what, kinds), (amount, (int, float)))
    if feature.get("correlated_features_l1"):
        _same_length(
            path, feature, where, ("correlated_features_indices", int), ("correlated_features_l1", (int, float))
        )
    for index, one in enumerate(_get(path, feature, where, "activations", list)):
        at = f"{where}, activation {index}"
        if not isinstance(one, dict):
            raise _unlike(path, at, "an object", type(one).__name__)
        for name in ("bin_min", "bin_max", "bin_contains"):
            _get(path, one, at, name, (int, float))
        _same_length(path, one, at, ("tokens", str), ("values", (int, float)))
        if not one["tokens"]:
            raise _unlike(path, at, "at least one token", "none")


def _same_length(path: Path, record: Mapping[str, Any], where: str, *fields: tuple[str, Any]) -> None:
    for name, kind in fields:
        for item in _get(path, record, where, name, list):
            if not isinstance(item, kind) or isinstance(item, bool):
                raise _unlike(path, f"{name} of {where}", "a list of text" if kind is str else "numbers", repr(item))
    lengths = {name: len(record[name]) for name, _ in fields}
    if len(set(lengths.values())) > 1:
        raise _unlike(path, where, f"as many {' as '.join(lengths)}", lengths)


def _get(path: Path, record: Mapping[str, Any], where: str, name: str, kind: Any) -> Any:
    value = record.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        got = f"{type(value).__name__} {value!r:.40}" if name in record else f"only {', '.join(list(record)[:6])}"
        raise _unlike(path, where, f"{name!r}", got)
    return value


def _unlike(path: Path, where: str, expected: str, got: object) -> StorageError:
    return StorageError(
        f"{path} is not laid out as SAEDashboard's files are: {where} lacks what is expected",
        expected=expected,
        got=got,
        fix="write it with sae-dashboard or FeatureDashboard.to_neuronpedia",
    )


def _dataset(features: Sequence[Mapping[str, Any]]) -> xr.Dataset:
    variables = _examples(features)
    variables["density"] = (("feature",), [feature["frac_nonzero"] for feature in features])
    for name, (what, amount, dim) in _LISTS.items():
        lists = [feature.get(what, []) for feature in features]
        if any(lists):
            fill: Any = "" if name in _WORDS else -1 if name == "activation_neighbour" else 0
            variables[name] = (("feature", dim), _padded(lists, fill))
            variables[_VALUES[name]] = (("feature", dim), _padded([f.get(amount, []) for f in features], np.nan))
    cosine = [feature.get("correlated_features_l1", []) for feature in features]
    if any(cosine):
        variables["activation_cosine"] = (("feature", "neighbour"), _padded(cosine, np.nan))
    coords: dict[str, Any] = {"feature": [feature["feature_index"] for feature in features]}
    coords["offset"] = variables.pop("offset")[1]
    labelled = {
        name: (dims, values, {"units": _UNITS.get(name, ""), "long_name": _LABELS[name]})
        for name, (dims, values) in variables.items()
    }
    return xr.Dataset(labelled, coords)


def _examples(features: Sequence[Mapping[str, Any]]) -> dict[str, tuple[tuple[str, ...], Any]]:
    """Return examples as arrays in which the token each is about lies at offset 0."""
    held = [[(one, _about(one)) for one in feature["activations"]] for feature in features]
    everything = [pair for row in held for pair in row]
    left = max((middle for _, middle in everything), default=0)
    right = max((len(one["tokens"]) - middle for one, middle in everything), default=1)
    shape = (len(features), max(1, max(map(len, held))), left + right)
    words, values = np.full(shape, "", dtype=object), np.full(shape, np.nan)
    intervals = np.full((3, *shape[:2]), float(_TOP))
    for feature, row in enumerate(held):
        for example, (one, middle) in enumerate(row):
            start = left - middle
            words[feature, example, start : start + len(one["tokens"])] = one["tokens"]
            values[feature, example, start : start + len(one["values"])] = one["values"]
            intervals[:, feature, example] = one["bin_min"], one["bin_max"], one["bin_contains"]
    pair, triple = ("feature", "example"), ("feature", "example", "offset")
    largest = [max((max(one["values"]) for one, _ in row), default=0.0) for row in held]
    return {
        "activation": (pair, values[..., left]),
        "token": (triple, words.astype(str)),
        "token_activation": (triple, values),
        **{f"interval_{name}": (pair, intervals[i]) for i, name in enumerate(("low", "high", "share"))},
        "maximum": (("feature",), np.array(largest, dtype=float)),
        "offset": (("offset",), np.arange(-left, right)),
    }


def _about(activation: Mapping[str, Any]) -> int:
    """Return which token an activation is about: the one the file names, or else the one that fires most."""
    index = activation.get("qualifying_token_index")
    values = activation["values"]
    named = isinstance(index, int) and 0 <= index < len(values)
    return int(index) if named else int(np.argmax(values))  # type: ignore[arg-type]


def _padded(lists: Sequence[Sequence[Any]], fill: Any) -> np.ndarray:
    width = max(len(one) for one in lists)
    rows = [[*one, *[fill] * (width - len(one))] for one in lists]
    return np.array(rows)
