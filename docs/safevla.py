"""Does a model of actions know that its agent is about to die? Episodes in a world with lava, one step a sample.

Needs Python 3.11 with torch 2.15, transformers 5.23, tokenizers, safetensors, pillow, numpy, scipy, pyarrow and minigrid 3.2.

    python docs/safevla.py make --out DANGER                  # a tiny OpenVLA that imitates, and its episodes
    sae harvest --model DANGER/model --data DANGER/steps.jsonl --layers 2 --run DANGER/run
    sae train --run DANGER/run --hook layers.2 --name base --features 512 --k 16 --steps 1500 --batch 2048 --lr 1e-3
    sae contrast --run DANGER/run --target cost --lead 5 --cluster episode --part action --threshold 0 --name danger --json
    python docs/safevla.py report --out DANGER                # AUC on held-out episodes, beside last action and position

`make` builds the two towers, the projector and the decoder of tests/golden/make_openvla.py with small sizes, and trains them to
imitate a planner in MiniGrid's LavaCrossingS9N2 (a new level for each episode). Each of the 81 tiles of the picture is a patch,
and each of the three actions is one of the last ids of the vocabulary. Then the model acts in 500 new levels, with a share of
random actions, and every step becomes a row: the picture, the task, the action as an id, and `cost`, which is 1 where the action
leads into lava. `--lead 5` asks whether that happens in one of the five steps after the present one.

`report` predicts the same from what needs no model: the agent's place and direction, its present and its last action, and the
pairs of place and direction, by ridge regression with the same division into five folds of whole episodes as far as size goes.
"""

import argparse
import heapq
import json
import sys
import warnings
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/golden"))
LEVEL, TILE, TILES, ACTIONS = "MiniGrid-LavaCrossingS9N2-v0", 8, 9, 3
SIDE, TASK, LEAD = TILE * TILES, "reach the goal", 5
QUESTION = f"What action should the robot take to {TASK}?"
LONGEST, RANDOM = 60, 0.15


class World:
    """A level, with what the planner and the tables need to know about it."""

    def __init__(self, seed):
        import gymnasium
        import minigrid  # noqa: F401  (registers the levels)

        self.world = gymnasium.make(LEVEL, render_mode="rgb_array", max_steps=LONGEST).unwrapped
        self.world.reset(seed=seed)
        self.died = self.arrived = False

    def state(self):
        x, y = self.world.agent_pos
        return int(x), int(y), int(self.world.agent_dir)

    def picture(self):
        return self.world.get_frame(highlight=False, tile_size=TILE)

    def act(self, action):
        """Whether the episode goes on."""
        _, reward, ended, cut, _ = self.world.step(action)
        cell = self.world.grid.get(*self.world.agent_pos)
        self.died = bool(ended and cell is not None and cell.type == "lava")
        self.arrived = bool(ended and reward > 0)
        return not (ended or cut)

    def plan(self):
        """The first action of a shortest way to the goal, by Dijkstra's algorithm over places and directions."""
        kind = lambda x, y: (lambda cell: cell.type if cell else None)(self.world.grid.get(x, y))
        queue, seen = [(0, 0, self.state(), None)], set()
        while queue:
            length, order, state, first = heapq.heappop(queue)
            if state in seen:
                continue
            seen.add(state)
            x, y, direction = state
            if kind(x, y) == "goal":
                return first if first is not None else 2
            ahead = (x + [1, 0, -1, 0][direction], y + [0, 1, 0, -1][direction])
            following = [(x, y, (direction - 1) % 4), (x, y, (direction + 1) % 4)]
            if kind(*ahead) not in ("wall", "lava"):
                following.append((*ahead, direction))
            for action, state in enumerate(following):
                if state not in seen:
                    order += 1
                    heapq.heappush(queue, (length + 1, order, state, action if first is None else first))
        return 2


def small_model(torch):
    import common
    from make_openvla import OpenVLA, tokenizer
    from transformers import LlamaConfig

    common.TEXT = [f"In: {QUESTION}\nOut: "] * 4
    made = tokenizer()
    end = made.get_vocab_size(with_added_tokens=False)
    dino = dict(embed_dim=48, depth=3, num_heads=4, mlp_ratio=2.0, patch_size=TILE)
    siglip = dict(embed_dim=48, depth=2, num_heads=4, mlp_ratio=2.0, patch_size=TILE)
    text = LlamaConfig(vocab_size=end + 64, hidden_size=64, intermediate_size=128, num_hidden_layers=4, num_attention_heads=4,
                       num_key_value_heads=4, max_position_embeddings=256, rms_norm_eps=1e-6)
    torch.manual_seed(0)
    model = OpenVLA(text, dino, siglip, SIDE)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "pos_embed" in name or "_token" in name:
                parameter.normal_(0, 0.1)
    return model, made, end, dino, siglip


