"""A network's rows do not depend on its company: step by step in float64 against plain torch.nn and torch.optim."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from actbench.engine.evaluation import Evaluator
from actbench.plan.pack import Pack
from actbench.plan.packing import make_packs
from actbench.science.activations import ACTIVATIONS, units_of
from actbench.science.inits import INITS
from actbench.science.optimizers import OPTIMIZERS
from tests import oracle
from tests.conftest import device_data, make_spec, make_trainer, one_pack, small_data, small_images, trained

COMMON = dict(dataset="small", depth=3, width=5, batch_size=16, epochs=2, dtype="float64", probe_size=30, bias=0.1)


def assert_same_steps(specs, data) -> None:
    """Every parameter of every network equals the oracle's after every step."""
    pack = one_pack(specs, data)
    on_device = device_data(data, specs[0])
    trainer = make_trainer(pack, on_device)
    plain = [oracle.train_steps(spec, on_device, spec.epochs) for spec in pack.specs]
    starts: list[torch.Tensor] = []
    variants = len(pack.variants)

    def compare(step: int) -> None:
        for r, (spec, steps) in enumerate(zip(pack.specs, plain, strict=True)):
            net, _ = next(steps)
            if step == 0:
                starts.append(net.tensors()[0].detach().clone())
            mine = oracle.parameters_of(trainer.networks, r, variants, on_device, starts[r])
            for place, (one, other) in enumerate(zip(mine, net.tensors(), strict=True)):
                torch.testing.assert_close(
                    one.detach().reshape(-1), other.detach().reshape(-1), rtol=1e-9, atol=1e-11,
                    msg=lambda m, s=spec, p=place: f"{s} at step {step}, parameter {p}: {m}",
                )  # fmt: skip

    compare(0)
    step = 0
    for epoch in range(1, specs[0].epochs + 1):
        for index in on_device.order(pack.seeds, epoch).split(specs[0].batch_size, dim=1):
            with torch.no_grad():
                trainer.step(index)
            step += 1
            compare(step)
    assert step == specs[0].epochs * -(
        -len(on_device) // specs[0].batch_size
    )  # 40 examples in batches of 16: the last batch of an epoch has 8


@pytest.mark.parametrize(
    "optimizer", ["sgd", "adam", *(pytest.param(name, marks=pytest.mark.slow) for name in ("adamw", "rmsprop"))]
)
def test_every_activation_under_every_optimizer(optimizer, small):
    lr = 0.05 if optimizer == "sgd" else 0.01
    # one pack of 2 seeds × every activation, of different learning rates
    # half of He's standard deviation: relu_squared blows up from more
    for names in ([n for n in ACTIVATIONS if units_of(n) == (1, 1)], ["maxout"], ["crelu"]):
        specs = [make_spec(**COMMON, activation=n, optimizer=optimizer, lr=r, seed=s, init_gain=0.5)
                  for n in names for r in (lr, lr / 3) for s in range(2)]  # fmt: skip
        assert_same_steps(specs, small)


@pytest.mark.parametrize(
    "settings",
    [
        dict(optimizer="sgd", momentum=0.9),
        dict(optimizer="sgd", momentum=0.9, nesterov=True, weight_decay=0.01),
        dict(optimizer="sgd", weight_decay=0.1),
        dict(optimizer="rmsprop", momentum=0.5, weight_decay=0.01),
        dict(optimizer="adam", weight_decay=0.1),
        dict(optimizer="adamw", weight_decay=0.1),
    ],
    ids=lambda settings: "-".join(map(str, settings.values())),
)
def test_optimizer_settings_differ_within_a_pack(settings, small):
    more = {key: value / 2 for key, value in settings.items() if key in ("momentum", "weight_decay")}
    specs = [
        make_spec(**COMMON, **{**settings, **change}, activation=name, lr=0.02, seed=seed)
        for name in ("relu", "prelu", "tanh")
        for change in ({}, more)
        for seed in (3, 7)
    ]
    assert_same_steps(specs, small)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_inputs_that_never_vary_are_left_out_of_products_but_not_of_training(optimizer):
    data = small_data(fixed=36)
    assert len(data.fixed_columns) == 36
    merged = device_data(data, make_spec(dataset="small")).merged
    assert len(merged.varying) == 15 and len(merged.fixed) == 27  # with the merged one, a whole group is left
    common = {**COMMON, "optimizer": optimizer, "weight_decay": 0.01 if optimizer == "adam" else 0.0}
    assert_same_steps([make_spec(**common, activation=a, lr=0.01, seed=s) for a in ("relu", "tanh") for s in (0, 1)], data)


