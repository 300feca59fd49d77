"""Kernels of planted events whose times are known; the unrolled encoder against independent solvers; bad input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr

from neuros_mechint.core.errors import InputError
from neuros_mechint.core.recordings.recording import Recording
from neuros_mechint.core.result import load_result
from neuros_mechint.datasets.event_trains import event_kernels, planted_events
from neuros_mechint.neuro.circuits.dunl.convolution import convolve, correlate
from neuros_mechint.neuro.circuits.dunl.estimator import DUNL
from neuros_mechint.neuro.circuits.dunl.kernel_steps import Kernels, fit_kernels
from neuros_mechint.neuro.circuits.dunl.links import link_of
from neuros_mechint.neuro.circuits.dunl.mixed import mixed_selectivity
from neuros_mechint.neuro.circuits.dunl.observations import event_mask
from neuros_mechint.neuro.circuits.dunl.repairs import random_kernels
from neuros_mechint.neuro.circuits.dunl.score import largest_cosines
from neuros_mechint.neuro.circuits.dunl.training import Training, coherence, roughness, train
from neuros_mechint.neuro.circuits.dunl.unrolled import Encoder
from tests.slow import slow_case

SEEDS = [0, *map(slow_case, (1, 2))]
EVERY_CASE = [(base, seed) for base in (0.3, 2.0) for seed in range(3)]
LINK_BASES = [("poisson", 2.0), ("gaussian", 0.0), ("bernoulli", 0.1)]


def mask_of(data):
    """Where events begin, (kernel, trial, time)."""
    happened = data.codes > 0
    return np.moveaxis(happened.any(0) if happened.ndim == 4 else happened, 1, 0)


def cosines(found, true):
    """Of each kernel with its own true one, not shifted: known events say where it begins."""
    return (found * true).sum(-1) / np.linalg.norm(found, axis=-1) / np.linalg.norm(true, axis=-1)


def system(kernels, n_times):
    """The convolution as a dense matrix (n_times, n_kernels * n_times), made column by column."""
    n_kernels, length = kernels.shape
    dense = np.zeros((n_times, n_kernels * n_times))
    for kernel in range(n_kernels):
        for start in range(n_times):
            stop = min(start + length, n_times)
            dense[start:stop, kernel * n_times + start] = kernels[kernel, : stop - start]
    return dense


def encode(data, link, penalty, nonnegative=True):
    """Codes at the fixed point of the encoder, under the true kernels."""
    encoder = Encoder(link_of(link), torch.tensor(penalty).double(), nonnegative, n_iterations=20_000, tolerance=1e-12)
    kernels = Kernels(torch.from_numpy(data.kernels), torch.tensor([float(data.baseline)]).double())
    return encoder(torch.from_numpy(data.counts)[None], kernels)[0].numpy()


@pytest.mark.parametrize(("base", "seed"), [(0.3, 0), *(slow_case(base, seed) for base, seed in EVERY_CASE[1:])])
def test_known_events_give_the_kernels_of_200_trials_of_counts(base, seed):
    data = planted_events(n_trials=200, n_times=200, n_kernels=3, base=base, seed=seed)
    found = DUNL(3, 40).fit(data.counts, mask_of(data))
    assert cosines(found.kernels_, data.kernels).min() >= 0.98
    assert found.reliable_
    assert found.baseline_ == pytest.approx(np.log(base), abs=0.05)
    # what other kernels, and kernels before any training, have in common with the true ones
    assert largest_cosines(data.kernels, data.kernels)[0][~np.eye(3, dtype=bool)].max() < 0.3
    start = random_kernels(3, 40, np.random.default_rng(seed)).numpy()
    assert np.abs(cosines(start, data.kernels)).max() < 0.9


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("link", "base", "least", "least_r"), [("gaussian", 0.0, 0.99, 0.7), slow_case("bernoulli", 0.1, 0.97, 0.3)]
)
def test_known_events_give_the_kernels_of_other_links(link, base, least, least_r, seed):
    data = planted_events(n_trials=200, n_times=200, base=base, link=link, seed=seed)
    found = DUNL(2, 40, link).fit(data.counts, mask_of(data))
    assert cosines(found.kernels_, data.kernels).min() >= least
    assert found.reliable_
    happened = data.codes > 0
    for kernel in range(2):
        own = happened[:, kernel]
        assert np.corrcoef(found.codes_[:, kernel][own], data.codes[:, kernel][own])[0, 1] > least_r


def test_amplitudes_are_in_units_of_the_link():
    """A signal in other units has the same kernels, and codes and baseline in these units."""
    data = planted_events(n_trials=50, n_times=120, base=0.0, link="gaussian")
    found, scaled = (
        DUNL(2, 40, "gaussian").fit(factor * data.counts + shift, mask_of(data)) for factor, shift in ((1, 0), (50, 7))
    )
    np.testing.assert_allclose(scaled.kernels_, found.kernels_, atol=1e-3)
    assert scaled.baseline_ == pytest.approx(50 * found.baseline_ + 7, abs=1)
    assert scaled.score_ == pytest.approx(found.score_, abs=1e-3)
    happened = data.codes > 0
    assert np.median(found.codes_[happened] / data.codes[happened]) == pytest.approx(1, abs=0.1)
    np.testing.assert_allclose(scaled.codes_, 50 * found.codes_, rtol=0.02, atol=0.1)


@pytest.mark.parametrize("seed", SEEDS)
def test_events_at_wrong_times_are_not_reliable(seed):
    data = planted_events(n_trials=60, n_times=200, seed=seed)
    elsewhere = np.random.default_rng(seed).permuted(mask_of(data)[..., :160], axis=-1)
    found = DUNL(2, 40, seed=seed).fit(data.counts, np.pad(elsewhere, [(0, 0), (0, 0), (0, 40)]))
    assert not found.reliable_
    assert found.result_.warnings


def test_neurons_share_kernels_or_have_their_own():
    data = planted_events(n_trials=60, n_times=200, n_neurons=4, seed=1)
    shared = DUNL(2, 40).fit(data.counts, mask_of(data))
    assert shared.kernels_.shape == (2, 40)
    assert shared.codes_.shape == data.codes.shape
    assert cosines(shared.kernels_, data.kernels).min() > 0.99
    own = event_kernels(4)
    first = planted_events(n_trials=60, n_times=200, seed=2)
    # the second neuron has the same events, and a kernel of its own for the first of them
    kernels = torch.from_numpy(np.stack([own[:2], own[[2, 1]]]))
    codes = torch.from_numpy(np.stack([first.codes] * 2))
    rate = (np.log(2) + convolve(codes, kernels)).exp().numpy()
    found = DUNL(2, 40, per_neuron=True).fit(np.random.default_rng(0).poisson(rate), mask_of(first))
    assert found.kernels_.shape == (2, 2, 40)
    assert cosines(found.kernels_, kernels.numpy()).min() > 0.97
    assert cosines(found.kernels_[0, 0], found.kernels_[1, 0]) < 0.3


def test_codes_may_be_negative_where_allowed():
    data = planted_events(n_trials=80, n_times=200, n_kernels=1, base=0.0, link="gaussian", events=(1, 1))
    sign = np.where(np.random.default_rng(0).random(80) < 0.3, -1, 1)
    counts = data.counts * sign[:, None]
    found = DUNL(1, 40, "gaussian", nonnegative=False).fit(counts, mask_of(data))
    codes = found.codes_.sum((1, 2))
    assert (np.sign(codes) == sign).mean() > 0.9
    assert DUNL(1, 40, "gaussian").fit(counts, mask_of(data)).codes_.min() >= 0


def test_new_trials_are_encoded_and_scored_with_what_was_learned():
    data = planted_events(n_trials=120, n_times=200, seed=3)
    mask = mask_of(data)
    found = DUNL(2, 40).fit(data.counts[:80], mask[:, :80])
    codes = found.transform(data.counts[80:], mask[:, 80:])
    true = data.codes[80:]
    assert np.corrcoef(codes[true > 0], true[true > 0])[0, 1] > 0.85
    assert found.score(data.counts[80:], mask[:, 80:]) == pytest.approx(found.score_, rel=0.25)
    # events of new trials need not be known
    assert found.score(data.counts[80:]) > 0.5 * found.score_
    assert found.score(np.random.default_rng(0).poisson(2, (40, 200))) <= 0


@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize("penalty", [0.5, 2.0])
def test_the_encoder_settles_where_lasso_does(positive, penalty):
    from sklearn.linear_model import Lasso

    for seed in range(2):
        data = planted_events(3, 80, 2, 20, base=0.5, link="gaussian", seed=seed)
        codes, matrix = encode(data, "gaussian", penalty, positive), system(data.kernels, 80)
        lasso = Lasso(penalty / 80, fit_intercept=False, positive=positive, tol=1e-14, max_iter=1_000_000)
        for trial in range(3):
            expected = lasso.fit(matrix, data.counts[trial] - 0.5).coef_
            np.testing.assert_allclose(codes[trial].ravel(), expected, atol=1e-6)


@pytest.mark.parametrize(("link", "base"), LINK_BASES)
def test_the_encoder_settles_where_l_bfgs_does(link, base):
    """With codes that cannot be negative the penalty is linear, so that a solver with bounds has the same solution."""
    from scipy.optimize import minimize

    data = planted_events(2, 60, 2, 20, base=base, link=link, seed=1)
    matrix, codes = system(data.kernels, 60), encode(data, link, 1.0)
    for trial, counts in enumerate(data.counts):

        def objective(x, counts=counts):
            drive = data.baseline + matrix @ x
            mean = {"poisson": np.exp, "gaussian": np.array, "bernoulli": lambda d: 1 / (1 + np.exp(-d))}[link](drive)
            constant = {"poisson": np.exp, "gaussian": lambda d: d**2 / 2, "bernoulli": lambda d: np.logaddexp(0, d)}
            return constant[link](drive).sum() - counts @ drive + x.sum(), matrix.T @ (mean - counts) + 1

        options = {"ftol": 1e-16, "gtol": 1e-9, "maxiter": 50_000, "maxfun": 100_000}
        start, bounds = np.zeros(matrix.shape[1]), [(0, None)] * matrix.shape[1]
        expected = minimize(objective, start, jac=True, bounds=bounds, method="L-BFGS-B", options=options)
        assert objective(codes[trial].ravel())[0] <= expected.fun + 1e-8
        # the drive is what the data determine: neighbouring shifts of a smooth kernel are nearly the same
        np.testing.assert_allclose(matrix @ codes[trial].ravel(), matrix @ expected.x, atol=1e-4)


def test_group_sparsity_gives_all_neurons_an_event_or_none():
    data = planted_events(4, 80, 1, 20, base=0.0, link="gaussian", n_neurons=5, seed=0)
    kernels = Kernels(torch.from_numpy(data.kernels), torch.zeros(5).double())
    values = torch.from_numpy(data.counts)
    alone, grouped = (
        Encoder(link_of("gaussian"), torch.tensor(4.0).double(), False, group, 5000, tolerance=1e-11)(values, kernels)
        for group in (False, True)
    )
    some, every = ((grouped != 0).any(0), (grouped != 0).all(0))
    assert some.sum() > 0
    assert torch.equal(some, every)
    assert not torch.equal((alone != 0).any(0), (alone != 0).all(0))
    # where it is zero for all, the length of the gradient over neurons is below the penalty
    slope = correlate(values - kernels.drive(grouped), kernels.shapes).norm(dim=0)
    assert (slope[~some] <= 4.0 + 1e-6).all()
    assert torch.allclose(slope[some], torch.tensor(4.0).double(), atol=1e-5)


@pytest.mark.parametrize(("link", "base"), LINK_BASES)
@pytest.mark.parametrize("grouped", [False, True])
def test_back_propagation_through_the_unrolling_equals_finite_differences(link, base, grouped):
    data = planted_events(3, 60, 2, 20, base=base, link=link, n_neurons=2, seed=0)
    random = np.random.default_rng(1)
    shapes = torch.from_numpy(data.kernels + 0.1 * random.normal(size=data.kernels.shape))
    baseline, weight = torch.from_numpy(data.baseline), torch.from_numpy(random.normal(size=data.codes.shape))
    encoder = Encoder(link_of(link), torch.tensor(0.3).double(), True, grouped, n_iterations=15, n_differentiated=15)

    def objective(shapes, baseline):
        return (encoder(torch.from_numpy(data.counts), Kernels(shapes, baseline)) * weight).sum()

    leaves = shapes.clone().requires_grad_(), baseline.clone().requires_grad_()
    slopes = torch.autograd.grad(objective(*leaves), leaves)
    for _ in range(5):
        direction = torch.from_numpy(random.normal(size=shapes.shape)), torch.from_numpy(random.normal(size=2))
        ahead, behind = (objective(shapes + h * direction[0], baseline + h * direction[1]) for h in (1e-6, -1e-6))
        expected = sum(float((slope * way).sum()) for slope, way in zip(slopes, direction, strict=True))
        assert float(ahead - behind) / 2e-6 == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_truncated_back_propagation_comes_near_to_all_of_it_once_codes_have_settled():
    data = planted_events(4, 80, 1, 20, base=2.0, seed=0)
    support = torch.from_numpy(data.codes > 0)
    slopes = {}
    for n_differentiated in (300, 60, 1):
        shapes = torch.from_numpy(data.kernels).requires_grad_()
        encoder = Encoder(link_of("poisson"), torch.tensor(0.1).double(), True, False, 300, n_differentiated)
        kernels = Kernels(shapes, torch.tensor([np.log(2)]))
        encoder(torch.from_numpy(data.counts)[None], kernels, support).sum().backward()
        slopes[n_differentiated] = shapes.grad
    whole = slopes[300].norm()
    assert (slopes[60] - slopes[300]).norm() < 0.01 * whole
    assert (slopes[1] - slopes[300]).norm() > 0.1 * whole


def test_convolution_and_its_transpose():
    random = np.random.default_rng(0)
    kernels = random.normal(size=(2, 9))
    codes, values = (
        torch.from_numpy(random.normal(size=(1, 3, 2, 30))),
        torch.from_numpy(random.normal(size=(1, 3, 30))),
    )
    drive = convolve(codes, torch.from_numpy(kernels))
    expected = codes.flatten(2)[0].numpy() @ system(kernels, 30).T
    np.testing.assert_allclose(drive[0], expected, atol=1e-12)
    assert float((drive * values).sum()) == pytest.approx(
        float((codes * correlate(values, torch.from_numpy(kernels))).sum())
    )


@pytest.mark.parametrize(("link", "base"), LINK_BASES)
def test_kernel_steps_settle_where_the_gradient_is_zero(link, base):
    """The Hessian is summed over pairs of events; a gradient by autograd knows nothing of it."""
    data = planted_events(20, 100, 2, 20, base=base, link=link, n_neurons=2, seed=0)
    values, codes = torch.from_numpy(data.counts), torch.from_numpy(data.codes)
    start = Kernels(torch.zeros(2, 20).double(), torch.from_numpy(data.baseline))
    found = fit_kernels(values, codes, start, link_of(link), 3.0, 50)
    shapes, baseline = (part.clone().requires_grad_() for part in found)
    loss = link_of(link).loss(values, Kernels(shapes, baseline).drive(codes)).sum()
    loss = loss + 1.5 * shapes.diff(n=2, dim=-1).square().sum() + 0.15 * shapes.square().sum()
    loss.backward()
    assert max(float(part.grad.abs().max()) for part in (shapes, baseline)) < 1e-5


@pytest.mark.parametrize(
    ("penalty", "measure"), [({"incoherence": 10.0}, coherence), ({"smoothness": 10.0}, roughness)]
)
def test_kernels_become_less_alike_or_smoother_where_that_is_asked_for(penalty, measure):
    """Without any event nothing but the penalties tells kernels where to go."""
    noise = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 20)))
    start = Kernels(torch.from_numpy(event_kernels(1, 20)) + 0.1 * noise, torch.zeros(1).double())
    values = torch.ones(1, 8, 40).double()
    silent = torch.zeros(1, 8, 2, 40).double()

    def size(**weights):
        training = Training(**({"n_steps": 12, "learning_rate": 0.06, "smoothness": 0.0} | weights))
        random = np.random.default_rng(0)
        return measure(train(values, start, link_of("poisson"), lambda *_: silent, training, random).shapes)

    assert size(**penalty) < 0.7 * size()


@pytest.mark.parametrize("seed", SEEDS)
def test_mixed_selectivity_finds_what_amplitudes_depend_on(seed):
    random = np.random.default_rng(seed)
    data = planted_events(120, 200, 2, 40, events=(1, 1), n_neurons=3, seed=seed)
    size, side = random.normal(size=120), random.integers(0, 2, 120).astype(float)
    codes = data.codes > 0
    amplitudes = np.ones((3, 120, 2))
    amplitudes[0, :, 0] += 0.5 * size  # pure
    amplitudes[1, :, 0] += 0.5 * size
    amplitudes[1, :, 1] += 0.8 * side  # mixed, by different kernels
    planted = codes * (1.5 + amplitudes[..., None])
    rate = 2 * np.exp(convolve(torch.from_numpy(planted), torch.from_numpy(data.kernels)).numpy())
    found = DUNL(2, 40, seed=seed).fit(random.poisson(rate), mask_of(data))
    mixed = mixed_selectivity(found.codes_, {"size": size, "side": side}, seed=seed)
    assert mixed.selectivity == ["pure", "mixed", "none"]
    assert (mixed.data["r2"].values[[0, 1, 1], [0, 0, 1]] > 0.4).all()
    assert (mixed.data["r2"].values[[0, 2, 2], [1, 0, 1]] < 0.1).all()
    np.testing.assert_allclose(mixed.data["share"].sum("kernel"), 1)
    assert "2 kernels" in mixed.summary()
    axes = mixed.plot()
    marked = {tuple(int(place) for place in text.get_position()) for text in axes.texts if text.get_text() == "*"}
    assert marked == {(0, 0), (0, 1), (3, 1)}  # (kernel and variable, neuron): size in kernel 0, side in kernel 1
    assert "p <= 0.05" in axes.get_xlabel()


def test_correlated_variables_are_told_apart_and_chance_is_not_called_selectivity():
    called = 0
    for seed in range(20):
        random = np.random.default_rng(seed)
        value = random.normal(size=80)
        salience = 0.7 * value + 0.7 * random.normal(size=80)
        codes = np.zeros((2, 80, 1, 5))
        codes[0, :, 0, 2] = 3 + value + 0.5 * random.normal(size=80)
        codes[1, :, 0, 2] = 3 + random.normal(size=80)
        found = mixed_selectivity(codes, {"value": value, "salience": salience}, n_resamples=500, seed=seed)
        assert found.p[0, 0, 0] < 0.05
        called += int((found.p[0, 0, 1] < 0.05) or found.selectivity[1] != "none")
    assert called <= 3


def test_labelled_data_and_results():
    data = planted_events(n_trials=30, n_times=120, n_neurons=2, seed=0)
    plain = DUNL(2, 40).fit(data.counts, mask_of(data))
    recording = Recording(np.moveaxis(data.counts, 0, -1), ("trial", "time", "unit"), sampling_rate=50.0)
    array = xr.DataArray(data.counts, dims=("unit", "trial", "time"))
    for same in (array, torch.from_numpy(data.counts)):
        np.testing.assert_allclose(DUNL(2, 40).fit(same, mask_of(data)).kernels_, plain.kernels_)
    result = DUNL(2, 40).estimate(recording, mask_of(data))
    np.testing.assert_allclose(result.data["shape"], plain.kernels_)
    assert result.data["lag"].attrs["units"] == "s"
    assert float(result.data["lag"][-1]) == pytest.approx(39 / 50)
    assert plain.result_.data["lag"].attrs["units"] == "bins"
    assert result.reliable
    assert result.event_times.tolist() == data.event_times.tolist()


def test_result_is_stored_and_drawn(tmp_path):
    import matplotlib.figure

    data = planted_events(n_trials=30, n_times=120, seed=0)
    times = [[np.flatnonzero(trial).tolist() for trial in kernel] for kernel in mask_of(data)]
    found = DUNL(2, 40).fit(data.counts, times)
    assert np.array_equal(event_mask(times, 2, 30, 120), data.codes > 0)
    assert load_result(found.result_.save(tmp_path / "dunl.nc")) == found.result_
    axes = found.result_.plot(matplotlib.figure.Figure().subplots())
    assert axes.get_xlabel() == "time since the event (bins)"
    assert "moved in its window" not in found.result_.summary()  # events were given
    assert "nats per spike" in found.result_.summary()


def test_trials_are_not_joined():
    """Kernels end with their trial: the same trials in another order give the same fit."""
    data = planted_events(n_trials=20, n_times=80, seed=0)
    order = np.random.default_rng(0).permutation(20)
    model = DUNL(2, 40).fit(data.counts, mask_of(data))
    codes = model.transform(data.counts, mask_of(data))
    shuffled = model.transform(data.counts[order], mask_of(data)[:, order])
    np.testing.assert_allclose(shuffled, codes[order], atol=1e-6)


def test_events_are_given_as_they_are_returned():
    train = planted_events(n_trials=20, n_times=100, kernel_length=20, seed=0)
    mask = event_mask(train.event_times, 2, 20, 100)
    assert np.array_equal(mask.numpy(), train.codes > 0)
    with pytest.raises(InputError, match="outside of its trial"):
        event_mask(train.event_times + np.array([0, 2, 0]), 2, 20, 100)
