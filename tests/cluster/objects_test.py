"""A job whose data, shards and parts are in a bucket of a real S3 server (moto), behind a proxy that fails.

The proxy answers some requests with 503 or 500, cuts some answers off after the server has done what was asked, holds some back, is
down for a minute, and says for a while that credentials have expired. Workers have nothing in common but the bucket; one of them is
killed while it writes, and another makes its shard again while a third writes the same one. The result has to have the bytes of the
same job on one disk. Needs moto and the program. Takes about five minutes, one of which is the outage.

    cargo build --release
    pip install 'moto[server,s3]==5.2.5'
    python tests/cluster/objects_test.py
"""

import hashlib
import http.client
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import boto3

ROOT = Path(__file__).resolve().parent.parent.parent
SAE = Path(os.environ.get("SAE", ROOT / "target/release/sae")).resolve()
DATA, MODEL = ROOT / "assets/demo-data", ROOT / "assets/demo-mllm"
SHARDS, PARTS, ROWS, LARGE = 4, 3, 160, 300 << 20


def say(text):
    print(time.strftime("%T"), text, flush=True)


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Proxy(ThreadingHTTPServer):
    """Passes requests on, or not. The dice have a seed, but threads throw them in any order."""

    daemon_threads, request_queue_size = True, 128

    def __init__(self, behind):
        self.behind, self.dice, self.lock = behind, random.Random(7), threading.Lock()
        self.counts, self.down_until, self.expired = {}, 0.0, False
        super().__init__(("127.0.0.1", 0), Handler)

    def handle_error(self, *_):
        """A client that is killed closes its connections."""

    def fate(self):
        with self.lock:
            if time.monotonic() < self.down_until:
                fate = "down"
            elif self.expired:
                fate = "expired"
            else:
                dice = self.dice.random()
                fate = next((name for name, end in [("503", 0.05), ("500", 0.07), ("cut", 0.12), ("late", 0.17)] if dice < end), "fine")
            self.counts[fate] = self.counts.get(fate, 0) + 1
            return fate


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def refuse(self, status, code):
        body = f"<Error><Code>{code}</Code><Message>said the proxy</Message></Error>".encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def serve(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        fate = self.server.fate()
        if fate in ("down", "503"):
            return self.refuse(503, "SlowDown")
        if fate == "500":
            return self.refuse(500, "InternalError")
        if fate == "expired":
            return self.refuse(400, "ExpiredToken")
        if fate == "late":
            time.sleep(1.5)
        ahead = http.client.HTTPConnection("127.0.0.1", self.server.behind, timeout=120)
        ahead.request(self.command, self.path, body, dict(self.headers))
        answer = ahead.getresponse()
        content = answer.read()
        ahead.close()
        if fate == "cut" and not content:
            self.close_connection = True
            return self.connection.shutdown(socket.SHUT_RDWR)
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("connection", "transfer-encoding", "content-length", "date", "server"):
                self.send_header(name, value)
        length = answer.getheader("content-length") if self.command == "HEAD" else len(content)
        self.send_header("content-length", str(length or 0))
        if fate == "cut":
            # What was asked for is done; the answer does not arrive.
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return None
        self.end_headers()
        self.wfile.write(content)
        return None

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = serve


def main():
    work = Path(tempfile.mkdtemp())
    server_port = free_port()
    moto = subprocess.Popen(
        [sys.executable, "-c", "import sys; from moto.server import main; main(sys.argv[1:])", "-p", str(server_port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        job(work, server_port)
    finally:
        moto.terminate()
        moto.wait()
        shutil.rmtree(work)


def job(work, server_port):
    keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
    bucket = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{server_port}", **keys)
    for _ in range(100):
        try:
            bucket.create_bucket(Bucket="lab")
            break
        except Exception:
            time.sleep(0.2)
    rows = [json.loads(line) for line in open(DATA / "data.jsonl")][:ROWS]
    data = work / "data"
    for row in rows:
        (data / row["image"]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(DATA / row["image"], data / row["image"])
        bucket.upload_file(str(data / row["image"]), "lab", f"set/{row['image']}")
    (data / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    bucket.upload_file(str(data / "data.jsonl"), "lab", "set/data.jsonl")
    proxy = Proxy(server_port)
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    import moto

    say(f"moto {moto.__version__} behind a proxy that fails; {ROWS} rows and their images in a bucket")

    def environment(node):
        (work / node).mkdir(exist_ok=True)
        return os.environ | {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{proxy.server_port}",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
            "SAE_OBJECT_CACHE": str(work / node / "copies"),
            "TMPDIR": str(work / node),
        }

    def start(node, *words):
        command = [str(SAE), *map(str, words)]
        return subprocess.Popen(command, env=environment(node), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def run(node, *words, status=0):
        process = start(node, *words)
        out, err = process.communicate()
        assert process.returncode == status, f"{words}: {process.returncode}\n{err}"
        assert "secret" not in err, err
        return json.loads(out) if out else err

    def capture(source, shard, folder):
        what = ["harvest", "--model", MODEL, "--data", source, "--layers", 4, "--device", "cpu", "--json"]
        return [*what, "--shard", f"{shard}/{SHARDS}", "--run", folder, "--shard-tokens", 4096]

    # -- The same job on one disk.
    for shard in range(1, SHARDS + 1):
        run("here", *capture(data / "data.jsonl", shard, work / f"here/{shard}"))
    here, there = work / "here/run", work / "there"
    run("here", "merge", *[work / f"here/{shard}" for shard in range(1, SHARDS + 1)], "--run", here, "--json")
    say("on one disk: done")

    # -- Workers with nothing in common but the bucket.
    begun = time.monotonic()
    workers = []
    for shard in range(1, SHARDS + 1):
        workers.append(start(f"node-{shard}", *capture("s3://lab/set/data.jsonl", shard, work / f"node-{shard}/run")))
    for worker in workers:
        _, err = worker.communicate()
        assert worker.returncode == 0, err
    say(f"{SHARDS} shards captured from the bucket in {time.monotonic() - begun:.0f} s")
    for shard in range(2, SHARDS + 1):
        assert not run(f"node-{shard}", "push", work / f"node-{shard}/run", f"s3://lab/job/{shard}", "--json")["existed"]

    # -- A worker is killed while it writes; two others have made the same shard.
    first = start("node-1", "push", work / "node-1/run", "s3://lab/job/1")
    while not any("samples" in key["Key"] or "tokens" in key["Key"] or "activations" in key["Key"]
                  for key in bucket.list_objects_v2(Bucket="lab", Prefix="job/1/").get("Contents", [])):
        assert not first.poll(), first.communicate()[1]
        time.sleep(0.005)
    first.kill()
    first.wait()
    written = len(bucket.list_objects_v2(Bucket="lab", Prefix="job/1/")["Contents"])
    early = run("merger", "merge", "s3://lab/job/", "--run", work / "early", status=1)
    assert f"shard 1/{SHARDS} is missing" in early, early
    for node in ["node-5", "node-6"]:
        run(node, *capture("s3://lab/set/data.jsonl", 1, work / node / "run"))
    both = [start(node, "push", work / node / "run", "s3://lab/job/1", "--json") for node in ["node-5", "node-6"]]
    for process in both:
        out, err = process.communicate()
        assert process.returncode == 0, err
    say(f"a push was killed after {written} objects; two others finished it at the same time")
    assert run("node-1", "push", work / "node-1/run", "s3://lab/job/1", "--json")["existed"]
    unequal = run("node-2", "push", work / "node-2/run", "s3://lab/job/1", status=1)
    assert "with other data" in unequal, unequal

    # -- Credentials expire, and the bucket is down for a minute.
    proxy.expired = True
    expired = run("merger", "merge", "s3://lab/job/", "--run", there, status=1)
    assert "the credentials have expired" in expired, expired
    proxy.expired = False
    proxy.down_until = time.monotonic() + 60
    begun = time.monotonic()
    run("merger", "merge", "s3://lab/job/", "--run", there, "--json")
    say(f"merged from the bucket, {time.monotonic() - begun:.0f} s, with the bucket down for the first 60")

    # -- Parts of a pass.
    train = ["--hook", "layers.4", "--name", "a", "--arch", "topk", "--features", 512, "--k", 16, "--steps", 50, "--batch", 256]
    run("here", "train", "--run", here, *train, "--device", "cpu", "--json")
    run("here", "index", "--run", here, "--sae", "a", "--device", "cpu", "--json")
    shutil.copytree(here / "saes", there / "saes")
    index = ["pass", "index", "--run", there, "--sae", "a", "--device", "cpu", "--out", "s3://lab/parts/", "--json"]
    for part in range(1, PARTS + 1):
        run(f"node-{part}", *index, "--part", f"{part}/{PARTS}")
    assert run("node-6", *index, "--part", f"1/{PARTS}")["existed"]
    run("merger", "reduce", "--run", there, "s3://lab/parts/", "--device", "cpu", "--json")

    # -- The same bytes. What holds the time or a path is left out.
    def sums(run):
        names = [path for name in ["activations", "tokens", "features"] for path in (run / name).rglob("*")]
        files = [path for path in [*names, run / "samples.parquet"] if path.is_file() and path.name != "manifest.json"]
        return {str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    assert sums(here) == sums(there), set(sums(here).items()) ^ set(sums(there).items())
    say(f"{len(sums(there))} files have the bytes of the job on one disk")

    # -- A large file, in bounded memory.
    large = work / "large"
    large.mkdir()
    block = random.Random(1).randbytes(1 << 20)
    with open(large / "file.bin", "wb") as out:
        for number in range(LARGE >> 20):
            out.write(number.to_bytes(4, "little") + block[4:])
    for words in [["push", large, "s3://lab/large"], ["pull", "s3://lab/large", work / "back"]]:
        begun = time.monotonic()
        process = subprocess.Popen([str(SAE), *map(str, words)], env=environment("node-1"), stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        assert status == 0, words
        seconds = time.monotonic() - begun
        say(f"{words[0]} of {LARGE >> 20} MiB: {seconds:.0f} s, {usage.ru_maxrss >> 10} MiB of memory")
        assert usage.ru_maxrss << 10 < LARGE / 2
    assert (large / "file.bin").read_bytes() == (work / "back/file.bin").read_bytes()
    say("the proxy: " + ", ".join(f"{fate} {count}" for fate, count in sorted(proxy.counts.items())))


if __name__ == "__main__":
    main()
