"""Best selections within budgets, and the optima of their linear programs, by another solver (HiGHS, through scipy).

    python tests/golden/make_budgets.py        # writes tests/golden/budgets.json

Needs scipy and numpy. The test is filters/src/select/budget/tests.rs.
"""
import json
import pathlib

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, linprog, milp

N = 400
random = np.random.default_rng(11)
risk = random.random(N)
scores = np.round(0.6 * risk + random.normal(size=N), 4)
costs = np.stack([
    np.round(np.clip(risk + 0.2 * random.normal(size=N), 0, 1), 4),  # continuous, and related to the score
    np.floor(4 * random.random(N)),  # levels 0 to 3
    np.round(random.exponential(size=N), 4),
])


def optimum(keep, limits):
    """The largest mean score of `keep` of all samples, in parts, whose mean costs are at most the limits."""
    chosen = [n for n, limit in enumerate(limits) if limit is not None]
    found = linprog(
        -scores / keep, A_ub=costs[chosen] / keep, b_ub=[limits[n] for n in chosen], A_eq=np.ones((1, N)), b_eq=[keep],
        bounds=(0, 1), method="highs", options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    )
    whole = milp(
        -scores / keep, integrality=np.ones(N), bounds=Bounds(0, 1), options={"mip_rel_gap": 1e-9},
        constraints=[LinearConstraint(costs[chosen] / keep, -np.inf, [limits[n] for n in chosen]), LinearConstraint(np.ones((1, N)), keep, keep)],
    )
    assert found.success and whole.success
    return {"keep": keep, "limits": limits, "optimum": -found.fun, "whole": -whole.fun}


cases = [
    optimum(120, [0.3, None, None]), optimum(120, [0.45, None, None]), optimum(200, [0.9, None, None]),
    optimum(120, [None, 0.5, None]), optimum(60, [None, 1.2, None]), optimum(120, [0.35, 0.9, None]),
    optimum(120, [0.35, 0.9, 0.7]), optimum(40, [0.25, 0.4, 0.5]), optimum(240, [0.4, 1.2, 0.8]),
]
golden = {"scores": scores.tolist(), "costs": costs.tolist(), "cases": cases}
path = pathlib.Path(__file__).parent / "budgets.json"
path.write_text(json.dumps(golden))
print(*(f"{case['keep']} {case['limits']} {case['optimum']:.6f} {case['whole']:.6f}" for case in cases), sep="\n")
