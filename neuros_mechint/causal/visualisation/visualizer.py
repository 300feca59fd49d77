"""The stimulus that drives a unit most, how sure it is, and what it is compared with."""

from __future__ import annotations

import math
from typing import Any

import torch
import xarray as xr

from neuros_mechint.causal.visualisation import evidence
from neuros_mechint.causal.visualisation.ascent import Climb, draw_starts, raised_in, without_unseen
from neuros_mechint.causal.visualisation.response import Response
from neuros_mechint.causal.visualisation.results import OptimalStimulus
from neuros_mechint.causal.visualisation.stimuli import IMAGE, Stimuli, is_image
from neuros_mechint.causal.visualisation.vocabulary import Vocabulary, find_vocabulary
from neuros_mechint.core.errors import InputError, OptionError, check_option, number, whole
from neuros_mechint.core.parameters import Parameterised
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, torch_generator

_STILL = 0.01
_ON_PAR = 1e-3
_HALF_TURN = 180


class FeatureVisualizer(Parameterised):
    r"""Find the stimulus that drives a unit most: activation maximisation.

    Of all stimuli :math:`x` with :math:`\|x\|_2` = ``norm``, or with every entry within ``bounds``, the one for which
    the unit is most active, by gradient ascent from several random starts at once: L-BFGS or, where images are
    transformed at random, Adam. The gradient is that with respect to the input of the model, or to any site.

    Parameters
    ----------
    model : Adapter
        From ``nm.adapt``, with gradients; never changed.
    norm : float, optional
        Euclidean norm of a stimulus: the square root of the energy of a sequence of inputs. Embeddings of tokens have
        it one by one, and by default the median of the vocabulary. Anything else needs either this or ``bounds``.
    bounds : tuple of float, optional
        Least and greatest value of each entry.
    parametrisation : {"auto", "direct", "fourier"}
        What the ascent moves: the entries themselves or, as ``auto`` does where the stimulus is an image, coefficients
        of its waves, weighted by one over frequency, in colours that are uncorrelated in photographs. The set of
        stimuli is the same; the way there is smoother.
    jitter : int
        Largest shift of an image at each step, in pixels. Transformations favour stimuli that drive the unit wherever
        they lie; a unit that looks at one place gets a blurred optimum.
    rotate : float
        Largest turn, in degrees.
    rescale : float
        Largest change of size, as a fraction.
    n_starts : int
    n_steps : int
        Runs of the model on all starts, at most.
    seed : int or numpy.random.Generator
    progress : bool
        Show a bar where it takes longer than two seconds.

    References
    ----------
    Erhan et al. 2009, Visualizing higher-layer features of a deep network, technical report 1341, University of
    Montreal; Olah et al. 2017, Feature visualization, doi:10.23915/distill.00007; Walker et al. 2019, Inception loops
    discover what excites neurons most, doi:10.1038/s41593-019-0517-x

    Examples
    --------
    >>> import neuros_mechint as nm
    >>> linear = torch.nn.Linear(2, 1, bias=False)
    >>> _ = linear.weight.data.copy_(torch.tensor([[3.0, -4.0]]))
    >>> visualizer = FeatureVisualizer(nm.adapt(linear), norm=1.0, n_steps=100)
    >>> found = visualizer.maximize(":out[unit=0]", like=torch.zeros(1, 2))
    >>> found.best.values.round(3).tolist(), round(found.activation, 3)
    ([0.6, -0.8], 5.0)
    """

    def __init__(
        self,
        model: Any,
        norm: float | None = None,
        bounds: tuple[float, float] | None = None,
        parametrisation: str = "auto",
        jitter: int = 0,
        rotate: float = 0.0,
        rescale: float = 0.0,
        n_starts: int = 8,
        n_steps: int = 300,
        seed: SeedLike = 0,
        progress: bool = True,
    ) -> None:
        self.model = model
        self.norm = norm
        self.bounds = bounds
        self.parametrisation = parametrisation
        self.jitter = jitter
        self.rotate = rotate
        self.rescale = rescale
        self.n_starts = n_starts
        self.n_steps = n_steps
        self.seed = seed
        self.progress = progress

    def maximize(
        self,
        site: str,
        like: Any,
        at: str | None = None,
        reduce: str | None = None,
        examples: Any = None,
        vocabulary: Any = None,
    ) -> OptimalStimulus:
        """Return the stimuli that drive a unit most, one for each start, and what they are compared with.

        Parameters
        ----------
        site : str
            The unit, with an index of every axis but the samples: ``"hidden[unit=3, time=-1]"``,
            ``"blocks.1.resid_post.sae.features[feature=7, position=-1]"``.
        like : inputs of the model
            One sample: its shape is that of the stimulus, and what is not optimised stays as in it.
        at : str, optional
            Where the stimulus is put: the input of the model by default, or the embedding where that is tokens. An
            index keeps the rest as it is: ``":in[time=5:15]"``, ``"embed[position=2:6]"``.
        reduce : {None, "mean"}
            Average over the part of the site that the index leaves: ``"conv2[channel=3]"`` over the image.
        examples : inputs of the model, optional
            A set of data, of which the optimum is compared with the most effective sample.
        vocabulary : array of shape (n_tokens, n_units), optional
            Embeddings of all tokens, where they are no parameter of the model.

        Returns
        -------
        OptimalStimulus

        Raises
        ------
        InputError
            Several units, or a dead one; several samples; inputs that are not finite or do not fit the model; both a
            norm and bounds, or neither.
        OptionError
            A parameter that is out of range, or transformations of what is no image.
        SiteError
            Unknown site.
        CapabilityError
            A model without gradients, or one in whose batches samples meet.
        """
        self._check()
        climb = Climb(self.n_steps, self.jitter, self.rotate, self.rescale, self.progress)
        with torch.inference_mode(False), torch.enable_grad():  # whatever mode the caller is in
            response = Response(self.model, site, like, at, reduce)
            words = find_vocabulary(response, vocabulary)
            stimuli = self._stimuli(response, words)
            source = torch_generator(self.seed)
            with raised_in(f"the search for the optimal stimulus of {response.site!r} at {response.place.name!r}"):
                free = draw_starts(response, stimuli, self.n_starts, source)
                found, values, trace = self._climbed(climb, response, stimuli, free, source)
                data = evidence.of_starts(response, stimuli, found, values, trace)
                evidence.add_random(data, response, stimuli, words, found[0], source)
            if examples is not None:
                evidence.add_examples(data, response, stimuli, found[0], examples)
            if words is not None:
                evidence.add_tokens(data, response, words, found)
        n_silent = self.n_starts - len(free)
        return OptimalStimulus(
            data,
            f"Optimal stimulus of {response.site}",
            attributes={
                "site": response.site,
                "at": response.place.name,
                "norm": stimuli.norm,
                "bounds": None if stimuli.norm is not None else list(stimuli.bounds),
                "parametrisation": "fourier" if stimuli.fourier else "direct",
                "n_steps": self.n_steps,
                "n_silent_starts": n_silent,
            },
            provenance=Provenance.record(
                self.seed, model=response.model.fingerprint(), arguments=self._arguments(site, like, at, reduce)
            ),
            citations=("olah2017", "walker2019"),
            warnings=_warnings(data, climb, n_silent),
        )

    def _climbed(
        self, climb: Climb, response: Response, stimuli: Stimuli, free: torch.Tensor, source: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the stimuli that starts lead to, the most effective first, the activations and those on the way."""
        found, trace = climb(response, stimuli, free, source)
        found, values = without_unseen(response, stimuli, found)
        order = torch.argsort(values, descending=True, stable=True)
        found, values, trace = found[order.to(found.device)], values[order], trace[order.to(trace.device)]
        response.check_each_alone(found, values)
        return found, values, trace

    def _check(self) -> None:
        check_option("parametrisation", self.parametrisation, ("auto", "direct", "fourier"))
        check_option("progress", self.progress, (True, False))
        whole("n_starts", self.n_starts)
        whole("n_steps", self.n_steps)
        whole("jitter", self.jitter, least=0)
        number("rotate", self.rotate, 0, _HALF_TURN, closed="both")
        number("rescale", self.rescale, 0, 1, closed="left")
        if self.norm is not None:
            number("norm", self.norm, 0, float("inf"))
        if self.bounds is not None:
            if not isinstance(self.bounds, (tuple, list)) or len(self.bounds) != len(("low", "high")):
                raise OptionError("bounds are two numbers", expected="(low, high)", got=self.bounds)
            low = number("the lower of the bounds", self.bounds[0], -float("inf"), float("inf"))
            number("the upper of the bounds", self.bounds[1], low, float("inf"))

    def _stimuli(self, response: Response, words: Vocabulary | None) -> Stimuli:
        """Return the set of stimuli that are allowed."""
        dims, shape = response.place.samples_first, tuple(response.place.values.shape[1:])
        image = is_image(dims)
        if not image and (self.jitter or self.rotate or self.rescale or self.parametrisation == "fourier"):
            raise OptionError(
                "only images are moved, turned, resized and made of waves",
                expected=f"a stimulus with the axes {', '.join(IMAGE)}",
                got=", ".join(dims[1:]),
            )
        norm = words.typical_norm if words is not None and self.norm is None else self.norm
        if (norm is None) == (self.bounds is None):
            raise InputError(
                "how large may a stimulus be?",
                expected="either norm= or bounds="
                if words is None
                else "norm= of one embedding, or nothing for that of the vocabulary",
                got="both" if norm is not None else "neither",
            )
        bounds = (0.0, 1.0) if self.bounds is None else (float(self.bounds[0]), float(self.bounds[1]))
        _check_precision(norm, bounds, response.place.values.dtype)
        return Stimuli(
            shape,
            norm,
            bounds,
            fourier=image and self.parametrisation != "direct",
            by_row=words is not None,
        )

    def _arguments(self, site: str, like: Any, at: str | None, reduce: str | None) -> dict[str, Any]:
        own = {name: value for name, value in self.get_params().items() if name not in ("model", "seed", "progress")}
        return own | {"site": site, "like": like, "at": at, "reduce": reduce}


def _check_precision(norm: float | None, bounds: tuple[float, float], dtype: torch.dtype) -> None:
    """Refuse stimuli that the numbers at a place do not hold, or whose energy overflows or vanishes."""
    own, computed = torch.finfo(dtype), torch.finfo(torch.promote_types(dtype, torch.float32))
    most, least = min(own.max, math.sqrt(computed.max)), max(own.tiny, math.sqrt(computed.tiny))
    if norm is not None:
        name, size, expected = "norm", norm, f"{least:.2g} to {most:.2g}"
        fits = least <= norm <= most
    else:
        name, size, expected = "bounds", bounds, f"up to {most:.2g} from zero, and apart by more than rounding"
        largest = max(map(abs, bounds))
        fits = largest <= most and bounds[1] - bounds[0] > max(least, own.eps * largest)
    if not fits:
        raise OptionError(
            f"{name} does not fit the precision of the place, {str(dtype).removeprefix('torch.')}",
            expected=expected,
            got=size,
        )


def _warnings(data: xr.Dataset, climb: Climb, n_silent: int) -> tuple[str, ...]:
    """Return what keeps the best stimulus from being taken for the optimum."""
    activation, random = data["activation"].values, data["random_activation"].values
    reach = activation[0] - random.mean()
    found: list[str] = []
    if n_silent:
        found.append(f"{n_silent} of {n_silent + len(activation)} starts found no stimulus to which the unit responds")
    if activation[0] <= random.max():
        found.append("no more than a random stimulus of the same energy reaches: this is no optimum")
    elif climb.breaks_off(data.sizes["step"]):
        rise = data["trace"].values[0, [-1 - max(1, climb.n_steps // 10), -1]]
        if rise[1] - rise[0] > _STILL * reach:
            found.append("still on the way up when the steps ran out; raise n_steps")
    if "norm_slope" in data and data["norm_slope"].values[0] < -_STILL * reach:
        found.append("at a smaller norm the unit would be more active")
    if "token_activation" in data and data["token_activation"].values[0] <= random.max():
        found.append("the nearest tokens reach no more than random ones: they do not stand for the optimum")
    names = [name for name in ("example_activation_rescaled", "example_activation") if name in data]
    if names and data[names[0]].values.max() > activation[0] + _ON_PAR * abs(reach):
        top = int(data[names[0]].values.argmax())
        found.append(f"example {top} of the data drives the unit more than the optimum that was found")
    return tuple(found)
