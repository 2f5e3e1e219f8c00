"""The sign-flip test, its interval, signs and failures, against brute force over all flips and scipy."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from actbench.verdicts.failures import Failures, failures, upper_bound
from actbench.verdicts.sign_flip import _subsets_up_to, bounds, p_above, p_below, sign_above, sign_below


def by_hand(whole: list[int], margin: int) -> Fraction:
    """p of the sign-flip test in whole numbers, over all sign vectors."""
    shifted = [value - margin for value in whole]
    reached = [
        sum(s * v for s, v in zip(signs, shifted, strict=True)) >= sum(shifted) for signs in product((1, -1), repeat=len(whole))
    ]
    return Fraction(sum(reached), len(reached))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-4, 4), min_size=1, max_size=10), st.integers(-3, 3), st.sampled_from([1.0, 0.1, 1 / 3, 1e-9, 1e9]))
def test_sign_flip_counts_ties_and_zeros_exactly(whole, margin, unit):
    """Few small whole numbers tie all the time; in tenths and thirds their sums are rounded."""
    differences = np.array([value * unit for value in whole])
    assert Fraction(p_above(differences, margin * unit)) == by_hand(whole, margin)
    assert Fraction(p_below(differences, margin * unit)) == by_hand([-value for value in whole], -margin)


@pytest.mark.parametrize("pairs", [2, 7, 13])
def test_sign_flip_is_scipys_permutation_test(pairs):
    differences = np.random.default_rng(pairs).standard_t(2, pairs) + 0.5
    for alternative, ours in (("greater", p_above), ("less", p_below)):
        theirs = stats.permutation_test(
            (differences - 0.2,), np.mean, permutation_type="samples", n_resamples=np.inf, alternative=alternative
        ).pvalue
        assert ours(differences, 0.2) == pytest.approx(theirs, rel=1e-12)


def test_twenty_pairs_are_counted_over_a_million_flips():
    whole = np.random.default_rng(3).integers(-30, 61, 20)
    sums = np.zeros(1, int)
    for value in whole:
        sums = np.concatenate([sums + value, sums - value])
    assert p_above(whole * 0.001) == np.mean(sums >= whole.sum())


def test_many_pairs_are_sampled_close_to_the_exact_count():
    differences = np.random.default_rng(5).normal(0.4, 1, 31)
    exact = _subsets_up_to(differences, 0.0) / 2**31
    assert p_above(differences) == pytest.approx(exact, rel=6 / math.sqrt(exact * 2**18))
    assert 0 < p_above(np.ones(31)) <= 2.0**-18  # no sample of flips gives a p of 0
    low, high = bounds(differences, 0.01)
    assert _subsets_up_to(differences - low, 0.0) / 2**31 == pytest.approx(0.01, rel=0.1)
    assert -high == pytest.approx(bounds(-differences, 0.01)[0], abs=0.02)


@pytest.mark.parametrize("level", [0.001, 0.03, 0.2])
def test_the_interval_inverts_the_test(level):
    """Its ends are means of subsets, in the order of size, and the test rejects just outside of them and not just inside."""
    differences = np.random.default_rng(1).normal(1, 2, 11)
    low, high = bounds(differences, level)
    means = sorted(np.mean(differences[np.array(chosen, bool)]) for chosen in product((0, 1), repeat=11) if any(chosen))
    place = int(level * 2**11)
    assert (low, high) == pytest.approx((means[place - 1], means[-place]), abs=1e-8)
    assert p_above(differences, low - 1e-6) <= level < p_above(differences, low + 1e-6)
    assert p_below(differences, high + 1e-6) <= level < p_below(differences, high - 1e-6)


def test_too_few_pairs_give_no_bounds():
    assert bounds(np.array([1.0, 2.0, 3.0]), 0.1) == (-math.inf, math.inf)
    assert bounds(np.array([1.0, 2.0, 3.0]), 0.125) == (1.0, 3.0)
    assert bounds(np.array([]), 0.5) == (-math.inf, math.inf)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-3, 3), max_size=12))
def test_signs_and_failures_are_binomial(values):
    up, down = sum(v > 0 for v in values), sum(v < 0 for v in values)
    exact = [stats.binomtest(k, up + down, alternative="greater").pvalue if up + down else 1.0 for k in (up, down)]
    assert [sign_above(np.array(values) * 0.1 + 0.3, 0.3), sign_below(np.array(values) * 0.1 + 0.3, 0.3)] == pytest.approx(exact)
    failed = failures(np.array(values) > 0, np.array(values) < 0)
    assert failed == Failures(up, down, len(values), up, down)
    assert [failed.p_more, failed.p_fewer] == pytest.approx(exact)


@pytest.mark.parametrize("failed", [0, 3, 20])
def test_a_failure_rates_bound_is_clopper_and_pearsons(failed):
    theirs = stats.binomtest(failed, 20).proportion_ci(1 - 2 * 0.0013, method="exact").high
    assert upper_bound(failed, 20, 0.0013) == pytest.approx(theirs)
    assert round(upper_bound(0, 20, 0.0013), 2) == 0.28  # as science.md E.3 has it
