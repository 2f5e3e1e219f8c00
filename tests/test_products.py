"""Which library multiplies: oneDNN only where it is exact float32 and the products are large; one choice at a time."""

import threading

import pytest
import torch

from actbench.data.datasets import Shape
from actbench.engine import products
from actbench.engine.products import products_are_float32
from actbench.plan.pack import Pack
from actbench.plan.pack_plan import plan_pack
from actbench.study.spec import RunSpec


def rounded(t, bits):
    """t with so many bits of its mantissa left, as hardware would keep them."""
    mantissa, exponent = torch.frexp(t)
    return torch.ldexp((mantissa * 2**bits).round() / 2**bits, exponent)


@pytest.mark.parametrize(
    ("left", "right", "exact"), [(24, 24, True), (8, 24, False), (24, 8, False), (11, 24, False), (24, 11, False)]
)
def test_a_product_that_rounds_either_factor_is_found_out(left, right, exact):
    assert products_are_float32(lambda a, b: torch.bmm(rounded(a, left), rounded(b, right))) is exact


def setting():
    return torch.backends.mkldnn.matmul.fp32_precision


def test_the_setting_is_given_back_after_packs_of_either_kind():
    before = setting()
    for kind in ("onednn", "plain", "onednn", "tf32"):
        with products.products(kind) as used:
            assert used == kind or (kind == "onednn" and not products._onednn_is_exact())
            assert (setting() == "bf16") is (used == "onednn")
            assert (torch.backends.cuda.matmul.fp32_precision == "tf32") is (used == "tf32")
        assert setting() == before


def test_a_gpu_rounds_no_factor_of_float32():
    """Neither of a matrix product nor of a convolution, whatever torch or the caller has set."""
    libraries = torch.backends.cuda.matmul, torch.backends.cudnn.conv
    for precision in ("tf32", "none"):
        for library in libraries:
            library.fp32_precision = precision
        with products.products("plain"):
            assert [library.fp32_precision for library in libraries] == ["ieee", "ieee"]
        assert [library.fp32_precision for library in libraries] == [precision, precision]


def test_where_onednn_would_round_it_is_never_taken(monkeypatch):
    before = setting()
    monkeypatch.setattr(products, "_onednn_is_exact", lambda: False)
    with products.products("onednn") as used:
        assert used == "plain" and setting() == before


def test_a_thread_that_wants_the_other_library_waits(monkeypatch):
    monkeypatch.setattr(products, "_onednn_is_exact", lambda: True)
    events, inside, may_leave = [], threading.Event(), threading.Event()

    def large():
        with products.products("onednn"):
            inside.set()
            may_leave.wait(10)
            events.append(("large", setting()))

    def small():
        with products.products("plain"):
            events.append(("small", setting()))

    before = setting()
    first, second = threading.Thread(target=large), threading.Thread(target=small)
    first.start()
    assert inside.wait(10)
    second.start()
    second.join(0.2)
    assert not events and second.is_alive()  # it waits
    may_leave.set()
    first.join(10)
    second.join(10)
    assert events == [("large", "bf16"), ("small", before)]


def pack_of(networks, **settings):
    specs = tuple(RunSpec(dataset="d", activation="relu", init="he_normal", seed=s, **settings) for s in range(networks))
    return Pack(specs, tuple(range(networks)))


@pytest.mark.parametrize(
    ("settings", "large"),
    [
        ({"width": 64, "depth": 10}, True),
        ({"width": 256, "depth": 4}, True),
        ({"width": 2, "depth": 1}, False),  # the output layer's would be MKL's if the network were alone
        ({"width": 2, "depth": 2, "model": "cnn"}, False),  # the output layer alone
    ],
)
def test_products_are_large_by_the_arithmetic_of_a_full_pack(settings, large):
    """Whoever trains beside a network: else it would be rounded by its company."""
    shape = Shape(784, 10, 1000, 100, 1, (28, 28, 1))
    for networks in (1, 2, 40):
        pack = pack_of(networks, batch_size=100, **settings)
        assert plan_pack(pack, shape).products == ("onednn" if large else "plain")
        assert plan_pack(pack, shape, "cuda:0").products == "plain"
