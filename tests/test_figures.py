"""Figures of one's own question: what they show is brute-force arithmetic on the tables, and their files are what they say."""

from __future__ import annotations

import itertools
import math
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

import actbench
from actbench.base.errors import UserError
from actbench.cli.report_view import report_and_show
from actbench.cli.show_view import show_names
from actbench.figures import export, style
from actbench.figures.figure import Figure
from actbench.figures.loaded import Loaded
from actbench.figures.questions import ask, check_question
from actbench.figures.words import titled
from actbench.results.frames import Results
from actbench.results.measures import is_fraction
from actbench.verdicts.intervals import interval
from tests.test_cli import actbench as command
from tests.test_report import measured
from tests.test_report_choices import diverge, small_run

SVG = "{http://www.w3.org/2000/svg}"
BEST = {"relu": 0.1, "tanh": 0.01}  # learning rates, by validation accuracy
METRICS = ("test_accuracy", "train_loss", "dead_fraction", "dormant_fraction", "grad_norm", "delta_norm")
SEEDS = 5


def results_of(runs: pd.DataFrame, epochs: int = 2) -> Results:
    """Made-up tables of networks: random figures for each epoch and layer."""
    rng = np.random.default_rng(0)
    key = ["run_id", "dataset", "model", "activation", "init", "depth", "width", "bias", "lr", "seed"]

    def with_figures(rows: pd.DataFrame, names) -> pd.DataFrame:
        return rows.assign(**{name: rng.uniform(0.05, 0.95, len(rows)) for name in names})

    history = (
        runs[key].merge(pd.DataFrame({"epoch": np.arange(epochs + 1.0)}), how="cross").assign(step=lambda t: t["epoch"] * 10)
    )
    layers = pd.concat([history[history["depth"] >= layer].assign(layer=layer, units=8) for layer in (1, 2, 3)])
    history = with_figures(history, METRICS[:-1])
    layers = with_figures(layers, METRICS[2:])
    return Results(runs, history, layers, [{"study": {"name": "made up"}, "datasets": {}}])


def networks(**names: str) -> pd.DataFrame:
    """relu and tanh (or other names for them) at two depths, biases and rates, of which BEST is the best for each."""
    rng = np.random.default_rng(1)
    rows = []
    for activation, depth, bias, lr, seed in itertools.product(BEST, (1, 3), (-0.5, 0.0), (0.01, 0.1), range(SEEDS)):
        figures = {name: rng.uniform(0.05, 0.95) for name in METRICS}
        valid = 0.9 if lr == BEST[activation] else 0.3
        settings = dict(activation=activation, depth=depth, bias=bias, lr=lr, seed=seed)
        rows.append((settings, {**figures, "validation_accuracy": valid + 0.01 * rng.standard_normal()}))
    runs = measured(*rows)
    return runs.assign(activation=runs["activation"].map(lambda name: names.get(name, name)).astype("string"))


@pytest.fixture(scope="module")
def results():
    return results_of(networks())


QUESTIONS = [
    ("lines", dict(x="lr", y="test_accuracy", hue="activation")),
    ("lines", dict(x="depth", y="dead_fraction", hue="activation", facet="bias", size="wide")),
    ("lines", dict(x="epoch", y="train_loss", hue="bias")),
    ("lines", dict(x="layer", y="delta_norm", hue="activation", facet="depth", size="wide")),
    ("lines", dict(x="layer", y="dormant_fraction", hue="depth")),
    ("lines", dict(x="epoch", y="delta_norm", hue="layer")),
    ("points", dict(x="activation", y="test_accuracy", hue="depth")),
    ("points", dict(x="bias", y="grad_norm")),
    ("bars", dict(x="activation", y="dead_fraction", hue="bias", facet="depth")),
    ("bars", dict(x="depth", y="train_loss", hue="activation")),
    ("heatmap", dict(x="lr", y="bias", hue="dead_fraction")),
    ("heatmap", dict(x="depth", y="activation", hue="grad_norm", facet="bias", size="wide")),
]
IDS = [f"{kind}-{'-'.join(question.values())}" for kind, question in QUESTIONS]