@pytest.mark.parametrize("init", INITS)
def test_every_init(init, small):
    specs = [make_spec(**COMMON, init=init, init_gain=g, activation=a, seed=1, lr=0.05)
             for g in (1.0, 0.5) for a in ("relu", "elu", "gelu")]  # fmt: skip
    assert_same_steps(specs, small)


MODELS = {
    "mlp": {}, "cnn": dict(depth=4), "resnet": dict(depth=4, lr=0.01), "rnn": dict(depth=2), "lstm": dict(depth=2),
    "autoencoder": dict(depth=3), "mlp of sizes": dict(hidden="7-4-6", model="mlp"), "rnn over pixels": dict(model="rnn", sequence="pixels", lr=0.001, depth=2, init_gain=0.5),
}  # fmt: skip
TIPS = {
    "nothing": {}, "weight_l1": dict(weight_l1=0.01), "activation_l1": dict(activation_l1=0.02), "dropout": dict(dropout=0.3),
    "batch norm": dict(norm="batch", bias=0.2), "layer norm": dict(norm="layer", bias=0.2), "cosine": dict(lr_schedule="cosine"),
    "step": dict(lr_schedule="step"), "grad_clip": dict(grad_clip=0.3), "mse": dict(loss="mse"),
    "all": dict(weight_l1=0.001, activation_l1=0.01, dropout=0.2, norm="batch", grad_clip=0.5, lr_schedule="cosine", momentum=0.9),
}  # fmt: skip


ALONE = ("nothing", "all", "batch norm", "layer norm", "dropout", "step", "mse")  # what "all" does not hold, or holds in company
FEW = [(model, tip) for model in MODELS for tip in TIPS if tip in (ALONE if model == "mlp" else ("nothing", "all"))]
FEW = [pair for pair in FEW if pair not in (("resnet", "nothing"), ("rnn over pixels", "all"))]
MORE = [(model, tip) for model in MODELS for tip in TIPS if (model, tip) not in FEW]


@pytest.mark.parametrize(("model", "tip"), [*FEW, *(pytest.param(*pair, marks=pytest.mark.slow) for pair in MORE)])
def test_every_model_with_every_tip(model, tip):
    settings = {"model": model, **MODELS[model], **TIPS[tip]}
    if settings["model"] in ("rnn", "lstm"):
        settings = {name: value for name, value in settings.items() if name not in ("norm", "dropout")}
    changed = {name: value / 2 for name, value in settings.items() if isinstance(value, float)}
    common = {**COMMON, "width": 4, "lr": 0.05, "recurrent_init": "orthogonal", **settings}
    specs = [make_spec(**{**common, **more}, activation=name, seed=seed)
             for name in ("relu", "prelu", "tanh") for more in ({}, changed) for seed in (3, 7)]  # fmt: skip
    images = small_images(24)
    for pack in make_packs(dict.fromkeys(specs), {"small": images.shape}):
        assert_same_steps(list(pack.specs), images)


@pytest.mark.parametrize("model", ["cnn", "rnn"])
@pytest.mark.parametrize("activation", ["maxout", "crelu"])
def test_activations_that_change_shapes_in_other_models(model, activation):
    common = {**COMMON, "model": model, "width": 3, "lr": 0.05, "batch_size": 8, "epochs": 1}
    for pack in make_packs(
        [make_spec(**common, activation=activation, seed=s) for s in (0, 1)], {"small": small_images(24).shape}
    ):
        assert_same_steps(list(pack.specs), small_images(24))


