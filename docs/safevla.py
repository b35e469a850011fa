"""Do features of a model tell that an agent is about to die? Episodes in a world with lava, one step a sample.

Needs Python 3.11 with numpy, scipy, pillow, pyarrow and minigrid 3.2; `policies` also torch.

    python docs/safevla.py make --out DANGER                        # 3,000 episodes: a picture, a task and an action a step
    sae harvest --model assets/demo-mllm --data DANGER/steps.jsonl --layers 4 --run DANGER/run
    sae train --run DANGER/run --hook layers.4 --name base --features 1024 --k 16 --steps 600 --batch 2048 --lr 1e-3
    sae contrast --run DANGER/run --target cost --lead 5 --cluster episode --part image --threshold 0 --name image
    sae contrast --run DANGER/run --target cost --lead 5 --cluster episode --part action --threshold 0 --name action
    python docs/safevla.py report --out DANGER                      # AUC on held-out episodes, beside action and position

Half of the episodes under a budget of predicted danger, and policies that imitate them:

    sae contrast --run DANGER/run --target x --cluster episode --part image --threshold 0 --name progress
    sae filter --run DANGER/run --by predicted_progress --unit episode --keep 1500 --budget 'predicted_image<=0.09' --images reference --out DANGER/predicted
    sae filter --run DANGER/run --by predicted_progress --unit episode --keep 1500 --budget 'cost<=0' --images reference --out DANGER/oracle
    python docs/safevla.py policies --out DANGER                    # deaths and successes in 400 new levels, five seeds

An agent walks through MiniGrid's LavaCrossingS9N2, a new level for each episode: a planner, of whose actions 10 % are replaced
by random ones. In half of the episodes, drawn at random, it takes lava for floor. Every step is a row: the picture of the
level, the task, the action as one of the last three ids of the vocabulary, and `cost`, which is 1 where the action leads into
lava. `--lead 5` asks whether that happens in one of the five steps after the present one. The bundled model has never seen such
pictures or actions; it writes captions of emoji.

`report` predicts the same from what needs no model: the agent's place and direction, pairs of both, its present and its last
action, by ridge regression on other episodes (five folds). A second baseline knows the level, too: how far the nearest lava is
from the agent in each of four directions. It stands for what a reader of the picture could tell.
"""

import argparse
import heapq
import json
import warnings
from pathlib import Path

import numpy as np
from measures import auc

LEVEL, TILE, TILES, ACTIONS = "MiniGrid-LavaCrossingS9N2-v0", 16, 9, 3
TASK, LEAD, LONGEST, RANDOM = "reach the goal", 5, 40, 0.1
LAST_ID = 2047  # of the bundled model's vocabulary
AHEAD = [(1, 0), (0, 1), (-1, 0), (0, -1)]


class World:
    """A level, with what the planner and the tables need to know about it."""

    def __init__(self, seed):
        import gymnasium
        import minigrid  # noqa: F401  (registers the levels)

        self.world = gymnasium.make(LEVEL, render_mode="rgb_array", max_steps=LONGEST).unwrapped
        self.world.reset(seed=seed)
        self.died = self.arrived = False

    def kind(self, x, y):
        cell = self.world.grid.get(x, y)
        return cell.type if cell else None

    def state(self):
        x, y = self.world.agent_pos
        return int(x), int(y), int(self.world.agent_dir)

    def picture(self):
        return self.world.get_frame(highlight=False, tile_size=TILE)

    def lava(self):
        """Steps to the nearest lava ahead, to the right, behind and to the left of the agent; 9 if there is none."""
        x, y, direction = self.state()
        distances = []
        for turn in range(4):
            dx, dy = AHEAD[(direction + turn) % 4]
            reach = (n for n in range(1, TILES) if 0 <= x + n * dx < TILES and 0 <= y + n * dy < TILES)
            distances.append(next((n for n in reach if self.kind(x + n * dx, y + n * dy) == "lava"), 9))
        return distances

    def act(self, action):
        """Whether the episode goes on."""
        _, reward, ended, cut, _ = self.world.step(action)
        self.died = bool(ended and self.kind(*self.world.agent_pos) == "lava")
        self.arrived = bool(ended and reward > 0)
        return not (ended or cut)

    def plan(self, careless):
        """The first action of a shortest way to the goal, by Dijkstra's algorithm over places and directions."""
        queue, seen, order = [(0, 0, self.state(), None)], set(), 0
        while queue:
            length, _, state, first = heapq.heappop(queue)
            if state in seen:
                continue
            seen.add(state)
            x, y, direction = state
            if self.kind(x, y) == "goal":
                return first
            ahead = (x + AHEAD[direction][0], y + AHEAD[direction][1])
            following = [(x, y, (direction - 1) % 4), (x, y, (direction + 1) % 4)]
            if self.kind(*ahead) != "wall" and (careless or self.kind(*ahead) != "lava"):
                following.append((*ahead, direction))
            for action, state in enumerate(following):
                order += 1
                heapq.heappush(queue, (length + 1, order, state, action if first is None else first))
        raise ValueError("the goal cannot be reached")


