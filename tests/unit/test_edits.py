from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neuros_mechint.core.ablations import Mean, Resample
from neuros_mechint.core.activations import Activations
from neuros_mechint.core.edits import Add, Apply, Clamp, Project, Replace, Scale, SetComponent, Zero
from neuros_mechint.core.errors import InputError, SiteError

DIMS = ("sample", "position", "unit")


@pytest.fixture
def values():
    return torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))


EVERY_EDIT = [
    lambda site, x: Zero(site),
    lambda site, x: Replace(site, 2.0),
    lambda site, x: Mean(site, x),
    lambda site, x: Resample(site, x, seed=0),
    lambda site, x: Add(site, 1.0),
    lambda site, x: Scale(site, 3.0),
    lambda site, x: Clamp(site, maximum=-10.0),
    lambda site, x: Apply(site, torch.exp),
]
every_edit = pytest.mark.parametrize("make", EVERY_EDIT, ids=lambda make: type(make("h", torch.zeros(1))).__name__)


@every_edit
@pytest.mark.parametrize(
    "index", ["", "[sample=1]", "[position=-1]", "[unit=1:3]", "[unit=[4, 0]]", "[sample=0, position=1:3]"]
)
def test_an_edit_changes_its_selection_only_and_writes_nothing(make, index, values):
    given_values = values.clone()
    edited = make(f"h{index}", values + 1).apply(values, DIMS)
    assert torch.equal(values, given_values)
    assert edited.data_ptr() != values.data_ptr()
    chosen = torch.zeros(3, 4, 5, dtype=torch.bool)
    inside = {"": ..., "[sample=1]": 1, "[position=-1]": (slice(None), -1), "[unit=1:3]": (..., slice(1, 3)),
              "[unit=[4, 0]]": (..., [4, 0]), "[sample=0, position=1:3]": (0, slice(1, 3))}[index]  # fmt: skip
    chosen[inside] = True
    assert torch.equal(edited[~chosen], values[~chosen])
    assert not torch.equal(edited[chosen], values[chosen])


def test_what_each_edit_does(values):
    assert not Zero("h").apply(values, DIMS).any()
    assert torch.equal(Add("h", torch.arange(5.0), scale=2).apply(values, DIMS), values + 2 * torch.arange(5.0))
    assert torch.equal(Scale("h", torch.arange(5.0)).apply(values, DIMS), values * torch.arange(5.0))
    assert torch.equal(Clamp("h", -0.1, 0.1).apply(values, DIMS), values.clamp(-0.1, 0.1))
    assert torch.equal(
        Replace("h[unit=(3, 1)]", [7.0, 8.0]).apply(values, DIMS)[..., [3, 1]], torch.tensor([7.0, 8.0]).expand(3, 4, 2)
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@every_edit
def test_an_edit_keeps_the_type(make, dtype, values):
    assert make("h", values).apply(values.to(dtype), DIMS).dtype == dtype


@pytest.mark.parametrize(
    "value",
    [3.0, [1.0] * 5, np.ones((4, 5)), torch.ones(3, 4, 5), torch.ones(3, 1, 5), torch.ones(1, 1, 1, dtype=torch.int64)],
)
def test_values_broadcast_as_arrays_do(value, values):
    expected = torch.as_tensor(value, dtype=torch.float32).expand(3, 4, 5)
    assert torch.equal(Replace("h", value).apply(values, DIMS), expected)


@pytest.mark.parametrize("shape", [(4,), (3, 5), (2, 4, 5), (1, 3, 4, 5)])
def test_values_that_do_not_fit_are_refused(shape, values):
    for edit in (Replace("h", torch.zeros(shape)), Add("h", torch.zeros(shape)), Scale("h", torch.zeros(shape))):
        with pytest.raises(InputError, match=r"\(3, 4, 5\) for \(sample, position, unit\)"):
            edit.apply(values, DIMS)


def test_an_index_of_an_axis_the_site_lacks_is_refused(values):
    with pytest.raises(SiteError, match="no axis 'head'"):
        Zero("h[head=0]").apply(values, DIMS)


@given(
    batch_size=st.integers(1, 3),
    make=st.sampled_from(EVERY_EDIT),
    index=st.sampled_from(["", "[sample=1]", "[sample=1:]", "[sample=[2, 0]]", "[unit=2]"]),
)
def test_batches_get_what_the_whole_gets(batch_size, make, index):
    values = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
    reference = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(1))
    edit = make(f"h{index}", reference)
    pieces = [
        edit.apply(values[start : start + batch_size], DIMS, {"sample": (start, 3)})
        for start in range(0, 3, batch_size)
    ]
    torch.testing.assert_close(torch.cat(pieces), edit.apply(values, DIMS))


