"""Interchange interventions and the search for aligned subspaces, against variables planted by hand."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

import neuros_mechint as nm
from neuros_mechint.causal.counterfactuals.shuffled import shuffled_weights
from neuros_mechint.datasets.tasks import flip_flop
from tests.slow import slow_case
from tests.truth.tiny_gpt2 import generator, gpt2, tokens

SEEDS = range(3)
N_NUISANCE = 40


def rotation_of(width, seed):
    return torch.linalg.qr(torch.randn(width, width, generator=generator(seed), dtype=torch.float64)).Q.float()


class CircleAdder(torch.nn.Module):
    """Answers ``(v + w) mod 3`` to tokens ``(v, w, z, coin)``.

    ``v`` and ``w`` are points on a circle in two planes of the site, turned by a rotation that is known; ``z`` fills
    the other directions, which nobody reads; ``coin`` is never looked at.
    """

    def __init__(self, seed, width=10):
        super().__init__()
        turned = rotation_of(width, seed)
        angle = 2 * torch.pi * torch.arange(3) / 3
        circle = torch.stack([angle.cos(), angle.sin()], 1)
        self.angle, self.plane_v, self.plane_w = angle, turned[:, :2].T, turned[:, 2:4].T
        nuisance = torch.randn(N_NUISANCE, width - 4, generator=generator(100 + seed))
        self.v = torch.nn.Parameter(circle @ self.plane_v)
        self.w = torch.nn.Parameter(circle @ self.plane_w)
        self.z = torch.nn.Parameter(nuisance @ turned[:, 4:].T)
        self.site = torch.nn.Identity()
        self.planes = torch.nn.Parameter(turned[:, :4].T.clone())

    def forward(self, tokens):
        v, w, z, _ = tokens.T
        a, b, c, d = (self.site(self.v[v] + self.w[w] + self.z[z]) @ self.planes.T).T
        real, imaginary = a * c - b * d, a * d + b * c  # the product of two complex numbers adds their angles
        return 3 * torch.stack([real * angle.cos() + imaginary * angle.sin() for angle in self.angle], 1)


def pairs_of_tokens(n_pairs, seed):
    high = torch.tensor([3, 3, N_NUISANCE, 3])
    return (torch.rand(2, n_pairs, 4, generator=generator(seed)) * high).long()


def sum_with_swapped(column):
    return lambda base, source: (source[:, column] + base[:, 1]) % 3


def angles(found, truth):
    """Principal angles between two subspaces, in degrees; rows span them."""
    orthonormal = [torch.linalg.qr(one.double().T).Q for one in (found, truth)]
    cosines = torch.linalg.svdvals(orthonormal[0].T @ orthonormal[1]).clamp(max=1)
    return torch.rad2deg(torch.arccos(cosines)).numpy()


def search(model, column=0, n_dimensions=2, seed=0, **options):
    base, source = pairs_of_tokens(300, seed=seed)
    options = {"epochs": 100, **options}
    found = nm.DistributedAlignmentSearch("site", n_dimensions, seed=seed, **options)
    return found.fit(model, base, source, sum_with_swapped(column)(base, source))


def held_out(column=0, seed=0, n_pairs=300):
    base, source = pairs_of_tokens(n_pairs, seed=1000 + seed)
    return base, source, sum_with_swapped(column)(base, source)


# -- planted variables -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_the_network_by_hand_does_its_task(seed):
    tokens, _ = pairs_of_tokens(200, seed)
    assert torch.equal(CircleAdder(seed)(tokens).argmax(1), (tokens[:, 0] + tokens[:, 1]) % 3)


@pytest.mark.parametrize("seed", [0, *map(slow_case, SEEDS[1:])])
def test_the_search_finds_the_plane_in_which_a_variable_lies(seed):
    network = CircleAdder(seed)
    found = search(nm.adapt(network), seed=seed)
    assert angles(found.basis_, network.plane_v).max() < 5
    assert angles(found.basis_, network.plane_w).min() > 80
    torch.testing.assert_close(found.basis_ @ found.basis_.T, torch.eye(2), atol=1e-5, rtol=0)
    assert found.losses_[-1] < 0.1 * found.losses_[0]

    result = found.evaluate(*held_out(seed=seed), n_null=20, untrained=1)
    assert result.accuracy > 0.99
    assert result.data["random"].max() < 0.6
    assert result.data["untrained"].max() < 0.7
    assert float(result.data["accuracy"].sel(swap="no intervention")) == pytest.approx(1 / 3, abs=0.1)
    assert float(result.data["accuracy"].sel(swap="whole site")) == pytest.approx(1 / 3, abs=0.1)
    assert result.attributes["p_random"] == pytest.approx(1 / 21)
    assert not any("chance" in text or "random" in text or "shuffled" in text for text in result.warnings)


@pytest.mark.parametrize("seed", [0, *map(slow_case, SEEDS[1:])])
def test_a_variable_that_is_not_computed_stays_at_chance(seed):
    found = search(nm.adapt(CircleAdder(seed)), column=3, seed=seed)
    result = found.evaluate(*held_out(column=3, seed=seed), untrained=0)
    assert abs(result.accuracy - 1 / 3) < 4 * np.sqrt(2 / 9 / 300)
    assert any("no better than chance" in text for text in result.warnings)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_known_plane_swaps_the_variable_and_others_do_not(seed):
    network = CircleAdder(seed)
    model, (base, source, expected) = nm.adapt(network), held_out(seed=seed)
    assert nm.InterchangeIntervention("site", network.plane_v).accuracy(model, base, source, expected) == 1
    assert nm.InterchangeIntervention("site", network.plane_w).accuracy(model, base, source, expected) < 0.5
    swapped_w = (base[:, 0] + source[:, 1]) % 3
    assert nm.InterchangeIntervention("site", network.plane_w).accuracy(model, base, source, swapped_w) == 1
    both = torch.cat([network.plane_v, network.plane_w])
    own_answer = (source[:, 0] + source[:, 1]) % 3
    assert nm.InterchangeIntervention("site", both).accuracy(model, base, source, own_answer) == 1


def test_a_subspace_with_room_to_spare_still_carries_the_variable():
    found = search(nm.adapt(CircleAdder(0)), n_dimensions=4)
    assert found.score(*held_out()) > 0.98


def test_a_subspace_that_mixes_what_is_read_with_what_varies_is_an_illusion():
    """``z`` is represented but not read, and yet a subspace can pass it on: the card's first failure mode."""
    network = CircleAdder(0)
    with torch.no_grad():  # three values of z only, so that a plane shows them all
        network.z.copy_(network.z[torch.arange(N_NUISANCE) % 3])
    model = nm.adapt(network)
    base, source = pairs_of_tokens(300, seed=0)
    answer = (source[:, 2] % 3 + base[:, 1]) % 3
    found = nm.DistributedAlignmentSearch("site", 2, epochs=100).fit(model, base, source, answer)
    base, source = pairs_of_tokens(300, seed=1000)
    answer = (source[:, 2] % 3 + base[:, 1]) % 3
    assert found.score(base, source, answer) > 0.5
    # taken apart, it is nothing: what is read of it does not hold z, and what holds z is not read
    read = network.planes.detach()
    in_read = found.basis_ @ read.T @ read
    for part in (in_read, found.basis_ - in_read):
        assert nm.InterchangeIntervention("site", part).accuracy(model, base, source, answer) < 0.45