def brute_force(results: Results, metric: str, axes: list[str]) -> dict[tuple, tuple[float, float, float]]:
    """(mean, low, high) of each cell, network by network."""
    table = results.layers if "layer" in axes or metric == "delta_norm" else results.history if "epoch" in axes else results.runs
    last = table["epoch"].max() if "epoch" in table else None
    found: dict[tuple, dict[int, list[float]]] = {}
    for _, row in table.iterrows():
        if "lr" not in axes and row["lr"] != BEST[row["activation"]]:
            continue
        if last is not None and "epoch" not in axes and row["epoch"] != last:
            continue
        found.setdefault(tuple(row[axis] for axis in axes), {}).setdefault(row["seed"], []).append(row[metric])
    means = {key: np.array([np.mean(values) for values in seeds.values()]) for key, seeds in found.items()}
    return {key: interval(values, metric, 8) for key, values in means.items()}


@pytest.mark.parametrize(("kind", "question"), QUESTIONS, ids=IDS)
def test_a_figure_shows_means_over_seeds_at_the_best_rates_with_their_intervals(results, kind, question):
    figure = ask(results, kind, **question)
    metric = question["hue" if kind == "heatmap" else "y"]
    axes = [name for part, name in question.items() if part != "size" and name != metric]
    expected = brute_force(results, metric, axes)
    data = figure.data.set_index(axes)
    data.index = [key if isinstance(key, tuple) else (key,) for key in data.index]
    assert set(data.index) == set(expected) and len(data) == len(expected)
    factor = 100 if is_fraction(metric) else 1
    for key, bounds in expected.items():
        shown = data.loc[[key], [titled(metric), "low", "high"]].iloc[0]
        assert list(shown) == pytest.approx([factor * value for value in bounds], rel=6e-4), key
        assert data.loc[[key], "seeds"].iloc[0] == SEEDS
    assert f"over {SEEDS} seeds" in figure.text
    assert ("best learning rate" in figure.text) == ("lr" not in axes)
    others = {"activation", "depth", "bias"} - set(axes)
    told = figure.text.partition("pooled over ")[2].partition(";")[0]
    assert {name for name in ("activation", "depth", "bias") if name in told} == others


@pytest.mark.parametrize(("kind", "question"), QUESTIONS, ids=IDS)
def test_the_marks_of_a_chart_are_the_figures_of_its_data(results, kind, question):
    figure = ask(results, kind, **question)
    (values,) = figure.chart.to_dict()["datasets"].values()
    assert len(values) == len(figure.data)
    if kind != "heatmap":
        metric = titled(question["y"])
        assert sorted(one["mean"] for one in values) == sorted(figure.data[metric])


@pytest.mark.parametrize(("kind", "question"), QUESTIONS, ids=IDS)
def test_svg_for_the_page_is_described_small_and_all_in_the_pages_colours(results, kind, question):
    figure = ask(results, kind, name="my figure", **question)
    text = export.inline_svg(figure)
    root = ElementTree.fromstring(text)
    assert root.get("role") == "img" and root.get("viewBox") and root.get("height") is None
    by_id = {element.get("id"): element.text for element in root.iter() if element.get("id")}
    assert by_id[root.get("aria-labelledby")] == figure.title and by_id[root.get("aria-describedby")] == figure.text
    assert all(name.startswith("my-figure-") for name in by_id)
    colours = {element.get(name) for element in root.iter() for name in ("fill", "stroke")} - {None}
    assert colours <= {"none", *(f"var({name})" for name in style.page_variables())}, colours
    assert "font-family" not in text and "style=" not in text and len(text) < 16_000
    assert re.findall(r"\b(?:https?|data|file):[^\"]*", text) == ["http://www.w3.org/2000/svg"] and "href" not in text
    assert not re.search(r"NaN|undefined|null", text)