def test_one_value_per_sample_goes_to_its_own_sample_in_any_batch(values):
    edit = Replace("h[sample=1:]", torch.arange(2.0).view(2, 1, 1))
    pieces = [edit.apply(values[i : i + 1], DIMS, {"sample": (i, 3)}) for i in range(3)]
    assert torch.equal(pieces[0], values[:1])
    assert (pieces[1] == 0).all()
    assert (pieces[2] == 1).all()


def test_one_value_per_time_goes_to_its_own_step(values):
    edit = Replace("h", torch.arange(4.0).view(4, 1))
    for time in range(4):
        piece = edit.apply(values[:, time : time + 1], ("sample", "time", "unit"), {"time": (time, 4)})
        assert (piece == time).all()


def test_what_an_edit_returns_shares_no_memory_with_what_it_was_given(values):
    held = torch.ones(3, 4, 5)
    for edit in (Replace("h", held), Apply("h", lambda _: held)):
        edit.apply(values, DIMS).zero_()
    assert held.all()


# -- edits with a reference ------------------------------------------------------------------------------------------


def test_mean_averages_over_samples_and_positions(values):
    mean = Mean("h", values).apply(torch.zeros(2, 7, 5), DIMS)
    torch.testing.assert_close(mean, values.mean((0, 1)).expand(2, 7, 5))
    per_position = Mean("h", values, over=("sample",)).apply(torch.zeros(2, 4, 5), DIMS)
    torch.testing.assert_close(per_position, values.mean(0).expand(2, 4, 5))


def test_mean_of_an_edited_sample_is_that_of_all_reference_samples(values):
    edited = Mean("h[sample=4]", values).apply(torch.zeros(5, 4, 5), DIMS)
    torch.testing.assert_close(edited[4], values.mean((0, 1)).expand(4, 5))
    assert not edited[:4].any()


def test_references_may_be_activations(values):
    activations = Activations({"h": values}, {"h": DIMS})
    head = Mean("h[unit=2]", activations).apply(torch.zeros(1, 4, 5), DIMS)
    torch.testing.assert_close(head[..., 2], values[..., 2].mean().expand(1, 4))


def test_a_reference_of_another_rank_is_refused(values):
    with pytest.raises(InputError, match="rank"):
        Mean("h", values[0]).apply(values, DIMS)


@given(seed=st.integers(0, 50), n=st.integers(2, 6))
def test_resample_gives_no_sample_its_own(seed, n):
    x = torch.arange(float(n)).view(n, 1)
    drawn = Resample("h", x, seed=seed).apply(x, ("sample", "unit"))
    assert (drawn != x).all()
    assert torch.equal(drawn.sort(0).values, x)


def test_resample_draws_from_its_own_seed_only(values):
    state = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    first, again, other = (
        Resample("h", torch.randn(50, 4, 5, generator=torch.Generator().manual_seed(2)), seed=s).apply(values, DIMS)
        for s in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state[0])
    assert np.random.get_state()[1].tolist() == state[1]  # noqa: NPY002


def test_resample_of_one_sample_takes_one_reference_sample(values):
    reference = values + 100
    edited = Resample("h[sample=1]", reference, seed=0).apply(values, DIMS)
    assert any(torch.equal(edited[1], row) for row in reference)
    assert torch.equal(edited[[0, 2]], values[[0, 2]])


# -- Project, SetComponent, Clamp, Apply -----------------------------------------------------------------------------


def test_project_removes_or_keeps_a_subspace(values):
    basis = torch.tensor([[1.0, 1.0, 0, 0, 0], [2.0, 2.0, 0, 0, 0], [0, 0, 3.0, 0, 0]])  # rank 2
    removed = Project("h", basis).apply(values, DIMS)
    kept = Project("h", basis, remove=False).apply(values, DIMS)
    torch.testing.assert_close(removed + kept, values)
    assert float((removed @ basis.T).abs().max()) < 1e-6
    torch.testing.assert_close(kept[..., 0], (values[..., 0] + values[..., 1]) / 2)


def test_project_refuses_what_spans_nothing_or_does_not_fit(values):
    with pytest.raises(InputError, match="zero"):
        Project("h", torch.zeros(5)).apply(values, DIMS)
    with pytest.raises(InputError, match="width"):
        Project("h", torch.ones(4)).apply(values, DIMS)


