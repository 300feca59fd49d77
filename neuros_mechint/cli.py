"""The command line: the workflows, and ``info``, ``sites``, ``check-adapter`` and ``report``.

Parameters of a command are named as those of the function that it calls, so that what this says of its arguments can be
said of options, see `_spoken`.
"""

from __future__ import annotations

import codecs
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from neuros_mechint.core.errors import InputError, NeurosMechintError

if TYPE_CHECKING:
    from neuros_mechint.workflows.runs.run import WorkflowOutcome

_MODEL = (
    "The name of a model that ships with the package (see info); the folder of a HuggingFace model; or "
    "file.py:function, a function of your own Python file that returns a model and takes no arguments. The file is "
    "run, and may import what lies beside it."
)
Model = Annotated[str, typer.Argument(help=_MODEL)]
Seed = Annotated[int, typer.Option(help="Of all random numbers: the same seed gives the same results.")]
Show = Annotated[bool, typer.Option(help="Open the report in a browser.")]
_FOLDER = (
    "The folder to write: report.html, manifest.json and the results. A run that was cut off goes on where it stopped, "
    "if it is started again with the same folder."
)
Folder = Annotated[Path, typer.Option("--output", help=_FOLDER)]

_INTERRUPTED = 130  # Ctrl-C


class _Commands(TyperGroup):
    """Commands whose errors speak the words of the command line."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            with _steps_told():
                return super().invoke(ctx)
        except NeurosMechintError as error:
            error.args = (_spoken(str(error), str(ctx.invoked_subcommand)),)
            raise


app = typer.Typer(
    cls=_Commands,
    help="Look inside artificial and biological neural networks with the same few verbs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
def quickstart(
    output: Annotated[Path, typer.Option(help="The page to write.")] = Path("neuros-mechint-quickstart.html"),
    seed: Seed = 0,
    show: Show = True,
) -> None:
    """Find the circuit of a trained transformer and the memory of a trained RNN, and show how in one page."""
    _say_loading()
    from neuros_mechint.workflows.quickstart import quickstart as run

    found = run(output, seed=seed)
    heads, joint = found.results["heads"].normalized(), found.results["joint"].normalized()  # type: ignore[attr-defined]
    accuracy = found.results["accuracy"].main
    lags = ", ".join(str(lag) for lag in accuracy["lag"].values)
    typer.echo(f"accuracy at distances {lags}: at least {accuracy.values.min():.3f}")
    for site in heads["site"].values:
        effects = ", ".join(f"{value:.2f}" for value in heads.sel(site=site).values)
        typer.echo(f"effect of exchanging one head of {site}: {effects}")
    typer.echo(f"effect of exchanging all heads of the second layer at once: {joint.item():.2f}")
    typer.echo(f"report: {found.path.resolve()}")
    if show:
        found.report.open()


@app.command()
def understand(
    model: Model,
    prompts: Annotated[
        str | None,
        typer.Option(
            help='A JSON file {"clean": [...], "corrupted": [...], "correct": [...], "wrong": [...]} of texts or token '
            "ids, or file.py:function that returns (clean, corrupted, metric); without it, sequences that repeat."
        ),
    ] = None,
    corpus: Annotated[
        Path | None, typer.Option(help="A .npy file of token ids (sequences, positions) to train the autoencoder on.")
    ] = None,
    site: Annotated[
        str | None, typer.Option(help="Where the sparse autoencoder is trained; see the command sites.")
    ] = None,
    folder: Folder = Path("neuros-mechint-understand"),
    seed: Seed = 0,
    show: Show = True,
) -> None:
    """Find out how a transformer does what it does: patching, a sparse autoencoder and a circuit, in one report.

    MODEL takes tokens, such as induction, which ships with the package.
    """
    _say_loading()
    from neuros_mechint.workflows.understanding.understand import understand as run

    _tell_outcome("understand", run(model, prompts, site=site, corpus=corpus, seed=seed, folder=folder), show)


@app.command()
def align(
    model: Model,
    recording: Annotated[
        str,
        typer.Argument(
            help="Responses to stimuli: a .csv, .npy or .npz file (stimuli, units), a .nc file that xarray wrote, an "
            "NWB file; or 92images, which is downloaded once."
        ),
    ],
    stimuli: Annotated[
        str | None,
        typer.Option(
            help="What was shown, as the model takes it: a .npy or .nc file, or a folder of pictures. Real numbers are "
            "cast to the precision of the model."
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="A text file, the label of a stimulus in each line, which join stimuli without labels to a recording "
            "that has them.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    sites: Annotated[
        list[str] | None, typer.Option(help="Layers to compare; * matches anything. May be given several times.")
    ] = None,
    region: Annotated[str | None, typer.Option(help="Brain region, of a recording of several.")] = None,
    rdm: Annotated[
        str,
        typer.Option(
            help="Dissimilarity of patterns: correlation, which does not see how strongly a stimulus drives all units; "
            "or euclidean, which does, and does not depend on the baseline of each unit."
        ),
    ] = "correlation",
    encoding: Annotated[bool, typer.Option(help="Also predict the responses from each layer.")] = False,
    folder: Folder = Path("neuros-mechint-align"),
    seed: Seed = 0,
    show: Show = True,
) -> None:
    """Compare the layers of a model with a brain recording of the same stimuli, in one report."""
    _say_loading()
    from neuros_mechint.workflows.alignment.align import align as run

    named = None if labels is None else _lines(labels)
    options = {"sites": sites or None, "region": region, "rdm": rdm, "encoding": encoding, "labels": named}
    found = run(model, recording, stimuli, **options, seed=seed, folder=folder)
    _tell_outcome("align", found, show)


@app.command()
def dynamics(
    model: Model,
    inputs: Annotated[
        Path | None, typer.Option(help="A .npy file (trials, times, inputs) that the model is run on.")
    ] = None,
    trajectories: Annotated[
        Path | None, typer.Option(help="A .npy file (trials, times, states) to analyze instead of a run.")
    ] = None,
    folder: Folder = Path("neuros-mechint-dynamics"),
    seed: Seed = 0,
    show: Show = True,
) -> None:
    """Analyze a recurrent network: its fixed points, latent circuit and energy landscape, in one report.

    MODEL has one recurrent layer, such as flip_flop_rnn, which ships with the package.
    """
    _say_loading()
    from neuros_mechint.workflows.dynamics.analyze import analyze_dynamics

    _tell_outcome("dynamics", analyze_dynamics(model, inputs, trajectories, seed=seed, folder=folder), show)


@app.command("train-bio")
def train_bio(
    draw: Annotated[
        str,
        typer.Argument(
            metavar="TASK",
            help="flip_flop; or file.py:function, a function of your own Python file: draw(random) -> trials with "
            "inputs, targets and mask. The file is run.",
        ),
    ] = "flip_flop",
    network: Annotated[
        str | None, typer.Option(help="file.py:function that returns an nm.EIRecurrentNetwork; one of 32 units else.")
    ] = None,
    n_steps: Annotated[int, typer.Option("--steps", help="Steps of training.")] = 300,
    folder: Folder = Path("neuros-mechint-train-bio"),
    seed: Seed = 0,
    show: Show = True,
) -> None:
    """Train a network with Dale's law and a prior on its spectrum, and controls without either, in one report."""
    _say_loading()
    from neuros_mechint.workflows.biological.training import biological_training

    found = biological_training(network, draw, n_steps=n_steps, seed=seed, folder=folder).outcome
    _tell_outcome("train-bio", found, show)


