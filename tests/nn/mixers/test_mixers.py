"""What each family is in its paper, beyond the contract."""

import itertools

import pytest
import torch

from polymix.data.schema import Kind, Modality
from polymix.errors import GenotypeError
from polymix.nn.encoders.ramlp import RaMLP, RegionMix
from polymix.nn.mixers.gmlp import GMLP
from polymix.nn.mixers.hyper_mixer import HyperMixer, positions
from polymix.nn.mixers.mlp_mixer import MLPMixer
from polymix.nn.mixers.monarch import Monarch, MonarchMixer
from polymix.nn.mixers.s2mlp import S2MLP, shift
from polymix.nn.tokens import Tokens

F64 = torch.float64


def depends(function, x, index):
    """Which tokens' outputs depend on token `index`'s input."""
    rows = x.clone().requires_grad_()
    out = function(rows)
    weights = torch.linspace(-1, 2, out.shape[-1], dtype=F64) ** 2
    found = []
    for token in range(out.shape[1]):
        (grad,) = torch.autograd.grad((out[:, token] * weights).sum(), rows, retain_graph=True)
        found.append(bool(grad[:, index].abs().max() > 1e-12))
    return found


class TestHyperMixer:
    def make(self, channels=8):
        torch.manual_seed(0)
        return HyperMixer(5, channels, blocks=1, token_dim=6, channel_dim=7).double().eval()

    def test_tokens_are_mixed_by_weights_that_tokens_generate(self):
        mixer, block = self.make(), self.make().blocks[0]
        x = torch.randn(1, 5, 8, dtype=F64)
        assert depends(lambda rows: mixer(Tokens(rows)).x, x, 3) == [True] * 5
        # The token branch alone, as in the paper: LN(W2 GELU(W1' LN(x))), sums over tokens.
        normed = block.norm(x)
        says = normed * 8**0.5 + positions(5, 8, x)
        w1, w2 = block.weights_in(says), block.weights_out(says)
        mixed = torch.zeros_like(x)
        for c in range(8):
            hidden = torch.nn.functional.gelu(sum(w1[0, t] * normed[0, t, c] for t in range(5)))
            for t in range(5):
                mixed[0, t, c] = w2[0, t] @ hidden
        x1 = x + block.mixed_norm(mixed)
        expected = x1 + block.channel_mix(block.channel_norm(x1))
        torch.testing.assert_close(block(x, positions(5, 8, x)), expected)

    def test_without_positions_a_permutation_of_tokens_permutes_the_outputs(self):
        block, x = self.make().blocks[0], torch.randn(2, 5, 8, dtype=F64)
        order, nowhere = torch.tensor([3, 0, 4, 1, 2]), torch.zeros(5, 8, dtype=F64)
        torch.testing.assert_close(block(x[:, order], nowhere), block(x, nowhere)[:, order])

    def test_with_positions_order_matters(self):
        mixer, x = self.make(), torch.randn(1, 5, 8, dtype=F64)
        order = torch.tensor([3, 0, 4, 1, 2])
        moved = mixer(Tokens(x[:, order])).x
        assert (moved - mixer(Tokens(x)).x[:, order]).abs().max() > 1e-3

    def test_no_weight_has_a_token_axis(self):
        built = [HyperMixer(t, 8, token_dim=6).state_dict() for t in (3, 300)]
        assert [t.shape for t in built[0].values()] == [t.shape for t in built[1].values()]

    @pytest.mark.parametrize("tokens", [1, 2, 5, 31])
    def test_any_length_at_prediction(self, tokens):
        with torch.no_grad():
            out = self.make()(Tokens(torch.randn(2, tokens, 8, dtype=F64))).x
        assert out.shape == (2, tokens, 8)
        assert out.isfinite().all()

    @pytest.mark.parametrize("channels", [1, 5, 8])
    def test_positions_differ(self, channels):
        found = positions(20, channels, torch.zeros(1, dtype=F64))
        assert found.shape == (20, channels)
        assert len({tuple(row.tolist()) for row in found}) == 20


