"""The house: imports point down, light commands stay light, files stay short."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import actbench
from actbench.cli.commands import app

PACKAGE = Path(actbench.__file__).parent
# rooms from the ground up: a room imports from its own folder and from floors below, never sideways, never upwards
FLOORS = [
    ["base"],
    ["science", "data"],
    ["study"],
    ["plan", "results"],
    ["verdicts"],
    ["engine", "report"],
    ["figures", "probe"],
    ["page"],
    ["launch"],
    ["run"],
    ["cli"],
    ["__init__", "__main__"],
]
# within a room, likewise
INSIDE = {
    "base": [["control_groups", "errors", "lazy", "rng"], ["paths"], ["machine"]],
    "science": [["activations", "inits", "layer_stats", "losses", "optimizers"], ["flatness", "metrics"]],
    "data": [["downloads", "npz"], ["datasets"]],
    "study": [["spec"], ["content", "overrides", "own"], ["compose"], ["load"]],
    "plan": [["architecture", "pack", "schedule"], ["costs"], ["pack_plan", "packing"]],
    "results": [
        ["columns", "lock"],
        ["measures", "rows"],
        ["reading"],
        ["parts", "provenance"],
        ["frames", "store", "verdict_file"],
    ],
    "verdicts": [
        ["claim", "curves", "expression", "failures", "intervals", "power", "sign_flip"],
        ["answer", "cells", "mean_field", "quick", "selection"],
        ["claims", "estimates", "theory"],
        ["evidence"],
        ["check", "tuning", "verdict"],
        ["gate", "looks"],
        ["judge"],
    ],
    "report": [["choosing"], ["stats"], ["render", "tables"], ["summary", "verdict_words"]],
    "engine": [
        ["device_data", "one_thread", "products", "recorded_steps", "user_activations"],
        ["networks"],
        ["flat_bounds", "stacked_optimizer"],
        ["evaluation"],
        ["trainer"],
        ["step_timing", "train"],
    ],
    "engine.networks": [
        ["aligned", "images", "prepared", "regularise", "rounding"],
        ["convolution", "layer_activation"],
        ["protocol"],
        ["by_autograd", "conv_layer", "dense_layer", "recurrent_layer", "weights"],
        ["convolutional", "perceptron", "recurrent"],
        ["__init__"],
    ],
    "figures": [
        ["figure", "remembered", "svg", "words"],
        ["style"],
        ["arrangement", "export", "functions", "judged", "measured", "trial"],
        ["claims", "predicted", "ranked", "series"],
        ["cells", "overlays", "scatter"],
        ["arms", "curves", "life", "questions", "rates"],
        ["heatmaps"],
        ["catalog"],
        ["loaded"],
    ],
    "page": [["table"], ["drawn", "facts", "networks"], ["claims"], ["answer", "html"], ["write"]],
    "probe": [
        ["arguments", "graph", "kinds", "logging", "recurrent", "table", "undisturbed"],
        ["alerts", "batches", "own", "schedule", "seeing"],
        ["folder", "measuring"],
        ["probe"],
        ["hugging_face", "lightning"],
    ],
    "launch": [
        ["events", "jobs", "processes", "settings", "shared"],
        ["launcher", "pack_job"],
        ["dispatch", "in_process", "preload", "remote", "worker"],
        ["isolated", "local"],
        ["node"],
        ["ray_foreman", "slurm"],
        ["ray"],
    ],
    "run": [["options"], ["prepare"], ["forecast", "session"], ["launching"], ["loop"], ["judging"]],
    "cli": [
        ["data_view", "group", "judge_json", "junit", "options", "plot", "probe_view", "run_view"],
        ["page_view"],
        ["catalog", "probe_command", "check_view", "judge_view"],
        ["completion", "figure_view"],
        ["report_view", "show_view"],
        ["commands"],
        ["entry"],
    ],
}
FILES = sorted(p for p in PACKAGE.rglob("*.py"))


def floor_of(room: str, floors: list[list[str]]) -> int:
    found = [number for number, rooms in enumerate(floors) if room in rooms]
    assert found, f"{room} has no floor: give it one here"
    return found[0]


def imports_of(path: Path) -> list[list[str]]:
    """The modules of this package that a file imports, as lists of names: ["engine", "networks", "aligned"]."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "actbench":
            parts = node.module.split(".")[1:]
            inside = [[*parts, a.name] for a in node.names if PACKAGE.joinpath(*parts, f"{a.name}.py").exists()]
            found += inside or [parts]
        elif isinstance(node, ast.Import):
            found += [a.name.split(".")[1:] for a in node.names if a.name.startswith("actbench.")]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path):
    here = list(path.relative_to(PACKAGE).with_suffix("").parts)
    for there in imports_of(path):
        same = 0
        while same < min(len(here), len(there)) - 1 and here[same] == there[same]:
            same += 1
        floors = INSIDE[".".join(here[:same])] if same else FLOORS
        mine, other = (floor_of(names[same] if same < len(names) else "__init__", floors) for names in (here, there))
        assert other < mine, f"{'.'.join(here)} imports {'.'.join(there)}, which is not below it"


