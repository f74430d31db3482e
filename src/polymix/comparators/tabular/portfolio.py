"""Which fitted models to try on some data, the greatest gain a second first.

The order and the settings are from a study of tables with texts, categories and numbers, of
sounds and of series: one kernel over everything is the best single model where rows are few,
words' full TF-IDF the best quick one, and trees gain most from both as out-of-fold columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from polymix.comparators.tabular.genotype import TabularGenotype
from polymix.comparators.tabular.views import layout_of, make_view
from polymix.data.schema import Kind, Modality, Schema, Task
from polymix.genotype import Block
from polymix.nn.descriptions import DESCRIPTIONS, describers_for
from polymix.nn.encoder import Options

Views = tuple[tuple[str, Block], ...]

KERNEL_ROWS = 6000
"""With more rows, kernel ridge regression is not tried."""

MANY = 10_000
"""With as many rows, what takes longest is tried last, and forests after boosting."""

SMALL = 1000
"""With fewer rows, boosted trees are smaller and slower."""

TUNED: dict[str, Options] = {
    "pretrained-text": {"layers": 3, "states": (2,), "length": 64},
    "pretrained-image": {"states": (14,)},
}
"""What is tuned: the third of MiniLM's six layers, on what the second says of a text's first 64
tokens, and EfficientNet's last block, its head with it, on the map of the block below."""

TUNED_BYTES = 2**30
"""That all rows' states may take."""

MAX_TREES, LEAVES, LEAF_NUMBERS = 5000, 4096, 2_000_000
SKEWED = 1.5

NETWORK_FUSIONS = ("mean", "gated")
"""How networks join views, the best guess first."""


def own_describers(schema: Schema, modality: Modality, pretrained: bool) -> list[Block]:
    """What describes a modality, with or without encoders that come with weights.

    A picture averaged down says next to nothing of what a network sees in it, and its columns
    drown those of a table: it is left out where there is anything else.
    """
    every = describers_for(modality)
    networks = [b for b in every if b.name not in DESCRIPTIONS]
    own = [b for b in every if b.name in DESCRIPTIONS]
    spare = any(one.kind is not Kind.IMAGE for one in schema.modalities) or bool(networks)
    if modality.kind is Kind.IMAGE and spare:
        own = []
    return own + (networks if pretrained else [])


def tree_views(schema: Schema, pretrained: bool = True) -> Views:
    """Views that trees cut: categories as codes, texts projected, descriptions of all else."""
    found: list[tuple[str, Block]] = []
    for one in schema.modalities:
        if one.kind is Kind.TABULAR:
            found.append((one.name, Block.of("codes")))
        else:
            blocks = map(_for_trees, own_describers(schema, one, pretrained))
            found += [(one.name, block) for block in blocks if block is not None]
    return tuple(found)


def _for_trees(block: Block) -> Block | None:
    """A description with few enough columns for trees to search; none where it has too many.

    Of a frozen network that is its last state alone: each column costs every tree the same.
    """
    if block.name in DESCRIPTIONS:
        return None if DESCRIPTIONS[block.name].linear else block
    options = {key: value for key, value in block.options if key != "states"}
    return Block.of(block.name, block.preset, **options)


def vector_views(schema: Schema, pretrained: bool = True) -> Views:
    """Views that are added and multiplied: texts as ids, tables as columns."""
    found: list[tuple[str, Block]] = []
    for one in schema.modalities:
        blocks = own_describers(schema, one, pretrained)
        if one.kind is Kind.TEXT:
            known = [b for b in blocks if b.name not in DESCRIPTIONS]
            blocks = [Block.of("token-ids"), *known]
        elif one.kind is Kind.TABULAR:
            blocks = [Block.of("columns")]
        found += [(one.name, block) for block in blocks]
    return tuple(found)


def network_views(schema: Schema, pretrained: bool = True) -> Views:
    """Views that a network reads: tables as columns, described texts, and descriptions of all else.

    Frozen encoders are looked at as kernels do, so that their pass is made once; what has more
    columns than a network should learn weights for is left out.
    """
    found: list[tuple[str, Block]] = []
    for one in schema.modalities:
        blocks = own_describers(schema, one, pretrained)
        if one.kind is Kind.TABULAR:
            blocks = [Block.of("columns")]
        own = [b for b in blocks if not (b.name in DESCRIPTIONS and DESCRIPTIONS[b.name].linear)]
        found += [(one.name, block) for block in own]
    return tuple(found)


def without_words(views: Views) -> Views:
    """The views that are dense: a pretrained encoder's in the place of words."""
    return tuple(v for v in views if v[1].name != "token-ids")