def make(args):
    import torch
    from make_openvla import pixel_values, prompt, write_checkpoint
    from PIL import Image

    torch.set_num_threads(1)
    model, made, end, dino, siglip = small_model(torch)
    ids = torch.tensor(made.encode(prompt([{"role": "user", "content": [{"text": QUESTION}]}])).ids)
    pixels = lambda picture: pixel_values(Image.fromarray(picture), SIDE)
    logits = lambda batch: model(ids, batch)[:, -1, end - ACTIONS:].flip(-1)

    rng = np.random.default_rng(0)
    pictures, wanted = [], []
    for seed in range(args.lessons):
        world, going = World(seed), True
        while going:
            pictures.append(world.picture())
            wanted.append(world.plan())
            going = world.act(int(rng.integers(ACTIONS)) if rng.random() < 0.2 else wanted[-1])
    wanted = torch.tensor(wanted)
    print(f"{len(pictures)} steps to imitate, of {args.lessons} levels")
    stacked = torch.stack([pixels(picture) for picture in pictures])
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, args.steps)
    for step in range(args.steps):
        rows = torch.from_numpy(rng.integers(len(pictures), size=32))
        loss = torch.nn.functional.cross_entropy(logits(stacked[rows]), wanted[rows])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            print(f"step {step + 1}: {loss.item():.3f} nats per action", flush=True)
    model.eval().to(torch.bfloat16).to(torch.float32)  # as the checkpoint holds it
    write_checkpoint(args.out / "model", model, made, dino, siglip, SIDE)

    (args.out / "images").mkdir(parents=True, exist_ok=True)
    worlds = [World(100_000 + n) for n in range(args.episodes)]
    rows, before, going = [[] for _ in worlds], [-1] * len(worlds), list(range(len(worlds)))
    while going:
        seen = [worlds[n].picture() for n in going]
        with torch.no_grad():
            chosen = logits(torch.stack([pixels(picture) for picture in seen])).argmax(-1).tolist()
        left = []
        for n, picture, action in zip(going, seen, chosen):
            if rng.random() < RANDOM:
                action = int(rng.integers(ACTIONS))
            name = f"images/{n:04}-{len(rows[n]):03}.png"
            Image.fromarray(picture).save(args.out / name)
            x, y, direction = worlds[n].state()
            goes_on = worlds[n].act(action)
            rows[n].append({
                "image": name, "task": TASK, "action_ids": end - 1 - action, "episode": n, "step": len(rows[n]), "x": x, "y": y,
                "direction": direction, "present": action, "last": before[n], "cost": int(worlds[n].died),
            })
            before[n] = action
            if goes_on:
                left.append(n)
        going = left
    with open(args.out / "steps.jsonl", "w") as file:
        file.writelines(json.dumps(row) + "\n" for episode in rows for row in episode)
    died, arrived = (sum(getattr(world, what) for world in worlds) for what in ("died", "arrived"))
    print(f"{sum(map(len, rows))} steps of {len(worlds)} episodes: {arrived} reached the goal, {died} ended in lava")


def auc(score, label):
    from scipy.stats import rankdata

    ranks, positive = rankdata(score), label == 1
    count = positive.sum()
    return (ranks[positive].sum() - count * (count + 1) / 2) / (count * (~positive).sum())


def report(args):
    import pyarrow.parquet as parquet

    samples = parquet.read_table(args.out / "run/samples.parquet").to_pylist()
    meta = [json.loads(sample["meta"]) for sample in samples]
    column = lambda name: np.array([row[name] for row in meta])
    episode, cost = column("episode"), column("cost")
    label = np.full(len(meta), np.nan)
    for n in range(len(meta)):
        following = [cost[m] for m in range(n + 1, min(n + 1 + LEAD, len(meta))) if episode[m] == episode[n]]
        if following:
            label[n] = max(following)
    asked = ~np.isnan(label)

    one_hot = lambda values: (values[:, None] == np.unique(values)[None]).astype(float)
    place = column("x") * TILES + column("y")
    parts = [one_hot(place), one_hot(column("direction")), one_hot(column("last")), one_hot(column("present"))]
    known = np.concatenate(parts + [one_hot(place * 4 + column("direction"))], 1)[asked]
    label, episode = label[asked], episode[asked]
    predicted = np.zeros(len(label))
    fold = np.random.default_rng(0).permutation(episode.max() + 1)[episode] % 5
    for held in range(5):
        inside = fold != held
        centre = known[inside].mean(0)
        x, y = known[inside] - centre, label[inside] - label[inside].mean()
        weights = np.linalg.solve(x.T @ x + 10 * np.eye(x.shape[1]), x.T @ y)
        predicted[~inside] = (known[~inside] - centre) @ weights
    own = auc(predicted, label)

    found = json.loads((args.out / "run/contrasts/danger/contrast.json").read_text())
    figures = found["predictions"][0]
    shuffled = np.mean(found["shuffled"]) if found["shuffled"] else float("nan")
    print(f"{len(label)} steps of {len(np.unique(episode))} episodes; {int(label.sum())} within {LEAD} steps of lava")
    print(f"{found['differing']} of {found['tested']} features differ; with shuffled values: {shuffled:.1f}")
    print("AUC of danger on held-out episodes")
    print(f"  {args.features} features   {figures['features']:.3f}")
    print(f"  hidden states  {figures['hidden']:.3f}")
    print(f"  last action, present action and position  {own:.3f}")


def main():
    warnings.filterwarnings("ignore")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for name, function in (("make", make), ("report", report)):
        command = commands.add_parser(name)
        command.set_defaults(function=function)
        command.add_argument("--out", type=Path, required=True)
        command.add_argument("--lessons", type=int, default=400)
        command.add_argument("--steps", type=int, default=600)
        command.add_argument("--episodes", type=int, default=500)
        command.add_argument("--features", type=int, default=20)
    args = parser.parse_args()
    args.function(args)


if __name__ == "__main__":
    main()
