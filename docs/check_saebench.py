"""Validates SAEBench result files against the JSON schema that the installed package `sae-bench` contains.

    pip install sae-bench jsonschema
    sae eval --run RUN --saebench core.json
    python docs/check_saebench.py core.json

The schema is found by the `eval_type_id` of the file and read without importing the package (which needs PyTorch).
"""

import json
import sys
from importlib.util import find_spec
from pathlib import Path

from jsonschema.validators import validator_for


def schema_of(kind: str) -> dict:
    spec = find_spec("sae_bench")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("sae-bench is not installed\nhint: pip install sae-bench")
    folder = Path(spec.submodule_search_locations[0], "evals", kind)
    return json.loads(next(folder.glob("*schema*.json")).read_text())


def main(paths: list[str]) -> int:
    wrong = 0
    for path in paths:
        result = json.loads(Path(path).read_text())
        kind = result.get("eval_type_id", "core")
        schema = schema_of(kind)
        errors = list(validator_for(schema)(schema).iter_errors(result))
        for error in errors:
            print(f"{path}: {error.json_path}: {error.message}")
        print(f"{path}: {'NOT valid' if errors else 'valid'} ({kind}, {len(result.get('eval_result_details', []))} features)")
        wrong += bool(errors)
    return 1 if wrong or not paths else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