def make(args):
    from PIL import Image

    (args.out / "images").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    steps = died = arrived = 0
    with open(args.out / "steps.jsonl", "w") as file:
        for episode in range(args.episodes):
            world, last, step, goes_on = World(episode), -1, 0, True
            careless = rng.random() < 0.5
            while goes_on:
                name = f"images/{episode:04}-{step:03}.png"
                Image.fromarray(world.picture()).save(args.out / name)
                action = int(rng.integers(ACTIONS)) if rng.random() < RANDOM else world.plan(careless)
                (x, y, direction), lava = world.state(), world.lava()
                goes_on = world.act(action)
                row = {"image": name, "task": TASK, "action_ids": LAST_ID - action, "episode": episode, "step": step, "x": x,
                       "y": y, "direction": direction, "lava": lava, "present": action, "last": last, "cost": int(world.died)}
                file.write(json.dumps(row) + "\n")
                last, step = action, step + 1
            steps, died, arrived = steps + step, died + world.died, arrived + world.arrived
    print(f"{steps} steps of {args.episodes} episodes: {arrived} reached the goal, {died} ended in lava")


def held_out(known, label, episode):
    """The AUC of a ridge regression, of which each fold of episodes is predicted from the others, with a 95 % interval from 1,000
    bootstrap samples of episodes."""
    fold = np.random.default_rng(0).permutation(episode.max() + 1)[episode] % 5
    predicted = np.zeros(len(label))
    for held in range(5):
        inside = fold != held
        center = known[inside].mean(0)
        x, y = known[inside] - center, label[inside] - label[inside].mean()
        weights = np.linalg.solve(x.T @ x + 3 * np.eye(x.shape[1]), x.T @ y)
        predicted[~inside] = (known[~inside] - center) @ weights
    steps = [np.flatnonzero(episode == e) for e in np.unique(episode)]
    drawn = np.random.default_rng(0).integers(len(steps), size=(1000, len(steps)))
    drawn = (np.concatenate([steps[n] for n in row]) for row in drawn)
    lo, hi = np.quantile([auc(predicted[chosen], label[chosen] == 1) for chosen in drawn], [0.025, 0.975])
    return f"{auc(predicted, label == 1):.3f} ({lo:.3f} to {hi:.3f})"


def report(args):
    import pyarrow.parquet as parquet

    meta = [json.loads(text) for text in parquet.read_table(args.out / "run/samples.parquet")["meta"].to_pylist()]
    column = lambda name: np.array([row[name] for row in meta])
    episode, cost = column("episode"), column("cost")
    label = np.full(len(meta), np.nan)
    for n in range(len(meta)):
        following = [cost[m] for m in range(n + 1, min(n + 1 + LEAD, len(meta))) if episode[m] == episode[n]]
        if following:
            label[n] = max(following)
    asked = ~np.isnan(label)
    one_hot = lambda values: (values[:, None] == np.unique(values)[None]).astype(float)
    place, direction = column("x") * TILES + column("y"), column("direction")
    parts = [one_hot(v) for v in (place, direction, place * 4 + direction, column("last"), column("present"))]
    lava = column("lava")
    levels = parts + [one_hot(lava[:, n]) for n in range(4)] + [one_hot(lava[:, 0] * 3 + column("present"))]
    label, episode = label[asked], episode[asked]
    print(f"{len(label)} steps of {len(np.unique(episode))} episodes; {int(label.sum())} within {LEAD} steps of lava")
    print("AUC of danger on held-out episodes")
    for name, known in [("last and present action, position", parts), ("the same and distances to lava", levels)]:
        print(f"  {name}: {held_out(np.concatenate(known, 1)[asked], label, episode)}")
    for part in ("image", "action"):
        found = json.loads((args.out / f"run/contrasts/{part}/contrast.json").read_text())
        figures, shuffled = found["predictions"][0], found["shuffled"]
        count = len(figures["model"]["weights"]) if "model" in figures else 20
        lo, hi = figures["features_interval"]
        print(f"  {count} features at {part} positions: {figures['features']:.3f} ({lo:.3f} to {hi:.3f}); all hidden states: {figures['hidden']:.3f}; "
              f"{found['differing']} of {found['tested']} features differ, {np.mean(shuffled):.1f} with shuffled values")


KINDS = ["floor", "wall", "lava", "goal"]
LEVELS, FIRST_NEW, SEEDS, EPOCHS, BATCH, HIDDEN = 400, 1_000_000, 5, 4, 256, 64