class TestMLPMixer:
    def test_the_token_mlp_is_shared_by_channels(self):
        torch.manual_seed(0)
        block = MLPMixer(4, 6, blocks=1, token_dim=3, channel_dim=5).double().blocks[0]
        x = torch.randn(1, 4, 6, dtype=F64)
        normed = block.token_norm(x)
        mixed = torch.stack([block.token_mix(normed[0, :, c]) for c in range(6)], -1)
        x1 = x + mixed
        torch.testing.assert_close(block(x), x1 + block.channel_mix(block.channel_norm(x1)))


class TestMonarch:
    @pytest.mark.parametrize("m", [1, 2, 3, 5])
    def test_it_is_p_l_p_r_p(self, m):
        torch.manual_seed(m)
        monarch, n = Monarch(m * m).double(), m * m
        permutation = torch.zeros(n, n, dtype=F64)
        for i, j in itertools.product(range(m), repeat=2):
            permutation[i * m + j, j * m + i] = 1
        left = torch.block_diag(*(block.T for block in monarch.left))
        right = torch.block_diag(*(block.T for block in monarch.right))
        dense = permutation @ left @ permutation @ right @ permutation
        x = torch.randn(4, n, dtype=F64)
        torch.testing.assert_close(monarch(x), x @ dense.T)
        assert (dense.abs() > 0).all()

    def test_an_axis_that_is_no_square_is_padded(self):
        torch.manual_seed(0)
        monarch = Monarch(7).double()
        assert monarch.m == 3
        x = torch.randn(2, 5, 7, dtype=F64)
        whole = Monarch(9).double()
        whole.load_state_dict(monarch.state_dict())
        padded = torch.nn.functional.pad(x, (0, 2))
        torch.testing.assert_close(monarch(x), whole(padded)[..., :7])

    def test_scale_is_kept_through_the_stack(self):
        torch.manual_seed(0)
        monarch = Monarch(144)
        assert monarch(torch.randn(64, 144)).std().item() == pytest.approx(1, abs=0.15)
        features = MonarchMixer(16, 64, blocks=45).features(Tokens(torch.randn(4, 16, 64)))
        assert all(f.x.std().item() == pytest.approx(1, abs=0.1) for f in features)


class TestGMLP:
    def test_it_starts_as_an_mlp_on_each_token(self):
        torch.manual_seed(0)
        gmlp = GMLP(6, 8, blocks=2, channel_dim=10).double()
        x = torch.randn(1, 6, 8, dtype=F64)
        alone = torch.cat(
            [gmlp(Tokens(x[:, i : i + 1].expand(1, 6, 8))).x[:, :1] for i in range(6)], 1
        )
        torch.testing.assert_close(gmlp(Tokens(x)).x, alone, rtol=0, atol=1e-2)

    def test_the_gate_is_linear_over_tokens(self):
        torch.manual_seed(0)
        block = GMLP(3, 4, blocks=1, channel_dim=6).double().blocks[0]
        torch.nn.init.normal_(block.gate.weight)
        x = torch.randn(1, 3, 4, dtype=F64)
        z = torch.nn.functional.gelu(block.u(block.norm(x)))
        z1, z2 = z[..., :3], block.gate_norm(z[..., 3:])
        gate = block.gate.weight @ z2[0] + block.gate.bias[:, None]
        torch.testing.assert_close(block(x), x + block.v(z1 * gate))

    def test_an_odd_width_is_refused(self):
        with pytest.raises(GenotypeError, match="channel_dim must be even, but got 7"):
            GMLP(3, 4, channel_dim=7)


