"""The program and its runs, for the other scripts of this folder."""

import json
import subprocess


def program(path):
    """A function that runs a command of the program at `path` and returns what it reports; a command that fails ends the script."""

    def sae(*words):
        done = subprocess.run([path, *map(str, words), "--json"], capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"sae {' '.join(map(str, words))}\n{done.stderr}")
        return json.loads(done.stdout)

    return sae


def check_whole(run):
    """Ends the script if the samples of a run are pieces, which it would take for whole samples."""
    version = json.loads((run / "run.json").read_text())["schema_version"]
    if version != 2:
        raise SystemExit(f"{run}: layout {version}, but this script reads runs of whole samples (layout 2)")
