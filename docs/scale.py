"""Prints the tables of docs/scale.md: how much a data set of any size asks of each stage, from rates that you may replace by your own.

    python docs/scale.py                                        # a billion samples, 64 H100s: the tables of docs/scale.md
    python docs/scale.py --samples 1e7 --gpus 8 --harvest 9000  # your data, your machines, your rate of `sae bench harvest`

Nothing is run. Rates of GPUs are upper bounds (BENCHMARKS.md), so times are lower bounds. Prices are no measurements; use your own.
"""

import argparse

HOUR = 3600
# What a number of the tables rests on.
BOUND, MEASURED, FORMULA = "bound", "measured", "formula"


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--samples", type=float, default=1e9)
    p.add_argument("--positions", type=float, default=2468, help="token positions of a sample")
    p.add_argument("--width", type=float, default=4096, help="width of the hidden states")
    p.add_argument("--features", type=float, default=65_536, help="features of the autoencoder")
    p.add_argument("--active", type=float, default=1000, help="features that are active anywhere in a sample")
    p.add_argument("--bytes", type=float, default=2, help="bytes of a number in the store (f16 and bf16: 2)")
    p.add_argument("--gpus", type=float, default=64)
    p.add_argument("--harvest", type=float, default=34_000, help="tokens a GPU captures in a second")
    p.add_argument("--train-rate", type=float, default=392_641, help="tokens a GPU trains on in a second")
    p.add_argument("--train-tokens", type=float, default=4e9)
    p.add_argument("--flops", type=float, default=800e12, help="operations of a GPU's matrix product in a second")
    p.add_argument("--run-samples", type=float, default=1e5, help="samples of one run, which is one job")
    p.add_argument("--captures", type=float, default=2, help="captures of a job: with the images, and with blank ones")
    p.add_argument("--threads", type=float, default=8, help="threads of `sae filter`, each with a block of 100,000 samples")
    p.add_argument("--shard-tokens", type=float, default=65_536, help="positions of a file of activations")
    p.add_argument("--sample-bytes", type=float, default=144, help="bytes of a row of samples.parquet")
    p.add_argument("--token-bytes", type=float, default=0.96, help="bytes of a row of tokens/*.parquet")
    p.add_argument("--score-bytes", type=float, default=127, help="bytes of a row of the score table")
    p.add_argument("--gpu-hour", type=float, default=2.5, help="price of a GPU for an hour")
    p.add_argument("--gb-month", type=float, default=0.023, help="price of a gigabyte in an object store for a month")
    return p.parse_args()


def amount(number, unit):
    for prefix, size in [("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)]:
        if number >= size:
            return f"{number / size:,.3g} {prefix}{unit}"
    return f"{number:,.3g} {unit}"


def duration(seconds):
    for name, size in [("days", 24 * HOUR), ("h", HOUR), ("min", 60)]:
        if seconds >= size:
            return f"{seconds / size:,.3g} {name}"
    return f"{seconds:,.2g} s"


def table(head, rows):
    print("| " + " | ".join(head) + " |")
    print("|---|" + "---:|" * (len(head) - 2) + "---|")
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print()


def main():
    a = arguments()
    positions = a.samples * a.positions
    runs = a.samples / a.run_samples
    encode = a.flops / (2 * a.width * a.features)
    stages = [
        ("harvest", positions, a.harvest, a.gpus),
        ("harvest with blank images, once more", positions, a.harvest, a.gpus),
        ("train one autoencoder", a.train_tokens, a.train_rate, 1),
        ("index, one pass", positions, encode, a.gpus),
        ("score, one pass", positions, encode, a.gpus),
        ("summaries, one pass", positions, encode, a.gpus),
    ]
    print(f"{a.samples:.0e} samples of {a.positions:,.0f} positions are {positions:.3g} positions. {a.gpus:.0f} GPUs.\n")
    rows = []
    for name, tokens, rate, gpus in stages:
        seconds = tokens / rate
        price = seconds / HOUR * a.gpu_hour
        rows.append([name, f"{rate:,.0f}", f"{seconds / HOUR:,.0f}", duration(seconds / gpus), f"${price:,.0f}", BOUND])
    table(["stage", "tokens/s of a GPU, at most", "GPU hours, at least", f"on {a.gpus:.0f} GPUs, at least", "price, at least", "the rate is a"], rows)

    size = lambda of_samples: [amount(of_samples, "B"), amount(of_samples / runs, "B")]
    shards = positions / a.shard_tokens
    sizes = [
        ("activations of one hook", positions * a.width * a.bytes, FORMULA),
        ("tokens", positions * a.token_bytes, MEASURED),
        ("samples", a.samples * a.sample_bytes, MEASURED),
        ("scores", a.samples * a.score_bytes, MEASURED),
        ("summaries", a.samples * (7 * a.active), FORMULA),
        ("mean hidden states in the summaries", min(a.samples * 4 * a.width, 2**30 * runs), FORMULA),
        ("parts of `sae pass score`", a.samples * (36 + 21 * a.active), FORMULA),
        ("sums in parts of `sae pass index`", shards * 8 * a.features, FORMULA),
    ]
    table(["file", "in all", f"of a run of {a.run_samples:,.0f}", "from"], [[name, *size(total), source] for name, total, source in sizes])

    features = lambda samples: samples * (1.3 * a.active + 20)
    memory = [
        ("`sae merge`, `sae filter`, `sae score`: the samples, 2 KB each", lambda samples: 2000 * samples, MEASURED),
        ("`sae filter --diverse`: features, 1.3 bytes each and 20 for a sample", features, MEASURED),
        ("`sae filter --diverse --keep 1% --shortlist 4`: the same of 4 % of the samples, and of a block of 100,000 for each thread",
         lambda samples: features(0.04 * samples + min(samples, 1e5 * a.threads)), FORMULA),
    ]
    rows = [[name, amount(of(a.samples), "B"), amount(of(a.run_samples), "B"), source] for name, of, source in memory]
    table(["memory of one process", "if it were one run", f"of a run of {a.run_samples:,.0f}", "from"], rows)

    node, run = a.harvest * 8, a.captures * a.run_samples * a.positions
    print(f"A node of 8 GPUs captures a run, {a.captures:.0f} times, in {duration(run / node)} at least, and writes {amount(node * a.width * a.bytes, 'B')}/s at most. "
          f"Its activations are {amount(run * a.width * a.bytes, 'B')}.")
    print(f"Keeping all activations of one hook for a month: ${positions * a.width * a.bytes / 1e9 * a.gb_month:,.0f}; of one run at a time on 8 nodes: "
          f"{amount(8 * run * a.width * a.bytes, 'B')} at any time.")


if __name__ == "__main__":
    main()
