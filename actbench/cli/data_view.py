"""What `actbench data` shows: a line for each data set that is here, or was fetched."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from actbench.base.errors import UserError
from actbench.data.datasets import DATASETS, check_dataset_name, default_data_dir, load_dataset, verify


def lines(names: Sequence[str], data_dir: Path | None) -> Iterator[str]:
    """Fetches and verifies data sets, those that are here if there are no ``names``; UserError for one that cannot be had."""
    for name in names:
        check_dataset_name(name)
    for name in names or DATASETS:
        try:
            found = load_dataset(name, data_dir, download=bool(names))
        except UserError:
            if names:
                raise
            yield f"{name:<14} not in {data_dir or default_data_dir()}; fetch it with: actbench data {name}"
            continue
        shape = found.shape
        sizes = f"{shape.train:,} + {shape.test:,} examples, {shape.features:,} features, {found.classes} classes"
        known = verify(name, found, data_dir, keep=True)
        verified = "verified" if known else "no published checksum; kept, to compare with from now on"
        yield f"{name:<14} {sizes}, sha256 {found.checksum[:16]}… {verified}"