def test_names_of_a_users_own_are_escaped():
    hostile = "<script>alert(1)</script>&\"'"
    runs = networks(tanh=hostile)
    results = results_of(runs)
    for kind, question in (
        ("lines", dict(x="depth", y="dead_fraction", hue="activation")),
        ("lines", dict(x="depth", y="dead_fraction", facet="activation")),
        ("bars", dict(x="activation", y="dead_fraction")),
        ("heatmap", dict(x="depth", y="activation", hue="dead_fraction")),
    ):
        figure = ask(results, kind, **question, title=f"of {hostile}")
        text = export.inline_svg(figure) if kind == "lines" else export.picture(figure, "svg").decode()
        root = ElementTree.fromstring(text)
        words = [element.text for element in root.iter() if element.text]
        assert any(hostile[:20] in word for word in words if not word.startswith("of ")), words
        assert not [element.tag for element in root.iter() if "script" in element.tag] and "<script" not in text


def test_files_are_what_they_say_in_the_size_that_was_asked_for(results):
    for size, mm in style.SIZES.items():
        figure = ask(results, "lines", x="depth", y="dead_fraction", hue="activation", size=size)
        svg, png, pdf = (export.picture(figure, format) for format in export.FORMATS)
        root = ElementTree.fromstring(svg)
        assert root.get("width") == f"{mm:.1f}mm" and root[2].get("fill") == "#ffffff" and root[1].tag == f"{SVG}desc"
        assert png.startswith(b"\x89PNG\r\n\x1a\n") and int.from_bytes(png[16:20]) == pytest.approx(3 * mm / 25.4 * 96, abs=3)
        width = float(re.search(rb"/MediaBox \[0 0 ([0-9.]+) ", pdf)[1])
        assert pdf.startswith(b"%PDF-") and width == pytest.approx(mm / 25.4 * 72, abs=0.1)
        assert b"var(" not in svg and b"/BaseFont" in pdf, "letters are drawn as letters"


def test_one_figure_is_one_file_byte_for_byte(results):
    def files():
        figure = ask(results, "lines", x="epoch", y="train_loss", hue="activation", facet="depth")
        return [export.picture(figure, format) for format in ("svg", "png")], export.inline_svg(figure)

    assert files() == files()


def test_tokens_have_two_values_and_series_can_be_told_apart_without_colour():
    lights = [light for light, _ in style.TOKENS.values()]
    assert len(set(lights)) == len(lights), "a colour in a chart says which token it is"
    colours, dashes, marks = style.series(style.MOST_SERIES)
    assert len({*zip(map(tuple, dashes), marks, strict=True)}) == style.MOST_SERIES
    assert len({*zip(colours, map(tuple, dashes), strict=True)}) == style.MOST_SERIES


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_colours_are_legible_in_light_and_dark(scheme):
    value = {name: values[scheme] for name, values in style.TOKENS.items()}
    for name in ("fg", "muted", "good", "bad", "mixed", "unsure"):
        assert contrast(value[name], value["bg"]) >= 4.5, name
    for place in range(1, 9):
        assert contrast(value[f"series-{place}"], value["bg"]) >= 3, place
    for step in range(len(style.SEQUENTIAL)):
        ink = "bg" if step >= style.INVERSE_FROM else "fg"
        assert contrast(value[f"seq-{step}"], value[ink]) >= 4.5, step


def test_points_may_be_one_metric_over_another(results):
    question = dict(x="grad_norm", y="dead_fraction", hue="activation")
    figure = ask(results, "points", **question)
    axes = ["activation", "depth", "bias"]
    across, down = (brute_force(results, metric, axes) for metric in ("grad_norm", "dead_fraction"))
    assert len(figure.data) == len(across) == 8
    for _, row in figure.data.iterrows():
        key = tuple(row[axis] for axis in axes)
        shown = [row[titled("grad_norm")], row["grad_norm low"], row["grad_norm high"], row[titled("dead_fraction")], row["high"]]
        expected = [*across[key], 100 * down[key][0], 100 * down[key][2]]
        assert shown == pytest.approx(expected, rel=6e-4)
    ElementTree.fromstring(export.inline_svg(figure))


def drawn_axis(figure: Figure, channel: str) -> dict:
    return figure.chart.to_dict()["layer"][-1]["encoding"][channel]