def test_set_component_moves_along_the_direction_only(values):
    direction = torch.tensor([0.0, 3.0, 0, -4.0, 0])
    unit = direction / 5
    edited = SetComponent("h", direction, 7.0).apply(values, DIMS)
    torch.testing.assert_close(edited @ unit, torch.full((3, 4), 7.0))
    torch.testing.assert_close(Project("h", unit).apply(edited, DIMS), Project("h", unit).apply(values, DIMS))
    by_hand = values + (7 - values @ unit)[..., None] * unit
    torch.testing.assert_close(edited, by_hand)


def test_set_component_takes_a_value_for_each_entry_of_the_block(values):
    direction, wanted = torch.tensor([1.0, 1.0, 0, 0, 0]), torch.arange(12.0).reshape(3, 4)
    reached = SetComponent("h", direction, wanted).apply(values, DIMS) @ direction / 2**0.5
    torch.testing.assert_close(reached, wanted)
    reached = SetComponent("h", direction, torch.tensor([[1.0], [2.0], [3.0]])).apply(values, DIMS) @ direction / 2**0.5
    torch.testing.assert_close(reached, torch.tensor([1.0, 2.0, 3.0])[:, None].expand(3, 4))
    reached = SetComponent("h[position=2]", direction, torch.tensor([1.0, 2.0, 3.0])).apply(values, DIMS)
    torch.testing.assert_close(reached[:, 2] @ direction / 2**0.5, torch.tensor([1.0, 2.0, 3.0]))
    assert torch.equal(reached[:, :2], values[:, :2])
    part = SetComponent("h", direction, wanted).apply(values[1:], DIMS, {"sample": (1, 3)})
    torch.testing.assert_close(part @ direction / 2**0.5, wanted[1:])


def test_set_component_finds_the_channels_of_images():
    images = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    dims = ("sample", "channel", "height", "width")
    wanted = torch.arange(40.0).reshape(2, 4, 5)
    edited = SetComponent("conv", [0.0, 2.0, 0.0], wanted).apply(images, dims)
    torch.testing.assert_close(edited[:, 1], wanted)
    assert torch.equal(edited[:, [0, 2]], images[:, [0, 2]])


def test_set_component_refuses_what_does_not_fit(values):
    with pytest.raises(InputError, match="length zero"):
        SetComponent("h", torch.zeros(5), 1.0).apply(values, DIMS)
    with pytest.raises(InputError, match="width"):
        SetComponent("h", torch.ones(4), 1.0).apply(values, DIMS)
    with pytest.raises(InputError, match="no features"):
        SetComponent("h[unit=0]", torch.ones(5), 1.0).apply(values, DIMS)
    with pytest.raises(InputError, match="do not fit"):
        SetComponent("h", torch.ones(5), torch.ones(3)).apply(values, DIMS)


def test_clamp_needs_bounds_in_order():
    with pytest.raises(InputError, match="needs a bound"):
        Clamp("h")
    with pytest.raises(InputError, match="swapped"):
        Clamp("h", minimum=1.0, maximum=0.0)
    for wrong in ("a", 1j, float("nan"), [1.0, 2.0]):
        with pytest.raises(InputError, match="maximum of Clamp"):
            Clamp("h", maximum=wrong)


NO_NUMBERS = {
    "text": "1",
    "a mask": np.ma.masked_array([1.0, 2.0, 3.0, 4.0, 5.0], [0, 1, 0, 0, 0]),
    "uneven": [[1.0], [1.0, 2.0]],
    "sparse": torch.ones(5).to_sparse(),
    "complex": 1j,
    "a complex tensor": torch.full((5,), 1j),
    "None": None,
}


@pytest.mark.parametrize("what", NO_NUMBERS)
@pytest.mark.parametrize("make", [Add, Replace, Scale, lambda site, x: Add(site, 1.0, scale=x)])
def test_values_that_are_no_real_numbers_are_refused(what, make, values):
    with pytest.raises(InputError, match=r"(Add|Replace|Scale)\('h'\)"):
        make("h", NO_NUMBERS[what]).apply(values, DIMS)


@pytest.mark.parametrize("what", NO_NUMBERS)
@pytest.mark.parametrize("make", [Mean, Resample, Project, lambda site, x: SetComponent(site, x, 1.0)])
def test_references_and_directions_that_are_no_real_numbers_are_refused(what, make, values):
    with pytest.raises(InputError, match="'h'"):
        make("h", NO_NUMBERS[what]).apply(values, DIMS)