def tuned_views(schema: Schema, rows: int) -> Views:
    """What a network says of each token of a text or a picture, all else dense: for `tuned`.

    Nothing where no network that comes with weights reads any modality, or all rows' states are
    too many.

    Args:
        schema: of the data.
        rows: whose states are kept.
    """
    found, needed = list[tuple[str, Block]](), 0
    for name, block in without_words(vector_views(schema)):
        if block.name in TUNED:
            options = {**dict(block.options), **TUNED[block.name]}
            block = Block.of(block.name, block.preset, **options, tokens=True)
            layout = layout_of(make_view(block, schema[name]), schema[name])
            needed += 2 * rows * layout.length * layout.width
        found.append((name, block))
    return tuple(found) if 0 < needed <= TUNED_BYTES else ()


def skewed(targets: np.ndarray | None) -> bool:
    """Whether a regression's targets call for a logarithm: none below zero, and a long tail."""
    if targets is None or len(targets) < 3 or targets.min() < 0:
        return False
    apart = targets.astype(np.float64) - targets.mean()
    deviation = apart.std()
    return bool(deviation > 0 and (apart**3).mean() / deviation**3 > SKEWED)


def portfolio(
    schema: Schema, rows: int, targets: np.ndarray | None = None
) -> list[TabularGenotype]:
    """Fitted models in the order to try them.

    Args:
        schema: of the data.
        rows: that the largest fit will see.
        targets: of training rows, where a regression's spread is to be looked at.
    """
    regression = schema.target.task is Task.REGRESSION
    log = regression and skewed(targets)
    transforms: tuple[Literal["none", "log"], ...] = ("log", "none") if log else ("none",)
    first = transforms[0]
    vectors, plain, trees = vector_views(schema), vector_views(schema, False), tree_views(schema)
    tables = any(m.kind in (Kind.TEXT, Kind.TABULAR) for m in schema.modalities)
    words = plain if any(block.name == "token-ids" for _, block in plain) else vectors
    linear = TabularGenotype(views=words, learner=Block.of("linear"), transform=first)
    quick = TabularGenotype(views=plain or vectors, learner=Block.of("linear"), transform=first)
    small, large = (_kernels(views, rows, first) for views in (plain, vectors))
    forest, boosted = forest_block(schema, rows), boosting_blocks(schema, rows)
    networks = _networks(schema, first) if tables else []
    base = (quick, *small)
    if tables and rows >= MANY:
        many = _of_many_rows(schema, rows, quick, linear)
        return list(dict.fromkeys([*many, *networks, *_tuned(schema, rows, first, base)]))
    # What takes no pass through a network comes first: there is soon something to use.
    found = [quick, *small]
    if tables:
        # Stacked trees take the target as it is: their base has straightened it.
        found += [TabularGenotype(views=tree_views(schema, False), learner=forest, base=base)]
    found += [*large, linear]
    if plain and plain != vectors:
        found += _without_networks(schema, rows, first)
    if tables:
        found += [TabularGenotype(views=trees, learner=forest, base=base)]
    found += networks[:1]
    found += [TabularGenotype(views=trees, learner=boosted[0], transform=first)]
    found += networks[1:]
    found += [TabularGenotype(views=trees, learner=forest)]
    if not tables:
        signals = forest_block(schema, rows, trees=300, share=0.0, dims=0)
        found += [TabularGenotype(views=trees, learner=signals)]
    dense = without_words(vectors)
    if dense and dense != words:
        found += [TabularGenotype(views=dense, learner=Block.of("linear"), transform=first)]
    if not regression:
        squares = Block.of("linear", loss="squares")
        found += [TabularGenotype(views=words, learner=squares)]
    if tables:
        found += [TabularGenotype(views=trees, learner=boosted[0], transform=first, base=base)]
    found += [TabularGenotype(views=trees, learner=one, transform=first) for one in boosted[1:]]
    for transform in transforms[1:]:
        found += [
            one.model_copy(update={"transform": transform})
            for one in (
                linear,
                *large,
                TabularGenotype(views=trees, learner=boosted[0], transform=first),
            )
        ]
    # What takes longest comes last: without the time for it, it is not begun.
    found += _tuned(schema, rows, first, base)
    return list(dict.fromkeys(found))


def _tuned(
    schema: Schema, rows: int, transform: Literal["none", "log"], base: Sequence[TabularGenotype]
) -> list[TabularGenotype]:
    """The last layers of networks, tuned together with what reads all else."""
    views = tuned_views(schema, rows)
    if not views:
        return []
    learner = Block.of("tuned")
    return [TabularGenotype(views=views, learner=learner, transform=transform, base=tuple(base))]


