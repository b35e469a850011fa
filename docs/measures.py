"""How well numbers tell two kinds of rows apart, how alike two texts are, and intervals, for the other scripts of this folder."""

import re
from collections import Counter

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


def word_f1(right, written):
    """The F1 of the words of a text: twice the words in common, over the words of both."""
    right, written = (Counter(re.findall(r"[a-z0-9]+", text.lower())) for text in (right, written))
    return 2 * (right & written).total() / max(1, right.total() + written.total())


def bootstrap(groups, statistic, base=None, count=1000):
    """The mean of a statistic over trainings, and its 95 % interval over draws of groups, of their trainings and of the rows that were
    measured, `[values, 3]`.

    `groups` has a list of trainings for each group, and each training an array of the group's rows; `statistic` makes a few values of
    such an array. If `base` has the same groups, trainings and rows, the differences from it.
    """
    rng = np.random.default_rng(0)

    def value(group, training, rows):
        return statistic(groups[group][training][rows]) - (statistic(base[group][training][rows]) if base else 0)

    def mean(drawn):
        return np.mean([np.mean([value(group, training, rows) for training in trainings], 0) for group, trainings, rows in drawn], 0)

    def draw(group):
        rows, trainings = len(groups[group][0]), len(groups[group])
        return group, rng.integers(0, trainings, trainings), rng.integers(0, rows, rows)

    draws = [mean([draw(group) for group in rng.integers(0, len(groups), len(groups))]) for _ in range(count)]
    whole = mean([(group, range(len(trainings)), slice(None)) for group, trainings in enumerate(groups)])
    return np.stack([whole, *np.quantile(draws, [0.025, 0.975], axis=0)], 1)