class SameSame(torch.nn.Module):
    """Are ``a`` and ``b`` equal just as ``c`` and ``d`` are? Both equalities lie along directions that are known."""

    def __init__(self, seed, width=8):
        super().__init__()
        turned = rotation_of(width, seed)
        self.direction = turned[:, 0]
        self.equal = torch.nn.Linear(16, 8)  # unit i: a and b are both i; unit 4 + i: c and d are
        self.mix = torch.nn.Linear(8 + 16, width)
        self.compare = torch.nn.Linear(width, 2)
        self.answer = torch.nn.Linear(2, 2)
        with torch.no_grad():
            self.equal.weight.copy_(torch.cat([torch.eye(4).repeat(1, 2), torch.zeros(4, 8)], 1).repeat(2, 1))
            self.equal.weight[4:] = self.equal.weight[4:].roll(8, 1)
            self.equal.bias.fill_(-1)
            wide = torch.zeros(width, 8 + 16)
            wide[0, :4], wide[1, 4:8] = 2, 2
            wide[2:, 8:] = torch.randn(width - 2, 16, generator=generator(seed))
            self.mix.weight.copy_(turned @ wide)
            self.mix.bias.copy_(turned @ torch.tensor([-1.0, -1.0] + [0.0] * (width - 2)))
            self.compare.weight.copy_(torch.stack([turned[:, 0] + turned[:, 1], -turned[:, 0] - turned[:, 1]]))
            self.compare.bias.zero_()
            self.answer.weight.copy_(torch.tensor([[0.0, 0.0], [4.0, 4.0]]))
            self.answer.bias.copy_(torch.tensor([4.0, 0.0]))

    def forward(self, tokens):
        seen = torch.nn.functional.one_hot(tokens, 4).flatten(1).float()
        mixed = self.mix(torch.cat([torch.relu(self.equal(seen)), seen], 1))
        return self.answer(torch.relu(self.compare(mixed)))


