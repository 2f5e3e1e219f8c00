"""How settings are chosen: by validation figures, on one half of the seeds for the other, and what that corrects."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_1samp

from actbench.report import choosing
from actbench.report.choosing import choose
from actbench.report.render import as_text, heading, render
from actbench.report.stats import costs, ranking
from actbench.results.measures import chance_levels, choosing_metric, filled
from tests.test_report import measured

NAN = np.nan
CHANCE = chance_levels([])


def rates_of(figures: dict[float, list[float]], **settings) -> pd.DataFrame:
    """runs with a validation accuracy for each rate and seed (NaN: no such network); test accuracies are the opposite."""
    return measured(*((dict(lr=lr, seed=seed, **settings), dict(validation_accuracy=value, test_accuracy=1 - value))
                      for lr, values in figures.items() for seed, value in enumerate(values) if not np.isnan(value)))  # fmt: skip


def chosen_rates(runs: pd.DataFrame, parts: tuple[str, ...] = ()) -> dict[int, float]:
    """Seed → the rate that it is judged at."""
    rows = choose(filled(runs, CHANCE), parts, ["lr"]).rows
    assert not rows["seed"].duplicated().any()
    return dict(zip(rows["seed"], rows["lr"], strict=True))


# halves


def test_each_half_of_the_seeds_is_judged_at_what_the_other_chose():
    """Seeds at even places do best at 0.1, those at odd places at 0.2."""
    runs = rates_of({0.1: [0.9, 0.5, 0.9, 0.5, 0.9, 0.5], 0.2: [0.6, 0.8, 0.6, 0.8, 0.6, 0.8]})
    assert chosen_rates(runs) == {0: 0.2, 2: 0.2, 4: 0.2, 1: 0.1, 3: 0.1, 5: 0.1}
    result = ranking(runs)
    (cell,) = result.cells.to_dict("records")
    assert cell["test_accuracy"] == pytest.approx((3 * 0.4 + 3 * 0.5) / 6) and cell["seeds"] == cell["networks"] == 6
    assert np.isnan(cell["lr"]) and cell["best_lr"] == "0.1, 0.2" and as_text(result).texts["best lr"] == ["0.1, 0.2"]
    assert "by validation accuracy, chosen on one half of the seeds for the other)" in heading(result)
    found = json.loads(render(result, None, "json"))
    assert found["chosen"] == {"axes": ["lr"], "by": "validation_accuracy", "halves": [True]}


def test_halves_are_by_place_not_by_number():
    """Seeds 10, 20, 30, 40 are all even."""
    runs = rates_of({0.1: [0.9, 0.5, 0.9, 0.5], 0.2: [0.6, 0.8, 0.6, 0.8]})
    assert chosen_rates(runs.assign(seed=10 * (runs["seed"] + 1))) == {10: 0.2, 30: 0.2, 20: 0.1, 40: 0.1}


def test_fewer_than_four_seeds_choose_for_themselves_and_the_heading_says_so():
    runs = rates_of({0.1: [0.9, 0.5, 0.9], 0.2: [0.6, 0.8, 0.6]})
    assert set(chosen_rates(runs).values()) == {0.1}
    assert "chosen on the same seeds)" in heading(ranking(runs))
    more = pd.concat([runs.assign(activation="tanh"), rates_of({0.1: [0.9] * 4, 0.2: [0.5] * 4})])
    assert "of 4 seeds and more, on one half for the other)" in heading(ranking(more))
    assert "chosen on" not in heading(ranking(runs[runs["lr"] == 0.1])), "there was nothing to choose"


def test_a_rate_at_which_a_choosing_seed_diverges_ranks_below():
    """At 0.2 seed 2 diverges: the seeds at odd places avoid it, those at even places, whose choosers did not see it, do not."""
    runs = rates_of({0.1: [0.5] * 4, 0.2: [0.9] * 4})
    wild = runs["lr"].eq(0.2) & runs["seed"].eq(2)
    runs.loc[wild, ["status", "validation_accuracy", "test_accuracy"]] = ["diverged", NAN, NAN]
    assert chosen_rates(runs) == {0: 0.2, 2: 0.2, 1: 0.1, 3: 0.1}
    cell = ranking(runs).cells.iloc[0]
    assert cell["diverged"] == 0.25 and cell["test_accuracy"] == pytest.approx((0.1 + 0.1 + 0.5 + 0.5) / 4)


def test_seeds_that_are_missing_at_some_rates():
    """Halves choose among rates that both have; where there is none, all seeds choose for all."""
    best_at_few = rates_of({0.1: [0.5] * 6, 0.2: [0.9, NAN, 0.9, NAN, NAN, NAN]})
    assert set(chosen_rates(best_at_few).values()) == {0.1}, "0.2 has no seed at an odd place"
    some = rates_of({0.1: [0.5] * 6, 0.2: [0.9, 0.9, 0.9, NAN, NAN, NAN]})
    assert chosen_rates(some) == {0: 0.2, 1: 0.2, 2: 0.2}, "seeds that the chosen rate lacks are not judged elsewhere"
    apart = rates_of({0.1: [0.5, NAN, 0.5, NAN], 0.2: [NAN, 0.9, NAN, 0.9]})
    assert chosen_rates(apart) == {1: 0.2, 3: 0.2}
    assert choose(filled(apart, CHANCE), [], ["lr"]).halves == [False]


def test_every_part_chooses_for_itself():
    """Rates per pooled depth, several axes at once, settings that only some networks have: as one part at a time would choose."""
    rng = np.random.default_rng(0)
    grid = [dict(activation=a, negative_slope=slope, depth=d, bias=b, lr=lr, seed=s)
            for a, slope in (("relu", None), ("leaky_relu", 0.01), ("leaky_relu", 0.2)) for d in (1, 2) for b in (0.0, 1.0)
            for lr in (0.1, 0.2, 0.4) for s in range(5)]  # fmt: skip
    runs = filled(
        measured(*((settings, dict(test_accuracy=v)) for settings, v in zip(grid, rng.random(180), strict=True))), CHANCE
    )
    for parts, axes in (
        (["activation"], ["negative_slope", "depth", "bias", "lr"]),
        (["activation", "negative_slope", "depth", "bias"], ["lr"]),
    ):
        kept = choose(runs, parts, axes).rows
        for _, part in runs.groupby(parts, dropna=False):
            settings = [one for _, one in part.groupby(axes, dropna=False)]
            for half in (0, 1):
                choosers = [one[one["seed"] % 2 != half]["validation_accuracy"].mean() for one in settings]
                expected = settings[int(np.argmax(choosers))].query("seed % 2 == @half")["run_id"]
                found = kept[kept["run_id"].isin(part["run_id"]) & (kept["seed"] % 2 == half)]["run_id"]
                assert sorted(found) == sorted(expected)


def test_differences_are_of_the_same_networks():
    runs = pd.concat([
        rates_of({0.1: [0.9, 0.5, 0.9, 0.5], 0.2: [0.6, 0.8, 0.6, 0.8]}),
        rates_of({0.1: [0.7, 0.7, 0.7, 0.7], 0.2: [0.2, 0.2, 0.2, 0.2]}, activation="tanh"),
    ])  # fmt: skip
    row = ranking(runs, baseline="relu").cells.set_index("activation").loc["tanh"]
    assert row["difference"] == pytest.approx(0.3 - (0.4 + 0.5) / 2)


def test_costs_are_in_the_metric_that_judges():
    """0.1 is better by 0.3 for every seed; validation data say so, and the test split that it costs."""
    runs = rates_of({0.1: [0.9] * 4, 0.2: [0.6] * 4})
    cost = costs(runs, ranking(runs, choose_all=True), CHANCE).set_index("value")["cost"]
    assert cost.to_dict() == pytest.approx({0.1: 0.0, 0.2: -0.3})


# what chooses


def test_training_figures_choose_where_no_data_were_held_out():
    """Results of earlier versions have no validation columns; test figures, which point the other way, never choose."""
    new = rates_of({0.1: [0.5] * 4, 0.2: [0.9] * 4})
    bare = new.assign(validation_fraction=0.0, train_accuracy=new["validation_accuracy"])
    for runs in (bare.drop(columns=["validation_accuracy", "validation_loss"]), bare.assign(validation_accuracy=NAN)):
        result = ranking(runs)
        assert result.cells["lr"][0] == 0.2 and result.chosen_by == "train_accuracy"
        assert result.remarks == ["chosen by train_accuracy: these networks held out no validation data"]
        assert "by train accuracy" in heading(result)
        diverged = runs["lr"].eq(0.1)
        runs.loc[diverged, ["status", "train_accuracy", "test_accuracy"]] = ["diverged", NAN, NAN]
        assert ranking(runs).chosen_by == "train_accuracy", "what diverged held out none either"
    assert ranking(new).chosen_by == "validation_accuracy" and not ranking(new).remarks
    assert not ranking(bare[bare["lr"] == 0.1]).remarks, "where nothing is chosen there is nothing to say"


def test_in_a_mixed_folder_networks_are_compared_by_what_all_have():
    new = rates_of({0.1: [0.5, 0.5], 0.2: [0.9, 0.9]}).assign(train_accuracy=0.5)
    old = rates_of({0.1: [0.9, 0.9], 0.2: [0.5, 0.5]}, activation="tanh")
    old = old.assign(validation_fraction=0.0, train_accuracy=old["validation_accuracy"], validation_accuracy=NAN)
    result = ranking(pd.concat([new, old, old.assign(activation="elu")]), ["activation"])
    assert result.cells.set_index("activation")["lr"].to_dict() == {"relu": 0.2, "tanh": 0.1, "elu": 0.1}
    (remark,) = result.remarks
    assert remark.startswith("chosen by train_accuracy where networks without are compared: 8 of these 12 networks held out no")
    half = new.assign(train_accuracy=1 - new["validation_accuracy"])
    half.loc[half["lr"].eq(0.2), ["validation_accuracy", "validation_fraction"]] = [NAN, 0.0]
    assert choosing_metric(half) == "train_accuracy"
    assert ranking(half, choose_all=True).cells["lr"][0] == 0.1


def test_a_diverged_network_guesses_on_validation_data_too():
    runs = rates_of({0.1: [0.5, 0.5]})
    wild = runs.assign(status="diverged", validation_accuracy=NAN, validation_loss=NAN)
    assert list(filled(wild, CHANCE)["validation_accuracy"]) == [0.1, 0.1]
    assert np.isinf(filled(wild, CHANCE)["validation_loss"]).all()
    assert filled(wild.assign(validation_fraction=0.0), CHANCE)["validation_accuracy"].isna().all(), "where it held out some"


# what halves correct

TRIALS, SEEDS, RATES = 2000, 10, 5


def better_than_one(monkeypatch, enough: int) -> float:
    """The share of trials in which an arm with five equally good rates is called better than an arm with one, at 5 %.

    No arm has an effect: every network is 0.9 plus noise of its own and of its seed, the same on validation and test data.
    """
    monkeypatch.setattr(choosing, "ENOUGH", enough)
    noise = np.random.default_rng(7).normal(0, 0.01, (TRIALS, SEEDS, RATES + 1))
    trial, seed, lr = (place.ravel() for place in np.indices((TRIALS, SEEDS, RATES)))
    value = noise[..., 1:].ravel()
    tuned = pd.DataFrame({"trial": trial, "seed": seed, "lr": lr, "status": "completed", "validation_fraction": 0.1,
                          "validation_accuracy": value, "test_accuracy": value})  # fmt: skip
    kept = choose(tuned, ["trial"], ["lr"]).rows
    assert len(kept) == TRIALS * SEEDS
    tuned_TS = kept.sort_values(["trial", "seed"])["test_accuracy"].to_numpy().reshape(TRIALS, SEEDS)
    return float((ttest_1samp(tuned_TS - noise[..., 0], 0, axis=1, alternative="greater").pvalue <= 0.05).mean())


def test_choosing_on_the_seeds_that_judge_flatters_and_halves_correct_that(monkeypatch):
    same, halves = better_than_one(monkeypatch, enough=SEEDS + 1), better_than_one(monkeypatch, enough=4)
    assert same > 0.12, "the best of five means of ten is 1.16 deviations of a mean too high"
    assert 0.03 < halves < 0.09, "near the 5 % that are claimed"
