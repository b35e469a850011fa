"""Decides with DuckDB which samples are kept: the best N of every value of a field, by a column of the score table.

    pip install duckdb
    python examples/decisions_duckdb.py --run run --sae base --by pmi --field category --best 20 --out best.parquet
    sae filter --run run --decisions best.parquet --out kept

The rows of the data set are in `samples.parquet`, with their fields as JSON in `meta`. The file has a row for every sample, with its
number and id as in the tables of the run, so that `sae filter` can tell that they are about the same samples.
"""

import argparse
from pathlib import Path

import duckdb

QUERY = """
select sample, id, score is not null and place <= $best as keep
from (
    select sample, scores.id, scores.{by} as score,
           row_number() over (partition by meta->>$field order by scores.{by} desc nulls last, scores.id, sample) as place
    from read_parquet($scores) scores join read_parquet($samples) samples using (sample)
)
order by sample
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="the run folder")
    parser.add_argument("--sae", required=True, help="the autoencoder whose scores decide")
    parser.add_argument("--by", required=True, help="the column of the scores")
    parser.add_argument("--field", required=True, help="the field of the rows to group by")
    parser.add_argument("--best", type=int, required=True, help="how many of each group are kept")
    parser.add_argument("--out", required=True, help="the file of decisions")
    args = parser.parse_args()
    tables = {"scores": str(args.run / f"scores/{args.sae}.parquet"), "samples": str(args.run / "samples.parquet")}
    by = '"' + args.by.replace('"', '""') + '"'
    decisions = duckdb.sql(QUERY.format(by=by), params={"best": args.best, "field": f'$."{args.field}"', **tables})
    decisions.write_parquet(args.out)
    counts = duckdb.sql("select count(*) filter (where keep), count(*) from read_parquet($file)", params={"file": args.out})
    kept, samples = counts.fetchall()[0]
    print(f"DuckDB keeps {kept} of {samples} samples: {args.out}")


if __name__ == "__main__":
    main()