@pytest.mark.parametrize("seed", [0, *map(slow_case, SEEDS[1:])])
def test_the_search_finds_the_direction_of_an_equality(seed):
    network = SameSame(seed)
    model = nm.adapt(network)

    def pairs(n_pairs, seed):
        tokens = torch.randint(4, (2, n_pairs, 4), generator=generator(seed))
        copies = torch.rand(2, n_pairs, 2, generator=generator(seed + 1)) < 0.4
        tokens[..., 1] = torch.where(copies[..., 0], tokens[..., 0], tokens[..., 1])
        tokens[..., 3] = torch.where(copies[..., 1], tokens[..., 2], tokens[..., 3])
        base, source = tokens
        first, second = source[:, 0] == source[:, 1], base[:, 2] == base[:, 3]
        return base, source, (first == second).long()

    base, _, _ = pairs(100, 7)
    truth = (base[:, 0] == base[:, 1]) == (base[:, 2] == base[:, 3])
    assert torch.equal(network(base).argmax(1) == 1, truth)
    found = nm.DistributedAlignmentSearch("mix", 1, epochs=150, seed=seed).fit(model, *pairs(400, 10 * seed))
    assert angles(found.basis_, network.direction[None]).max() < 8
    result = found.evaluate(*pairs(300, 5000 + 10 * seed), untrained=1)
    assert result.accuracy > 0.97
    assert result.data["random"].max() < 0.9
    assert result.data["untrained"].max() < 0.75


# -- a trained recurrent network -------------------------------------------------------------------------------------


def memory_trials(seed, n_steps=18, swap=9):
    """Trials that are quiet from before the swap on, and the bits they end with."""
    inputs = flip_flop(200, n_steps, pulse_probability=0.15, seed=seed).inputs
    inputs[:, swap - 3 :] = 0
    last = np.maximum.accumulate(np.where(inputs.numpy() != 0, np.arange(n_steps)[None, :, None], 0), 1)[:, -1:]
    return inputs, torch.from_numpy(np.take_along_axis(inputs.numpy(), last, 1))[:, 0] > 0


EIGHT = torch.tensor([[1.0 if state >> bit & 1 else -1.0 for bit in range(3)] for state in range(8)])


def read_state(output):
    return 4 * output[:, -1] @ EIGHT.T


def with_swapped_bit(base, source, bit):
    bits = base[1].clone()
    bits[:, bit] = source[1][:, bit]
    return base[0], source[0], (bits * torch.tensor([1, 2, 4])).sum(1)


@pytest.mark.parametrize(
    ("name", "bit"), [("flip_flop_gru", 1), slow_case("flip_flop_rnn", 0), slow_case("flip_flop_rnn", 2)]
)
def test_one_direction_of_the_state_of_a_recurrent_network_holds_one_bit(name, bit):
    model = nm.adapt(nm.load_model(name))
    found = nm.DistributedAlignmentSearch(
        "hidden[time=9]", 1, read=read_state, epochs=60, learning_rate=0.05, n_starts=2, seed=bit
    ).fit(model, *with_swapped_bit(memory_trials(1), memory_trials(2), bit))
    test = with_swapped_bit(memory_trials(3), memory_trials(4), bit)
    result = found.evaluate(*test, untrained=1)
    assert result.accuracy > 0.98
    assert result.data["random"].max() < 0.7
    assert result.data["untrained"].max() < 0.4
    # the same direction does not move another bit
    other = with_swapped_bit(memory_trials(3), memory_trials(4), (bit + 1) % 3)
    assert found.score(*other) < 0.6


