"""The command line: ``neuros-mechint quickstart``, ``info``, ``sites``, ``check-adapter`` and ``report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from neuros_mechint.core.errors import InputError, NeurosMechintError

app = typer.Typer(
    help="Look inside artificial and biological neural networks with the same few verbs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
def quickstart(
    output: Annotated[Path, typer.Option(help="The page to write.")] = Path("neuros-mechint-quickstart.html"),
    seed: Annotated[int, typer.Option(help="Draws the prompts and trials.")] = 0,
    show: Annotated[bool, typer.Option(help="Open the page in a browser.")] = True,
) -> None:
    """Find the circuit of a trained transformer and the memory of a trained RNN, and show how in one page."""
    typer.echo("Loading the libraries (a few seconds the first time) ...")
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
    model: Annotated[str, typer.Argument(help="An embedded model's name, or the folder of a HuggingFace model.")],
    pattern: Annotated[str | None, typer.Option(help="Names to list; * matches anything.")] = None,
) -> None:
    """List the sites of a model: their names, axes, native paths, and the identity that proves each."""
    typer.echo(repr(_open(model).sites(pattern)))


@app.command("check-adapter")
def check_adapter_command(
    model: Annotated[str, typer.Argument(help="An embedded model's name, or the folder of a HuggingFace model.")],
) -> None:
    """Run the conformance kit on a model's adapter."""
    from neuros_mechint.adapters.conformance import check_adapter

    adapter = _open(model)
    report = check_adapter(adapter, _example_inputs(adapter))
    typer.echo(repr(report))
    if not report.passed:
        raise typer.Exit(1)


@app.command()
def report(
    results: Annotated[list[Path], typer.Argument(help="Files written by Result.save.")],
    output: Annotated[Path, typer.Option(help="The page to write.")] = Path("neuros-mechint-report.html"),
    title: Annotated[str, typer.Option(help="Its title.")] = "Results",
) -> None:
    """Put saved results into one self-contained page."""
    from neuros_mechint.core.result import load_result
    from neuros_mechint.report.report import Report

    page = Report(title)
    for path in results:
        page.add(load_result(path))
    typer.echo(f"report: {page.save(output).resolve()}")


def _open(name: str) -> Any:
    """Return the adapter of an embedded model, or of a HuggingFace model in a local folder."""
    from neuros_mechint.adapters.registry import adapt
    from neuros_mechint.datasets.embedded import embedded_models, load_model

    if name in embedded_models():
        return adapt(load_model(name))
    if (Path(name) / "config.json").is_file():
        import transformers

        config = transformers.AutoConfig.from_pretrained(name, local_files_only=True)
        architecture = getattr(transformers, (config.architectures or ["AutoModel"])[0])
        return adapt(architecture.from_pretrained(name, local_files_only=True))
    raise InputError(
        f"no model {name!r}",
        expected="one of "
        + ", ".join(embedded_models())
        + ", or the folder of a HuggingFace model with its config.json",
    )


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


if __name__ == "__main__":
    main()
