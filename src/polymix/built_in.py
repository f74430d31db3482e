"""Where polymix's own parts are: names and modules, so that looking one up imports it alone.

A method adds a line to `STRATEGIES` and, where it has genotypes of its own, a line to `GENOTYPES`
and one to `MODELS`. Each module registers its parts as anybody's does, with `register`.
"""

from __future__ import annotations

GENOTYPES = {
    "mix": "polymix.space.mix",
    "mfas": "polymix.methods.mfas.space",
    "bm-nas": "polymix.methods.bm_nas.space",
    "mro": "polymix.methods.mro.space",
    "embrace": "polymix.comparators.embracenet.genotype",
    "ensemble": "polymix.comparators.ensemble.genotype",
    "tabular": "polymix.comparators.tabular.genotype",
}
MODELS = {
    "mix": "polymix.nn.model",
    "mfas": "polymix.methods.mfas.model",
    "bm-nas": "polymix.methods.bm_nas.model",
    "mro": "polymix.methods.mro.model",
    "embrace": "polymix.comparators.embracenet.model",
    "ensemble": "polymix.comparators.ensemble.model",
    "tabular": "polymix.comparators.tabular.model",
}
STRATEGIES = {
    "auto": "polymix.methods.auto.auto",
    "mixmas": "polymix.methods.mixmas.mixmas",
    "m2-mixer": "polymix.methods.m2_mixer.m2_mixer",
    "mfas": "polymix.methods.mfas.mfas",
    "bm-nas": "polymix.methods.bm_nas.bm_nas",
    "mro": "polymix.methods.mro.mro",
    "random": "polymix.methods.random.random",
}
STACKS = {
    "mlp-mixer": "polymix.nn.mixers.mlp_mixer",
    "hyper-mixer": "polymix.nn.mixers.hyper_mixer",
    "monarch-mixer": "polymix.nn.mixers.monarch",
    "gmlp": "polymix.nn.mixers.gmlp",
    "s2-mlp": "polymix.nn.mixers.s2mlp",
}
ENCODERS = {
    "conv": "polymix.nn.encoders.conv",
    "lenet": "polymix.nn.encoders.lenet",
    "maxout": "polymix.nn.encoders.maxout",
    "ramlp": "polymix.nn.encoders.ramlp",
    "mlp": "polymix.nn.encoders.mlp",
    "linear-tokens": "polymix.nn.encoders.linear_tokens",
    "pretrained-text": "polymix.nn.encoders.pretrained_text",
    "pretrained-image": "polymix.nn.encoders.pretrained_image",
}
FUSIONS = dict.fromkeys(("concat", "mean", "max"), "polymix.nn.fusion")
OPERATIONS = dict.fromkeys(
    ("zero", "sum", "attention", "linear-glu", "concat-fc"), "polymix.methods.bm_nas.operations"
)
DATASETS = {
    "demo": "polymix.datasets.demo",
    "avmnist": "polymix.datasets.avmnist.builder",
    "mimic": "polymix.datasets.mimic",
    "mmimdb": "polymix.datasets.mmimdb.builder",
    "mosi": "polymix.datasets.mosi.builder",
    "mosei": "polymix.datasets.mosei",
    "meld": "polymix.datasets.meld.builder",
}

KINDS = (
    "polymix.genotype",
    "polymix.datasets.builder",
    "polymix.nn.encoder",
    "polymix.nn.fusion",
    "polymix.nn.model",
    "polymix.scoring.metrics",
    "polymix.search.protocol",
    "polymix.methods.bm_nas.operations",
)
"""The modules that declare the kinds of parts there are."""
