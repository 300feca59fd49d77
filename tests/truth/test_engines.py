"""Every engine gives the numbers of the plain loop, on every kind of model, and says when it could not be used."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import neuros_mechint as nm
from neuros_mechint.causal.engines.reading import find_reading
from neuros_mechint.causal.interventions import measure
from neuros_mechint.core.outputs import logits_of
from tests.conformance.architectures import ARCHITECTURES
from tests.conformance.test_hooks_left_behind import PlantedError, assert_unchanged, boom, snapshot
from tests.slow import slow_case
from tests.truth.engines_compared import CLOSE, assert_engines_agree

CAUSAL = [
    name for name, one in ARCHITECTURES.items() if one.causal and name not in ("ALBERT", "T5", "T5-gated", "Whisper")
]
# blocks like those of one that is kept: Llama, Gemma3, GPTNeoX, OPT and Falcon-40b
ALIKE = (
    "Qwen2",
    "Qwen3",
    "Mistral",
    "Mixtral",
    "Gemma",
    "Gemma2",
    "Phi",
    "Phi3",
    "GPT-J",
    "OLMo",
    "OLMo2",
    "StableLM",
    "GPTNeoX-sequential",
    "OPT-350m",
    "Falcon-7b",
    "Falcon-rw",
    "nanoGPT-open",
)
WITH_PREFIX = ("GPT2", "Llama", "Qwen2", "GPTNeoX")


@cache
def adapted(name):
    module, inputs = ARCHITECTURES[name].build()
    options = {} if ARCHITECTURES[name].is_huggingface else {"example": inputs}
    return nm.adapt(module, **options), inputs


def every_kind_of_intervention(model, inputs, donors):
    """Edits at every site inside the blocks: of one position, a range, a head, all of it; and several at once."""
    sites = [site for site in model.sites() if "blocks." in site and "cross" not in site]
    donated = model.capture(donors, sites)
    interventions = [[]]
    for site in sites:
        dims = donated.dims(site)
        if "position" in dims:
            interventions += [[nm.Replace(f"{site}[position={p}]", donated[site][:, p])] for p in (1, 4)]
            interventions.append([nm.Zero(f"{site}[position=3:5]")])
        heads = next((axis for axis in dims if axis.endswith("head")), None)
        if heads:
            interventions.append([nm.Replace(f"{site}[{heads}=0]", donated[site].select(dims.index(heads), 0))])
        interventions.append([nm.Scale(site, 1.3)])
    streams = [site for site in sites if "position" in donated.dims(site)]
    interventions.append([nm.Zero(streams[1]), nm.Add(f"{streams[-1]}[position=2]", 0.5)])
    mixing = nm.Apply(streams[2], lambda values: values * 0.5 + values.mean(1, keepdim=True))
    interventions.append([mixing, nm.Scale(streams[-2], 0.5)])
    interventions.append([nm.Mean(streams[0], donated), nm.Resample(f"{streams[-1]}[position=-1]", donated, seed=3)])
    return interventions


@pytest.mark.parametrize("name", [slow_case(name) if name in ALIKE else name for name in CAUSAL])
def test_engines_agree_on_causal_transformers(name):
    model, inputs = adapted(name)
    donors = {key: value.roll(1, 0) for key, value in inputs.items()}
    interventions = every_kind_of_intervention(model, inputs, donors)
    found = assert_engines_agree(model, inputs, interventions, nm.log_probability(5, position=-2))
    if name in WITH_PREFIX:
        assert found["auto"].engine == "suffix"
        assert found["auto"].notes == ()  # nothing had to be given up


@pytest.mark.parametrize("name", ["BERT", "ViT"])
def test_engines_agree_where_positions_depend_on_later_ones(name):
    model, inputs = adapted(name)
    donors = {key: value.roll(1, 0) for key, value in inputs.items()}

    def metric(output):
        return next(iter(output.values())).flatten(1).pow(2).mean(1)

    found = assert_engines_agree(model, inputs, every_kind_of_intervention(model, inputs, donors), metric)
    assert found["auto"].engine == "suffix"
    assert any("depend on later ones" in note for note in found["auto"].notes)


@pytest.mark.parametrize("position", [-1, 0, 3, torch.tensor([6, 2, 4])], ids=["last", "first", "middle", "per sample"])
@pytest.mark.parametrize("name", ["GPT2", slow_case("Llama"), slow_case("BERT")])
def test_engines_agree_wherever_the_answer_stands(name, position):
    model, inputs = adapted(name)
    donors = {key: value.roll(1, 0) for key, value in inputs.items()}
    metric = nm.logit_difference(torch.tensor([5, 8, 1]), 3, position)
    assert_engines_agree(model, inputs, every_kind_of_intervention(model, inputs, donors), metric)


@pytest.mark.parametrize(("n_samples", "n_positions"), [(3, 2), (3, 3), (4, 4), (2, 4), (1, 5), (3, 8)])
@pytest.mark.parametrize("name", ["Phi", "Llama", "Falcon-rw", "BLOOM"])
def test_engines_agree_where_sizes_coincide(name, n_samples, n_positions):
    """As many positions as samples, heads or rotated units: which axis is which must not be guessed wrong."""
    model, _ = adapted(name)
    generator = torch.Generator().manual_seed(7)
    ids = torch.randint(3, 97, (2, n_samples, n_positions), generator=generator)
    mask = torch.ones(n_samples, n_positions, dtype=torch.long)
    mask[0, 0] = 0
    inputs, donors = ({"input_ids": one, "attention_mask": mask} for one in ids)
    donated = model.capture(donors, "blocks.*.resid_pre")
    interventions = [
        [nm.Replace(f"{site}[position={position}]", donated[site][:, position])]
        for site in donated
        for position in range(n_positions)
    ]
    interventions += [[nm.Zero("blocks.0.z[head=1]")], [nm.Scale("blocks.1.mlp_out", 0.5)]]
    assert_engines_agree(model, inputs, interventions, nm.log_probability(5, position=max(1, n_positions - 2)))


@pytest.mark.parametrize("position", [-1, torch.tensor([6, 2, 4])], ids=["last", "per sample"])
@pytest.mark.parametrize("name", ["Qwen2", slow_case("GPT2")])
def test_engines_agree_where_every_place_runs_by_itself(name, position, monkeypatch):
    """With free calls nothing is joined: every place starts at its own position, after some samples' answers."""
    monkeypatch.setattr("neuros_mechint.causal.engines.cost._OPERATIONS_PER_CALL", 0.0)
    monkeypatch.setattr("neuros_mechint.causal.engines.cost._WASTE", 0.0)
    model, inputs = adapted(name)
    donors = {key: value.roll(1, 0) for key, value in inputs.items()}
    interventions = every_kind_of_intervention(model, inputs, donors)
    metric = nm.logit_difference(torch.tensor([5, 8, 1]), 3, position)
    assert_engines_agree(model, inputs, interventions, metric, engines=("suffix",))

    def mean(output):  # of all samples: none may be taken for another
        return metric(output).mean()

    assert_engines_agree(model, inputs, interventions, mean, engines=("suffix",))


