"""`Figure`: a chart with the words that go with it and the numbers it shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    import altair as alt

    # any of them has properties(), to_dict() and configure(); none has a configuration of its own: style.themed() adds it
    Chart = alt.Chart | alt.LayerChart | alt.FacetChart | alt.HConcatChart | alt.VConcatChart | alt.ConcatChart


@dataclass(frozen=True)
class Figure:
    """A figure of the page, and of papers.

    Attributes:
        name: as ``--figure`` takes it, such as ``accuracy_by_epoch``.
        title: one line.
        text: one to three sentences: what it shows, of which networks, how they were chosen, what the interval is. It is the
            description for those who cannot see it, too.
        chart: in colours of ``style`` and without a configuration of its own.
        data: tidy, what is drawn, rounded for reading; at most some hundred rows.
        size: ``column`` or ``wide``, see ``style.SIZES``.
    """

    name: str
    title: str
    text: str
    chart: Chart
    data: pd.DataFrame
    size: str = "wide"
