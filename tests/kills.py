"""Commands that are killed at any moment: no half folder under the final name, what was there is there, and the next run comes to its end.

python tests/kills.py [SEED [KILLS]]

Each command runs KILLS times, ten by default, in a child that is sent SIGKILL at a random moment shortly after one of its file operations,
at first where nothing is, then with --force over a whole result; every run starts on what the one before has left. The last one is let
through. Needs Linux or macOS; prints a line per command.
"""
import functools
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from itertools import zip_longest
from pathlib import Path

import skops.io  # noqa: F401, here and not in every child
import torch
from matplotlib.figure import Figure
from PIL import Image

import embcam.judging
import embcam.cli
import embcam.demo
import embcam.network.embedding
import embcam.explanation.making
import embcam.explanation.paper
import embcam.explorer.server
import embcam.model.estimators
from embcam.images import make_logos
from embcam.model import paper_forest
from embcam.network.weights import build_network

MARK = "embcam-kills-server"
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree", "subprocess.Popen"}
BEGUN = {".embcam", "comparison.jsonl"}  # an evaluation that is not finished; the same command goes on with it


def make_cheap(home: Path) -> None:
    "Small networks, few trees, few samples, few baselines, no browser: what is tested here is writing."
    torch.set_num_threads(1)
    build_network("efficientnet_lite0")  # what is imported and built here is not made by every child
    embcam.network.embedding.Backbone.__init__ = functools.partialmethod(embcam.network.embedding.Backbone.__init__, size=64)
    embcam.model.estimators.paper_forest = few_trees
    embcam.explanation.making.CONTROLS = 2
    embcam.demo.pick_examples = lambda *rest: [0]
    embcam.judging.baselines = lambda *rest: {}
    embcam.judging.grid_pointing = embcam.judging.planted_shortcut = no_game
    embcam.cli._choose_classifier = functools.partial(choose, embcam.cli._choose_classifier)
    embcam.demo.write_demo = functools.partial(embcam.demo.write_demo, samples=100)
    embcam.demo.demo_figures = lambda *rest: {f"figure{i}": Figure(figsize=(1, 1)) for i in (3, 4, 5)}
    embcam.explorer.server.server_command = lambda *rest: [sys.executable, "-c", "import time; time.sleep(9)", f"{MARK}-{home}"]
    tempfile.tempdir = os.environ["TMPDIR"] = str(home)


def few_trees(seed: int = 0): return paper_forest(seed).set_params(n_estimators=20)
def no_game(*rest, **more): raise ValueError("left out here")
def choose(do, backbone, train, head, *rest): return do(backbone, train, "logistic", *rest)


