"""Does a score favor texts that say much? Rank correlations of scores with lengths and information, on right pairs.

Needs Python 3.11 with numpy, pyarrow and scipy, and a run of `sae validate`, or any run that `sae score --model` has scored (rows
without a field `altered` are right):

    python docs/score_information.py --run run/validate/swapped-answers-25 --sae topk

The information of a text is its negative log-likelihood in nats under a blank image, summed over the answer's tokens: minus
`likelihood` less `likelihood_drop`, times their number.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
from program import check_whole
from scipy.stats import spearmanr

ASSISTANT, TEXT = 3, 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--sae", required=True)
    args = parser.parse_args()
    check_whole(args.run)
    table = parquet.read_table(args.run / "scores" / f"{args.sae}.parquet")
    if "likelihood_drop" not in table.column_names:
        raise SystemExit(f"{args.run}: no likelihoods; run `sae score --model M --data D` first")
    samples = parquet.read_table(args.run / "samples.parquet")
    right = np.array([json.loads(meta).get("altered") is not True for meta in samples["meta"].to_pylist()])
    parts = [parquet.read_table(part) for part in sorted((args.run / "tokens").glob("part-*.parquet"))]
    tokens = pa.concat_tables(parts, promote_options="default")
    flag = lambda name: tokens[name].to_numpy(zero_copy_only=False)
    answer = (flag("role") == ASSISTANT) & (flag("modality") == TEXT) & ~flag("special").astype(bool)
    count = np.bincount(flag("sample")[answer], minlength=len(samples))
    column = lambda name: np.array([np.nan if v is None else v for v in table[name].to_pylist()], float)
    information = -(column("likelihood") - column("likelihood_drop")) * count
    words = np.array([len(text.split()) for text in samples["text"].to_pylist()])
    print(f"{right.sum()} right pairs\n\n| score | tokens of the answer | words | information |\n|---|---|---|---|")
    for name in table.column_names:
        if table[name].type != pa.float64():
            continue
        values = column(name)
        kept = right & np.isfinite(values) & np.isfinite(information)
        if kept.sum() < 2 or np.ptp(values[kept]) == 0:
            continue
        found = [spearmanr(values[kept], other[kept])[0] for other in (count, words, information)]
        print(f"| `{name}` | " + " | ".join(f"{value:.3f}" for value in found) + " |")


if __name__ == "__main__":
    main()