class TestS2MLP:
    def test_the_shift_of_the_paper(self):
        h, w, c = 3, 4, 8
        x = torch.randn(2, h, w, c)
        expected = x.clone()
        expected[:, :, 1:, 0:2] = x[:, :, :-1, 0:2]
        expected[:, :, :-1, 2:4] = x[:, :, 1:, 2:4]
        expected[:, 1:, :, 4:6] = x[:, :-1, :, 4:6]
        expected[:, :-1, :, 6:8] = x[:, 1:, :, 6:8]
        assert torch.equal(shift(x.flatten(1, 2), (h, w)), expected.flatten(1, 2))

    def test_without_a_grid_along_the_line(self):
        x = torch.randn(2, 5, 4)
        expected = x.clone()
        expected[:, 1:, :2] = x[:, :-1, :2]
        expected[:, :-1, 2:] = x[:, 1:, 2:]
        assert torch.equal(shift(x, None), expected)

    @pytest.mark.parametrize("grid", [None, (1, 1)])
    @pytest.mark.parametrize("channels", [1, 2, 3, 5])
    def test_one_token_stays(self, channels, grid):
        x = torch.randn(2, 1, channels)
        assert torch.equal(shift(x, grid), x)

    def test_a_block_reaches_the_four_neighbours(self):
        torch.manual_seed(0)
        mixer = S2MLP(9, 8, blocks=1, channel_dim=6).double()
        x = torch.randn(1, 9, 8, dtype=F64)
        reached = depends(lambda rows: mixer(Tokens(rows, (3, 3))).x, x, 4)
        assert reached == [False, True, False, True, True, True, False, True, False]


class TestRaMLP:
    @pytest.mark.parametrize(
        ("side", "grids", "regions"),
        [
            (28, [7, 4, 2, 1], [7, 4, 2, 1]),
            (112, [28, 14, 7, 4], [7, 7, 7, 1]),
            (224, [56, 28, 14, 7], [7, 7, 7, 1]),
            (3, [1, 1, 1, 1], [1, 1, 1, 1]),
            (45, [11, 6, 3, 2], [7, 6, 3, 1]),
        ],
    )
    def test_sizes(self, side, grids, regions):
        modality = Modality(name="i", kind=Kind.IMAGE, shape=(3, side, side), dtype="uint8")
        encoder = RaMLP(modality, widths=(4, 4, 4, 16), depths=(1, 1, 1, 1), hd=(1, 1, 4, 16))
        features = encoder.features(torch.randn(1, 3, side, side))
        assert [f.grid for f in features] == [(g, g) for g in grids]
        assert [stage[1].mix.ks for stage in encoder.stages] == [(k, k) for k in regions]

    def test_a_region_is_spread_over_the_map(self):
        torch.manual_seed(0)
        mix = RegionMix(1, (6, 4), expansion=1, ks=2, hd=1).double()
        x = torch.zeros(1, 6, 4, 1, dtype=F64)
        x[0, 1, 0, 0] = 1.0  # row 1 of two blocks of three, column 0 of two blocks of two
        reached = mix.mix(x)[0, :, :, 0].nonzero().tolist()
        assert reached == [[1, 0], [1, 2], [4, 0], [4, 2]]

    def test_one_block_sees_the_whole_map(self):
        torch.manual_seed(0)
        mix = RegionMix(2, (9, 8), expansion=2, ks=4, hd=2).double()
        x = torch.randn(1, 9, 8, 2, dtype=F64, requires_grad=True)
        (grad,) = torch.autograd.grad(mix.w3(mix.mix(mix.pool(mix.w1(x))))[0, 0, 0].sum(), x)
        assert (grad.abs().sum(-1) > 0).all()

    def test_every_problem_is_told(self):
        modality = Modality(name="i", kind=Kind.IMAGE, shape=(3, 2, 9), dtype="uint8")
        with pytest.raises(GenotypeError) as caught:
            RaMLP(modality, widths=(4, 4), hd=(0, 1, 1, 1))
        assert [p.split(",")[0] for p in caught.value.problems] == [
            "ramlp: widths must be four numbers >= 1",
            "ramlp: hd must be four numbers >= 1",
            "ramlp: an input is at least 3 x 3",
        ]

    def test_hd_divides_the_channels(self):
        modality = Modality(name="i", kind=Kind.IMAGE, shape=(3, 9, 9), dtype="uint8")
        with pytest.raises(GenotypeError, match="hd must divide the 32 expanded channels"):
            RaMLP(modality, hd=(3, 1, 1, 1))