def draw(home: Path) -> None:
    "Folders of classes, and one of two images."
    logos = make_logos(24, seed=1, size=64, progress=False)
    for image, name in zip(logos.images, logos.names):
        (home/"photos"/name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(home/"photos"/name)
    (home/"few").mkdir()
    for i in range(2): Image.fromarray(logos.images[i]).save(home/"few"/f"{i}.png")


def in_child(function, *arguments) -> int:
    "Fork; the child's process id."
    if child := os.fork(): return child
    code = 1
    try: code = function(*arguments) or 0
    finally: os._exit(code)


def quietly(home: Path, argv: list, pipe: int | None = None, at: int = -1) -> int:
    "Run a command; count what it changes below `home`, and say so by the pipe at number `at`, or in the end."
    seen = 0

    def watch(event, values):
        nonlocal seen
        writes = event == "open" and isinstance(values[2], int) and values[2] & (os.O_WRONLY | os.O_RDWR)
        if (event not in CHANGES and not writes) or (event != "subprocess.Popen" and not str(values[0]).startswith(str(home))): return
        seen += 1
        if seen == at: os.write(pipe, b"now")
    with open(os.devnull, "w") as nowhere: os.dup2(nowhere.fileno(), 1)
    os.dup2(os.open(home/"errors", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    sys.addaudithook(watch)
    code = embcam.cli.main([str(a) for a in argv])
    if pipe is not None and at < 0: os.write(pipe, str(seen).encode())
    return code


def run(home: Path, argv: list, at: int = -1, wait: float = 0) -> tuple[int, int]:
    "Run a command in a child, to its end or until it is killed `wait` seconds after change number `at`: (how it ended, number of changes)."
    read, write = os.pipe()
    child = in_child(quietly, home, argv, write, at)
    os.close(write)
    told = os.read(read, 20)
    os.close(read)
    if at >= 0:
        time.sleep(wait)
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    return os.waitstatus_to_exitcode(status), int(told) if told.isdigit() else 0


def files(folder: Path) -> set: return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}


def examine(out: Path, whole: set, before: bool) -> None:
    "Nothing half under the final name; what was there is there, or stands beside it, to be put back."
    left = [found for found in out.parent.iterdir() if found != out]
    assert all(found.name.startswith(f".{out.name}-") for found in left) and len(left) <= 2, left
    if out.exists(): assert files(out) | BEGUN == whole | BEGUN or files(out) <= BEGUN and not before, (files(out) ^ whole, before)
    elif before: assert [files(old) for old in left if old.name.endswith("-old")] == [whole], left


def kill(home: Path, name: str, argv: list, rng: random.Random, kills: int) -> str:
    "Kill one command so many times; what happened, in words."
    reference, out = home/name/"reference", home/name/"here"/"out"
    code, changes = run(home, [*argv, "--out", reference])
    assert code == 0, (home/"errors").read_text()[-2000:]
    whole, ended = files(reference), []
    for i in range(kills):
        before = i >= kills//2
        if i == kills//2:
            shutil.rmtree(out.parent, ignore_errors=True)
            shutil.copytree(reference, out)
        elif not before and out.exists() and files(out) == whole: shutil.rmtree(out)  # the kill came too late: begin again
        code, _ = run(home, [*argv, "--out", out, *(["--force"] if before else [])], rng.randint(1, changes), rng.choice([0, 0, .005, .05]))
        assert code in (-signal.SIGKILL, 0), (home/"errors").read_text()[-2000:]
        ended.append(code)
        if out.parent.exists(): examine(out, whole, before)
    assert run(home, [*argv, "--out", out, "--force"])[0] == 0
    assert files(out) == whole and os.listdir(out.parent) == [out.name], (files(out) ^ whole, os.listdir(out.parent))
    return f"{name}: killed {len(ended) - ended.count(0)} times of {kills}, {changes} changes of files in a whole run"


def kill_server(home: Path, rng: random.Random, kills: int) -> str:
    "Kill `embcam explore` so many times, at the start of its server or soon after: the server must end with it (Linux)."
    for _ in range(kills):
        change = rng.randint(1, 3)  # a folder, its notebook, the server
        code, _ = run(home, ["explore", "--no-browser"], change, rng.choice([0, 0, .01, .1]))
        assert code == -signal.SIGKILL, (code, (home/"errors").read_text()[-2000:])
        for _ in range(50):
            if not (alive := subprocess.run(["pgrep", "-f", f"{MARK}-{home}"], capture_output=True, text=True).stdout.split()): break
            time.sleep(.1)
        assert not alive, f"the server outlives the command: {alive}"
    return f"explore: killed {kills} times, no server left"


def all_of(home: Path, names: list, commands: dict, seed: int, kills: int) -> None:
    "One after the other, in a process of its own."
    for name in names:
        start = time.time()
        rng = random.Random(f"{seed} {name}")
        text = kill_server(home, rng, kills) if name == "explore" else kill(home, name, commands[name], rng, kills)
        print(f"{text}, {time.time() - start:.0f} s", flush=True)


if __name__ == "__main__":
    seed, kills = (int(given or usual) for given, usual in zip_longest(sys.argv[1:3], (0, 10)))
    with tempfile.TemporaryDirectory(prefix="embcam-kills-") as folder:
        home, start = Path(folder).resolve(), time.time()
        make_cheap(home)
        fit = ["fit", home/"photos", "--pooled", "last", "--size", 64, "--n-features", 8, "--cache", home/"cache"]
        commands = dict(fit=fit, explain=["explain", home/"model", home/"few"], demo=["demo", "--n", 24],
                        evaluate=["evaluate", home/"model", home/"photos", "--n", 1, "--all", "--metrics", "insertion_mean"])
        os.waitpid(in_child(draw, home), 0)
        assert run(home, [*fit, "--out", home/"model"])[0] == 0, (home/"errors").read_text()
        first = ["demo"] + ["explore"]*(sys.platform == "linux")
        children = [in_child(all_of, home, names, commands, seed, kills) for names in (first, ["evaluate", "explain", "fit"])]
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        print(f"{'passed' if not any(codes) else 'FAILED'}, {time.time() - start:.0f} s, seed {seed}")
        sys.exit(any(codes))
