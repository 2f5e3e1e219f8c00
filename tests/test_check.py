"""The gate: what an expression may say, what it comes to, and that it never passes by mistake."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from actbench.base.errors import UserError
from actbench.cli.check_view import check_and_show
from actbench.results.measures import chance_levels
from actbench.results.verdict_file import write_verdicts
from actbench.run.loop import Options, run_study
from actbench.verdicts.check import evaluate, judge
from actbench.verdicts.expression import Aggregate, Arithmetic, ClaimIs, Comparison, Number, parse
from actbench.verdicts.gate import check_folder
from actbench.verdicts.selection import Tables
from tests.test_cli import actbench
from tests.test_report import measured

CHANCE = chance_levels([])
NO_ROWS = pd.DataFrame(columns=["run_id", "layer", "units"])


def networks(figures, metric="test_loss", **settings) -> pd.DataFrame:
    """A network for each figure, of seeds 0, 1, …; or of the seeds that a mapping names."""
    seeds = figures.items() if isinstance(figures, dict) else enumerate(figures)
    return measured(*((dict(seed=seed, **settings), {metric: figure}) for seed, figure in seeds))


def tables(*runs: pd.DataFrame, layers=NO_ROWS, history=NO_ROWS) -> Tables:
    return Tables(pd.concat(runs, ignore_index=True), history, layers, CHANCE)


def come_to(expression, *runs, old=None, **others):
    return judge(parse(expression), tables(*runs, **others), None if old is None else tables(old))


def mistake(expression, *runs, **others) -> str:
    with pytest.raises(UserError) as caught:
        come_to(expression, *runs, **others)
    return str(caught.value)


# the grammar


def test_an_expression_is_a_tree():
    left = Aggregate("mean", "runs", "test_accuracy", (("activation", "gelu"), ("lr", 0.1)))
    right = Aggregate(
        "max", "layers", "delta_norm", (("layer", 1), ("bias", -1), ("nesterov", True), ("momentum", None)), old=True
    )
    text = "mean(test_accuracy, activation=gelu, lr=0.1)*2 >= -old.max(layers.delta_norm, layer=1, bias=-1, nesterov=true, momentum=null)"
    found = parse(text)
    assert found == Comparison(Arithmetic(left, "*", Number(2.0)), ">=", Arithmetic(Number(0.0), "-", right))
    assert str(right) == "old.max(layers.delta_norm, layer=1, bias=-1, nesterov=true, momentum=null)"
    assert parse("claim(he_relu) == supported") == ClaimIs("he_relu", "==", "supported")
    assert parse("claim('my-claim') != refuted") == ClaimIs("my-claim", "!=", "refuted")
    assert parse("  count(status=diverged)\n== 0 ").left == Aggregate("count", "runs", None, (("status", "diverged"),))
    assert parse("mean(x, dataset='mnist-12k') > 0").left.where == (("dataset", "mnist-12k"),)


REFUSED = [
    "", " ", "mean(x)", "x > 0", "1 < 2", "0 < mean(x) < 1", "mean(x) > 1 > 0", "mean(x) = 1", "mean(x) => 1", "mean(x) ≤ 1",
    "mean(x) > 1 and mean(y) > 1", "mean(x) > (1 or mean(y))", "mean(x) > 1 && mean(y) > 1", "not mean(x) > 1", "mean(x) > 90%",
    "().__class__.__bases__[0].__subclasses__() == 0", "mean(x).real > 0", "mean(x.y.z) > 0", "mean(x.__class__) > 0", "a.mean(x) > 0",
    "__import__('os').system('touch owned') == 0", "open('owned', 'w').write('x') > 0", "eval('1') > 0", "exec('1') > 0", "mean(x)() > 0",
    "print(mean(x)) > 0", "[x for x in mean(x)] > 0", "{x: 1}['a'] > mean(x)", "(lambda: mean(x))() > 0", "f'{mean(x)}' > 0",
    "(a := mean(x)) > 0", "mean(x) if 1 else 2", "mean(*x) > 0", "mean(**x) > 0", "mean(x, **{'a': 1}) > 0", "mean(x, lr=0.1, lr=0.2) > 0",
    "mean(x) ** 99 > 0", "9**9**9**9 > mean(x)", "mean(x) // 2 > 0", "mean(x) % 2 > 0", "mean(x) << 99 > 0", "mean(x) @ 2 > 0", "~mean(x) > 0",
    "mean(x) > 1e999", "mean(x) > -1e999", "mean(x) > " + "9" * 400, "mean(x) > nan", "mean(x) > inf", "mean(x) > True", "mean(x) > None",
    "mean(x) > 'a'", "mean(x) > 1j", "mean(x) > ...", "mean(x) is 1", "mean(x) in (1,)", "mean('x') > 0", "mean(x, y) > 0", "mean() > 0",
    "mean(x)[0] > 0", "mean(x); import os", "mean(x) > 0 # and more", "mean(x) > 0\nmean(y) > 0", "ｍean(x) > 0", "mean(x) > ١", "mеan(x) > 0",
    "mean(x) > 0\x00", "mean(x, activation='\x1b[31m') > 0", "mean(x, activation='\ud800') > 0", "mean(x, activation='a) > 0", "mean(x > 0",
    "(" * 300 + "mean(x)" + ")" * 300 + " > 0", "-" * 1900 + "mean(x) > 0", "1+" * 400 + "mean(x) > 0", "mean(x)" + "[0]" * 500, "mean(x) > " + "not " * 400 + "1",
    "mean(x) > 0" + " " * 2000 + "+ 0", "mean(x" + ".a" * 900 + ") > 0", "mean(x, lr=(0.1, 0.2)) > 0", "mean(x, lr=0.1 + 0.1) > 0",
    "mean(x, dataset=mnist-12k) > 0", "mean(x, activation=my.own) > 0", "mean(x, lr=1e999) > 0", "mean(x, lr=--1) > 0", "await mean(x) > 0", "yield > 0",
    "claim(a)", "claim(a) > supported", "claim(a) == maybe", "claim(a) == 1", "claim() == supported", "claim(a, b) == supported", "claim(a-b) == supported",
    "supported == claim(a)", "claim(a) + 1 > 0", "old.claim(a) == supported", "claim(x=1) == supported", "claim(a) == claim(b)", "mean(claim(a)) > 0",
]  # fmt: skip


@pytest.mark.parametrize("text", REFUSED, ids=[f"{number}" for number, _ in enumerate(REFUSED)])
def test_everything_else_is_a_mistake_in_one_line(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        parse(text)
    message = str(caught.value)
    assert message.isprintable() and len(message) < 700
    assert not list(tmp_path.iterdir()), "it was executed"


WORDS = [
    *"()[]{},.:=<>+-*/%'\"#@!~ 019",
    "mean",
    "old.",
    "claim",
    "lambda ",
    "status=",
    "supported",
    " and ",
    "**",
    "==",
    "\\",
    "\0",
    "é",
]


@given(st.lists(st.sampled_from(WORDS), max_size=30).map("".join) | st.text(max_size=40))
@settings(max_examples=300, deadline=None)
def test_any_text_is_a_tree_or_a_mistake(text):
    try:
        assert isinstance(parse(text), (Comparison, ClaimIs))
    except UserError as error:
        assert str(error)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("mean(x, dataset=mnist-12k) > 0", "dataset='mnist-12k'"),
        ("mean(x, dataset=mnist-a) > 0", "dataset='mnist-a'"),
        ("mean(x, activation=my.own(3)) > 0", "activation='my.own(3)'"),
        ("mean(x) > 1 and mean(y) > 1", "several expressions"),
        ("mean(x) = 1", "write =="),
        ("mean(x) > 90%", "write 0.9"),
        ("0 < mean(x) < 1", "as 2 expressions"),
        ("maen(x) > 1", "did you mean 'mean'"),
        ("claim(a) == suported", "did you mean 'supported'"),
        ("x > 1", "such as mean(x)"),
    ],
)
def test_a_mistake_says_what_is_right(text, says):
    with pytest.raises(UserError, match=".*" + says.replace("(", r"\(").replace(")", r"\)")):
        parse(text)


# means and their intervals


def decision(operator, low, high, limit):
    """By trying values of the interval, the limit among them if it is in it."""
    holds = {"<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal, "==": np.equal, "!=": np.not_equal}
    found = holds[operator](np.append(np.linspace(low, high, 101), np.clip(limit, low, high)), limit)
    return "pass" if found.all() else "undecided" if found.any() else "fail"


@pytest.mark.parametrize("operator", ["<", "<=", ">", ">=", "==", "!="])
def test_a_mean_is_judged_by_students_interval(operator):
    rng = np.random.default_rng(0)
    figures = rng.normal(5, 1, 8)
    low, high = stats.t.interval(0.95, 7, figures.mean(), stats.sem(figures))
    for limit in map(float, (2.0, low - 1e-6, low + 1e-6, 5.0, high - 1e-6, high + 1e-6, 9.0)):
        found = come_to(f"mean(test_loss) {operator} {limit!r}", networks(figures))
        assert (found.value, found.low, found.high) == pytest.approx((figures.mean(), low, high))
        assert (found.threshold, found.n, found.networks, found.comparison) == (limit, 8, 8, operator)
        expected = decision(operator, low, high, limit)
        assert found.outcome == expected, limit
        mirrored = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}.get(operator, operator)
        assert come_to(f"{limit!r} {mirrored} mean(test_loss)", networks(figures)).outcome == expected


def test_differences_are_paired_by_seed():
    rng = np.random.default_rng(1)
    one, two = rng.normal(5, 1, 8), rng.normal(0.3, 0.05, 8)
    runs = networks(one, activation="relu"), networks(one - two, activation="tanh").sample(frac=1, random_state=0)
    found = come_to("mean(test_loss, activation=relu) - mean(test_loss, activation=tanh) > 0.2", *runs)
    expected = stats.ttest_rel(one, one - two).confidence_interval()
    assert (found.low, found.high) == pytest.approx(tuple(expected)) and found.outcome == "pass" and "paired" in found.method
    same = come_to("mean(test_loss, activation=relu) > 0.2 + mean(test_loss, activation=tanh)", *runs)
    assert (same.low, same.high) == pytest.approx((expected.low - 0.2, expected.high - 0.2)) and same.outcome == "pass"


def test_means_of_other_seeds_are_judged_by_welch():
    rng = np.random.default_rng(2)
    one, two = rng.normal(5, 1, 6), rng.normal(4, 0.2, 9)
    runs = networks(one, activation="relu"), networks(dict(enumerate(two, 100)), activation="tanh")
    found = come_to("2 * (mean(test_loss, activation=relu) - mean(test_loss, activation=tanh)) + 1 > 0", *runs)
    low, high = stats.ttest_ind(one, two, equal_var=False).confidence_interval()
    assert (found.low, found.high) == pytest.approx((2 * low + 1, 2 * high + 1)) and "Welch" in found.method and found.n == 6
    assert "whose seeds differ" in mistake("mean(test_loss, activation=relu) / mean(test_loss, activation=tanh) > 0", *runs)


def test_seeds_shared_in_part_have_no_narrower_interval_than_any_correlation_gives():
    """Of two samples with so many seeds in common, whatever they are: simulated at a correlation of 1, whose errors add up."""
    rng = np.random.default_rng(3)
    runs = pd.concat([networks([0.0] * 8, activation="relu"), networks(dict.fromkeys(range(2, 10), 0.0), activation="tanh")])
    covered = 0
    for _ in range(200):
        draws = rng.normal(0, 1, 10)
        runs["test_loss"] = draws[runs["seed"]]
        found = come_to("mean(test_loss, activation=relu) + mean(test_loss, activation=tanh) > 0", runs)
        covered += found.low <= 0 <= found.high
    assert covered >= 0.92 * 200 and "in part" in found.method


def test_a_ratio_is_worked_out_seed_by_seed():
    rng = np.random.default_rng(4)
    one, two = rng.normal(5, 1, 8), rng.normal(4, 0.2, 8)
    runs = networks(one, activation="relu"), networks(two, activation="tanh")
    found = come_to("mean(test_loss, activation=relu) / mean(test_loss, activation=tanh) > 1", *runs)
    assert (found.low, found.high) == pytest.approx(stats.t.interval(0.95, 7, (one / two).mean(), stats.sem(one / two)))
    assert "at seed 3" in mistake(
        "1 / mean(test_loss, activation=relu) > 1", networks(np.where(np.arange(8) == 3, 0, one), activation="relu")
    )


def test_seeds_are_the_unit_of_replication():
    """Three depths of a seed are averaged first, or they would count as three."""
    per_seed = np.array([1.0, 2.0, 4.0])
    runs = [networks(per_seed + depth, depth=depth) for depth in (1, 2, 3)]
    found = come_to("mean(test_loss) > 0", *runs)
    low, high = stats.t.interval(0.95, 2, 13 / 3, stats.sem(per_seed))
    assert (found.n, found.networks, found.high) == (3, 9, pytest.approx(high)) and found.low == pytest.approx(max(low, 0))


def test_one_seed_decides_nothing():
    found = come_to("mean(test_loss) < 100", networks([1.0]))
    assert found.outcome == "undecided" and "two seeds" in found.reason and np.isnan(found.low)
    assert come_to("max(test_loss) < 100", networks([1.0])).outcome == "pass"


def test_few_seeds_that_agree_decide_nothing():
    """With figures in steps, as accuracies are, two seeds often agree by chance: that is no certainty."""
    for count, outcome in ((2, "undecided"), (5, "undecided"), (6, "pass")):
        assert come_to("mean(test_loss) < 1", networks([0.5] * count)).outcome == outcome
    rng, two = np.random.default_rng(5), networks([0.0] * 2)
    drawn = (two.assign(test_loss=rng.integers(-1, 2, 2) * 0.5) for _ in range(150))
    passed = sum(come_to("mean(test_loss) > 0", runs).outcome == "pass" for runs in drawn)
    assert passed <= 0.04 * 150, "the mean is 0, so it may seem greater in 2.5 % of trials"


def test_units_that_were_counted_have_binomial_bounds():
    layers = pd.DataFrame({"run_id": networks([0.0] * 5)["run_id"], "layer": 1, "units": 64})
    runs = networks([0.0] * 5, "dead_fraction", activation="relu")
    layers["run_id"] = runs["run_id"]
    found = come_to("mean(dead_fraction) <= 0.02", runs, layers=layers)
    assert found.high == pytest.approx(stats.binomtest(0, 5 * 64).proportion_ci(0.95, "exact").high) and found.outcome == "pass"
    assert come_to("mean(dead_fraction) == 0", runs, layers=layers).outcome == "undecided"
    certain = come_to("mean(dead_fraction) == 0", networks([0.0] * 5, "dead_fraction", activation="gelu"), layers=layers)
    assert certain.outcome == "pass", "gelu is 0 on no interval"


# figures as they stand


def test_other_aggregates_pass_or_fail():
    figures = np.array([1.0, 2.0, 3.0, 10.0])
    runs = networks(figures)
    for name, value in (("median", 2.5), ("min", 1), ("max", 10), ("std", figures.std(ddof=1)), ("count", 4)):
        for limit in (value - 0.5, value, value + 0.5):
            for operator in ("<", "<=", ">", ">=", "==", "!="):
                found = come_to(f"{name}(test_loss) {operator} {float(limit)!r}", runs)
                assert found.outcome == decision(operator, value, value, limit) and found.value == pytest.approx(value)
    assert come_to("max(test_loss) - min(test_loss) == 3 * 3", runs).outcome == "pass"
    assert come_to("max(test_loss) >= max(test_loss, seed=1)", runs).text == "10 against 2; 4 networks"
    assert "standard deviation" in mistake("std(test_loss, seed=1) >= 0", runs)


def test_a_text_shows_on_which_side_of_the_threshold_a_figure_is():
    assert come_to("max(test_loss) <= 0.3", networks([0.3000001])).text.startswith("0.3000001 against 0.3;")
    assert come_to("max(test_loss) <= 70000", networks([63370])).text.startswith("63370 against 70000;")


def test_rows_that_break_it_are_named_the_worst_first():
    runs = networks([0.1, 0.9, 0.5, 0.95, 0.2, 0.8, 0.7, 0.6], activation="relu"), networks([0.0], activation="tanh")
    for expression in ("max(test_loss) <= 0.4", "mean(test_loss, activation=relu) <= 0.4"):
        found = come_to(expression, *runs)
        assert [offender.where["seed"] for offender in found.breaks] == ["3", "1", "5", "6", "7"]
        assert str(found.breaks[0]) == f"{runs[0]['run_id'][3]} activation=relu seed=3: 0.95"
    two = come_to(
        "mean(test_loss, activation=relu) - mean(test_loss, activation=tanh) < 0",
        networks([1.0, 2.0]),
        networks([1.5, 1.7], activation="tanh"),
    )
    assert [str(offender) for offender in two.breaks] == ["seed=1: 0.3"]
    counted = come_to("count(activation=tanh) == 0", *runs)
    assert [str(offender) for offender in counted.breaks] == [f"{runs[1]['run_id'][0]} activation=tanh seed=0"]
    assert come_to("max(test_loss) <= 1", *runs).breaks == ()


# which rows


def test_filters_choose_rows():
    runs = networks([1.0, 2.0], activation="relu", lr=0.1), networks([3.0, 4.0], activation="tanh", lr=0.01, momentum=0.9)
    for where, value in (
        ("activation=relu", 2), ("activation='tanh'", 4), ("lr=0.1", 2), ("lr=1e-2", 4), ("momentum=0.9", 4), ("momentum=0", 2),
        ("seed=0", 3), ("status=completed", 4), ("activation=tanh, seed=0", 3), (f"run_id='{runs[0]['run_id'][0]}'", 1),
        ("negative_slope=null", 4), ("hidden=null, depth=4.0", 4),
    ):  # fmt: skip
        assert come_to(f"max(test_loss, {where}) == {value}", *runs).outcome == "pass", where


def test_history_and_layers_are_read_at_their_epoch_and_layer():
    runs = networks([1.0, 2.0], activation="relu"), networks([3.0, 4.0], activation="tanh")
    keys = pd.concat(runs)[["run_id", "dataset", "model", "activation", "seed"]]
    history = pd.concat([keys.assign(epoch=float(e), step=e, train_loss=10 * e + keys["seed"]) for e in (0, 1)])
    layers = pd.concat([keys.assign(epoch=1.0, step=1, layer=n, units=8, delta_norm=n + keys["seed"] / 8) for n in (1, 2)])
    found = come_to("max(history.train_loss, epoch=1, activation=tanh) == 11", *runs, history=history, layers=layers)
    assert found.outcome == "pass" and found.networks == 2 and "2 networks, 2 rows" in found.text
    low = come_to("min(layers.delta_norm, layer=2) > 2", *runs, history=history, layers=layers)
    assert low.outcome == "fail" and low.breaks[0].where["layer"] == "2" and low.breaks[0].where["epoch"] == "1"
    for expression, says in (
        ("mean(history.train_loss, epoch=7) > 0", "allowed: 0, 1"), ("mean(history.train_loss, layer=1) > 0", "have no layer"),
        ("mean(delta_norm) > 0", "write layers.delta_norm"), ("mean(test_loss, epoch=1) > 0", "have no epoch"),
        ("mean(history.delta_nrm) > 0", "history.csv"),
    ):  # fmt: skip
        assert says in mistake(expression, *runs, history=history, layers=layers)


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("mean(tset_loss) > 0", "did you mean 'test_loss'"),
        ("mean(depth) > 0", "it is a filter"),
        ("mean(test_loss, activaton=relu) > 0", "did you mean 'activation'"),
        ("mean(test_loss, activation=reluu) > 0", "did you mean 'relu'? allowed: relu, tanh"),
        ("mean(test_loss, activation=gelu) > 0", "allowed: relu, tanh"),
        ("count(activation=gelu) == 0", "allowed: relu, tanh"),
        ("mean(test_loss, lr=0.3) > 0", "lr '0.3' is not known"),
        ("mean(test_loss, seed=99999999999999999999999) > 0", "allowed: 0, 1"),
        ("mean(test_loss, lr=fast) > 0", "not a number"),
        ("mean(test_loss, depth=true) > 0", "not a number"),
        ("mean(test_loss, nesterov=1) > 0", "neither true nor false"),
        ("mean(test_loss, status=done) > 0", "completed, diverged, failed"),
        ("mean(test_loss, status=diverged) > 0", "no row"),
        ("mean(test_loss, activation=relu, bias=1) > 0", "no row has activation=relu and bias=1"),
        ("count(activation=relu, bias=1) == 0", "no row has"),
        ("max(test_loss, activation=relu) - old.max(test_loss) > 0", "--against"),
        ("mean(saturated_fraction) > 0", "saturated_fraction is empty in all 2 rows"),
        ("mean(test_loss) > 1 / 0", "divides by 0"),
        ("mean(test_loss) / 0 > 1", "divides by 0"),
        ("mean(test_loss) - mean(test_loss) > 0 / 0", "divides by 0"),
        ("max(test_loss) * 1e308 * 1e308 > 0", "too large"),
    ],
)
def test_an_unknown_name_or_an_impossible_figure_is_a_mistake(expression, says):
    runs = networks([1.0], activation="relu"), networks({1: 2.0}, activation="tanh", bias=1.0)
    assert says in mistake(expression, *(frame.assign(saturated_fraction=np.nan) for frame in runs))


def test_what_failed_or_has_no_figure_is_never_left_out_on_the_quiet():
    runs = networks([0.1, 0.2, 0.3])
    runs.loc[2, ["status", "test_loss"]] = "failed", np.nan
    for name in ("mean", "median", "min", "max", "std"):
        assert "1 of 3 networks failed" in mistake(f"{name}(test_loss) < 1", runs)
        assert come_to(f"{name}(test_loss, status=completed) < 100", runs).networks == 2, "on purpose"
    assert come_to("count(status=failed) == 0", runs).outcome == "fail"
    assert come_to("count(test_loss) == count()", runs).outcome == "fail"
    history = runs[["run_id", "dataset", "model", "seed"]].assign(epoch=0.0, train_loss=1.0)[
        :2
    ]  # which failed networks are not in
    assert "1 of 3 networks failed" in mistake("max(history.train_loss) < 1", runs, history=history)
    empty = networks([0.1, np.nan], activation="relu"), networks([0.3], activation="tanh")
    assert "empty in 1 of 3 rows: they have seed=1" in mistake("max(test_loss) < 1", *empty)


def test_a_diverged_network_guesses_and_its_loss_is_infinite():
    runs = networks([0.9, np.nan], "test_accuracy").assign(test_loss=[0.1, np.nan], status=["completed", "diverged"])
    assert come_to("min(test_accuracy) == 0.1", runs).outcome == "pass"
    for expression in ("mean(test_loss) > 0", "max(test_loss) > 0", "mean(test_loss) < 1"):
        assert "diverged; check that by count(status=diverged) == 0" in mistake(expression, runs)
    assert (
        come_to("min(test_loss) < 1", runs).outcome == "pass" and come_to("count(status=diverged) == 0", runs).outcome == "fail"
    )
    reached = networks([2.0, np.nan], "epochs_to_10")
    assert "never came to that error" in mistake("mean(epochs_to_10) < 9", reached)


def test_facts_are_judged_without_a_folder():
    found = evaluate("max(test_loss) < 1", networks([0.1]), NO_ROWS, NO_ROWS, CHANCE)
    assert (found.outcome, found.value, found.low, found.high, found.n) == ("pass", 0.1, 0.1, 0.1, 1)
    with pytest.raises(UserError, match="claim"):
        evaluate("claim(a) == supported", networks([0.1]), NO_ROWS, NO_ROWS, CHANCE)


# an old folder


def test_what_did_not_change_differs_by_nothing():
    """Few seeds would not do for other differences; these are none, network by network."""
    runs = networks([0.1, 0.2])
    same = "mean(test_loss) - old.mean(test_loss)"
    assert come_to(f"{same} <= 0", runs, old=runs.copy()).outcome == come_to(f"{same} == 0", runs, old=runs).outcome == "pass"
    assert come_to("mean(test_loss) / old.mean(test_loss) <= 1", runs, old=runs).outcome == "pass"
    assert (
        come_to("mean(test_loss) + old.mean(test_loss) >= 1", *[networks([0.5, 0.5])], old=networks([0.5, 0.5])).outcome
        == "undecided"
    )
    assert come_to(f"{same} <= 0.02", runs, old=networks([0.09, 0.19])).outcome == "undecided", "two seeds agree by chance"


def test_a_change_is_paired_by_network():
    rng = np.random.default_rng(6)
    old = rng.normal(1, 0.3, 10)
    new = old + rng.normal(0.05, 0.01, 10)
    expected = stats.ttest_rel(new, old).confidence_interval()
    found = come_to("mean(test_loss) - old.mean(test_loss) <= 0.02", networks(new), old=networks(old))
    assert (found.low, found.high) == pytest.approx(tuple(expected)) and found.outcome == "fail" and found.networks == 20
    assert come_to("mean(test_loss) - old.mean(test_loss) <= 0.1", networks(new), old=networks(old)).outcome == "pass"


# folders


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    words = ["width=4", "depth=2", "epochs=1", "batch_size=2000", "probe_size=100", "activation=relu,tanh", "seed=range(0,3)"]
    return run_study("single", words, Options(out=tmp_path_factory.mktemp("check") / "r", processes=False)).folder


def copied(folder, tmp_path, change, name="copy"):
    """A copy of a folder, whose meta.json is changed."""
    copy = tmp_path / name
    shutil.copytree(folder, copy)
    meta = json.loads((copy / "meta.json").read_text())
    change(copy, meta)
    (copy / "meta.json").write_text(json.dumps(meta))
    return copy


def test_what_holds_so_far_is_undecided_until_all_networks_are_there(folder, tmp_path):
    def more(copy, meta):
        meta["study"]["networks"] = 10

    expressions = ["max(dead_fraction) >= 0", "max(dead_fraction) < 0", "count() == 6"]
    gate = check_folder(copied(folder, tmp_path, more), expressions)
    assert [one.outcome for one in gate.checked] == ["undecided", "fail", "undecided"] and gate.exit_code == 1
    assert "6 of 10 networks so far" in gate.checked[0].judged.text and "6 of 10" in gate.notes[0]
    assert check_folder(folder, expressions).count("pass") == 2


def test_an_old_folder_must_be_another_of_the_same_data_and_be_used(folder, tmp_path):
    def other_data(copy, meta):
        meta["datasets"]["mnist-12k"]["checksum"] = "sha256:0"

    def fewer(copy, meta):
        for table in ("runs", "history", "layers"):
            lines = (copy / f"{table}.csv").read_text().splitlines(keepends=True)
            (copy / f"{table}.csv").write_text("".join(line for line in lines if ",tanh," not in line))
            meta["checksums"][table] = "edited"

    compare = ["mean(test_accuracy) - old.mean(test_accuracy) >= 0"]
    same = copied(folder, tmp_path, lambda copy, meta: None)
    assert check_folder(folder, compare, same).exit_code == 0
    for expressions, against, says in (
        (compare, folder, "is the folder that is checked"),
        (["max(dead_fraction) >= 0"], same, "no expression reads it"),
        (compare, tmp_path / "nowhere", "no folder"),
        (compare, copied(folder, tmp_path, other_data, "other"), "its checksum differs"),
    ):
        with pytest.raises(UserError, match=says):
            check_folder(folder, expressions, against)
    gate = check_folder(folder, compare, copied(folder, tmp_path, fewer, "fewer"))
    assert "6 in" in gate.notes[-1] and "3 in both" in gate.notes[-1]


VERDICTS = {"quick": True, "claims": [
    {"id": "he_relu", "verdict": "supported", "effect": 1.5, "low": 1.0, "high": 2.0, "margin": 0.5, "unit": "points", "seeds": 8},
    {"id": "maybe", "verdict": "undecided", "effect": 0.1, "low": -1.0, "high": 2.0, "margin": 0.5, "unit": "points", "seeds": 8},
    {"id": "a_fact", "verdict": "holds", "effect": None, "low": None, "high": None, "margin": None, "unit": None, "seeds": None},
]}  # fmt: skip


@pytest.fixture(scope="module")
def judged(folder, tmp_path_factory):
    copy = tmp_path_factory.mktemp("judged") / "r"
    shutil.copytree(folder, copy)
    write_verdicts(copy, VERDICTS)
    return copy


@pytest.mark.parametrize(
    ("expression", "outcome"),
    [
        ("claim(he_relu) == supported", "pass"), ("claim(he_relu) != supported", "fail"), ("claim(he_relu) == refuted", "fail"),
        ("claim(he_relu) != refuted", "pass"), ("claim(maybe) == supported", "undecided"), ("claim(maybe) == undecided", "pass"),
        ("claim(a_fact) == holds", "pass"), ("claim(a_fact) == fails", "fail"),
        ("claim(he_rleu) == supported", "did you mean 'he_relu'"), ("claim(a_fact) == supported", "is a fact"),
        ("claim(he_relu) != fails", "is no fact"),
    ],
)  # fmt: skip
def test_a_verdict_is_compared_as_a_word(expression, outcome, judged):
    (found,) = check_folder(judged, [expression]).checked
    assert found.outcome == outcome or (found.outcome == "error" and outcome in found.error)
    if expression == "claim(he_relu) == supported":
        assert found.judged.text == "supported; effect 1.5 [1, 2] against 0.5 points; 8 seeds; quick: 8 seeds, one look"


def test_verdicts_must_be_there_and_of_these_tables(folder, judged, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(judged, copy)
    (copy / "runs.csv").write_text((copy / "runs.csv").read_text() + "\n")
    for path, says in ((folder, "no verdicts"), (copy, "other tables"), (tmp_path / "no", "no verdicts")):
        (found,) = check_folder(path, ["claim(he_relu) == supported"]).checked
        assert says in found.error


# the command


def test_exit_codes_and_lines(folder, capsys):
    good, bad, doubtful = "max(dead_fraction) >= 0", "max(dead_fraction) < 0", "mean(test_accuracy, seed=0) > 0"
    assert check_and_show(folder, [good], None, None, as_json=False) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "1 of 1 holds"
    done = actbench("check", folder, bad, doubtful, good)
    lines = done.stdout.splitlines()
    assert (done.returncode, lines[-1], done.stderr) == (1, "1 of 3 hold", "") and "\x1b" not in done.stdout
    assert lines[0].startswith(f"fail       {bad}  →  ") and lines[-3].startswith(f"undecided  {doubtful}  →  ")
    assert all(line.startswith(" " * 11 + "breaks it: ") for line in lines[1:-3])
    done = actbench("check", folder)
    assert done.returncode == 2 and done.stderr.startswith("error: no expression") and done.stderr.count("\n") == 1


def test_json_is_one_object(folder):
    done = actbench("check", folder, "max(dead_fraction) < 0", "mean(test_accuracy, seed=0) > 0", "mean(x) > 0", "--json")
    assert done.stderr.startswith("error: expression 3: ") and done.stderr.count("\n") == 1
    found = json.loads(done.stdout, parse_constant=pytest.fail)
    assert done.returncode == found["exit_code"] == 2 and (found["hold"], found["expressions"]) == (0, 3)
    fails, doubtful, wrong = found["results"]
    assert (
        fails["outcome"] == "fail"
        and len(fails["breaks"]) == 5
        and fails["breaks"][0].keys() == {"run_id", "activation", "seed", "figure"}
    )
    assert (
        doubtful["outcome"] == "undecided" and doubtful["low"] is None and wrong["outcome"] == "error" and "'x'" in wrong["error"]
    )


def cases(text):
    suite = ElementTree.fromstring(text.encode()).find("testsuite")
    assert int(suite.get("tests")) == len(suite) and int(suite.get("errors")) == len(suite.findall("testcase/error"))
    assert int(suite.get("failures")) == len(suite.findall("testcase/failure"))
    return [(case.get("name"), [(one.tag, one.get("type")) for one in case]) for case in suite]


def test_junit_tells_failed_from_undecided_and_mistaken(folder, tmp_path):
    expressions = ["max(dead_fraction) >= 0", "max(dead_fraction) < 0", "mean(test_accuracy, seed=0) > 0", "mean(x) > 0"]
    with pytest.raises(UserError, match="expression 4"):
        check_and_show(folder, expressions, None, tmp_path / "junit.xml", as_json=False)
    kinds = [[("system-out", None)], [("failure", "failed")], [("failure", "undecided")], [("error", "mistake")]]
    assert cases((tmp_path / "junit.xml").read_text()) == list(zip(expressions, kinds, strict=True))


def test_junit_of_yesterday_never_stands_for_today(folder, tmp_path, monkeypatch):
    """Whatever ends the check, the file says that nothing passed."""
    junit = tmp_path / "junit.xml"
    for path, expressions in ((tmp_path / "no", ["max(dead_fraction) >= 0"]), (folder, []), (folder, ["boom"])):
        junit.write_text("<testsuites/>")  # with no failure in it
        if expressions == ["boom"]:
            monkeypatch.setattr("actbench.cli.check_view.check_folder", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises((UserError, KeyboardInterrupt)):
            check_and_show(path, expressions, None, junit, as_json=False)
        assert cases(junit.read_text()) == [((expressions or ["no expression"])[0], [("error", "mistake")])]


def test_junit_is_whole_whatever_is_in_an_expression(folder, tmp_path):
    hostile = ["mean(x) > '<&\"]]>'", "\x1b[31m\x01\ud800 > 0", "]]></testcase>", "mean(x, activation='\u202e') > 0"]
    with pytest.raises(UserError):
        check_and_show(folder, hostile, None, tmp_path / "junit.xml", as_json=False)
    assert [kinds for _, kinds in cases((tmp_path / "junit.xml").read_text())] == [[("error", "mistake")]] * 4


def test_junit_never_replaces_a_result(folder):
    before = (folder / "runs.csv").read_text()
    with pytest.raises(UserError, match=r"--junit: .* is a file of result folder"):
        check_and_show(folder, ["max(dead_fraction) >= 0"], None, folder / "runs.csv", as_json=False)
    assert (folder / "runs.csv").read_text() == before


def test_a_check_never_loads_torch(folder):
    code = (
        "import sys; from actbench.cli import entry as cli; sys.argv = ['actbench', *sys.argv[1:]]\n"
        "try: cli.main()\nexcept SystemExit as done: assert not done.code, done.code\n"
        "heavy = {'torch', 'torchvision', 'hydra'} & set(sys.modules)\nassert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code, "check", folder, "mean(layers.units) > 0"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