def test_engines_agree_on_the_embedded_transformer():
    model = nm.adapt(nm.load_model("induction"))
    tokens = torch.randint(1, 64, (4, 12), generator=torch.Generator().manual_seed(3))
    interventions = every_kind_of_intervention(model, tokens, tokens.flip(0))
    found = assert_engines_agree(model, tokens, interventions, nm.log_probability(tokens[:, 5]))
    assert found["auto"].engine == "suffix"


def test_engines_agree_on_time_steps_of_a_recurrent_network():
    torch.manual_seed(1)
    model = nm.adapt(nn.GRU(3, 6, batch_first=True))
    inputs = torch.randn(4, 7, 3)
    donated = model.capture(torch.randn(4, 7, 3), "hidden")["hidden"]
    interventions = [[nm.Replace(f"hidden[time={time}]", donated[:, time])] for time in range(7)]
    interventions.append([nm.Zero("hidden[unit=(1, 3)]"), nm.Scale("hidden[time=2:4]", 2.0)])
    found = assert_engines_agree(model, inputs, interventions, lambda output: output[0][:, -1].pow(2).sum(1))
    assert found["auto"].engine == "batched"
    assert any("no stack of blocks" in note for note in found["suffix"].notes)


def test_engines_agree_on_channels_of_a_convolutional_network():
    torch.manual_seed(2)
    features = [nn.Conv2d(2, 5, 3), nn.BatchNorm2d(5), nn.ReLU(inplace=True)]
    network = nn.Sequential(*features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3))
    model = nm.adapt(network)
    interventions = [[nm.Zero(f"0[channel={channel}]")] for channel in range(5)]
    interventions += [[nm.Scale("2", 0.5), nm.Add("4[unit=1]", 1.0)]]
    found = assert_engines_agree(model, torch.randn(6, 2, 8, 8), interventions, lambda output: output[:, 1])
    assert found["auto"].engine == "batched"


