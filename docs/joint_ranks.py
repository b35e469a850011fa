"""Do several columns together find more than each alone? AUC of the mean of a sample's ranks by some columns of `sae score`.

Needs Python 3.11 with numpy, pyarrow and scipy, and the trials of `sae validate`:

    python docs/joint_ranks.py --scored run/validate/{swapped-answers,near-answers,wrong-word,shuffled-words,truncated-answers}-25 --sae topk

For every trial it prints the sets of up to four columns that find most of its errors, with what they find in the other trials. The
labels choose the sets, so expect less of them on other data.
"""

import argparse
import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
from measures import auc
from program import check_whole
from scipy.stats import rankdata

COLUMNS = ["pmi_blank", "pmi_relative", "pmi_token_min", "likelihood", "likelihood_min", "likelihood_end", "likelihood_drop"]
MOST, SHOWN = 4, 5


def ranks(run, sae):
    """The ranks of the samples by each column, and which samples are right."""
    check_whole(run)
    table = parquet.read_table(run / "scores" / f"{sae}.parquet")
    if missing := [name for name in COLUMNS if name not in table.column_names]:
        raise SystemExit(f"{run}: no {', '.join(missing)}; `sae validate` writes them")
    column = lambda name: np.array([-np.inf if v is None else v for v in table[name].to_pylist()], float)
    meta = parquet.read_table(run / "samples.parquet")["meta"].to_pylist()
    return {name: rankdata(column(name)) for name in COLUMNS}, np.array([json.loads(m).get("altered") is not True for m in meta])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--scored", type=Path, nargs="+", required=True, help="trials of `sae validate`")
    parser.add_argument("--sae", required=True)
    args = parser.parse_args()
    trials = {run.name: ranks(run, args.sae) for run in args.scored}
    sets = [names for n in range(1, MOST + 1) for names in combinations(COLUMNS, n)]
    found = [(names, [auc(sum(of[name] for name in names), right) for of, right in trials.values()]) for names in sets]
    print("| best for | columns | " + " | ".join(trials) + " |\n|" + "---|" * (len(trials) + 2))
    for at, trial in enumerate(trials):
        for names, aucs in sorted(found, key=lambda row: -row[1][at])[:SHOWN]:
            print(f"| {trial} | {', '.join(names)} | " + " | ".join(f"{value:.3f}" for value in aucs) + " |")


if __name__ == "__main__":
    main()
