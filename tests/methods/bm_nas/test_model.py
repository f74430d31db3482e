"""BM-NAS's operations compute Eq. 4 to 8, and its supernet becomes the network it derives."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch

from polymix.data.batch import RowSource
from polymix.errors import GenotypeError, UsageError
from polymix.genotype import Block
from polymix.methods.bm_nas.fixed import FUSIONS, with_fusion
from polymix.methods.bm_nas.operations import OPERATIONS, Operation
from polymix.methods.bm_nas.space import BMNASGenotype, BMNASSpace
from polymix.methods.bm_nas.supernet import Supernet
from polymix.nn.build import build_seeded, versions
from polymix.nn.model import load_matching
from polymix.nn.tokens import Pool, Tokens, flatten_grid
from polymix.registry import register
from polymix.space.mix import MixGenotype
from polymix.testing import toy_dataset
from polymix.train.feature_bank import FeatureBank

CPU = torch.device("cpu")
BLOCKS = {
    "image": Block.of("conv", channels=8, least=4),
    "series": Block.of("conv", channels=20, least=2),
    "table": Block.of("mlp", channels=5, layers=1),
}
FEATURES = [(1, 3), (0, 2, 3), (0,)]


def space(**changes):
    return BMNASSpace(BLOCKS, FEATURES, **{"channels": 6, "length": 4, **changes})


def drawn(seed=0, **changes):
    return space(**changes).sample(np.random.default_rng(seed))


@pytest.fixture(scope="module")
def data():
    return toy_dataset(120, absent=0.2)


@pytest.fixture(scope="module")
def batch(data):
    return RowSource(data, CPU).batch(data.split.train[:16])


def pair(count=2):
    rng = torch.Generator().manual_seed(0)
    return [torch.randn(3, 4, 6, generator=rng) for _ in range(count)]


def test_the_papers_equations():
    x, y = pair()
    made = {name: cls(6, 2, 0.0) for name, cls in OPERATIONS.items()}
    found = {name: operation(x, y) for name, operation in made.items()}
    assert not found["zero"].any()
    assert torch.equal(found["sum"], x + y)
    weights = torch.softmax(x @ y.mT / math.sqrt(6), -1)
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, 4))
    torch.testing.assert_close(found["attention"], weights @ y)
    w1, w2 = (linear.weight.T for linear in made["linear-glu"].maps)
    torch.testing.assert_close(found["linear-glu"], x @ w1 * torch.sigmoid(y @ w2))
    layer = made["concat-fc"].linear
    expected = torch.relu(torch.cat([x, y], -1) @ layer.weight.T + layer.bias)
    torch.testing.assert_close(found["concat-fc"], expected)


@pytest.mark.parametrize("name", list(OPERATIONS))
def test_a_third_input(name):
    x, y, z = pair(3)
    operation = OPERATIONS[name](6, 3, 0.0)
    out = operation(x, y, z)
    assert out.shape == x.shape
    if name != "zero":
        assert not torch.allclose(out, operation(x, y, y))


def test_zero_is_zero_where_its_input_is_infinite():
    x = torch.full((1, 2, 3), math.inf)
    assert not OPERATIONS["zero"](3, 2, 0.0)(x, x).any()


def test_another_operation_is_a_class(data, registrations):
    @register
    class Product(Operation):
        name = "product"
        VERSION = 3

        def forward(self, *inputs):
            return inputs[0] * inputs[1]

    genotype = drawn(operations=("product",))
    assert versions(genotype)["operation product"] == 3
    model = build_seeded(genotype, data.schema, 0)
    assert sum(isinstance(m, Product) for m in model.modules()) == 4
    with pytest.raises(UsageError, match="the name 'product' is taken"):
        register(type("Other", (Product,), {"name": "product", "VERSION": 1}))


def test_features_are_pooled_over_their_grid():
    image = torch.arange(64.0).reshape(1, 1, 8, 8)
    pooled = Pool(8, "max")(flatten_grid(image)).x[0, :, 0]
    assert pooled.tolist() == [25, 27, 29, 31, 57, 59, 61, 63]  # 2 x 4 cells of 4 x 2
    assert [Pool(n).sides for n in (1, 6, 7, 8, 16, 12)] == [
        (1, 1), (2, 3), (1, 7), (2, 4), (4, 4), (3, 4),
    ]  # fmt: skip
    one = torch.randn(2, 1, 3)
    assert torch.equal(Pool(4, "max")(Tokens(one)).x, one.expand(2, 4, 3))
    again = Pool(4, "max")(Tokens(torch.randn(2, 9, 3)))
    assert Pool(4, "max")(again).x is again.x


@pytest.mark.parametrize("inputs", [2, 3])
def test_a_network_of_any_inputs(data, batch, inputs):
    model = build_seeded(drawn(inputs=inputs), data.schema, 0)
    out = model(batch.inputs, batch.present)
    assert out.fused.shape == (16, 3)
    out.fused.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", list(FUSIONS))
def test_fixed_fusions_are_networks(data, batch, name):
    fixed = with_fusion(drawn(), name)
    model = build_seeded(fixed, data.schema, 0).eval()
    assert torch.isfinite(model(batch.inputs, batch.present).fused).all()
    assert {f"operation {s.operation}" for s in FUSIONS[name]} <= versions(fixed).keys()


def test_a_row_does_not_depend_on_its_neighbours(data, batch):
    model = build_seeded(drawn(), data.schema, 0).eval()
    together = model(batch.inputs, batch.present).fused[:4]
    alone = model({n: x[:4] for n, x in batch.inputs.items()}, batch.present[:4]).fused
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-5)


def test_absent_rows_see_the_token_and_nothing_of_the_cell(data, batch):
    model = build_seeded(drawn(1), data.schema, 0).eval()
    spoilt = {n: x.clone() for n, x in batch.inputs.items()}
    for column, name in enumerate(data.schema.names):
        spoilt[name][~batch.present[:, column]] = 77
    assert not batch.present.all()
    one, other = (model(x, batch.present).fused for x in (batch.inputs, spoilt))
    torch.testing.assert_close(one, other)


def test_only_what_is_read_is_built(data):
    genotype = drawn()
    model = build_seeded(genotype, data.schema, 0)
    read = {i for cell in genotype.cells for i in cell.inputs if i < len(genotype.nodes)}
    assert set(model.reshape) == {str(i) for i in read}
    assert {n: len(t) for n, t in model.absent.items()} == {"image": 2, "series": 3, "table": 1}


def test_the_bank_gives_what_rows_give(data, tmp_path):
    model = build_seeded(drawn(), data.schema, 0).eval()
    source = FeatureBank(tmp_path, data, CPU).source(model)
    rows = np.sort(np.r_[data.split.train, data.split.val])
    banked = source.batch(rows)
    direct = model.encode(RowSource(data, CPU).batch(rows).inputs)
    for column, name in enumerate(data.schema.names):
        there = banked.present[:, column]
        for kept, fresh in zip(banked.inputs[name], direct[name], strict=True):
            assert kept.x.shape == (len(rows), 4, fresh.x.shape[2])
            torch.testing.assert_close(kept.x[there], fresh.x[there], rtol=2e-3, atol=2e-2)
    # Derived network and supernet read the same features: they are packed once.
    net = Supernet(space(), data.schema)
    net.encoders.load_state_dict(model.encoders.state_dict())
    bank = FeatureBank(tmp_path, data, CPU)
    assert bank.source(net) is bank.source(model)


def test_a_backbone_brings_its_encoder_and_nothing_else(data):
    block = Block.of("mlp", channels=6, layers=2)
    single = build_seeded(MixGenotype.single("table", block), data.schema, 1)
    made = BMNASSpace({"table": block}, [(0, 1)], channels=6, length=4)
    model = build_seeded(made.sample(np.random.default_rng(0)), data.schema, 2)
    before = {n: t.clone() for n, t in model.state_dict().items()}
    load_matching(model, single.state_dict())
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]) == (not name.startswith("encoders."))


def test_problems_are_all_told(data):
    bad = BMNASGenotype(
        backbones=(("imgae", BLOCKS["image"]), ("series", Block.of("nothing")),
                   ("table", BLOCKS["table"])),
        features=((0,), (0,), (1,)),
        cells=({"inputs": (0, 1), "steps": ({"inputs": (0, 1), "operation": "sum"},)},),
    )  # fmt: skip
    with pytest.raises(GenotypeError) as caught:
        build_seeded(bad, data.schema, 0)
    for part in ("imgae", "nothing", "features 0 to 0, but got 1"):
        assert part in str(caught.value)
    with pytest.raises(GenotypeError, match="'summ': did you mean 'sum'"):
        Supernet(space(operations=("summ", "zero")), data.schema)


class TestSupernet:
    def make(self, data, **changes):
        torch.manual_seed(0)
        return Supernet(space(**changes), data.schema).eval()

    def test_shares(self, data):
        """Each choice's shares sum to one; a tuple's are the product of its nodes' (Eq. 3)."""
        net = self.make(data)
        with torch.no_grad():
            for logits in net.architecture():
                logits.normal_()
        for n in range(2):
            identity = torch.softmax(net.alpha[n], -1)[:, 0]
            products = torch.stack([identity[i] * identity[j] for i, j in net.space.tuples[n]])
            torch.testing.assert_close(net.tuple_shares(n), products / products.sum())
            shares = net.node_shares(n)
            torch.testing.assert_close(shares.sum(1), torch.ones(2))
            assert shares[0, -1] == shares[1, 0] == 0  # i < j
            for m in range(2):
                assert net.step_shares(n, m).shape == (2, 2 + m)
                torch.testing.assert_close(net.step_shares(n, m).sum(1), torch.ones(2))
                torch.testing.assert_close(
                    net.operation_shares(n, m), torch.softmax(net.gamma[n][m], 0)
                )

    def test_two_negatives_do_not_win(self, data):
        """By raw logits, -3 times -3 would beat 1 times 2."""
        net = self.make(data, cells=1)
        with torch.no_grad():
            net.alpha[0].zero_()
            net.alpha[0][:, 0] = torch.tensor([-3.0, -3.0, 1.0, 2.0, 0.0, 0.0])
        assert net.derive().cells[0].inputs == (2, 3)

    def test_x_and_y_are_two_tensors(self, data, batch):
        net = self.make(data)
        seen = []
        net.cells[0].register_forward_pre_hook(lambda module, given: seen.append(given[0]))
        net(batch.inputs, batch.present)
        x, y = seen[0]
        assert (x - y).abs().max() > 0.01

    @pytest.mark.parametrize("inputs", [2, 3])
    def test_decided_it_is_the_derived_network(self, data, batch, inputs):
        net = self.make(data, inputs=inputs)
        genotype = net.derive()
        assert genotype in net.space
        undecided = net(batch.inputs, batch.present).fused
        net.temperature = 1e-9
        model = build_seeded(genotype, data.schema, 5).eval()
        load_matching(model, net.state_dict())
        decided = net(batch.inputs, batch.present).fused
        torch.testing.assert_close(decided, model(batch.inputs, batch.present).fused)
        assert (decided - undecided).abs().max() > 1e-3
        assert max(net.entropies().values()) < 1e-3

    @pytest.mark.parametrize("inputs", [2, 3])
    def test_along_a_path_it_is_that_network(self, data, batch, inputs):
        net = self.make(data, inputs=inputs)
        path = net.draw(np.random.default_rng(4))
        genotype = net.space.genotype(path)
        assert genotype in net.space
        model = build_seeded(genotype, data.schema, 5).eval()
        load_matching(model, net.state_dict())
        net.path = path
        along = net(batch.inputs, batch.present).fused
        torch.testing.assert_close(along, model(batch.inputs, batch.present).fused)

    def test_paths_are_drawn_by_their_shares(self, data):
        net = self.make(data, cells=1, steps=1, operations=("sum", "attention", "zero"))
        with torch.no_grad():
            for logits in net.architecture():
                logits.normal_()
        every = list(net.space)
        chances = torch.stack([net.log_share(g.cells) for g in every]).exp()
        torch.testing.assert_close(chances.sum(), torch.tensor(1.0))
        rng = np.random.default_rng(0)
        drawn = Counter(net.space.genotype(net.draw(rng)) for _ in range(3000))
        seen = torch.tensor([drawn[g] / 3000 for g in every])
        assert (seen - chances).abs().max() < 0.03
        likeliest = every[int(chances.argmax())]
        assert net.derive() == likeliest

    def test_every_choice_of_a_path_has_a_gradient(self, data):
        net = self.make(data)
        (-net.log_share(net.draw(np.random.default_rng(0)))).backward()
        assert all((logits.grad.abs().sum(-1) > 0).any() for logits in net.architecture())

    def test_a_temperature_moves_no_choice(self, data):
        net = self.make(data)
        before = net.derive()
        assert min(net.entropies().values()) > 0.999
        net.temperature = 0.01
        assert net.derive() == before

    def test_every_choice_gets_a_gradient_zero_too(self, data, batch):
        net = self.make(data)
        net(batch.inputs, batch.present).fused.square().sum().backward()
        for logits in net.architecture():
            assert (logits.grad.abs().sum(-1) > 0).all()
        zero = list(net.space.operations).index("zero")
        assert all((gamma.grad[:, zero] != 0).all() for gamma in net.gamma)

    def test_zero_is_derived_where_its_gamma_is_the_largest(self, data, batch):
        net = self.make(data)
        with torch.no_grad():
            net.gamma[1][0, list(net.space.operations).index("zero")] = 1
        genotype = net.derive()
        assert genotype.cells[1].steps[0].operation == "zero"
        assert build_seeded(genotype, data.schema, 0)(batch.inputs).fused.isfinite().all()

    def test_a_cell_may_feed_a_cell(self, data):
        net = self.make(data)
        with torch.no_grad():
            net.alpha[1][-1, 0] = 1
        assert net.derive().cells[1].inputs[-1] == net.space.nodes

    def test_dropout_is_off_when_it_is_zero(self, data, batch):
        net = self.make(data, dropout=0.0).train()
        one, other = (net(batch.inputs, batch.present).fused for _ in range(2))
        assert torch.equal(one, other)
