"""Matrix products of rounded factors: TensorFloat-32 and bfloat16, which differ from float32 and from each other."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from actbench.base.errors import UserError
from actbench.engine.networks.rounding import rounded
from actbench.plan.pack_plan import plan_pack
from actbench.study.spec import ROUNDED
from tests import oracle
from tests.conftest import device_data, make_spec, make_trainer, one_pack, small_data


def numbers():
    draw = torch.Generator().manual_seed(0)
    sizes = torch.randint(-100, 100, (20_000,), generator=draw)
    edges = torch.tensor([0.0, -0.0, 1.0, -1.0, 3.0, float("inf"), -float("inf"), 1 + 2.0**-11, 1 + 3 * 2.0**-11, 1 + 2.0**-8])
    return torch.cat([torch.ldexp(torch.randn(20_000, generator=draw), sizes), edges])


def test_bfloat16_is_what_torch_rounds_to():
    t = numbers()
    assert torch.equal(rounded(t, ROUNDED["bfloat16"]), t.bfloat16().float())


def test_tf32_is_the_nearest_number_of_eleven_bits():
    t = numbers()
    finite = t[t.isfinite()].double()
    unit = torch.exp2(torch.frexp(finite).exponent - 11.0)  # the distance between numbers of eleven bits around here
    wanted = torch.where(finite == 0, finite, torch.round(finite / unit) * unit)  # torch rounds ties to even
    assert torch.equal(rounded(t, ROUNDED["tf32"])[t.isfinite()].double(), wanted)
    assert rounded(torch.tensor([float("nan"), float("inf")]), 10).tolist()[1] == float("inf")
    nans = torch.tensor([0x7FC00000, 0x7FFFFFFF, 0x7F800001, -1, -0x400000], dtype=torch.int32).view(torch.float32)
    assert nans.isnan().all() and rounded(nans, 10).isnan().all() and rounded(nans, 7).isnan().all()


class RoundedProduct(torch.autograd.Function):
    """x·Wᵀ whose three products read rounded factors."""

    @staticmethod
    def forward(ctx, x, w, bits):
        x, w = rounded(x, bits), rounded(w, bits)
        ctx.save_for_backward(x, w)
        ctx.bits = bits
        return x @ w.T

    @staticmethod
    def backward(ctx, delta):
        x, w = ctx.saved_tensors
        delta = rounded(delta.contiguous(), ctx.bits)
        return delta @ w, delta.T @ x, None


class RoundedLinear(nn.Module):
    def __init__(self, linear, bits):
        super().__init__()
        self.weight, self.bias, self.bits = linear.weight, linear.bias, bits

    def forward(self, x):
        return RoundedProduct.apply(x, self.weight, self.bits) + self.bias


def both(dtype, optimizer):
    """The parameters of two networks after three steps, and what plain torch makes of them with the same rounding."""
    data = small_data(fixed=36)
    settings = dict(dataset="small", depth=3, width=16, batch_size=16, epochs=1, activation="tanh", optimizer=optimizer, lr=0.05)
    specs = [make_spec(**settings, dtype=dtype, seed=s) for s in (0, 1)]
    pack, on_device = one_pack(specs, data), device_data(data, specs[0])
    trainer = make_trainer(pack, on_device)
    whole = [oracle.network(spec, on_device).tensors()[0].detach().clone() for spec in pack.specs]
    own = lambda r: [p.detach().clone() for p in oracle.parameters_of(trainer.networks, r, 1, on_device, whole[r])]  # noqa: E731
    starts = [own(r) for r in range(2)]
    order = on_device.order(pack.seeds, 1)
    for index in order.split(16, dim=1):
        with torch.no_grad():
            trainer.step(index)
    mine = [torch.cat([p.reshape(-1) for p in own(r)]) for r in range(2)]
    theirs, x_train = [], oracle.inputs(on_device, specs[0])
    for r in range(2):
        half = len(starts[r]) // 2
        linears = []
        for w, b in zip(starts[r][:half], starts[r][half:], strict=True):
            linear = nn.Linear(w.shape[1], w.shape[0])
            linear.weight, linear.bias = nn.Parameter(w.clone()), nn.Parameter(b.reshape(-1).clone())
            linears.append(RoundedLinear(linear, ROUNDED[dtype]) if dtype in ROUNDED else linear)
        net = nn.Sequential(*[m for linear in linears[:-1] for m in (linear, nn.Tanh())], linears[-1])
        update = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[optimizer](net.parameters(), lr=0.05)
        for index in order.split(16, dim=1):
            update.zero_grad()
            nn.functional.cross_entropy(net(x_train[index[r]]), on_device.y[index[r]]).backward()
            update.step()
        ends = [p.detach().reshape(-1) for kind in ("weight", "bias") for one in linears for p in [getattr(one, kind)]]
        theirs.append(torch.cat(ends))
    return torch.stack(mine), torch.stack(theirs)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_networks_train_as_plain_torch_does_with_rounded_products(optimizer):
    mine = {}
    for dtype in ("float32", "tf32", "bfloat16"):
        mine[dtype], theirs = both(dtype, optimizer)
        error = (mine[dtype] - theirs).norm()
        effect = (mine[dtype] - mine["float32"]).norm()
        assert error < 1e-5 * theirs.norm() if dtype == "float32" else error < 0.05 * effect
    coarse, fine = ((mine[dtype] - mine["float32"]).norm() for dtype in ("bfloat16", "tf32"))
    assert coarse > (3 if optimizer == "sgd" else 1) * fine > 0  # Adam makes steps of one size from gradients of any


def test_only_where_products_are_written_by_hand():
    with pytest.raises(UserError, match=r"dtype: 'tf32' is not for model 'cnn'; allowed there: float32, float64"):
        make_spec(model="cnn", dtype="tf32")


def test_on_a_gpu_tensor_cores_are_allowed():
    data = small_data()
    for dtype, kind in (("float32", "plain"), ("tf32", "tf32"), ("bfloat16", "tf32")):
        assert plan_pack(one_pack([make_spec(dataset="small", dtype=dtype)], data), data.shape, "cuda:0").products == kind