def _of_many_rows(
    schema: Schema, rows: int, quick: TabularGenotype, linear: TabularGenotype
) -> list[TabularGenotype]:
    """Fitted models in the order to try them where each takes long.

    Trees on a linear model's columns find what it lacks, and take no longer than those without:
    words are the linear model's, numbers and categories the trees'. Forests are slow, and what
    waits for a network comes last.

    Args:
        schema: of the data.
        rows: that the largest fit will see.
        quick: a linear model that takes no pass through a network.
        linear: the same with all views.
    """
    plain, trees = tree_views(schema, False), tree_views(schema)
    usual, wide = boosting_blocks(schema, rows)
    forest = forest_block(schema, rows)
    transform = quick.transform
    found = [
        quick,
        TabularGenotype(views=plain, learner=usual, transform=transform, base=(quick,)),
        TabularGenotype(views=plain, learner=usual, transform=transform),
        TabularGenotype(views=plain, learner=wide, transform=transform, base=(quick,)),
        linear,
        TabularGenotype(views=trees, learner=usual, transform=transform, base=(linear,)),
        TabularGenotype(views=plain, learner=forest, base=(quick,)),
        TabularGenotype(views=plain, learner=forest),
    ]
    if transform != "none":
        found += [one.model_copy(update={"transform": "none"}) for one in found[:3]]
    return found


def _kernels(
    views: Views, rows: int, transform: Literal["none", "log"]
) -> tuple[TabularGenotype, ...]:
    """Kernel ridge regression on these views, where rows are few enough."""
    if not views or rows > KERNEL_ROWS:
        return ()
    learner = Block.of("kernel", rows=rows)
    return (TabularGenotype(views=views, learner=learner, transform=transform),)


def _networks(schema: Schema, transform: Literal["none", "log"]) -> list[TabularGenotype]:
    """Networks on fused views: they err where kernels and trees do not."""
    views = network_views(schema)
    return [
        TabularGenotype(
            views=views, learner=Block.of("network", fusion=fusion), transform=transform
        )
        for fusion in NETWORK_FUSIONS
    ]


def _without_networks(
    schema: Schema, rows: int, transform: Literal["none", "log"]
) -> list[TabularGenotype]:
    """Trees that take no pass through a network: they say what the networks add."""
    trees = tree_views(schema, False)
    boosted = boosting_blocks(schema, rows)[0]
    return [
        TabularGenotype(views=trees, learner=boosted, transform=transform),
        TabularGenotype(views=trees, learner=forest_block(schema, rows)),
    ]


def boosting_blocks(schema: Schema, rows: int) -> list[Block]:
    """Gradient boosting in the settings worth trying, the best guess first."""
    most = most_rounds(schema)
    small = Block.of("gradient-boosting", lr=0.05, leaves=15, rounds=min(150, most))
    usual = Block.of("gradient-boosting", rounds=min(200, most))
    wide = Block.of("gradient-boosting", rounds=min(400, most), lr=0.05, share=0.6, least=20)
    return [small, usual] if rows < SMALL else [usual, wide]


def most_rounds(schema: Schema) -> int:
    """Rounds of boosting, each a tree an output, that are not more trees than can be kept."""
    return max(5, MAX_TREES // schema.target.outputs)


def forest_block(
    schema: Schema, rows: int, trees: int = 150, share: float = 0.4, dims: int = 30
) -> Block:
    """Extra trees whose leaves' values are not more numbers than can be kept."""
    each = LEAF_NUMBERS // (trees * schema.target.outputs)
    leaves = max(16, min(rows, LEAVES, each))
    return Block.of("extra-trees", trees=trees, share=share, dims=dims, leaves=leaves)


def alone(genotype: TabularGenotype) -> list[TabularGenotype]:
    """The same learners on each modality alone; nothing where there is but one.

    A base model without a view of the modality is left out. What nothing can be tuned of is read
    by a linear model.
    """
    names = genotype.modalities
    if len(names) < 2:
        return []
    made = (_of(genotype, name) for name in names)
    return [one for one in made if one is not None]


def _of(genotype: TabularGenotype, name: str) -> TabularGenotype | None:
    views = tuple(view for view in genotype.views if view[0] == name)
    if not views:
        return None
    base = (_of(one, name) for one in genotype.base)
    kept = tuple(one for one in base if one is not None)
    learner = genotype.learner
    if learner.name == "tuned" and not any(dict(b.options).get("tokens") for _, b in views):
        learner = Block.of("linear")
    return genotype.model_copy(update={"views": views, "base": kept, "learner": learner})
