"""Checks exported features with SAEDashboard's own classes and against Neuronpedia's import format.

    pip download --no-deps sae-dashboard==0.8.0 && unzip sae_dashboard-*.whl -d sae-dashboard    # or pip install it
    sae export --run RUN --to saedashboard --out dashboards
    sae export --run RUN --to neuronpedia --out exports
    PYTHONPATH=sae-dashboard python docs/check_neuronpedia.py dashboards exports

Batches are loaded and written by `NeuronpediaDashboardBatch` and have to stay the same. Lines of the import have to have the
fields of Neuronpedia's tables and, if both folders are given, to agree with the batches of the same features. Only the module
with those classes is loaded (the rest of the package needs PyTorch). It needs numpy.
"""

import gzip
import json
import sys
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

# Fields without which Neuronpedia's import rejects a line (its `db_models`: those that have no default).
NEEDED = {
    "release": {"name", "description", "creatorName", "creatorId"},
    "model": {"id", "instruct", "creatorId"},
    "sourceset": {"modelId", "name", "creatorId"},
    "source": {"id", "modelId", "setName", "creatorId"},
    "features": {"modelId", "layer", "index"},
    "activations": {
        "id", "tokens", "index", "layer", "modelId", "maxValue", "maxValueTokenIndex", "minValue", "values", "creatorId",
    },
}  # fmt: skip


def dashboard_classes():
    spec = find_spec("sae_dashboard")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("sae-dashboard is not installed\nhint: see the head of this file")
    path = Path(spec.submodule_search_locations[0], "neuronpedia", "neuronpedia_dashboard.py")
    own = spec_from_file_location("neuronpedia_dashboard", path)
    module = module_from_spec(own)
    own.loader.exec_module(module)
    return module


def check_batches(folder: Path, wrong: list[str]) -> dict[str, dict]:
    classes, features = dashboard_classes(), {}
    for path in sorted(folder.glob("batch-*.json")):
        batch = json.loads(path.read_text())
        if classes.NeuronpediaDashboardBatch(**batch).to_dict() != batch:
            wrong.append(f"{path.name}: SAEDashboard's classes do not give back what they read")
        for feature in batch["features"]:
            name = f"{path.name}, feature {feature['feature_index']}"
            features[str(feature["feature_index"])] = feature
            for n, shown in enumerate(feature["activations"]):
                if len(shown["tokens"]) != len(shown["values"]) or shown["values"][shown["qualifying_token_index"]] <= 0:
                    wrong.append(f"{name}, activation {n}: tokens, values and the qualifying token disagree")
    return features


def lines(path: Path) -> list[dict]:
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [json.loads(line) for line in text.splitlines()]


def check_import(folder: Path, known: dict[str, dict], wrong: list[str]) -> int:
    count = 0
    for source in {path.parent for path in folder.glob("*/*/source.jsonl")}:
        files = {name: [source / f"{name}.jsonl"] for name in ["release", "model", "sourceset", "source"]}
        files |= {name: sorted(source.glob(f"{name}/*.jsonl.gz")) for name in ["features", "activations"]}
        for kind, paths in files.items():
            for path in paths:
                for line in lines(path):
                    missing = NEEDED[kind] - {name for name, value in line.items() if value is not None}
                    if missing:
                        wrong.append(f"{path.name}: no {', '.join(sorted(missing))}")
                    if kind in ["features", "activations"] and line["layer"] != source.name:
                        wrong.append(f"{path.name}: a line of {line['layer']} in the folder {source.name}")
                    if kind == "features":
                        count += 1
                        shared = {k for k in known.get(line["index"], {}) if k in line and k != "vector"}
                        if any(known[line["index"]][k] != line[k] for k in shared):
                            wrong.append(f"{path.name}, feature {line['index']}: another than in the batches")
                    if kind == "activations":
                        values = line["values"]
                        if line["maxValue"] != max(values) or values[line["maxValueTokenIndex"]] != max(values):
                            wrong.append(f"{path.name}, {line['id']}: the largest value is told wrong")
    return count


def main(dashboards: str, exports: str | None = None) -> int:
    wrong: list[str] = []
    features = check_batches(Path(dashboards), wrong)
    imported = check_import(Path(exports), features, wrong) if exports else 0
    print("\n".join(wrong) or f"valid: {len(features)} features in batches, {imported} in lines of an import")
    return 1 if wrong or not features or (exports and not imported) else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]) if len(sys.argv) in [2, 3] else __doc__)
