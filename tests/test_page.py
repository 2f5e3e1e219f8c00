"""The page of a result folder as text: what stands in it, what is escaped, what it may load."""

from __future__ import annotations

import base64
import hashlib
import html
import itertools
import json
import re
import shlex
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from actbench.base.errors import UserError
from actbench.page import networks
from actbench.page.answer import of_study, of_trial
from actbench.page.write import write_page
from actbench.report.stats import Ranking
from actbench.results.frames import load
from actbench.results.reading import checksum_of
from tests.pages import changed, study_in, trial_in

EVIL = "<script>alert(1)</script>"


class Reader(HTMLParser):
    """Every element of a page with its attributes, and the text of each kind of element."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.texts.setdefault(tag, []).append("")
        if tag not in ("meta", "link", "input", "br"):
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag, f"<{tag}> is closed where another is open"

    def handle_data(self, data):
        for tag in set(self._open):
            self.texts[tag][-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return study_in(tmp_path_factory.mktemp("page") / "study")


@pytest.fixture(scope="module")
def text(folder) -> str:
    return write_page([folder])[0]


@pytest.fixture(scope="module")
def page(text) -> Reader:
    return Reader(text)


@pytest.fixture
def two_figures(monkeypatch):
    """Pages with their first figures alone, for tests of all else."""
    from actbench.figures import catalog

    names = catalog.figure_names
    monkeypatch.setattr(catalog, "figure_names", lambda *arguments: names(*arguments)[:2])


def test_the_page_says_what_the_tables_say(folder, page):
    runs = load(folder).runs
    answer = next(text for text in page.texts["p"] if text.startswith("Test accuracy is highest with"))
    best = runs[runs["status"] == "completed"]["activation"].unique()
    assert any(f"with {activation}, depth" in answer for activation in best)
    assert f"All {len(runs)} networks" in " ".join(page.texts["p"])
    assert page.texts["h2"][0] == "Ranking" and page.texts["h2"][-1] == "How to read this"
    reading = " ".join(page.texts["dd"])
    assert "every one of 100 training examples" in reading, "its own probe set"
    assert json.loads((folder / "meta.json").read_text())["datasets"]["mnist-12k"]["checksum"] in page.texts["td"]


def test_every_figure_has_a_caption_a_name_and_its_numbers(page):
    figures = page.texts["figure"]
    assert len(figures) > 10 and len(figures) == len(page.texts["figcaption"]) == len(page.all("svg"))
    for attributes in page.all("svg"):
        assert attributes["role"] == "img" and attributes["viewbox"]
    assert all("Numbers of this figure" in text for text in figures)
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids)), "an id names one element"
    targets = {attributes["href"][1:] for attributes in page.all("a")}
    assert targets <= set(ids), "every link leads somewhere"


def test_all_pairs_of_axes_are_in_the_page_and_one_is_open(page):
    pairs = [attributes for attributes in page.all("details") if "pair" in (attributes.get("class") or "")]
    assert {frozenset(attributes["data-axes"].split()) for attributes in pairs} == {
        frozenset(pair) for pair in (("activation", "depth"), ("activation", "bias"), ("activation", "lr"), ("depth", "bias"),
                                     ("depth", "lr"), ("bias", "lr"))
    }  # fmt: skip
    assert ["open" in attributes for attributes in pairs] == [True] + [False] * 5


def test_headings_are_in_order(page):
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_the_policy_allows_the_pages_own_style_and_script_and_nothing_else(page):
    [policy] = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules.pop("default-src") == rules.pop("base-uri") == rules.pop("form-action") == "'none'"
    assert rules.pop("img-src") == "data:"
    for kind in ("style", "script"):
        [text] = page.texts[kind]
        assert rules.pop(f"{kind}-src") == f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
    assert not rules


def test_the_page_loads_nothing(text, page):
    assert not [tag for tag, _ in page.elements if tag in ("img", "iframe", "object", "embed", "use", "image", "form", "base")]
    for tag, attributes in page.elements:
        assert not {"src", "style", "xlink:href", "action"} & set(attributes), tag
        assert not [name for name in attributes if name.startswith("on")], tag
    assert [link["href"] for link in page.all("link")] == ["data:,"], "an icon of nothing, which no browser asks for"
    assert "@import" not in text and "url(" not in re.sub(r"url\(#[\w-]+\)", "", text), "but for clips within a picture"


def test_whatever_a_file_says_is_text(folder, tmp_path, two_figures):
    """A study, folder, command and error that hold markup; and an activation, whose name stands in tables and pictures."""
    evil = tmp_path / "<img src=x>"
    shutil.copytree(folder, evil)
    meta = json.loads((evil / "meta.json").read_text())
    meta["study"]["name"] = meta["sessions"][0]["command"] = EVIL
    meta["datasets"][EVIL] = {"checksum": EVIL, "train": 1}
    (evil / "meta.json").write_text(json.dumps(meta))
    line = (evil / "runs.csv").read_text().splitlines()[1]
    *rest, error, session = line.split(",")
    assert error == "" and "completed" in rest
    bad = ",".join([*("failed" if one == "completed" else one for one in rest), EVIL, session])
    changed(evil, "runs", (line, bad))
    written, _ = write_page([evil])
    page = Reader(written)
    assert EVIL not in written and written.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 4
    assert len(page.all("script")) == 1 and not page.all("img")
    assert EVIL in page.texts["td"] and f"Study {EVIL}" in page.texts["h1"]


def test_figures_escape_the_names_of_activations(folder):
    from actbench.figures.catalog import figure
    from actbench.figures.export import inline_svg

    results = load(folder)
    for table in (results.runs, results.history, results.layers):
        table["activation"] = table["activation"].replace("tanh", EVIL)
    svg = inline_svg(figure(results, "accuracy_by_epoch"))
    assert "<script" not in svg and "&lt;script" in svg


def test_an_unfinished_study_says_how_far_it_is(folder, tmp_path, two_figures):
    shutil.copytree(folder, tmp_path / "half")
    meta = json.loads((folder / "meta.json").read_text())
    meta["study"]["networks"] = 1000
    (tmp_path / "half" / "meta.json").write_text(json.dumps(meta))
    written, told = write_page([tmp_path / "half"])
    assert "32 of 1,000 networks so far" in written and "32 of 1,000 networks so far" in told.notes[0]


def test_several_folders_are_one_page(folder, tmp_path, two_figures):
    other = study_in(tmp_path / "other", "seed=2,3", "activation=relu", "lr=0.1")
    written, _ = write_page([folder, other])
    assert "All 40 networks" in written and str(other) in written
    by_folder, _ = write_page([folder, other], by=["folder"])
    assert f'<th scope="row">{other}</th>' in by_folder


def test_verdicts_of_another_form_are_told_and_not_drawn(folder, tmp_path, two_figures):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    trial = json.loads((Path(__file__).parent.parent / "results" / "trial" / "verdicts.json").read_text(encoding="utf-8"))
    trial["checksums"] = {table: checksum_of([(copy / f"{table}.csv").read_bytes()]) for table in trial["checksums"]}
    for claims in ([{"id": "mine"}], trial["claims"][:1] * 2, trial["claims"][:1]):
        (copy / "verdicts.json").write_text(json.dumps({**trial, "claims": claims}), encoding="utf-8")
        text, told = write_page([copy])
        drawn = claims == trial["claims"][:1]
        assert ("Claims on trial" in text) == drawn and any("does not hold verdicts" in note for note in told.notes) != drawn


def test_mistakes_are_those_of_report(folder, tmp_path, two_figures):
    for arguments in ({"by": ["activatoin"]}, {"metrics": ["acuracy"]}, {"baseline": "relu6"}):
        with pytest.raises(UserError, match="is not known"):
            write_page([folder], **arguments)
    with pytest.raises(UserError, match="no folder"):
        write_page([tmp_path / "nowhere"])
    before = (folder / "runs.csv").read_bytes()
    with pytest.raises(UserError, match="is a file of result folder"):
        write_page([folder], folder / "runs.csv")
    with pytest.raises(UserError, match="cannot write"):
        write_page([folder], tmp_path)
    assert (folder / "runs.csv").read_bytes() == before


def test_the_last_line_after_a_run_is_the_command_that_writes_the_page(folder, tmp_path, two_figures):
    from actbench.cli.commands import app
    from actbench.report.summary import summary
    from actbench.results.measures import chance_levels

    shutil.copytree(folder, home := tmp_path / "of a study")
    results = load(home)
    last = summary(results.runs, home, chance=chance_levels(results.meta))[-1].plain
    program, *words = shlex.split(last.removeprefix("Page:"))
    done = CliRunner().invoke(app, words)
    assert program == "actbench" and done.exit_code == 0, done.output
    assert (home / "report.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert "report.html" in done.stderr and "figures" in done.stderr and not done.stdout


def test_a_page_goes_to_a_pipe_and_not_to_a_terminal(folder, monkeypatch, capsys, two_figures):
    from actbench.cli.page_view import write_page_and_say

    write_page_and_say([folder], None, quiet=True)
    assert capsys.readouterr().out.rstrip().endswith("</html>")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    with pytest.raises(UserError, match=r"for a browser.*--out .*report\.html"):
        write_page_and_say([folder], None)


def test_a_run_that_came_to_nothing_says_so_and_no_more(tmp_path, capsys):
    from actbench.cli.page_view import write_page_in

    (tmp_path / "meta.json").write_text("{}")
    write_page_in(tmp_path, quiet=False)
    assert capsys.readouterr().err.startswith("no page: ") and not (tmp_path / "report.html").exists()


@pytest.mark.slow
def test_run_and_judge_write_the_page_at_once(tmp_path):
    for words in (["run", "single", "epochs=0", "width=2", "depth=1", "seed=0,1"], ["judge", "sparse", "--quick"]):
        out = tmp_path / words[0]
        done = subprocess.run(
            [sys.executable, "-m", "actbench", *words, "--report", "--json", "--out", str(out)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout), "stdout is the JSON object alone"
        assert len(Reader((out / "report.html").read_text(encoding="utf-8")).all("svg")) >= 1


def runs_of(settings: int, seeds: int, failed: int = 0) -> pd.DataFrame:
    count = settings * seeds
    return pd.DataFrame({
        "run_id": [f"{number:016x}" for number in range(count)], "lr": [number % settings for number in range(count)],
        "seed": [number // settings for number in range(count)], "validation_fraction": 0.1,
        "status": ["failed" if number >= count - failed else "completed" for number in range(count)],
        "validation_accuracy": [number % settings / settings for number in range(count)], "error": None,
    })  # fmt: skip


@pytest.mark.parametrize(("settings", "seeds", "shown", "which"), [
    (50, 10, 500, "all networks"),
    (100, 20, 500, "those of seeds 0 to 4, at every setting"),
    (480, 20, 480, "those of seed 0, at every setting"),
    (3000, 2, 500, "the best 500 by validation accuracy of the 3,000 of seed 0"),
])  # fmt: skip
def test_of_many_networks_whole_seeds_are_shown(settings, seeds, shown, which):
    """Never a sample: every setting is there, or it is said that the best are."""
    rows, words = networks._shown(runs_of(settings, seeds))
    assert len(rows) == shown and words.startswith(which)
    if settings > 500:
        assert rows["validation_accuracy"].min() == pytest.approx(2500 / 3000)
    else:
        assert rows.groupby("seed").size().eq(settings).all()


def test_failed_networks_are_always_shown():
    rows, words = networks._shown(runs_of(100, 20, failed=3))
    assert (rows["status"] == "failed").sum() == 3 and words.startswith("3 that failed, and those of seeds 0 to 3")
    assert len(networks._shown(runs_of(100, 20, failed=2000))[0]) == 100, "but not only them"


def test_captions_have_no_options_and_keep_names(page):
    captions = " ".join(page.texts["figcaption"])
    assert "tanh cannot have dead units" in captions and "--metric" not in captions and "Tanh" not in captions
    assert not re.search(r"\d %", captions), "figures stay on one line with their units"


@pytest.mark.parametrize(
    ("lows", "told"),
    [((0.85, 0.2), "; the interval of one of the 2 others overlaps this one; it is lowest"), ((0.2, 0.2), "; it is lowest"),
     ((0.85, 0.85), "; the intervals of 2 of the 2 others overlap this one; it is lowest")],
)  # fmt: skip
def test_a_studys_answer_says_how_clear_it_is(lows, told):
    rows = [dict(activation=name, test_accuracy=mean, test_accuracy_low=low, test_accuracy_high=mean + 0.05)
            for name, mean, low in zip("abc", (0.95, 0.9, 0.8), (0.9, *lows), strict=True)]  # fmt: skip
    for row, low in zip(rows[1:], lows, strict=True):
        row["test_accuracy_high"] = low + 0.06
    text = of_study(Ranking(["activation"], ["test_accuracy"], None, pd.DataFrame(rows), [], [], "", [], []))
    assert told in text and text.startswith("Test accuracy is highest with a: 95.0 %")


def test_a_trials_answer_counts_claims_and_facts():
    claims = [{"verdict": "supported"}, {"verdict": "refuted"}, {"verdict": "refuted"}, {"verdict": "holds", "fact": True}]
    assert of_trial({"claims": claims}) == "Of 3 claims, 1 is supported and 2 refuted; of 1 fact, 1 holds."
    assert "quick trial" in of_trial({"claims": claims, "quick": True})


@pytest.mark.slow
def test_the_page_of_the_trial(tmp_path):
    """Every claim with sentence, picture and numbers, in that order, below 3 MB."""
    folder = trial_in(tmp_path / "trial")
    written, told = write_page([folder])
    claims = json.loads((folder / "verdicts.json").read_text(encoding="utf-8"))["claims"]
    page = Reader(written)
    assert told.size < 3e6 and len(page.all("article")) == len(claims)
    for claim, text in zip(sorted(page.all("article"), key=lambda one: one["id"]), sorted(c["id"] for c in claims), strict=True):
        assert claim["id"] == f"claim-{text}"
    for claim in claims:
        article = written.partition(f'id="claim-{claim["id"]}"')[2].partition("</article>")[0]
        said = html.unescape(article).replace("\u00a0", " ")
        assert claim["sentence"] in said, claim["id"]
        places = [said.find(claim["sentence"]), article.find("<svg"), article.find("<caption>")]
        assert places[2] > places[0] and (places[1] < 0 or places[0] < places[1] < places[2]), claim["id"]
        assert places[1] > 0 or claim["fact"], claim["id"]