@app.command()
def reproduce(
    manifest: Annotated[Path, typer.Argument(help="manifest.json of a run, or its folder.")],
    given: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            help="NAME=VALUE: an input to take instead of the one that the manifest tells of, such as "
            "model=file.py:function or inputs=file.npy. What was an object in Python may be file.py:function, which "
            "returns it. May be given several times.",
        ),
    ] = None,
    folder: Annotated[Path | None, typer.Option("--output", help="Keep the repetition in this folder.")] = None,
    tolerance: Annotated[
        float, typer.Option(help="Largest difference, relative to the largest value, that counts as close.")
    ] = 1e-6,
) -> None:
    """Repeat a run from its manifest and compare all numbers: exit status 0 if they are the same, 1 if they are not."""
    _say_loading()
    from neuros_mechint.workflows.runs.reproduce import reproduce as repeat

    inputs: dict[str, Any] = dict(_named(one) for one in given or [])
    found = repeat(manifest, folder=folder, tolerance=tolerance, **inputs)
    typer.echo(_spoken(found.summary(), "reproduce"))
    if not found.reproduced:
        raise typer.Exit(1)


@app.command()
def info() -> None:
    """Show versions, the kinds of model that can be opened, and the models that ship with the package."""
    from neuros_mechint.adapters.registry import adapter_entries
    from neuros_mechint.core.provenance import Provenance
    from neuros_mechint.datasets.embedded import embedded_models

    record = Provenance.record()
    typer.echo(f"Python {record.python} on {record.platform}")
    for name, version in record.versions.items():
        typer.echo(f"  {name} {version}")
    typer.echo("kinds of model:")
    for entry in adapter_entries():
        typer.echo(f"  {entry.name}: {entry.describes}")
    typer.echo("embedded models (nm.load_model):")
    for model in embedded_models().values():
        typer.echo(f"  {model.name}: {model.description}")


