"""Other names of metrics: what people write where a metric has scikit-learn's name here."""

from __future__ import annotations

from collections.abc import Mapping

ALIASES: Mapping[str, str] = {
    "acc": "accuracy",
    "auc": "roc_auc",
    "auroc": "roc_auc",
    "roc_auc_ovr": "roc_auc",
    "roc_auc_ovr_macro": "roc_auc",
    "ap": "average_precision",
    "pr_auc": "average_precision",
    "log_loss": "neg_log_loss",
    "logloss": "neg_log_loss",
    "cross_entropy": "neg_log_loss",
    "nll": "neg_log_loss",
    "mcc": "matthews_corrcoef",
    "qwk": "quadratic_kappa",
    "quadratic_weighted_kappa": "quadratic_kappa",
    "cohen_kappa_quadratic": "quadratic_kappa",
    "mae": "neg_mean_absolute_error",
    "mean_absolute_error": "neg_mean_absolute_error",
    "mse": "neg_mean_squared_error",
    "mean_squared_error": "neg_mean_squared_error",
    "rmse": "neg_root_mean_squared_error",
    "root_mean_squared_error": "neg_root_mean_squared_error",
    "pearsonr": "pearson_r",
}
"""By a name in lower case, with underscores, the metric's own."""


def plainly(name: str) -> str:
    """A name in lower case, with underscores.

    >>> plainly("F1-macro")
    'f1_macro'
    """
    return name.strip().lower().replace("-", "_").replace(" ", "_")


def own_name(name: str) -> str:
    """A metric's own name, where this is another of its names; else the name, plainly.

    >>> own_name("RMSE"), own_name("log-loss"), own_name("R2")
    ('neg_root_mean_squared_error', 'neg_log_loss', 'r2')
    """
    return ALIASES.get(plainly(name), plainly(name))