def test_only_the_packages_face_is_at_its_root():
    assert {path.stem for path in PACKAGE.glob("*.py")} == {"__init__", "__main__"}
    assert {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()} == {r for f in FLOORS[:-1] for r in f}


def test_torch_lives_in_the_engine_and_above():
    """Its names are used below, in tables of functions, through `base.lazy`; losses are the engine's own."""
    for path in FILES:
        room = path.relative_to(PACKAGE).parts[0]
        if room in ("base", "data", "study", "plan", "results", "report", "science", "figures", "page") and path.stem != "losses":
            for node in ast.parse(path.read_text()).body:
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else [getattr(node, "module", None) or ""]
                assert not any(name.split(".")[0] == "torch" for name in names), path


def test_tables_do_not_know_each_other():
    tables = {"activations", "inits", "optimizers", "losses", "metrics"}
    for path in FILES:
        if path.parent.name == "science" and path.stem in tables:
            assert not [there for there in imports_of(path) if there[-1] in tables - {path.stem}]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_are_short(path):
    assert len(path.read_text().splitlines()) <= 300


LIGHT = [["--help"], ["run", "--help"], ["list"], ["list", "studies"], ["show", "dead_fraction"], ["REPORT"]]


@pytest.mark.parametrize("arguments", LIGHT, ids=" ".join)
def test_light_commands_never_load_torch(arguments, tmp_path):
    if arguments == ["REPORT"]:
        from actbench.run.loop import Options, run_study

        run_study("single", ["epochs=0", "width=2", "depth=1", "seed=0,1"], Options(out=tmp_path / "x"))
        arguments = ["report", str(tmp_path / "x")]
    code = (
        "import sys; from actbench.cli import entry as cli; sys.argv = ['actbench', *sys.argv[1:]]\n"
        "try: cli.main()\nexcept SystemExit as done: assert not done.code, done.code\n"
        "heavy = {'torch', 'torchvision'} & set(sys.modules)\nassert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_help_loads_nothing_heavy():
    code = "import sys; sys.argv = ['actbench', '--help']\nfrom actbench.cli import entry as cli\ntry: cli.main()\nexcept SystemExit: pass\n"
    code += "assert not {'torch', 'pandas', 'hydra', 'numpy', 'scipy'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


OPTIONS = {
    "run": [
        "--out",
        "--fresh",
        "--dry-run",
        "--device",
        "--workers",
        "--data-dir",
        "--config-dir",
        "--report",
        "--json",
        "--quiet",
    ],
    "judge": [
        "--out",
        "--fresh",
        "--dry-run",
        "--quick",
        "--device",
        "--workers",
        "--data-dir",
        "--config-dir",
        "--junit",
        "--report",
        "--json",
        "--quiet",
    ],
    "report": [
        *("--by", "--metric", "--baseline"),
        *("--figure", "--x", "--y", "--hue", "--facet", "--size"),
        *("--format", "--out"),
    ],
    "check": ["--against", "--junit", "--json"],
    "probe": ["--data", "--weights", "--loss", "--out", "--examples", "--json"],
    "list": [],
    "show": ["--format", "--out"],
    "data": ["--data-dir"],
}


def test_options_of_every_command_are_pinned():
    import typer.main

    commands = typer.main.get_command(app).commands
    assert sorted(commands) == sorted(OPTIONS)
    for name, command in commands.items():
        found = [p.opts[0] for p in command.params if p.param_type_name == "option" and p.opts[0] != "--help"]
        assert sorted(found) == sorted(OPTIONS[name]), name
        assert command.help and all(getattr(p, "help", None) for p in command.params), f"{name} has an option without help"