@app.command()
def sites(
    model: Model,
    pattern: Annotated[str | None, typer.Option(help="Names to list; * matches anything.")] = None,
) -> None:
    """List the sites of a model: their names, axes, native paths, and the identity that proves each."""
    from neuros_mechint.workflows.runs.sources import open_model

    typer.echo(repr(open_model(model).value.sites(pattern)))


@app.command("check-adapter")
def check_adapter_command(
    model: Model,
) -> None:
    """Run the conformance kit on a model's adapter."""
    from neuros_mechint.adapters.conformance import check_adapter
    from neuros_mechint.workflows.runs.sources import open_model

    adapter = open_model(model).value
    report = check_adapter(adapter, _example_inputs(adapter))
    typer.echo(repr(report))
    if not report.passed:
        raise typer.Exit(1)


@app.command()
def report(
    results: Annotated[
        list[Path],
        typer.Argument(
            help="Files written by Result.save, folders of them or of workflows, or reports saved as .json."
        ),
    ],
    output: Annotated[Path, typer.Option(help="The file to write: .html, .md or .json.")] = Path(
        "neuros-mechint-report.html"
    ),
    title: Annotated[str | None, typer.Option(help="Its title, instead of that of the run.")] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Show the same results of several runs, one a path, side by side.")
    ] = False,
) -> None:
    """Put saved results into one self-contained page, or those of several runs side by side."""
    from neuros_mechint.report.report import Report
    from neuros_mechint.report.saved import unused_name
    from neuros_mechint.workflows.runs.collected import collected

    if compare:
        runs: dict[str, Path] = {}
        for path in results:
            runs[unused_name(path.stem, runs)] = path
        page = Report.compare(runs, title or "Comparison of runs")
    else:
        page = collected(results, title)
    typer.echo(f"report: {page.save(output).resolve()}")


@contextmanager
def _steps_told() -> Iterator[None]:
    """Tell the steps of a workflow where stderr is no terminal too, such as in a log file."""
    log, handler = logging.getLogger("neuros_mechint.workflows.runs.run"), logging.StreamHandler()
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


def _say_loading() -> None:
    typer.echo("Loading the libraries (a few seconds the first time) ...")


