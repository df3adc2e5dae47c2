"A disk that is full, an image that changes while it is read, a type that is not trusted: one line, exit code 2, and nothing half-written."
import os
import resource
import sys
import traceback
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression

import embcam.cli
from embcam.images import make_logos
from embcam.judging.comparison import as_metrics
from embcam.model import EmbeddingClassifier
from embcam.network import Backbone


class Foreign(LogisticRegression): "Stands in a module that can be imported, but is none of scikit-learn's."


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    "Two models, and images in class folders."
    home, logos = tmp_path_factory.mktemp("faults"), make_logos(24, seed=1, size=64, progress=False)
    for image, name in zip(logos.images, logos.names):
        (home/"photos"/name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(home/"photos"/name)
    backbone = Backbone(size=64)
    for name, estimator in ("model", LogisticRegression()), ("foreign", Foreign()):
        save = EmbeddingClassifier(backbone, estimator, 8, progress=False).fit(logos).save
        if name == "model": save(home/name)
        else:
            with pytest.warns(UserWarning, match="--trust test_faults.Foreign"): save(home/name)
    return home


@pytest.fixture
def run(home, tmp_path, capfd):
    "Run a command, in a child if it may write no file above so many bytes: the lines of its error."
    def run(*argv, size: int | None = None) -> list:
        argv, (read, write) = [str(a) for a in argv], os.pipe()
        if size is None: code = embcam.cli.main(argv)
        elif child := os.fork():
            os.close(write)
            with os.fdopen(read, errors="replace") as pipe: print(pipe.read(), file=sys.stderr)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        else:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1), os.dup2(write, 2)
            sys.stderr, code = os.fdopen(2, "w"), 1
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
            try: code = embcam.cli.main(argv)
            except BaseException: traceback.print_exc()
            finally: sys.stderr.flush(), os._exit(code)
        lines = [line for line in capfd.readouterr().err.replace("\r", "\n").splitlines() if line.startswith(("embcam: ", "Traceback"))]
        assert code == (2 if lines else 0), (code, lines)
        return lines
    return run


def commands(home: Path, out: Path) -> dict:
    folder, few = home/"photos", ["--n", 2, "--all", "--metrics", "insertion_mean"]
    return dict(fit=["fit", folder, "--out", out, "--size", 64, "--pooled", "last", "--head", "logistic"],
                explain=["explain", home/"model", folder/"good", "--out", out],
                predict=["predict", home/"model", folder, "--out", out],
                evaluate=["evaluate", home/"model", folder, "--out", out, *few])


@pytest.mark.parametrize("name, size", [("fit", 100_000), ("explain", 20_000), ("predict", 50)])
def test_full_disk(name, size, home, tmp_path, run):
    lines = run(*commands(home, tmp_path/"out")[name], size=size)
    assert len(lines) == 1 and lines[0].startswith(f"embcam: {tmp_path/'out'} cannot be written (") and "free some space" in lines[0]
    assert not os.listdir(tmp_path)


def test_full_disk_under_the_cache(home, tmp_path, run):
    lines = run(*commands(home, tmp_path/"out")["fit"], "--cache", tmp_path/"cache", size=200)
    assert len(lines) == 1 and f"{tmp_path/'cache'} cannot keep embeddings" in lines[0]
    assert os.listdir(tmp_path) == ["cache"] and not os.listdir(tmp_path/"cache")


def test_an_evaluation_goes_on_when_there_is_space_again(home, tmp_path, run, monkeypatch):
    monkeypatch.setattr("embcam.judging.baselines", lambda *rest: {})
    argv = commands(home, tmp_path/"out")["evaluate"]
    for size in 100, 2000:
        lines = run(*argv, size=size)
        assert len(lines) == 1 and f"{tmp_path/'out'} cannot be written (File too large)" in lines[0]
        assert os.listdir(tmp_path) == ["out"] and set(os.listdir(tmp_path/"out")) == {".embcam", "comparison.jsonl"}
    assert run(*argv) == [] and os.listdir(tmp_path) == ["out"] and (tmp_path/"out"/"index.html").exists()


def cut(path: Path): path.write_bytes(path.read_bytes()[:400])
def empty(path: Path): path.write_bytes(b"")


@pytest.mark.parametrize("change", [Path.unlink, cut, empty])
@pytest.mark.parametrize("name", ["fit", "explain", "predict", "evaluate"])
def test_an_image_that_changes_after_it_was_checked(name, change, home, tmp_path, run, monkeypatch):
    victim = sorted((home/"photos"/"good").iterdir())[0]
    before = victim.read_bytes()

    def then(check):
        def changed(*arguments, **more):
            found = check(*arguments, **more)
            change(victim)
            return found
        return changed
    for check in "_readable_images", "_load_images": monkeypatch.setattr(embcam.cli, check, then(getattr(embcam.cli, check)))
    def choose(images, n, seed, metrics): return images[[images.images.index(victim)]], as_metrics(metrics)
    monkeypatch.setattr(embcam.cli, "_choose_images", choose)
    try: lines = run(*commands(home, tmp_path/"out")[name])
    finally: victim.write_bytes(before)
    assert len(lines) == 1 and victim.name in lines[0] and len(lines[0]) < 400
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and file.name not in (".embcam", "comparison.jsonl")]


def test_trust(home, tmp_path, run):
    folder, trust = home/"photos", ["--trust", "test_faults.Foreign"]
    predict, explain = ("predict", folder, "--out", tmp_path/"t.csv"), ("explain", folder/"good", "--out", tmp_path/"why")
    for command, *more in predict, explain, ("explore", folder):
        lines = run(command, home/"foreign", *more)
        assert len(lines) == 1 and lines[0].endswith("or give the command --trust test_faults.Foreign.") and not os.listdir(tmp_path)
    assert run("predict", home/"foreign", folder, "--out", tmp_path/"t.csv", *trust) == []
    assert EmbeddingClassifier.load(home/"foreign", trusted="test_faults.Foreign").predict(np.zeros((1, 1280), np.float32)).shape == (1,)
