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
FLOORS = [
    ["errors", "lazy", "plot", "paths", "downloads"],
    ["spec", "rng"],
    ["activations", "inits", "optim", "metrics", "datasets", "machine", "products", "schedule", "losses"],
    ["overrides", "architecture", "study", "tables", "device_data"],
    ["plan", "models"],
    ["result_folder"],
    ["store", "evaluation", "graphs", "events", "results"],
    ["train"],
    ["packjob", "worker"],
    ["processes"],
    ["workers"],
    ["run", "report", "progress", "catalog"],
    ["forecast"],
    ["run_display"],
    ["cli"],
    ["__init__", "__main__"],
]
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
SIDEWAYS = {("metrics", "lazy")}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


FILES = sorted(p for p in PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path):
    here = room_of(path)
    assert here in FLOOR, f"{here} has no floor: add it to FLOORS"
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("actbench"):
            names = [node.module if node.module != "actbench" else f"actbench.{a.name}" for a in node.names]
        elif isinstance(node, ast.Import):
            names = [a.name for a in node.names if a.name.startswith("actbench")]
        for name in names:
            there = name.split(".")[1] if "." in name else "__init__"
            if there != here:
                assert FLOOR[there] < FLOOR[here] or there == "errors" or FLOOR[there] == FLOOR[here] > 2, (
                    f"{here} imports {there}, which is not below it"
                )


def test_tables_do_not_know_each_other():
    tables = {"activations", "inits", "optim", "metrics", "datasets"}
    for path in FILES:
        if room_of(path) in tables:
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("actbench."):
                    assert node.module.split(".")[1] not in tables - {room_of(path)}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_are_short(path):
    assert len(path.read_text().splitlines()) <= 320


LIGHT = [["--help"], ["run", "--help"], ["list"], ["list", "studies"], ["show", "dead_fraction"], ["REPORT"]]


@pytest.mark.parametrize("arguments", LIGHT, ids=" ".join)
def test_light_commands_never_load_torch(arguments, tmp_path):
    if arguments == ["REPORT"]:
        from actbench.run.loop import Options, run_study

        run_study("single", ["epochs=0", "width=2", "depth=1", "seed=0,1"], Options(out=tmp_path / "x"))
        arguments = ["report", str(tmp_path / "x")]
    code = (
        "import sys; from actbench import cli; sys.argv = ['actbench', *sys.argv[1:]]\n"
        "try: cli.main()\nexcept SystemExit as done: assert not done.code, done.code\n"
        "heavy = {'torch', 'torchvision'} & set(sys.modules)\nassert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_help_loads_nothing_heavy():
    code = "import sys; sys.argv = ['actbench', '--help']\nfrom actbench import cli\ntry: cli.main()\nexcept SystemExit: pass\n"
    code += "assert not {'torch', 'pandas', 'hydra', 'numpy', 'scipy'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


OPTIONS = {
    "run": ["--out", "--fresh", "--dry-run", "--device", "--workers", "--data-dir", "--config-dir", "--json", "--quiet"],
    "report": ["--by", "--metric", "--baseline", "--format", "--out"],
    "list": [],
    "show": [],
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


def test_readme_names_everything():
    from actbench.data.datasets import DATASETS
    from actbench.plan.architecture import MODELS
    from actbench.results.columns import COLUMNS
    from actbench.study.load import study_names
    from actbench.study.spec import SETTINGS

    text = (PACKAGE.parent / "README.md").read_text()
    names = {*SETTINGS, *MODELS, *study_names(), *COLUMNS["runs"], *COLUMNS["layers"]} - {"single"}
    assert not {name for name in names if f"`{name}`" not in text and name not in ("epoch", "step", "layer", *TOLD)}
    assert all(name in text for name in DATASETS)


TOLD = ("run_id", "train_loss", "train_accuracy", "test_loss", "test_accuracy")  # told of in sentences
