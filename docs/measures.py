"""How well numbers tell two kinds of rows apart, for the other scripts of this folder."""

import numpy as np


def auc(scores, positive):
    """The share of pairs in which the row that is positive has the higher score; half of the ties count."""
    from scipy.stats import rankdata

    ranks, positive = rankdata(scores), np.asarray(positive, bool)
    count = positive.sum()
    return (ranks[positive].sum() - count * (count + 1) / 2) / (count * (~positive).sum())


def auc_with_interval(scores, positive):
    """The AUC with the 2.5 and 97.5 % quantiles of 1,000 bootstrap draws of rows, as text."""
    scores, positive, rng = np.asarray(scores, float), np.asarray(positive, bool), np.random.default_rng(0)
    draws = []
    while len(draws) < 1000:
        rows = rng.integers(0, len(scores), len(scores))
        if 0 < positive[rows].sum() < len(rows):
            draws.append(auc(scores[rows], positive[rows]))
    low, high = np.quantile(draws, [0.025, 0.975])
    return f"{auc(scores, positive):.3f} ({low:.3f} to {high:.3f})"