def test_rates_and_norms_are_on_log_scales_and_what_has_no_place_there_is_told(results):
    figure = ask(results, "lines", x="lr", y="grad_norm", hue="activation")
    assert drawn_axis(figure, "x")["scale"]["type"] == "log" and drawn_axis(figure, "y")["scale"]["type"] == "log"
    assert "type" not in drawn_axis(ask(results, "lines", x="depth", y="dead_fraction"), "y")["scale"]
    runs = networks()
    runs.loc[runs["activation"] == "tanh", "grad_norm"] = 0.0
    figure = ask(results_of(runs), "points", x="bias", y="grad_norm", hue="activation")
    assert "0 have no place on a log scale" in figure.text
    (values,) = figure.chart.to_dict()["datasets"].values()
    assert {one["hue"] for one in values} == {"relu"} and set(figure.data["activation"]) == {"relu", "tanh"}


def test_diverged_networks_count_as_in_a_report():
    runs = networks()
    wild = (runs["activation"] == "relu") & (runs["depth"] == 3) & (runs["bias"] == 0) & (runs["seed"] == 1)
    runs = diverge(runs, wild)
    results = results_of(runs)
    where = dict(depth=3, bias=0.0, lr=0.1)
    figure = ask(results, "bars", x="activation", y="test_accuracy", where=where)
    alive = runs[(runs["activation"] == "relu") & (runs["depth"] == 3) & (runs["bias"] == 0) & (runs["lr"] == 0.1) & ~wild]
    shown = figure.data.set_index("activation")[titled("test_accuracy")]
    assert shown["relu"] == pytest.approx(100 * (alive["test_accuracy"].sum() + 0.1) / SEEDS, rel=6e-4)
    assert "1 of these 10 networks diverged" in figure.text and "guessing (10 %)" in figure.text
    losses = ask(results, "bars", x="activation", y="train_loss", where=where)
    assert math.isnan(losses.data.set_index("activation")[titled("train_loss")]["relu"]) and "no mean" in losses.text


WRONG = {
    ("linse", "lr", "test_accuracy", None): "did you mean 'lines'",
    ("lines", "layre", "dead_fraction", None): "did you mean 'layer'",
    ("lines", "lr", "dead_fractoin", None): "did you mean 'dead_fraction'",
    ("lines", "lr", None, None): "y is missing",
    ("lines", None, "dead_fraction", None): "x is missing",
    ("heatmap", "lr", "bias", None): "hue is missing",
    ("lines", "lr", "depth", None): "'depth' is set, not measured",
    ("lines", "dead_fraction", "test_accuracy", None): "'dead_fraction' is measured, not set",
    ("lines", "lr", "dead_fraction", "lr"): "'lr' cannot be x and hue at once",
    ("lines", "layer", "test_accuracy", None): "of whole networks",
    ("lines", "epoch", "seconds", None): "at their end only",
}


@pytest.mark.parametrize("question", WRONG, ids=map(str, WRONG))
def test_questions_that_make_no_sense_are_refused_before_anything_is_read(question):
    kind, x, y, hue = question
    with pytest.raises(UserError, match=re.escape(WRONG[question])):
        check_question(kind, x=x, y=y, hue=hue)


def test_what_cannot_be_drawn_is_said(results):
    with pytest.raises(UserError, match="one width, so there is no line"):
        ask(results, "lines", x="width", y="dead_fraction")
    with pytest.raises(UserError, match="momentum: none of these networks has it"):
        ask(results_of(networks().assign(momentum=np.nan)), "points", x="momentum", y="dead_fraction")
    with pytest.raises(UserError, match="code_sparsity: empty in all"):
        ask(results_of(networks().assign(code_sparsity=np.nan)), "points", x="lr", y="code_sparsity")
    with pytest.raises(UserError, match="no network with depth=7"):
        ask(results, "points", x="lr", y="dead_fraction", where={"depth": 7})
    many = results_of(networks().assign(width=lambda runs: np.arange(len(runs)) % 17))
    with pytest.raises(UserError, match="width has 17 values; 16 can be told apart"):
        ask(many, "lines", x="lr", y="dead_fraction", hue="width")
    with pytest.raises(UserError, match=r"width has 17 values.*--size wide"):
        ask(many, "heatmap", x="width", y="lr", hue="dead_fraction")


