"""Decides with DataFusion which samples are kept: the best N of every value of a column of the data set, by a score.

    pip install datafusion
    python examples/decisions_datafusion.py --run run --sae base --by pmi --data train.jsonl --key id --field category --best 20 --out best.parquet
    sae filter --run run --decisions best.parquet --out kept

The groups are read from the data set itself (JSON lines) and joined by its key, since DataFusion reads no JSON inside of columns. If
`--out` ends with a slash, every partition writes a file of its own into that folder; `sae filter` takes the folder.
"""

import argparse
from pathlib import Path

import datafusion

QUERY = """
select sample, id, score is not null and place <= {best} as keep
from (
    select samples.sample, samples.id, scores."{by}" as score,
           row_number() over (
               partition by data."{field}" order by scores."{by}" desc nulls last, samples.id, samples.sample
           ) as place
    from scores join samples on scores.sample = samples.sample join data on data."{key}" = samples.key
) ranked
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="the run folder")
    parser.add_argument("--sae", required=True, help="the autoencoder whose scores decide")
    parser.add_argument("--by", required=True, help="the column of the scores")
    parser.add_argument("--data", required=True, help="the data set, as JSON lines")
    parser.add_argument("--key", default="id", help="the column of the data set that is its key")
    parser.add_argument("--field", required=True, help="the column of the data set to group by")
    parser.add_argument("--best", type=int, required=True, help="how many of each group are kept")
    parser.add_argument("--out", required=True, help="the file of decisions, or a folder if it ends with a slash")
    args = parser.parse_args()
    context = datafusion.SessionContext()
    context.register_parquet("scores", str(args.run / f"scores/{args.sae}.parquet"))
    context.register_parquet("samples", str(args.run / "samples.parquet"))
    context.register_json("data", args.data, file_extension=Path(args.data).suffix)
    names = {name: getattr(args, name).replace('"', '""') for name in ("by", "key", "field")}
    decisions = context.sql(QUERY.format(best=args.best, **names)).cache()
    decisions.write_parquet(args.out)
    samples, kept = decisions.count(), decisions.filter(datafusion.col("keep")).count()
    print(f"DataFusion keeps {kept} of {samples} samples: {args.out}")


if __name__ == "__main__":
    main()