@pytest.mark.parametrize("norm", ["none", "batch", pytest.param("layer", marks=pytest.mark.slow)])
def test_stacked_convolutions_equal_single_ones(norm, monkeypatch):
    """What a GPU takes, and a CPU for very few channels."""
    monkeypatch.setattr("actbench.plan.costs.STACKED_CONVOLUTION_VALUES", 10**12)
    common = {**COMMON, "model": "cnn", "width": 4, "lr": 0.05, "norm": norm, "dropout": 0.2, "activation_l1": 0.01}
    assert_same_steps([make_spec(**common, activation=a, seed=s) for a in ("relu", "prelu") for s in (0, 1)], small_images(24))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_denoising_autoencoder(optimizer):
    common = {**COMMON, "model": "autoencoder", "corruption": 0.3, "optimizer": optimizer, "lr": 0.01}
    assert_same_steps([make_spec(**common, activation=a, seed=s) for a in ("relu", "sigmoid") for s in (0, 1)], small_images(24))


def test_a_subset_of_the_training_data(small):
    specs = [make_spec(**{**COMMON, "train_size": 20}, seed=s) for s in (0, 1)]
    assert_same_steps(specs, small)


def rows(measured, r: int):
    for evaluation in measured.evaluations:
        for name, value in {**evaluation.network, **evaluation.layers}.items():
            yield f"{name} at epoch {evaluation.epoch}", torch.as_tensor(value[r])


def assert_same_rows(one, r: int, other, q: int) -> None:
    """Every figure of every evaluation, bit for bit."""
    for (name, mine), (_, theirs) in zip(rows(one, r), rows(other, q), strict=True):
        assert mine.dtype == theirs.dtype and torch.equal(mine.nan_to_num(-1), theirs.nan_to_num(-1)), name
    assert one.steps[r] == other.steps[q] and one.finite[r] == other.finite[q]


# what decides how a network is multiplied, convolved and measured
KINDS = {
    "mlp of whole vectors": dict(model="mlp", width=16),
    "mlp of odd sizes": dict(model="mlp", width=5, batch_size=7),
    "mlp, one example a step": dict(model="mlp", width=3, batch_size=1, epochs=1),
    "mlp, batch norm, dropout": dict(model="mlp", width=16, norm="batch", dropout=0.2),
    "mlp, layer norm, clipped": dict(model="mlp", width=5, norm="layer", grad_clip=0.5),
    "mlp, adam, penalties": dict(model="mlp", width=7, optimizer="adam", weight_l1=0.001, activation_l1=0.001),
    "mlp, momentum": dict(model="mlp", width=16, momentum=0.9, nesterov=True),
    "mlp, rmsprop": dict(model="mlp", width=7, optimizer="rmsprop", momentum=0.5, weight_decay=0.01),
    "mlp, bfloat16": dict(model="mlp", width=16, dtype="bfloat16"),
    "mlp, uniform weights": dict(model="mlp", width=5, init="xavier_uniform"),
    "mlp, orthogonal weights": dict(model="mlp", width=5, init="orthogonal"),
    "mlp, asymmetric weights": dict(model="mlp", width=5, init="asymmetric"),
    "mlp, mse": dict(model="mlp", width=5, loss="mse"),
    "autoencoder": dict(model="autoencoder", width=5, corruption=0.2),
    "cnn": dict(model="cnn", width=8),
    "cnn of three channels": dict(model="cnn", width=3),
    "cnn, one example a step": dict(model="cnn", width=8, batch_size=1, epochs=1),
    "cnn, batch norm, dropout": dict(model="cnn", width=5, norm="batch", dropout=0.2),
    "cnn, layer norm, penalty": dict(model="cnn", width=5, norm="layer", activation_l1=0.01),
    "resnet": dict(model="resnet", width=6, depth=5),
    "rnn": dict(model="rnn", width=5),
    "rnn of whole vectors": dict(model="rnn", width=16, batch_size=20),
    "lstm": dict(model="lstm", width=5),
    "lstm of whole vectors": dict(model="lstm", width=16, batch_size=20),
}  # fmt: skip
COMPANY = ("relu", "prelu", "tanh", "gelu", "tests.actors.Trained(units={width})", "tests.actors.smooth")