@pytest.mark.filterwarnings("ignore:HookedTransformer is deprecated")
@pytest.mark.parametrize("kind", ["gelu", "solu_ln"])
def test_engines_agree_on_transformer_lens_models(kind):
    lens = pytest.importorskip("transformer_lens")
    torch.manual_seed(0)
    config = lens.HookedTransformerConfig(
        n_layers=3, d_model=16, n_ctx=8, d_head=4, n_heads=4, d_vocab=20, d_mlp=32, act_fn=kind, device="cpu", seed=0
    )
    model = nm.adapt(lens.HookedTransformer(config))
    tokens = torch.randint(0, 20, (3, 8), generator=torch.Generator().manual_seed(0))
    found = assert_engines_agree(
        model, tokens, every_kind_of_intervention(model, tokens, tokens.flip(0)), nm.logit_difference(3, 4)
    )
    assert found["auto"].engine == "suffix"


def test_batches_of_samples_change_nothing():
    model, inputs = adapted("GPT2")
    donors = {key: value.roll(1, 0) for key, value in inputs.items()}
    interventions = every_kind_of_intervention(model, inputs, donors)
    metric = nm.log_probability(torch.tensor([5, 8, 1]))
    whole = measure(model, inputs, interventions, metric)
    parts = measure(model, inputs, interventions, metric, batch_size=2)
    assert parts.engine == "suffix"
    assert (parts.values - whole.values).abs().max() <= CLOSE


def test_padding_is_no_obstacle():
    model, inputs = adapted("GPT2")
    mask = torch.ones_like(inputs["input_ids"])
    mask[0, :3] = 0
    padded = {**inputs, "attention_mask": mask}
    donors = {"input_ids": inputs["input_ids"].roll(1, 0), "attention_mask": mask}
    assert_engines_agree(model, padded, every_kind_of_intervention(model, padded, donors), nm.log_probability(5))


def test_sites_outside_of_the_blocks_run_from_the_start():
    model, inputs = adapted("GPT2")
    interventions = [[nm.Scale("embed", 2.0)], [nm.Zero("blocks.1.mlp_out")], [nm.Scale("ln_final", 0.5)]]
    found = assert_engines_agree(model, inputs, interventions, nm.log_probability(5))
    assert any("2 interventions touch sites outside" in note for note in found["auto"].notes)