def _tell_outcome(command: str, outcome: WorkflowOutcome, show: bool) -> None:
    """Say what a workflow found, where it is, and how it is repeated."""
    from neuros_mechint.workflows.runs.repeating import how_to_repeat

    typer.echo(_spoken(outcome.summary(), command))
    typer.echo(f"\nreport: {outcome.path.resolve()}")
    if outcome.folder is not None:
        typer.echo(f"to repeat and compare: {how_to_repeat(outcome.manifest, outcome.folder).command}")
    if show:
        outcome.report.open()


# A call or an index, whose words are not looked at; or a word, maybe with what makes it an argument in Python.
_WORDS = re.compile(r"[\w.]+\([^()]*\)|\[[^\[\]]*\]|(?<![\w.-])([a-z]\w*)(=(?:\.{3})?(?=(\S?)))?")
_ADVICE = ("  expected:", "  to fix:")
_CALLS = {"model.sites()": "neuros-mechint sites MODEL"}


def _spoken(text: str, command: str) -> str:
    """Return what a function says of its arguments in the words of the command that calls it.

    Advice that is about arguments which no option reaches says so.

    Examples
    --------
    >>> _spoken("n_steps is out of range", "train-bio")
    '--steps is out of range'
    >>> _spoken("expected: region=, one of V1, V4", "align")
    'expected: --region, one of V1, V4'
    """
    options = _options(command)
    unreached: dict[str, None] = {}

    def said(found: re.Match[str]) -> str:
        name, equals, then = found.groups()
        if name in options and (equals or "_" in name):
            return options[name] + (" " if then and then not in ",;:." else "")
        if equals and text[: found.start()].rpartition("\n")[2].startswith(_ADVICE):
            unreached[f"{name}="] = None
        return _CALLS.get(found[0], found[0])

    spoken = _WORDS.sub(said, text)
    if not unreached:
        return spoken
    return f"{spoken}\n  note:     {', '.join(unreached)} is an argument in Python, and no option of this command"


def _options(command: str) -> dict[str, str]:
    """Return how a command spells its parameters, by their names in Python."""
    group: Any = typer.main.get_command(app)
    found = group.commands.get(command)
    spelled = {
        str(one.name): max(one.opts, key=len) if one.param_type_name == "option" else one.metavar or one.name.upper()
        for one in (found.params if found is not None else ())
    }
    if command == "reproduce":
        from neuros_mechint.workflows.runs.reproduce import WORKFLOWS

        named = (name for known in WORKFLOWS.values() for name in known.openers)
        spelled |= {name: f"--input {name}=VALUE" for name in named}
    return spelled


def _lines(path: Path) -> list[str]:
    """Return the lines of a text file, without spaces around them and empty lines at the end."""
    try:
        with path.open("rb") as file:
            marked = file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        text = path.read_text(encoding="utf-16" if marked else "utf-8-sig")
    except UnicodeError as error:
        raise InputError(f"{path} is no text in UTF-8", got=error, fix="save it as UTF-8") from error
    return [line.strip() for line in text.rstrip().split("\n")]


def _named(given: str) -> tuple[str, str]:
    name, equals, value = given.partition("=")
    if not equals or name in ("manifest", "folder", "tolerance", "progress"):
        raise InputError(f"--input {given} names no input", expected="NAME=VALUE, such as model=file.py:function")
    return name, value


def _example_inputs(adapter: Any) -> Any:
    batch = adapter._probe()
    if batch is None:
        raise InputError("this model offers no example inputs", fix="call check_adapter(adapter, inputs) from Python")
    return dict(batch.kwargs) or batch.args


def main() -> None:
    """Run the command line; errors that teach are shown without a traceback."""
    try:
        app()
    except NeurosMechintError as error:
        typer.echo(f"error: {error}", err=True)
        raise SystemExit(2) from None
    except SystemExit as stopped:
        if stopped.code == _INTERRUPTED:
            typer.echo("stopped: a workflow that is started again with the same folder goes on from here", err=True)
        raise


if __name__ == "__main__":
    main()