BOTH = "mlp of odd sizes", "cnn", "lstm"
RARE = "mlp, momentum", "mlp, rmsprop", "mlp, uniform weights", "mlp, mse", "cnn, one example a step", "rnn of whole vectors"
FAST = [*((kind, "float32") for kind in KINDS if kind not in RARE), *((kind, "float64") for kind in BOTH)]
SLOW = [*((kind, "float32") for kind in RARE), *((k, "float64") for k in KINDS if k not in BOTH and "dtype" not in KINDS[k])]
SLOW = [pytest.param(*pair, marks=pytest.mark.slow) for pair in SLOW]


@pytest.mark.parametrize(("kind", "dtype"), [*FAST, *SLOW])
def test_rows_alone_equal_rows_in_any_company(kind, dtype):
    """All figures of networks trained alone, in twos, and among all others, of which some diverge."""
    images = replace(small_data(40, features=72), image=(9, 8, 1))
    common = {**COMMON, "dtype": dtype, **KINDS[kind]}
    names = ("relu",) if common["model"] == "lstm" else [name.format(width=common["width"]) for name in COMPANY]
    specs = dict.fromkeys(
        make_spec(**common, activation=name, seed=seed, lr=lr) for name in names for seed in (0, 5) for lr in (0.01, 1e30)
    )
    data = device_data(images, next(iter(specs)))
    (pack,) = [Pack(tuple(sorted(specs, key=lambda spec: spec.seed)), (0, 5))]
    together = trained(pack, data)
    for r in range(0, len(pack), 7):
        spec = pack.specs[r]
        assert_same_rows(trained(Pack((spec,), (spec.seed,)), data), 0, together, r)
    first = [spec for spec in pack.specs if spec.seed == 0]
    for r in (0, max(0, len(first) - 2)):
        assert_same_rows(trained(Pack(tuple(first[r : r + 2]), (0,)), data), 1, together, r + 1)


def test_one_networks_nan_changes_no_digit_in_another():
    data = small_data(80)
    good = [make_spec(**{**COMMON, "dtype": "float32"}, activation=a, lr=0.1, seed=s) for a in ("relu", "tanh") for s in (0, 1)]
    wild = [make_spec(**{**COMMON, "dtype": "float32"}, activation=a, lr=1e30, seed=s) for a in ("relu", "tanh") for s in (0, 1)]
    tame = [make_spec(**{**COMMON, "dtype": "float32"}, activation=a, lr=0.2, seed=s) for a in ("relu", "tanh") for s in (0, 1)]
    on_device = device_data(data, good[0])
    packs = [one_pack(good + others, data) for others in (wild, tame)]
    with_wild, with_tame = (trained(pack, on_device) for pack in packs)
    for spec in good:
        r, q = packs[0].specs.index(spec), packs[1].specs.index(spec)
        assert_same_rows(with_wild, r, with_tame, q)
    for spec in wild:
        r = packs[0].specs.index(spec)
        if spec.activation == "relu":
            assert not with_wild.finite[r]
            assert with_wild.steps[r] < 10
            assert all(value.isnan().all() for name, value in rows(with_wild, r) if "epoch 2" in name)


def test_packs_that_start_alike_are_measured_once_before_they_train(monkeypatch):
    """Also if they hold one network each; not those whose start or measuring differs. Their rows are those of each alone."""
    measured = []
    evaluate = Evaluator._evaluate
    monkeypatch.setattr(
        Evaluator, "_evaluate", lambda self, epoch, step: (step or measured.append(step), evaluate(self, epoch, step))[1]
    )
    data_set, starts = small_data(40), {}
    common = {**COMMON, "norm": "batch", "lr": 0.1, "epochs": 1}
    alike = dict(lr=0.2), dict(lr_schedule="cosine"), dict(eval_steps=2, epochs=2)
    others = dict(seed=1), dict(bias=0.2), dict(activation="tanh"), dict(batch_size=8), dict(probe_size=10), dict(init_gain=2)
    for change, count in [({}, 1), *((one, 1) for one in alike), *((one, k) for k, one in enumerate(others, 2))]:
        spec = make_spec(**{**common, **change})
        data, pack = device_data(data_set, spec), Pack((spec,), (spec.seed,))
        together = trained(pack, data, starts=starts)
        assert len(measured) == count, change
        assert_same_rows(together, 0, trained(pack, data), 0)
        measured.pop()  # of the network alone