# -- interface -------------------------------------------------------------------------------------------------------


def test_swapping_the_whole_site_runs_the_source_from_there_on():
    model = nm.adapt(gpt2())
    base, source = tokens(0), tokens(1)
    swapped = nm.InterchangeIntervention("blocks.0.resid_post").run(model, base, source).logits
    torch.testing.assert_close(swapped, model.run(source).output.logits)
    everything = nm.InterchangeIntervention("blocks.0.resid_post", torch.eye(8)).run(model, base, source).logits
    torch.testing.assert_close(everything, swapped, atol=1e-5, rtol=0)


def test_batches_and_padded_text_give_what_whole_inputs_give():
    model = nm.adapt(gpt2())
    base, source = ({"input_ids": tokens(seed), "attention_mask": torch.ones(5, 6).long()} for seed in (0, 1))
    labels = model.run(source).output.logits[:, -1].argmax(-1)
    options = {"epochs": 30, "n_starts": 1, "learning_rate": 0.1}
    for batch_size in (None, 2):
        found = nm.DistributedAlignmentSearch(
            "blocks.1.resid_post[position=-1]", 6, batch_size=batch_size, **options
        ).fit(model, base, source, labels)
        assert found.losses_[-1] < found.losses_[0]
        assert found.score(base, source, labels) == found.intervention_.accuracy(model, base, source, labels)
    assert found.evaluate(base, source, labels, n_null=2, untrained=1).data.sizes["network"] == 1


def test_a_search_in_batches_finds_the_variable_too():
    network = CircleAdder(1)
    found = search(nm.adapt(network), seed=1, batch_size=64, epochs=40)
    assert angles(found.basis_, network.plane_v).max() < 5
    assert found.score(*held_out(seed=1)) > 0.99


def test_a_search_repeats_with_its_seed_and_changes_nothing_of_the_caller():
    network = CircleAdder(0)
    model = nm.adapt(network)
    before, state = model.fingerprint(), torch.get_rng_state()
    found = [search(model, seed=seed, epochs=5) for seed in (0, 0, 1)]
    assert torch.equal(found[0].basis_, found[1].basis_)
    assert not torch.equal(found[0].basis_, found[2].basis_)
    result = found[0].evaluate(*held_out(), n_null=3)
    assert result.data.identical(found[1].evaluate(*held_out(), n_null=3).data)
    assert model.fingerprint() == before
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not any(module._forward_hooks for module in network.modules())


def test_pairs_that_were_used_for_fitting_are_pointed_out():
    model = nm.adapt(CircleAdder(0))
    found = search(model, epochs=5)
    base, source = pairs_of_tokens(300, seed=0)
    again = found.evaluate(base, source, sum_with_swapped(0)(base, source), n_null=3, untrained=0)
    assert again.attributes["pairs_seen_in_training"] == 1
    assert any("not held out" in text for text in again.warnings)
    assert found.evaluate(*held_out(), n_null=3, untrained=0).attributes["pairs_seen_in_training"] < 0.05


def test_shuffled_weights_keep_their_values_and_lose_the_task():
    network = nm.load_model("flip_flop_rnn")
    model = nm.adapt(network)
    before = copy.deepcopy(network.state_dict())
    other = shuffled_weights(model, seed=1)
    assert type(other) is type(model)
    for name, weight in network.state_dict().items():
        assert torch.equal(weight, before[name])
        assert weight.numel() < 9 or not torch.equal(weight, other.module.state_dict()[name])
        assert torch.equal(weight.flatten().sort().values, other.module.state_dict()[name].flatten().sort().values)
    trials = flip_flop(50, 30, seed=0)
    right = [
        ((one.run(trials.inputs).output.sign() == trials.targets) & trials.mask).sum() / trials.mask.sum()
        for one in (model, other)
    ]
    assert right[0] > 0.99
    assert right[1] < 0.75
    assert list(other.capture(trials.inputs, "hidden")) == ["hidden"]


