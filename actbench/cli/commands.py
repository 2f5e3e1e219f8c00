"""The commands: each parses, calls one function and prints. Data goes to stdout, everything else to stderr."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from actbench.base.errors import one_line
from actbench.base.machine import user_modules_importable
from actbench.cli import completion
from actbench.cli.group import Commands
from actbench.cli.options import AsJson, DataDir, Device, Fresh, WithPage, Workers, said
from actbench.cli.probe_command import probe

app = typer.Typer(
    cls=Commands, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Do units die with this activation, and at which depth, init, bias and learning rate? "
         "Trains hundreds of networks at once and reports it.",
)  # fmt: skip


def _version(wanted: bool) -> None:
    if wanted:
        from importlib import metadata

        print(f"actbench {metadata.version('actbench')}")
        raise typer.Exit(0)


@app.callback()
def _main(
    version: Annotated[bool, Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    user_modules_importable()  # which finds out whether the working folder is still there


@app.command()
def run(
    words: Annotated[
        list[str] | None,
        Argument(
            metavar="[STUDY] [OVERRIDES]...",
            help="A study (name or YAML file), then SETTING=VALUES, and launcher=NAME for where to train.",
            show_default=False,
            autocompletion=completion.study_or_override,
        ),
    ] = None,
    out: Annotated[Path | None, Option(metavar="DIR", help="Result folder. [default: results/STUDY]")] = None,
    fresh: Fresh = False,
    dry_run: Annotated[bool, Option("--dry-run", help="Forecast time and memory; write nothing.")] = False,
    device: Device = "auto",
    workers: Workers = None,
    data_dir: DataDir = None,
    config_dir: Annotated[Path | None, Option(metavar="DIR", help="A further folder of studies.")] = None,
    with_page: WithPage = False,
    as_json: AsJson = False,
    quiet: Annotated[bool, Option("--quiet", help="No progress and no summary.")] = False,
) -> None:
    """Train the networks of a study that have no result yet.

    \b
    actbench run
    actbench run single activation=relu,gelu depth=2,8 'seed=range(0,5)'
    """
    from actbench.launch.settings import launcher_words
    from actbench.run.launching import torch_ahead
    from actbench.run.options import Options

    launcher, others = launcher_words(words or [])
    overrides = list(others)
    study = next((word for word in overrides if "=" not in word and not word.startswith("~")), None)
    if study is not None:
        overrides.remove(study)
    options = Options(
        out=out, fresh=fresh, device=device, workers=workers, data_dir=data_dir, config_dir=config_dir, launcher=launcher,
        **said(quiet=quiet),
    )  # fmt: skip
    if dry_run:
        from actbench.cli.run_view import print_forecast

        print_forecast(study or "default", overrides, options, as_json=as_json)
        return
    with torch_ahead(options):  # before the rest is imported, which takes its time
        from actbench.cli.run_view import run_with_display

        outcome = run_with_display(study or "default", overrides, options, quiet=quiet, as_json=as_json)
    for error in outcome.errors[:5]:
        print(f"failed: {one_line(error)}", file=sys.stderr)
    if with_page:
        from actbench.cli.page_view import write_page_in

        write_page_in(outcome.folder, quiet=quiet)
    if failed := outcome.statuses["failed"]:
        print(f"{failed:,} network{'s' * (failed != 1)} failed; the column error of runs.csv says why", file=sys.stderr)
        raise typer.Exit(1)


@app.command()
def judge(
    claims: Annotated[
        list[str] | None,
        Argument(
            metavar="[CLAIM]...",
            help="Claims (names or YAML files; all when left out), and launcher=NAME for where to train.",
            show_default=False,
            autocompletion=completion.list_of("claims"),
        ),
    ] = None,
    out: Annotated[Path | None, Option(metavar="DIR", help="Result folder. [default: results/trial]")] = None,
    fresh: Fresh = False,
    dry_run: Annotated[bool, Option("--dry-run", help="Forecast time; write nothing.")] = False,
    quick: Annotated[bool, Option("--quick", help="8 seeds, judged once, at an unshared 5 %; for a first impression.")] = False,
    device: Device = "auto",
    workers: Workers = None,
    data_dir: DataDir = None,
    config_dir: Annotated[Path | None, Option(metavar="DIR", help="A further folder, whose claims/ holds claims.")] = None,
    junit: Annotated[Path | None, Option(metavar="FILE", help="Write the verdicts as JUnit XML, too.")] = None,
    with_page: WithPage = False,
    as_json: AsJson = False,
    quiet: Annotated[bool, Option("--quiet", help="No progress and no verdicts.")] = False,
) -> None:
    """Put claims of the tutorials on trial: train what is missing, state the verdicts.

    \b
    actbench judge --quick
    actbench judge he_relu my_claim.yaml
    """
    from actbench.launch.settings import launcher_words
    from actbench.run.options import Options

    launcher, others = launcher_words(claims or [])
    claims = list(others)
    options = Options(
        out=out, fresh=fresh, device=device, workers=workers, data_dir=data_dir, config_dir=config_dir, launcher=launcher,
        **said(quiet=quiet),
    )  # fmt: skip
    from actbench.cli import judge_view

    if dry_run:
        judge_view.print_forecast(claims, options, quick=quick, as_json=as_json)
        return
    raise typer.Exit(
        judge_view.judge_and_show(claims, options, quick=quick, junit=junit, with_page=with_page, as_json=as_json, quiet=quiet)
    )


@app.command()
def report(
    paths: Annotated[list[Path], Argument(metavar="PATH...", help="Result folders.", show_default=False)],
    by: Annotated[
        str | None,
        Option(
            metavar="AXIS,…",
            help="The axes of a cell. [default: the study's own, or all but lr, seed]",
            autocompletion=completion.list_of("settings"),
        ),
    ] = None,
    metric: Annotated[
        str | None,
        Option(
            metavar="NAME,…",
            help="What to show; the first ranks. [default: test_accuracy]",
            autocompletion=completion.list_of("metrics"),
        ),
    ] = None,
    baseline: Annotated[
        str | None, Option(metavar="AXIS=VALUE", help="Compare with this value of an axis, paired by seed and settings.")
    ] = None,
    format: Annotated[
        str | None, Option(metavar="table|markdown|csv|json|html|svg|png|pdf", help="Output. [default: table, or as --out ends]")
    ] = None,
    figure: Annotated[
        str | None, Option(metavar="NAME", help="Of a picture: one of the page; lines, points, bars, heatmap.")
    ] = None,
    x: Annotated[str | None, Option(metavar="AXIS", help="Of your own figure: a setting, layer, epoch or step.")] = None,
    y: Annotated[str | None, Option(metavar="NAME", help="Of your own figure: what was measured; of a heatmap, an axis.")] = None,
    hue: Annotated[str | None, Option(metavar="AXIS", help="Of your own figure: colours; of a heatmap, the metric.")] = None,
    facet: Annotated[str | None, Option(metavar="AXIS", help="Of your own figure: each value in a panel of its own.")] = None,
    size: Annotated[str | None, Option(metavar="column|wide", help="Of your own figure: 85 or 175 mm. [default: column]")] = None,
    out: Annotated[Path | None, Option(metavar="FILE", help="Write there instead of to stdout.")] = None,
) -> None:
    """Summarise one or more result folders: as a table, a page or a picture.

    \b
    actbench report results/default --by activation,lr --baseline relu
    actbench report before after --by folder,activation --baseline folder=before
    actbench report results/default --format html --out report.html
    actbench report results/default --figure lines --x epoch --y dead_fraction --hue activation --out dead.pdf
    """
    from actbench.cli.report_view import report_and_show

    question = {"x": x, "y": y, "hue": hue, "facet": facet, "size": size}
    report_and_show(paths, {"by": by, "metric": metric, "baseline": baseline}, figure, question, format, out)


@app.command()
def check(
    path: Annotated[Path, Argument(metavar="PATH", help="A result folder.", show_default=False)],
    expressions: Annotated[list[str] | None, Argument(metavar="EXPR...", help="Comparisons, all of which must hold.")] = None,
    against: Annotated[Path | None, Option(metavar="OLD", help="An older folder, whose figures are `old.mean(…)`.")] = None,
    junit: Annotated[Path | None, Option(metavar="FILE", help="Write the outcome as JUnit XML, too.")] = None,
    as_json: Annotated[bool, Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """A gate for CI: exit 1 unless every expression holds.

    \b
    actbench check results/default 'max(dead_fraction, activation=gelu) == 0'
    actbench check new 'mean(test_accuracy) - old.mean(test_accuracy) >= -0.005' --against old
    """
    from actbench.cli.check_view import check_and_show

    raise typer.Exit(check_and_show(path, expressions or [], against, junit, as_json=as_json))


app.command()(probe)


@app.command("list")
def list_(
    kind: Annotated[
        str | None,
        Argument(metavar="[KIND]", help="Kind to list (default: all).", show_default=False, autocompletion=completion.kinds),
    ] = None,
) -> None:
    """List activations, inits, models, datasets, optimizers, metrics, studies or settings.

    \b
    actbench list activations
    """
    from actbench.cli.catalog import KINDS, listing

    if kind is not None:
        print("\n".join(listing(kind)))
        return
    for one in KINDS:
        print("\n".join([one, *(f"  {line}" for line in listing(one, indent=2)), ""]))


@app.command()
def show(
    names: Annotated[
        list[str],
        Argument(
            metavar="NAME...",
            help="Anything that `list` lists, or the dotted name of your own activation.",
            autocompletion=completion.names,
        ),
    ],
    format: Annotated[str | None, Option(metavar="svg|png|pdf", help="Draw activations and slopes side by side.")] = None,
    out: Annotated[Path | None, Option(metavar="FILE", help="Write the picture there instead of to stdout.")] = None,
) -> None:
    """Show entries in full: formula, derivative, plot, source, settings.

    \b
    actbench show relu
    actbench show relu gelu tanh --out functions.svg
    """
    from actbench.cli.show_view import show_names

    show_names(names, format, out)


@app.command()
def data(
    names: Annotated[
        list[str] | None,
        Argument(
            metavar="[NAME]...",
            help="Data sets; all that are here when left out.",
            show_default=False,
            autocompletion=completion.datasets,
        ),
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Fetch data sets and verify their checksums.

    \b
    actbench data mnist fashion_mnist
    """
    from actbench.cli.data_view import lines

    for line in lines(names or [], data_dir):
        print(line)