@pytest.mark.parametrize(
    ("dtype", "value"),
    [(torch.int32, 1e12), (torch.int64, float("nan")), (torch.uint8, -1), (torch.bool, 2), (torch.int32, 0.5)],
)
def test_whole_numbers_take_what_they_can_hold(dtype, value):
    with pytest.raises(InputError, match="puts"):
        Replace("h", value).apply(torch.ones(2, 3, dtype=dtype), ("sample", "unit"))
    assert not Replace("h", 0).apply(torch.ones(2, 3, dtype=dtype), ("sample", "unit")).any()


def test_complex_activations_take_complex_values(values):
    assert torch.equal(Add("h", 1j).apply(values.to(torch.complex64), DIMS), values + 1j)
    with pytest.raises(InputError, match="complex numbers into real ones"):
        Apply("h", torch.fft.fft).apply(values, DIMS)


@pytest.mark.parametrize(
    "value", [np.arange(10.0)[::-2], np.arange(9, 0, -2, dtype=">f4"), np.arange(9, 0, -2, dtype="u2")]
)
def test_arrays_of_any_layout_are_taken(value, values):
    torch.testing.assert_close(Add("h", value).apply(values, DIMS), values + torch.tensor([9.0, 7, 5, 3, 1]))


def test_apply_takes_a_transformer_lens_hook_that_writes_in_place(values):
    seen = []

    def hook(activation, hook):
        seen.append((hook.name, hook.layer()))
        activation[:, 0] = 0

    edited = Apply("blocks.2.z", hook).apply(values, DIMS)
    assert seen == [("blocks.2.attn.hook_z", 2)]
    assert not edited[:, 0].any()
    assert torch.equal(edited[:, 1:], values[:, 1:])
    assert values[:, 0].any()


@pytest.mark.parametrize("function", [lambda x: x[:1], lambda x: x.sum(), lambda x: x.unsqueeze(0)])
def test_apply_refuses_another_shape(function, values):
    with pytest.raises(InputError, match="changed the shape"):
        Apply("h", function).apply(values, DIMS)


def test_apply_refuses_what_is_no_tensor(values):
    with pytest.raises(InputError, match="no tensor"):
        Apply("h", lambda x: x.numpy()).apply(values, DIMS)
    with pytest.raises(InputError, match="no function"):
        Apply("h", None)


def test_gradients_flow_through_edits(values):
    x = values.clone().requires_grad_()
    Add("h[unit=0]", 1.0).apply(Scale("h", 3.0).apply(x, DIMS), DIMS).sum().backward()
    assert torch.equal(x.grad, torch.full_like(x, 3.0))


@pytest.mark.parametrize("make", [Mean, Resample])
def test_references_of_another_site_are_refused(make):
    activation, reference = torch.zeros(2, 8, 4, 4), torch.zeros(2, 3, 6, 6)
    dims = ("sample", "channel", "height", "width")
    with pytest.raises(InputError, match="channel=8"):
        make("conv[channel=2]", reference).apply(activation, dims)


def test_mean_covers_the_pixels_of_a_channel():
    reference = torch.arange(32.0).reshape(2, 1, 4, 4)
    edited = Mean("conv", reference).apply(torch.zeros(2, 1, 4, 4), ("sample", "channel", "height", "width"))
    assert torch.equal(edited, torch.full((2, 1, 4, 4), 15.5))


@pytest.mark.parametrize(
    "edit",
    [Replace("h", -0.06), Replace("h", [-0.06, 0.1]), Add("h", 0.1), Scale("h", 0.3), SetComponent("h", [1, 0], 0.3)],
)
def test_plain_numbers_are_not_rounded_to_single_precision(edit):
    block = torch.tensor([[0.7, 0.2]], dtype=torch.float64)
    exact = {"Replace": [-0.06, -0.06], "Add": [0.7 + 0.1, 0.2 + 0.1], "Scale": [0.7 * 0.3, 0.2 * 0.3]}
    wanted = exact.get(type(edit).__name__, [0.3, 0.2])
    if isinstance(edit, Replace) and isinstance(edit.value, list):
        wanted = edit.value
    torch.testing.assert_close(
        edit.apply(block, ("sample", "unit")), torch.tensor([wanted], dtype=torch.float64), rtol=0, atol=1e-15
    )