def test_controls_of_ones_own_take_the_place_of_shuffled_ones():
    found = search(nm.adapt(CircleAdder(0)), epochs=60)
    elsewhere = nm.adapt(CircleAdder(3))  # trained alike, with the variable in another plane
    result = found.evaluate(*held_out(), n_null=3, untrained=[elsewhere])
    assert float(result.data["untrained"][0]) > 0.9
    assert any("the search's own work" in text for text in result.warnings)


def test_results_are_saved_drawn_and_told(tmp_path):
    result = search(nm.adapt(CircleAdder(0)), epochs=20).evaluate(*held_out(), n_null=4)
    assert nm.load_result(result.save(tmp_path / "alignment.nc")) == result
    assert next(label.get_text() for label in result.plot().get_xticklabels()) == "learned"
    for part in ("4 random subspaces", "shuffled weights", "chance"):
        assert part in result.summary()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"n_dimensions": 0}, "OptionError", "n_dimensions"),
        ({"n_dimensions": 11}, "OptionError", "fewer dimensions"),
        ({"n_dimensions": 1.5}, "OptionError", "n_dimensions"),
        ({"learning_rate": 0.0}, "OptionError", "learning_rate"),
        ({"learning_rate": True}, "OptionError", "learning_rate"),
        ({"epochs": 0}, "OptionError", "epochs"),
        ({"site": "nowhere"}, "SiteError", "no site"),
        ({"site": "site[unit=0]"}, "InputError", "no features"),
        ({"source": torch.zeros(7, 4).long()}, "InputError", "not pairs"),
        ({"labels": torch.zeros(7).long()}, "InputError", "answer per pair"),
        ({"labels": torch.zeros(8)}, "InputError", "must be classes"),
        ({"labels": torch.full((8,), -1)}, "InputError", "must be classes"),
        ({"labels": torch.full((8,), 3)}, "InputError", "no class of the output"),
        ({"read": lambda output: output[:, 0]}, "InputError", "no class can be read"),
        (
            {"model": nm.Recording(np.zeros((3, 4, 5)), dims=("stimulus", "time", "unit"))},
            "CapabilityError",
            "cannot be edited",
        ),
    ],
)
def test_searches_that_make_no_sense_are_refused(change, error, message):
    base, source = pairs_of_tokens(8, seed=0)
    given = {
        "model": CircleAdder(0),
        "site": "site",
        "n_dimensions": 2,
        "source": source,
        "labels": base[:, 0],
        **change,
    }
    with pytest.raises(getattr(nm.errors, error), match=message):
        nm.DistributedAlignmentSearch(
            given["site"],
            given["n_dimensions"],
            read=given.get("read"),
            epochs=given.get("epochs", 2),
            learning_rate=given.get("learning_rate", 0.1),
        ).fit(nm.adapt(given["model"]), base, given["source"], given["labels"])


def test_use_before_fitting_and_bad_controls_are_refused():
    model, (base, source, answer) = nm.adapt(CircleAdder(0)), held_out(n_pairs=8)
    unfitted = nm.DistributedAlignmentSearch("site", 2, epochs=2)
    with pytest.raises(nm.errors.InputError, match="has not been fitted"):
        unfitted.score(base, source, answer)
    found = unfitted.fit(model, base, source, answer)
    for options in ({"n_null": 0}, {"untrained": -1}, {"untrained": True}):
        with pytest.raises(nm.errors.OptionError):
            found.evaluate(base, source, answer, **options)
    with pytest.raises(nm.errors.InputError, match="at least two"):
        found.evaluate(base[:1], source[:1], answer[:1])
    with pytest.raises(nm.errors.InputError, match="zero directions"):
        nm.InterchangeIntervention("site", torch.zeros(10))
    with pytest.raises(nm.errors.InputError, match="another width"):
        nm.InterchangeIntervention("site", torch.ones(9)).run(model, base, source)
    with pytest.raises(nm.errors.CapabilityError, match="no weights"):
        shuffled_weights(nm.adapt(nm.Recording(np.zeros((3, 4, 5)), dims=("stimulus", "time", "unit"))))