def test_a_notebook_gets_a_chart_that_can_be_changed(results):
    import altair

    loaded = Loaded(results.runs, results.history, results.layers, results.meta)
    chart = loaded.figure("lines", x="layer", y="dormant_fraction", hue="activation")
    assert isinstance(chart, altair.LayerChart)
    changed = chart.properties(width=123, title="mine").to_dict()
    assert changed["width"] == 123 and changed["title"] == "mine" and changed["config"]["font"] == style.FONT
    of = dict(x="layer", y="dormant_fraction")
    for name, question, message in (
        ("lines", dict(**of, colour="red"), "part of a question 'colour' is not known"), (None, {}, "None is not the name of one"),
        (["ranking"], {}, "is not the name of one"), ("lines", dict(**of, where={"nope": 1}), "where 'nope' is not known"),
        ("lines", dict(**of, where="relu"), "where: relu is not a mapping"),
        ("lines", dict(**of, choose_among=["nope"]), "choose_among 'nope' is not known"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=message):
            loaded.figure(name, **question)
    assert loaded.figure("lines", **of, choose_among="lr").to_dict() == loaded.figure("lines", **of).to_dict()
    with pytest.raises(
        UserError, match="x: of lines, points, bars, heatmap; figure 'dead_by_lr_and_bias' has columns and a size of its own"
    ):
        loaded.figure("dead_by_lr_and_bias", x="lr")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small_run(tmp_path_factory.mktemp("figures") / "r", "activation=relu,tanh", "lr=0.01,0.1", "seed=0,1")


def report(folder, **options) -> None:
    """What `actbench report` calls, with its options."""
    cells = {name: options.pop(name, None) for name in ("by", "metric", "baseline")}
    question = {name: options.pop(name, None) for name in ("x", "y", "hue", "facet", "size")}
    report_and_show([folder], cells, options.pop("figure", None), question, options.pop("format", None), options.pop("out", None))


def test_the_command_draws_to_stdout_and_into_files(folder, tmp_path):
    words = ("--figure", "lines", "--x", "layer", "--y", "dormant_fraction", "--hue", "activation")
    done = command("report", folder, *words, "--format", "svg", LC_ALL="C", PYTHONIOENCODING="ascii")
    assert done.returncode == 0 and not done.stderr and ElementTree.fromstring(done.stdout).tag == f"{SVG}svg"
    out = tmp_path / "dormant.svg"
    report(folder, figure="lines", x="layer", y="dormant_fraction", hue="activation", out=out)
    assert out.read_text() == done.stdout, "a file's name says its format"
    own = actbench.load(folder).figure("lines", x="layer", y="dormant_fraction", hue="activation").to_dict()
    assert len(next(iter(own["datasets"].values()))) == 2 * 2, "two layers of two activations"


OPTIONS = [
    (dict(format="svg"), "name it with --figure: "),
    (dict(format="svg", x="lr"), "--x: of which figure?"),
    (dict(figure="lines"), "add --format svg, png or pdf, or --out FILE"),
    (dict(x="lr", out=Path("table.txt")), "of pictures; add --format"),
    (dict(format="png", out=Path("figure.svg")), "would hold svg, not png"),
    (dict(format="svg", figure="rankign"), "did you mean 'ranking'"),
    (dict(format="svg", figure="linse", x="lr"), "did you mean 'lines'"),
    (dict(format="svg", figure="lines", x="lr", y="seconds", by="lr"), "--by: of tables and pages"),
    (dict(format="svg", figure="lines", x="lr", y="seconds", size="huge"), "size 'huge' is not known"),
    (dict(format="jpg"), "format 'jpg' is not known"),
]


@pytest.mark.parametrize(("options", "message"), OPTIONS, ids=[message for _, message in OPTIONS])
def test_options_that_do_not_go_together_are_refused(folder, tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=re.escape(message)):
        report(folder, **options)
    assert not [*tmp_path.iterdir()] and not capsys.readouterr().out


def test_a_terminal_gets_no_binary_picture_and_results_are_not_overwritten(folder, monkeypatch):
    with pytest.raises(UserError, match="is a file of result folder"):
        report(folder, figure="lines", x="lr", y="test_loss", format="svg", out=folder / "runs.csv")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    with pytest.raises(UserError, match="a terminal cannot show it; name a file with --out"):
        report(folder, figure="lines", x="lr", y="test_loss", format="png")


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("r.csv", "activation,"),
        ("r.json", "{"),
        ("r.md", "| "),
        ("r.HTM", "<!DOCTYPE html>"),
        ("r.txt", "Test accuracy"),
    ],
)
def test_a_files_name_says_what_it_holds(folder, tmp_path, name, start, monkeypatch):
    from actbench.figures import catalog

    monkeypatch.setattr(catalog, "figure_names", lambda *arguments: [])
    report(folder, out=tmp_path / name)
    assert (tmp_path / name).read_text().startswith(start)


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_file_is_written_whole_or_not_at_all(folder, tmp_path, monkeypatch, failure):
    out, question = tmp_path / "a.svg", dict(figure="lines", x="lr", y="test_loss")
    out.write_text("before")
    out.chmod(0o640)
    write = Path.write_bytes

    def in_part(path: Path, content: bytes) -> int:
        write(path, content[:10])
        raise failure

    monkeypatch.setattr(Path, "write_bytes", in_part)
    with pytest.raises(UserError if isinstance(failure, OSError) else KeyboardInterrupt):
        report(folder, **question, out=out)
    assert out.read_text() == "before" and [*tmp_path.iterdir()] == [out]
    monkeypatch.undo()
    (tmp_path / "link.svg").symlink_to(out)
    report(folder, **question, out=tmp_path / "link.svg")
    assert (tmp_path / "link.svg").is_symlink() and out.read_text().startswith("<svg") and out.stat().st_mode & 0o777 == 0o640


