"""The failure endpoint: which arm fails on more seeds, by an exact test of the seeds on which only one of them fails."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Failures:
    """Seeds on which the arms failed: treatment's, control's, of how many; and those on which only one of them did."""

    treatment: int
    control: int
    of: int
    only_treatment: int
    only_control: int

    @property
    def discordant(self) -> int:
        """Seeds that tell the arms apart: where exactly one of them failed."""
        return self.only_treatment + self.only_control

    @property
    def p_more(self) -> float:
        """p of "treatment fails no more often than control", one-sided (exact McNemar): small where it fails more often."""
        return _at_least(self.only_treatment, self.discordant)

    @property
    def p_fewer(self) -> float:
        """p of "treatment fails no less often than control", likewise."""
        return _at_least(self.only_control, self.discordant)

    def upper(self, level: float) -> tuple[float, float]:
        """Upper bounds of the arms' failure rates, wrong with probability ``level`` each (Clopper and Pearson)."""
        return upper_bound(self.treatment, self.of, level), upper_bound(self.control, self.of, level)


def failures(treatment_failed: np.ndarray, control_failed: np.ndarray) -> Failures:
    """Counts from two arrays of truth values, one entry a seed."""
    treatment, control = np.asarray(treatment_failed, bool), np.asarray(control_failed, bool)
    only = int((treatment & ~control).sum()), int((control & ~treatment).sum())
    return Failures(int(treatment.sum()), int(control.sum()), len(treatment), *only)


def upper_bound(count: int, of: int, level: float) -> float:
    """The largest rate that ``count`` of ``of`` do not exclude at ``level``, one-sided; 1 where nothing was seen."""
    from scipy.special import betaincinv

    return float(betaincinv(count + 1, of - count, 1 - level)) if count < of else 1.0


def _at_least(count: int, of: int) -> float:
    """P(at least ``count`` of ``of`` coins show heads)."""
    from scipy.special import bdtrc

    return float(bdtrc(count - 1, of, 0.5)) if count else 1.0