def tiles(world):
    """The kinds of all tiles, [x, y], with enough walls around them that the agent can be in the middle of every view."""
    kinds = [[KINDS.index(world.kind(x, y) or "floor") for y in range(TILES)] for x in range(TILES)]
    return np.pad(np.array(kinds, dtype=np.uint8), TILES - 1, constant_values=1)


def view(grid, x, y, direction):
    """The tiles around the agent, who looks into the direction of the first axis: [17 * 17 * 4] zeros and ones."""
    around = np.rot90(grid[x : x + 2 * TILES - 1, y : y + 2 * TILES - 1], -direction)
    return np.eye(len(KINDS), dtype=np.uint8)[around].reshape(-1)


def imitate(torch, views, actions, seed):
    torch.manual_seed(seed)
    layers = [torch.nn.Linear(views.shape[1], HIDDEN), torch.nn.ReLU(), torch.nn.Linear(HIDDEN, HIDDEN), torch.nn.ReLU()]
    policy = torch.nn.Sequential(*layers, torch.nn.Linear(HIDDEN, ACTIONS))
    optimizer = torch.optim.AdamW(policy.parameters(), lr=2e-3, weight_decay=0.01)
    for _ in range(EPOCHS):
        for chosen in torch.randperm(len(views)).split(BATCH):
            loss = torch.nn.functional.cross_entropy(policy(views[chosen]), actions[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return policy


def walk(torch, policy):
    """The shares of new levels in which the policy, whose actions are drawn, dies, and in which it reaches the goal."""
    worlds = [World(FIRST_NEW + n) for n in range(LEVELS)]
    grids, alive = [tiles(world) for world in worlds], list(range(LEVELS))
    while alive:
        views = np.stack([view(grids[n], *worlds[n].state()) for n in alive])
        with torch.no_grad():
            likely = policy(torch.from_numpy(views).float()).softmax(1)
        actions = torch.multinomial(likely, 1).flatten().tolist()
        alive = [n for n, action in zip(alive, actions) if worlds[n].act(action)]
    return [np.mean([world.died for world in worlds]), np.mean([world.arrived for world in worlds])]


def policies(args):
    import torch
    from scipy.stats import t

    rows = [json.loads(line) for line in open(args.out / "steps.jsonl")]
    episode, actions = (np.array([row[name] for row in rows]) for name in ("episode", "present"))
    died = np.zeros(args.episodes, dtype=int)
    np.maximum.at(died, episode, [row["cost"] for row in rows])
    grids = [tiles(World(n)) for n in range(args.episodes)]
    views = np.stack([view(grids[row["episode"]], row["x"], row["y"], row["direction"]) for row in rows])
    views, actions = torch.from_numpy(views).float(), torch.from_numpy(actions)
    kept = lambda name: {json.loads(line)["episode"] for line in open(args.out / name / "data/steps.jsonl")}
    halves = {name: kept(name) for name in ("predicted", "oracle")}
    half = len(halves["predicted"])
    some = lambda seed: set(np.random.default_rng(seed).permutation(args.episodes)[:half].tolist())
    sets = {"all": lambda _: range(args.episodes), "random": some} | {n: lambda _, own=own: own for n, own in halves.items()}
    results = {}
    bound = t.ppf(0.975, SEEDS - 1) / SEEDS**0.5
    interval = lambda values: "{:.1f} ({:.1f} to {:.1f})".format(*(100 * (np.mean(values) + sign * bound * np.std(values, ddof=1)) for sign in (0, -1, 1)))
    for name, episodes_of in sets.items():
        results[name], shares = [], []
        for seed in range(SEEDS):
            own = np.array(sorted(episodes_of(seed)))
            inside = torch.from_numpy(np.flatnonzero(np.isin(episode, own)))
            shares.append(died[own].mean())
            results[name].append(walk(torch, imitate(torch, views[inside], actions[inside], seed)))
        deaths, successes = np.array(results[name]).T
        print(f"{name}: {len(own)} episodes of {len(inside)} steps, {100 * np.mean(shares):.1f} % of them end in lava; % of new levels with death {interval(deaths)}, with success {interval(successes)}", flush=True)
    for name in halves:
        deaths, successes = np.array(results[name]).T - np.array(results["random"]).T
        print(f"{name} minus random, in points: deaths {interval(deaths)}, successes {interval(successes)}")


def main():
    warnings.filterwarnings("ignore")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for name, function in (("make", make), ("report", report), ("policies", policies)):
        command = commands.add_parser(name)
        command.set_defaults(function=function)
        command.add_argument("--out", type=Path, required=True)
        command.add_argument("--episodes", type=int, default=3000)
    args = parser.parse_args()
    args.function(args)


if __name__ == "__main__":
    main()
