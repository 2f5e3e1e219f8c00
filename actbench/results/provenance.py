def _meta(prepared: Prepared, options: Options) -> dict[str, Any]:
    study = prepared.study
    datasets = {
        name: {"checksum": f"sha256:{data.checksum}", "train": len(data.x_train), "test": len(data.x_test)}
        for name, data in prepared.data.items()
    }
    before = read_meta(prepared.folder) or {}
    for name, told in before.get("datasets", {}).items():
        if name in datasets and datasets[name]["checksum"] != told.get("checksum"):
            raise UserError(
                f"dataset '{name}' is not what the results in '{prepared.folder}' were measured on (its checksum differs); "
                "name another --out, or set them aside with --fresh"
            )
    sizes = {min(spec.probe_size, prepared.shapes[spec.dataset].train) for spec in study.specs}
    earlier = [*before.get("earlier", []), {key: before.get(key) for key in ("command", "started", "study")}]
    return {
        "study": {
            "name": study.name,
            "sweeps": [{key: _short(values) for key, values in grid.items()} for grid in study.grids],
            "networks": len(study.specs),
            "axes": study.axes,
        },
        "command": options.command,
        "started": _now(),
        "git_commit": machine.git_commit(),
        "versions": machine.versions(),
        "hardware": machine.hardware(prepared.device),
        "datasets": {**before.get("datasets", {}), **datasets},
        "probe_size": sizes.pop() if len(sizes) == 1 else sorted(sizes),
        "earlier": earlier[-20:] if before else [],
    }


def _short(values: list[Any]) -> list[Any] | str:
    """Values of a setting; many whole numbers in a row as the range that gives them."""
    if len(values) > 20 and isinstance(values[0], int) and values == list(range(values[0], values[0] + len(values))):
        return f"range({values[0]}, {values[-1] + 1})"
    return values


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


