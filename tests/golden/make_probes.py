"""Minima of the losses of probes, by other programs: scikit-learn (binary, linear, pair), statsmodels (ordinal without a penalty)
and cvxpy (ordinal and cost with one).

    python tests/golden/make_probes.py        # writes tests/golden/probes.json

Needs scikit-learn, statsmodels, cvxpy and numpy. The test is filters/src/probe/golden.rs.
"""
import json
import pathlib

import cvxpy as cp
import numpy as np
from sklearn.linear_model import ElasticNet, LogisticRegression
from statsmodels.miscmodels.ordinal_model import OrderedModel

N, F = 60, 10
random = np.random.default_rng(7)
x = np.round(np.where(random.random((N, F)) < 0.4, random.exponential(1.0, (N, F)), 0.0), 3).astype(np.float32).astype(float)
truth = np.array([1.5, -1.2, 0.8] + [0.0] * (F - 3))
score = x @ truth + random.logistic(size=N)
binary = score > 0.3
levels = np.digitize(score, [-0.5, 0.8])
numbers = np.round(score, 3)
order = random.permutation(N).reshape(-1, 2)
pairs = np.where((score[order[:, 0]] > score[order[:, 1]])[:, None], order, order[:, ::-1])
rates = np.clip(-np.round(score), -3, 3)
unsafe_first = np.where((rates[pairs[:, 0]] <= rates[pairs[:, 1]])[:, None], pairs, pairs[:, ::-1])


def penalty(w, l1, l2):
    return l1 * np.abs(w).sum() + l2 / 2 * (w**2).sum()


def logistic(features, labels, l1, l2, intercept):
    """scikit-learn minimizes C times the sum of losses + r |w|_1 + (1 - r)/2 |w|^2."""
    total = l1 + l2
    fit = LogisticRegression(
        solver="saga", C=1 / (len(labels) * total), l1_ratio=l1 / total, fit_intercept=intercept, tol=1e-12, max_iter=2_000_000
    ).fit(features, labels)
    w, b = fit.coef_[0], (fit.intercept_[0] if intercept else 0.0)
    margin = np.where(labels, 1, -1) * (features @ w + b)
    return np.logaddexp(0, -margin).mean() + penalty(w, l1, l2)


def convex(loss, w, l1, l2, constraints=()):
    problem = cp.Problem(cp.Minimize(loss + l1 * cp.norm1(w) + l2 / 2 * cp.sum_squares(w)), list(constraints))
    problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-9, tol_gap_rel=1e-9)
    return problem.value


def ordinal(l1, l2):
    w, t = cp.Variable(F), cp.Variable(2)
    s = x @ w
    low, middle, high = (np.flatnonzero(levels == level) for level in range(3))
    gap = cp.log(1 - cp.exp(t[0] - t[1]))
    loss = cp.sum(cp.logistic(s[low] - t[0])) + cp.sum(cp.logistic(t[1] - s[high]))
    loss += cp.sum(cp.logistic(t[0] - s[middle])) + cp.sum(cp.logistic(s[middle] - t[1])) - len(middle) * gap
    return convex(loss / N, w, l1, l2)


def cost(l1, l2):
    w, b = cp.Variable(F), cp.Variable()
    c = x @ w + b
    first, second = unsafe_first.T
    told_apart = rates[first] < rates[second]
    loss = cp.sum(cp.multiply(told_apart, cp.logistic(c[second] - c[first])))
    for rows in (first, second):
        loss += cp.sum(cp.logistic(cp.multiply(rates[rows], c[rows]))) + 0.0005 * cp.sum_squares(c[rows])
    return convex(loss / len(first), w, l1, l2)


differences = x[pairs[:, 0]] - x[pairs[:, 1]]
both = np.concatenate([differences, -differences])
cases = []
for l1, l2 in [(0.05, 0.005), (0.01, 0.001)]:
    # The linear loss has no factor in front of l1_ratio: alpha * l1_ratio |w|_1 + alpha (1 - l1_ratio)/2 |w|^2.
    net = ElasticNet(alpha=l1 + l2, l1_ratio=l1 / (l1 + l2), tol=1e-14, max_iter=1_000_000).fit(x, numbers)
    linear = ((net.predict(x) - numbers) ** 2).mean() / 2 + penalty(net.coef_, l1, l2)
    signs = np.concatenate([np.ones(len(pairs), bool), np.zeros(len(pairs), bool)])
    for kind, objective in [
        ("binary", logistic(x, binary, l1, l2, True)),
        ("linear", linear),
        ("pair", logistic(both, signs, l1, l2, False)),
        ("ordinal", ordinal(l1, l2)),
        ("cost", cost(l1, l2)),
    ]:
        cases.append({"kind": kind, "l1": l1, "l2": l2, "objective": float(objective)})
free = OrderedModel(levels, x[:, :4], distr="logit").fit(method="bfgs", gtol=1e-10, maxiter=10_000, disp=False)

out = {
    "rows": [[[int(j), float(v)] for j, v in enumerate(row) if v != 0] for row in x],
    "features": F,
    "binary": binary.tolist(),
    "levels": levels.tolist(),
    "numbers": numbers.tolist(),
    "pairs": pairs.tolist(),
    "unsafe_first": unsafe_first.tolist(),
    "rates": rates.tolist(),
    "cases": cases,
    "statsmodels": {"features": 4, "loss": -free.llf / N, "weights": free.params[:4].tolist()},
}
path = pathlib.Path(__file__).with_name("probes.json")
path.write_text(json.dumps(out) + "\n")
print(path, json.dumps(cases, indent=1), out["statsmodels"])