def test_where_a_file_cannot_be_is_found_out_before_anything_is_read(tmp_path):
    for out in (tmp_path, tmp_path / "none" / "a.svg"):
        with pytest.raises(UserError, match="--out: cannot write"):
            report(tmp_path / "no results", figure="lines", x="lr", y="test_loss", format="svg", out=out)
        with pytest.raises(UserError, match="--out: cannot write"):
            show_names(["tests.actors.flat"], "svg", out)


def test_a_table_loads_no_library_of_figures_and_nor_does_load(folder):
    code = (
        "import sys, actbench; actbench.load(sys.argv[1]).runs; from actbench.cli import entry\n"
        "sys.argv = ['actbench', 'report', sys.argv[1]]\n"
        "try: entry.main()\nexcept SystemExit as done: assert not done.code, done.code\n"
        "heavy = {'torch', 'altair', 'vl_convert', 'jinja2'} & set(sys.modules)\nassert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_show_draws_functions_and_derivatives_side_by_side(tmp_path, capsys):
    show_names(["relu", "gelu", "tests.actors.smooth"], "svg", None)
    texts = {element.text for element in ElementTree.fromstring(capsys.readouterr().out).iter(f"{SVG}text")}
    assert {"relu", "gelu", "tests.actors.smooth"} <= texts
    show_names(["relu"], None, tmp_path / "relu.pdf")
    assert (tmp_path / "relu.pdf").read_bytes().startswith(b"%PDF-")
    for names, format, out, message in (
        (["relu", "rleu"], "svg", None, "did you mean 'relu'"),
        (["maxout"], "svg", None, "no curve over a single one"),
        (["relu"], None, Path("relu.txt"), "of pictures"),
    ):
        with pytest.raises(UserError, match=message):
            show_names(names, format, out)
    show_names(["relu", "he_normal"], None, None)
    assert {"activation relu", "init he_normal"} <= {*capsys.readouterr().out.splitlines()}
