"""Conformance of editing: what edits do, what they leave alone, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable

import torch

from neuros_mechint.adapters.conformance.probe import (
    ConformanceError,
    NotApplicableError,
    Probe,
    along,
    demand,
    demand_equal,
    demand_error,
    demand_same_output,
    output_differs,
)
from neuros_mechint.core.edits import Add, Apply, Edit, Replace, Scale, Zero
from neuros_mechint.core.errors import InputError, SiteError
from neuros_mechint.core.sites import Site


class _PlantedError(Exception):
    """Raised inside an edit, to see that it comes out as it is and leaves nothing behind."""


def identity_changes_nothing(probe: Probe) -> str:
    """Check that Apply(identity), Scale(1) and Add(0) at all sites at once leave captures and output as they were."""
    for edit in (Apply("*", lambda x: x), Apply("*", torch.clone), Scale("*", 1.0), Add("*", 0.0)):
        run = probe.run(edit, capture="*")
        what = f"{type(edit).__name__} as identity"
        demand_same_output(run.output, probe.base.output, what)
        for name in probe.activations:
            demand_equal(run.activations[name], probe.activations[name], f"{what}: {name}")
    return f"{len(probe.activations)} sites"


def edits_arrive(probe: Probe) -> str:
    """Check that Zero, Replace, Add and Scale show in the capture at their site, and change the output."""
    silent: list[str] = []
    for site in probe.sites:
        reference = probe.editable(site)
        value = probe.adapter.capture(probe.inputs, reference)[reference]
        noise = probe.noise(value)
        wanted: list[tuple[Edit, torch.Tensor]] = [
            (Zero(reference), torch.zeros_like(value)),
            (Replace(reference, noise), noise),
        ]
        if value.dtype != torch.bool:  # sums and multiples of truth values are none
            wanted += [(Add(reference, noise), value + noise), (Scale(reference, 2.0), 2 * value)]
        moved = False
        for edit, expected in wanted:
            run = probe.run(edit, capture=reference)
            demand_equal(run.activations[reference], expected, f"{type(edit).__name__} at {reference}")
            moved |= output_differs(run.output, probe.base.output)
        if not moved:
            silent.append(site.name)
    changing = len(probe.sites) - len(silent)
    demand(changing > 0, "no edit at any site changed the output: the edited value does not reach the model")
    return f"output moved by {changing} of {len(probe.sites)} sites" + (
        f"; not by {', '.join(silent)}" if silent else ""
    )


def edits_keep_to_their_samples(probe: Probe) -> str:
    """Check that an edit of one sample changes no other sample, at any site."""
    if probe.n_samples < 2:
        raise NotApplicableError("give at least two samples")
    for site in _with_samples(probe):
        value = along(probe.activations[site.name], probe.activations.dims(site.name), "sample", 0)
        run = probe.run(Replace(f"{site.name}[sample=0]", probe.noise(value)), capture="*")
        for name in probe.activations:
            dims = probe.activations.dims(name)
            if "sample" in dims:
                got, expected = (
                    along(tensor, dims, "sample", slice(1, None))
                    for tensor in (run.activations[name], probe.activations[name])
                )
                demand_equal(got, expected, f"editing sample 0 of {site.name} moved other samples of {name}")
    return ""


def edits_do_not_depend_on_batches(probe: Probe) -> str:
    """Check that Replace with one value per sample gives the same in batches of one sample as all at once."""
    for site in _with_samples(probe):
        edit = Replace(site.name, probe.noise(probe.activations[site.name]))
        whole = probe.run(edit, capture=site.name)
        cut = probe.run(edit, capture=site.name, batch_size=1)
        demand_equal(cut.activations[site.name], whole.activations[site.name], f"{site.name} with batch_size=1")
        demand_same_output(cut.output, whole.output, f"Replace at {site.name} with batch_size=1")
    return ""


def edits_work_forward(probe: Probe) -> str:
    """Check that an edit leaves unchanged what comes before it, as the order of the sites states."""
    compared = 0
    for site in probe.sites:
        before = [
            one.name
            for one in probe.table.values()
            if one.order < site.order and "time" not in probe.activations.dims(one.name)
        ]
        if not before:
            continue
        run = probe.run(Replace(site.name, probe.noise(probe.activations[site.name])), capture=before)
        for name in before:
            demand_equal(run.activations[name], probe.activations[name], f"editing {site.name} moved {name} before it")
        compared += len(before)
    if not compared:
        raise NotApplicableError("no two sites of known order")
    return f"{compared} pairs"


def bad_edits_are_refused(probe: Probe) -> str:
    """Check that unknown sites, wrong axes, values of a wrong shape, and what is no edit are refused."""
    name = probe.sites[0].name
    shape = tuple(probe.activations[name].shape)
    wrong = torch.zeros(*shape[:-1], shape[-1] + 2)
    demand_error(SiteError, lambda: probe.run(Zero(f"{name}_x")), "an edit of an unknown site")
    demand_error(SiteError, lambda: probe.run(Zero(f"{name}[no_such_axis=0]")), "an edit along an unknown axis")
    demand_error(InputError, lambda: probe.run(Replace(name, wrong)), "Replace with values of a wrong shape")
    demand_error(InputError, lambda: probe.run(Add(name, wrong)), "Add with values of a wrong shape")
    demand_error(InputError, lambda: probe.run(Apply(name, lambda x: x[..., :0])), "a function that changes the shape")
    demand_error(InputError, lambda: probe.run([name]), "a string in place of an edit")
    return ""


def raising_edits_leave_nothing(probe: Probe) -> str:
    """Check that the exception of an edit comes out, and that fingerprint and output are then bit for bit as before."""
    before, fingerprint = probe.run().output, probe.adapter.fingerprint()

    def raise_it(_: torch.Tensor) -> torch.Tensor:
        raise _PlantedError

    for site in probe.sites:
        try:
            probe.run(Apply(site.name, raise_it), capture="*")
        except _PlantedError:
            pass
        else:
            raise ConformanceError(f"an exception raised in an edit of {site.name} was swallowed")
    demand(probe.adapter.fingerprint() == fingerprint, "the fingerprint changed after an edit raised")
    demand_same_output(probe.run().output, before, "after an edit raised", exactly=True)
    return f"{len(probe.sites)} sites"


def agrees_with_oracle(probe: Probe) -> str:
    """Check that captures, and outputs under Zero, Replace and Add, equal the same model run by hand."""
    if probe.oracle is None:
        raise NotApplicableError("no oracle given")
    compared = 0
    for site in probe.sites:
        try:
            value, output = probe.oracle(site.name, None)
        except LookupError:  # the oracle does not know this site
            continue
        demand_equal(probe.activations[site.name], value, f"{site.name} by hand")
        demand_same_output(probe.base.output, output, "the unedited output by hand")
        for edit, change in _edits_by_hand(site.name, probe.noise(value)):
            _, output = probe.oracle(site.name, change)
            demand_same_output(probe.run(edit).output, output, f"{type(edit).__name__} at {site.name} by hand")
        compared += 1
    demand(compared > 0, "the oracle knows none of the sites")
    return f"{compared} sites"


def _edits_by_hand(name: str, noise: torch.Tensor) -> list[tuple[Edit, Callable[[torch.Tensor], torch.Tensor]]]:
    return [
        (Zero(name), torch.zeros_like),
        (Replace(name, noise), lambda _: noise),
        (Add(name, noise, scale=0.5), lambda value: value + 0.5 * noise),
    ]


def _with_samples(probe: Probe) -> list[Site]:
    found = [site for site in probe.sites if "sample" in probe.activations.dims(site.name)]
    if not found:
        raise NotApplicableError("no site has an axis 'sample'")
    return found