class Crowd(nn.Module):
    """Its samples see each other: each is compared with the mean of the batch."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Identity()

    def forward(self, x):
        return self.inner(x) - x.mean(0)


def test_a_model_whose_samples_see_each_other_is_not_stacked():
    model, inputs = nm.adapt(Crowd()), torch.arange(6.0).view(3, 2) ** 2
    interventions = [[nm.Add("inner", float(value))] for value in range(5)]

    def metric(output):
        return output[:, 0]

    crowded = torch.cat([inputs, inputs + 10])  # two copies that differ would move the mean
    assert not torch.equal(model.run(crowded).output[:3], model.run(inputs).output)
    found = measure(model, inputs, [[nm.Add(":in", 3.0)], *interventions], metric)
    expected = measure(model, inputs, [[nm.Add(":in", 3.0)], *interventions], metric, engine="loop")
    assert found.engine == "loop"
    assert any("influence each other" in note for note in found.notes)
    assert torch.equal(found.values, expected.values)


# -- what a metric reads ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def logits():
    return torch.randn(3, 6, 9, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("metric", "positions"),
    [
        (lambda logits: logits[:, -1, 2] - logits[:, -1, 3], [5, 5, 5]),
        (lambda logits: logits[torch.arange(3), torch.tensor([1, 4, 2])].log_softmax(-1)[:, 0], [1, 4, 2]),
        (lambda logits: logits[:, 2].logsumexp(-1).mean(), [2, 2, 2]),
        (nm.log_probability(4, position=torch.tensor([0, -1, 3])), [0, 5, 3]),
    ],
    ids=["last", "per sample", "scalar", "declared"],
)
def test_metrics_that_read_one_position_are_recognised(logits, metric, positions):
    assert find_reading(metric, logits, 3).positions.tolist() == positions


def reads_a_second_position_without_gradient(logits):
    return logits[:, -1, 0] + logits[:, 1].argmax(-1)


def reads_what_has_no_gradient(logits):
    return (logits.argmax(-1) == 3).float().mean(1)


def chooses_by_value(logits):
    return logits[:, -1, 0] * (logits[:, 0, 0] > 0)


@pytest.mark.parametrize(
    "metric",
    [
        lambda logits: logits.mean((1, 2)),
        lambda logits: logits[:, -2:].sum((1, 2)),
        reads_a_second_position_without_gradient,
        reads_what_has_no_gradient,
        chooses_by_value,
        lambda logits: logits.detach()[:, -1, 0],
        lambda logits: torch.as_tensor(logits.numpy()[:, -1, 0]),
    ],
)
def test_in_doubt_a_metric_gets_everything(logits, metric):
    reading = find_reading(metric, logits, 3)
    assert reading.positions is None
    assert torch.allclose(reading.of_output(logits, 1)[0], torch.as_tensor(metric(logits)).double())


def test_metrics_that_look_at_other_outputs_get_everything():
    model, inputs = adapted("GPT2")
    output = model.module(**inputs, output_hidden_states=True)

    def metric(output):
        return output.logits[:, -1, 0] + output.hidden_states[1][:, 0, 0]

    assert find_reading(metric, output, 3).positions is None
    assert find_reading(lambda output: output.logits[:, -1, 0], output, 3).positions.tolist() == [6, 6, 6]


def test_undeclared_metrics_give_what_declared_ones_give():
    model, inputs = adapted("Llama")
    donors = {key: value.roll(1, 0) for key, value in inputs.items()}
    interventions = every_kind_of_intervention(model, inputs, donors)
    declared = measure(model, inputs, interventions, nm.logit_difference(5, 6))
    undeclared = measure(model, inputs, interventions, lambda out: logits_of(out)[:, -1, 5] - logits_of(out)[:, -1, 6])
    assert torch.allclose(declared.values, undeclared.values, atol=CLOSE)


# -- nothing is left behind ------------------------------------------------------------------------------------------


def main_output_sum(output):
    return next(iter(output.values())).flatten(1).sum(1)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_an_error_at_any_point_leaves_the_model_as_it_was(data):
    model, inputs = adapted(data.draw(st.sampled_from(["GPT2", "Llama", "BERT"])))
    engine = data.draw(st.sampled_from(["loop", "batched", "suffix"]))
    sites = [site for site in model.sites() if "blocks." in site]
    wanted = data.draw(st.lists(st.sampled_from(sites), min_size=2, max_size=4, unique=True))
    fails_at = data.draw(st.integers(0, 6))
    calls = []

    def fragile(values):
        calls.append(None)
        if len(calls) > fails_at:
            boom()
        return values * 1.1

    def until_it_fails():
        for _ in range(8):
            measure(model, inputs, [[nm.Apply(site, fragile)] for site in wanted], main_output_sum, engine=engine)

    before = snapshot(model.module)
    with pytest.raises(PlantedError):
        until_it_fails()
    assert_unchanged(before, model.module)


@pytest.mark.parametrize("engine", ["loop", "batched", "suffix"])
def test_a_failing_metric_or_block_leaves_the_model_as_it_was(engine):
    model, inputs = adapted("GPT2")
    interventions = [[nm.Zero(f"blocks.1.z[head={head}]")] for head in range(4)]
    before = snapshot(model.module)
    with pytest.raises(PlantedError):
        measure(model, inputs, interventions, boom, engine=engine)
    assert_unchanged(before, model.module)
    handle = model.module.transformer.h[1].mlp.register_forward_hook(boom)
    broken = snapshot(model.module)
    with pytest.raises(PlantedError):
        measure(model, inputs, interventions, nm.log_probability(5), engine=engine)
    assert_unchanged(broken, model.module)
    handle.remove()


def test_unknown_engines_are_refused():
    model, inputs = adapted("GPT2")
    with pytest.raises(nm.errors.OptionError, match="did you mean 'suffix'"):
        measure(model, inputs, [[], []], nm.log_probability(5), engine="sufix")
