"""The table of activations against autograd, and users' own activations."""

from __future__ import annotations

import pytest
import torch

from actbench.base.errors import UserError
from actbench.engine.user_activations import check_user_activation
from actbench.science.activations import ACTIVATIONS
from tests.conftest import device_data, make_spec, one_pack, trained
from tests.test_company import rows

REQUIRED = [
    "identity",
    "relu",
    "leaky_relu",
    "prelu",
    "elu",
    "selu",
    "celu",
    "gelu",
    "silu",
    "mish",
    "softplus",
    "softsign",
    "sigmoid",
    "tanh",
    "hard_tanh",
    "hard_sigmoid",
    "hard_swish",
    "relu6",
    "relu_squared",
    "dark_relu",
]
COMMON = dict(dataset="small", depth=2, width=5, batch_size=16, epochs=2, dtype="float64", probe_size=30, bias=0.1, lr=0.1)


@pytest.mark.parametrize("name", [n for n, entry in ACTIVATIONS.items() if n == "tanh" or entry.in_place])
@pytest.mark.parametrize("layout", ["plain", "swapped"])
def test_large_tensors_and_those_overwritten_give_what_float64_does(name, layout):
    """Large ones may take another library's path, in place or not, in any order of dimensions."""
    entry = ACTIVATIONS[name]
    sizes = 10.0 ** torch.linspace(-30, 3, 20_000)
    z = torch.cat([sizes, -sizes, torch.tensor([0.0, torch.inf, -torch.inf, torch.nan])])[4:].view(4, 100, 100)
    z = z.transpose(1, 2) if layout == "swapped" else z
    right = entry.forward(z.double())
    torch.testing.assert_close(entry.forward(z).double(), right, rtol=3e-7, atol=1e-37, equal_nan=True)
    if entry.in_place:
        overwritten = z.clone()
        h = entry.in_place(overwritten)
        assert h.data_ptr() == overwritten.data_ptr() and h.stride() == z.stride()
        torch.testing.assert_close(h.double(), right, rtol=3e-7, atol=1e-37, equal_nan=True)


def test_all_required_activations_are_there():
    assert set(REQUIRED) <= set(ACTIVATIONS)


@pytest.mark.parametrize("name", [n for n, entry in ACTIVATIONS.items() if entry.backward is not None])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_written_derivative_equals_autograd(name, dtype):
    entry = ACTIVATIONS[name]
    z = torch.cat([torch.linspace(-25, 25, 3003), torch.tensor([0.0, 1e-30, -1e-30])]).to(dtype).view(2, 3, -1)
    z[z.abs().sub(1).abs() < 1e-9] += 1e-3  # at a kink any slope between the two is right
    leaf = z.clone().requires_grad_()
    h = entry.forward(leaf, **entry.settings)
    dh = torch.randn(z.shape, dtype=dtype, generator=torch.Generator().manual_seed(0))
    (wanted,) = torch.autograd.grad(h, leaf, dh)
    mine = entry.backward(dh.clone(), z, h.detach(), **entry.settings)
    smooth = z != 0
    torch.testing.assert_close(mine[smooth], wanted[smooth], rtol=1e-5 if dtype == torch.float32 else 1e-10, atol=1e-7)


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1, 30])
def test_fast_tanh_is_as_accurate_as_float32_allows(scale):
    """Of small numbers too: a vanishing signal must not be rounded away."""
    z = torch.linspace(-1, 1, 40001) * scale
    wanted = torch.tanh(z.double())
    torch.testing.assert_close(ACTIVATIONS["tanh"].forward(z).double(), wanted, rtol=3e-7, atol=0)
    strided = ACTIVATIONS["tanh"].forward(z[1:].view(2, -1).t())
    assert torch.equal(strided, ACTIVATIONS["tanh"].forward(z[1:]).view(2, -1).t())


@pytest.mark.parametrize("name", [n for n, entry in ACTIVATIONS.items() if entry.asymptotes])
def test_asymptotes_are_where_the_function_goes(name):
    entry = ACTIVATIONS[name]
    low, high = entry.forward(torch.tensor([-1e6, 1e6], dtype=torch.float64))
    assert (low.item(), high.item()) == pytest.approx(entry.asymptotes, abs=1e-5)


@pytest.mark.parametrize(
    ("own", "builtin"),
    [
        ("tests.actors.Sloped(slope=0.3)", dict(activation="leaky_relu", negative_slope=0.3)),
        ("tests.actors.Trained(5)", dict(activation="prelu")),
        ("tests.actors.Trained(5, start=-0.125)", dict(activation="prelu", negative_slope=-0.125)),
        ("tests.actors.Branching", dict(activation="relu")),
        ("torch.nn.Tanh", dict(activation="tanh")),
        ("torch.nn.functional.silu", dict(activation="silu")),
    ],
)
def test_own_activation_gives_the_rows_of_the_builtin(own, builtin, small):
    """Trained, with its parameters, in a pack among others."""
    specs = [
        make_spec(**COMMON, **settings, seed=seed)
        for settings in (dict(activation=own), builtin, dict(activation="elu"))
        for seed in (0, 1)
    ]
    pack = one_pack(specs, small)
    measured = trained(pack, device_data(small, specs[0]))
    for seed in (0, 1):
        mine, theirs = (pack.specs.index(s) for s in specs[seed:4:2])
        for (name, a), (_, b) in zip(rows(measured, mine), rows(measured, theirs), strict=True):
            if "saturated" not in name and "flat" not in name:  # whose bounds only the table knows
                torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11, equal_nan=True, msg=lambda m, n=name: f"{n}: {m}")


def test_own_activation_never_mixes_networks(small):
    specs = [make_spec(**COMMON, activation="tests.actors.MeanFree", seed=seed) for seed in range(3)]
    data = device_data(small, specs[0])
    pack = one_pack(specs, small)
    together = trained(pack, data)
    for r, spec in enumerate(pack.specs):
        alone = trained(one_pack([spec], small), data)
        for (name, a), (_, b) in zip(rows(alone, 0), rows(together, r), strict=True):
            assert torch.equal(a.nan_to_num(-1), b.nan_to_num(-1)), name


def test_own_activation_may_say_its_asymptotes(small):
    spec = make_spec(**COMMON, activation="tests.actors.Bounded")
    measured = trained(one_pack([spec], small), device_data(small, spec))
    assert measured.evaluations[0].network["saturated_fraction"][0] >= 0


@pytest.mark.parametrize(
    ("name", "word"),
    [("tests.actors.Missing", "Missing"), ("no.such.module.f", "no.such.module.f"), ("tests.actors.wrong_shape", "shape"),
     ("tests.actors.Sloped(slope=__import__('os'))", "plain values"), ("tests.actors.Trained", "cannot be made"),
     ("tests.actors.Trained(4)", "fails"), ("math.pi", "not a function")],
)  # fmt: skip
def test_own_activation_that_does_not_work_is_said_before_training(name, word):
    with pytest.raises(UserError, match=word.replace("(", r"\(")):
        check_user_activation(name, 5)


@pytest.mark.parametrize("name", [name for name, entry in ACTIVATIONS.items() if entry.increasing])
def test_increasing_activations_never_fall(name):
    entry = ACTIVATIONS[name]
    h = entry.forward(torch.linspace(-30, 30, 60001, dtype=torch.float64), **entry.settings)
    assert (h.diff() >= 0).all()
