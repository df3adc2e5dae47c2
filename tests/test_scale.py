"Runs over folders: broken, moved and interrupted, by a loop and by Ray, and training on what they wrote."
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from embcam.cli import main
from embcam.explanation import Explainer
from embcam.files import _held, alone_in
from embcam.images import list_images, make_logos, open_image
from embcam.images.pixels import shown_size
from embcam.model import EmbeddingClassifier, load_table
from embcam.network import Backbone
from embcam.scale import embed_folder, explain_files
from embcam.scale.embed_table import _embed_padded

SMALL = dict(size=64, pooled="stages", cache=False)
DATA, ERRORS = "embeddings.parquet", "errors.csv"


@pytest.fixture(scope="session")
def logos(): return make_logos(60, seed=3, size=64, progress=False)


@pytest.fixture
def photos(tmp_path, logos):
    for sample in logos:
        path = tmp_path/"photos"/sample.name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(sample.image).save(path)
    return tmp_path/"photos"


@pytest.fixture(scope="session")
def backbone(): return Backbone(**SMALL)


@pytest.fixture(scope="session")
def classifier(backbone, logos): return EmbeddingClassifier(backbone, progress=False).fit(logos)


def rows(out, name=DATA): return pd.read_parquet(Path(out)/name).sort_values("image").reset_index(drop=True)


def same(a, b) -> bool:
    "Equal to the last bit."
    return a.drop(columns="embedding").equals(b.drop(columns="embedding")) and np.array_equal(np.stack(a.embedding), np.stack(b.embedding))


def embed(photos, out, backbone, **options):
    return embed_folder(photos, out, backbone, **dict(part_size=8, batch_size=16, progress=False) | options)


def test_without_pyarrow_nothing_is_made(photos, tmp_path, backbone, classifier, monkeypatch):
    for module in "pyarrow", "pyarrow.parquet": monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match="scale"): embed_folder(photos, tmp_path/"out", backbone, progress=False)
    with pytest.raises(ImportError, match="scale"):
        explain_files(list_images(photos), tmp_path/"out", Explainer(classifier), progress=False)
    assert not (tmp_path/"out").exists()


def command(photos, out, *more) -> list:
    return [sys.executable, "-c", "from embcam.cli import main; raise SystemExit(main())", "embed", str(photos), "--out", str(out),
            "--size", "64", "--part-size", "4", *more]


# what is listed

@pytest.mark.parametrize("layout, labels", [
    (["good/a.png", "bad/deep/b.png"], {"good/a.png": "good", "bad/deep/b.png": "bad"}),
    (["images/good/a.png", "masks/good/a.png"], {"images/good/a.png": "good"}),
    (["train/good/a.png", "test/bad/b.png", "ground_truth/bad/b.png"], {"train/good/a.png": "good", "test/bad/b.png": "bad"}),
    (["a.png", ".hidden.png", ".hidden/b.png", "notes.txt", "B.JPG"], {"a.png": None, "B.JPG": None}),
])
def test_layouts(tmp_path, layout, labels):
    for name in layout:
        (tmp_path/name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path/name).touch()
    assert {name: label for name, _, label in list_images(tmp_path)} == labels


def test_own_output_is_no_image(photos, backbone):
    embed(photos, photos/"out", backbone)
    (photos/"out"/"map.png").write_bytes((photos/next(list_images(photos))[0]).read_bytes())
    assert not any(name.startswith("out/") for name, _, _ in list_images(photos))


def test_a_flat_folder_that_holds_its_own_output_goes_on(tmp_path, logos, backbone):
    for i in range(3): Image.fromarray(logos.images[i]).save(tmp_path/f"{i}", "PNG")  # without a suffix: known by their content
    assert (embed(tmp_path, tmp_path/"out", backbone).now, embed(tmp_path, tmp_path/"out", backbone).before) == (3, 3)


def test_parts_that_another_process_writes_are_left_alone(photos, tmp_path, backbone):
    embed(photos, tmp_path/"out", backbone)
    left, busy = (tmp_path/"out"/DATA/f".part-{n}.parquet-99999-0123abcd.part" for n in (1, 2))
    for file in left, busy: file.touch()
    with _held(busy) as free:
        embed(photos, tmp_path/"out", backbone)
        assert free and busy.exists() and not left.exists()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_size_is_as_a_person_sees_it(tmp_path, orientation, suffix):
    im, path = Image.new("RGB", (20, 10)), tmp_path/f"im.{suffix}"
    exif = im.getexif()
    exif[0x0112] = orientation
    im.save(path, exif=exif)
    assert shown_size(path) == open_image(path).shape[1::-1]


# what is written

def test_same_bits_in_any_company(photos, backbone):
    paths = [path for _, path, _ in list_images(photos)]
    threads, first = torch.get_num_threads(), _embed_padded(backbone, paths, 16)
    try:
        for n in (1, 2):
            torch.set_num_threads(n)
            whole = _embed_padded(backbone, paths, 16)
            np.testing.assert_allclose(whole, first, rtol=1e-3, atol=1e-4)
            assert np.array_equal(_embed_padded(backbone, paths[::-1], 16)[::-1], whole)
            assert np.array_equal(_embed_padded(backbone, paths[5:8], 16), whole[5:8])
    finally: torch.set_num_threads(threads)


def test_columns(photos, tmp_path, classifier):
    ledger = embed(photos, tmp_path/"out", classifier)
    found = rows(tmp_path/"out")
    assert (ledger.now, len(found)) == (60, 60)
    assert list(found) == ["image", "label", "sha256", "width", "height", "embedding", "prediction", "probabilities", "margin", "distance",
                           "percentile"]
    E = np.stack(found.embedding)
    assert (found.prediction == classifier.predict(E)).all()
    assert np.array_equal([list(p.values()) for p in found.probabilities], classifier.scores(E))
    ex = Explainer(classifier)(photos/found.image[7])
    assert found.distance[7] == pytest.approx(ex.trust.distance, rel=1e-4) and found.margin[7] == pytest.approx(ex.trust.margin, abs=1e-6)


def test_broken_images_are_listed_and_tried_again(photos, tmp_path, backbone):
    names = [name for name, _, _ in list_images(photos)]
    good = (photos/names[0]).read_bytes()
    (photos/names[0]).write_bytes(good[:300])
    (photos/names[1]).write_bytes(b"")
    (photos/"gone.png").symlink_to(tmp_path/"nowhere")
    ledger = embed(photos, tmp_path/"out", backbone)
    errors = pd.read_csv(tmp_path/"out"/ERRORS)
    assert (ledger.now, list(errors.image)) == (58, sorted([names[0], names[1], "gone.png"]))
    assert errors.reason.str.len().min() > 10 and not errors.reason.str.contains(str(photos)).any()
    (photos/names[0]).write_bytes(good)
    (photos/names[1]).unlink(), (photos/"gone.png").unlink()
    assert embed(photos, tmp_path/"out", backbone).now == 1
    assert not (tmp_path/"out"/ERRORS).exists() and names[0] in set(rows(tmp_path/"out").image)


def test_a_folder_of_broken_images(tmp_path, backbone):
    (tmp_path/"photos").mkdir()
    (tmp_path/"photos"/"a.png").write_bytes(b"no image")
    ledger = embed(tmp_path/"photos", tmp_path/"out", backbone)
    assert (ledger.now, len(ledger.errors)) == (0, 1)
    with pytest.raises(ValueError, match="holds no rows"): load_table(tmp_path/"out")


def test_content_counts_not_names(photos, tmp_path, backbone):
    embed(photos, tmp_path/"out", backbone)
    before = rows(tmp_path/"out")
    photos.rename(tmp_path/"elsewhere")
    for i, (_, path, _) in enumerate(list_images(tmp_path/"elsewhere")): Path(path).rename(Path(path).with_name(f"renamed-{i}.png"))
    ledger = embed(tmp_path/"elsewhere", tmp_path/"out", backbone)
    assert (ledger.before, ledger.now, ledger.elsewhere) == (60, 0, 0) and same(rows(tmp_path/"out"), before)


def test_copies_in_two_classes_are_counted(photos, tmp_path, backbone):
    name = next(list_images(photos))[0]
    other = next(f for f in photos.iterdir() if f.name != name.split("/")[0])
    (other/"copy.png").write_bytes((photos/name).read_bytes())
    for before, now in ((0, 60), (60, 0)):
        ledger = embed(photos, tmp_path/"out", backbone)
        assert (ledger.images, ledger.before, ledger.now, ledger.copies, ledger.elsewhere) == (61, before, now, 1, 1)


def test_other_settings_are_refused(photos, tmp_path, backbone, classifier):
    embed(photos, tmp_path/"out", backbone)
    with pytest.raises(ValueError, match="other settings"): embed(photos, tmp_path/"out", Backbone(**SMALL | dict(resize="crop")))
    with pytest.raises(ValueError, match="other settings"): embed(photos, tmp_path/"out", classifier)
    assert embed(photos, tmp_path/"out", classifier, force=True).now == 60


# a run that is cut short

class Stop(Exception): pass


def test_an_interrupted_run_is_the_same_in_the_end(photos, tmp_path, backbone, monkeypatch):
    embed(photos, tmp_path/"whole", backbone)
    from embcam.scale import embed_table as scale
    write, calls = scale.write_part, []

    def failing(*arguments):
        calls.append(1)
        if len(calls) == 4: raise Stop
        write(*arguments)
    monkeypatch.setattr(scale, "write_part", failing)
    with pytest.raises(Stop): embed(photos, tmp_path/"out", backbone)
    assert len(rows(tmp_path/"out")) == 24
    assert embed(photos, tmp_path/"out", backbone).before == 24
    names = lambda out: sorted(file.name for file in (out/DATA).iterdir())
    assert names(tmp_path/"out") == names(tmp_path/"whole") and same(rows(tmp_path/"out"), rows(tmp_path/"whole"))


def kill_in_the_middle(line, out, data=DATA) -> int:
    "SIGKILL the whole process group after the second part; the rows that are there."
    if os.name != "posix": pytest.skip("no process groups")
    process = subprocess.Popen(line, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               env=os.environ | dict(OMP_NUM_THREADS="1"))
    while len(list((out/data).glob("part-*.parquet"))) < 2 and process.poll() is None: time.sleep(.01)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL  # it was still at work
    return len(rows(out, data))


def test_kill_of_the_process_group(photos, tmp_path, capsys):
    out = tmp_path/"out"
    done = kill_in_the_middle(command(photos, out), out)
    assert 8 <= done < 60
    assert main(command(photos, out)[3:]) == 0
    assert f"60 images: {done} done before, {60 - done} done now" in capsys.readouterr().out
    assert not list(out.rglob(".*.part"))
    assert main(command(photos, tmp_path/"whole")[3:]) == 0
    found = rows(out)
    assert found.sha256.is_unique and len(found) == 60 and same(found, rows(tmp_path/"whole"))


def test_exit_code_3_and_2(photos, tmp_path, capsys):
    (photos/"broken.png").write_bytes(b"no image")
    with pytest.raises(SystemExit) as end: main(command(photos, tmp_path/"out")[3:])
    assert end.value.code == 3 and "1 cannot be read" in capsys.readouterr().out
    assert main(command(photos, tmp_path/"out", "--workers", "2")[3:]) == 2 and "belongs to engine='ray'" in capsys.readouterr().err
    assert main(command(photos, tmp_path/"out", "--model", "m")[3:]) == 2
    assert "m: no such folder" in capsys.readouterr().err
    assert main(command(photos, tmp_path/"out", "--model", str(tmp_path))[3:]) == 2
    assert f"--size: --model {tmp_path} brings its own network" in capsys.readouterr().err
    assert main(command(tmp_path/"nowhere", tmp_path/"new")[3:]) == 2 and not (tmp_path/"new").exists()


# explanations

def test_explanations_without_pages(photos, tmp_path, classifier):
    files, explainer, out = list(list_images(photos))[:7], Explainer(classifier), tmp_path/"out"
    assert explain_files(files[:4], out, explainer, part_size=2, progress=False).now == 4
    ledger = explain_files(files, out, explainer, part_size=2, progress=False)
    assert (ledger.before, ledger.now) == (4, 3)
    found = rows(out, "explanations.parquet")
    ex = explainer(files[2][1], name=files[2][0])
    row = found[found.image == files[2][0]].iloc[0]
    assert row.prediction == ex.prediction and row.evidence == pytest.approx(ex.evidence)
    assert [r["feature"] for r in row.ranking] == ex.ranking.features.tolist()
    drawn = np.asarray(Image.open(io.BytesIO(row.maps["combined"])))
    assert np.array_equal(drawn, np.round(255*ex.maps.limited(240)["combined"]).astype(np.uint8))
    page = json.loads((out/"pages"/row.pages).read_text()[len("pages("):-1])[row.sha256]
    assert ex.name in page and "src=\"pages/" not in page
    assert all(name in (out/"index.html").read_text() for name in (files[0][0], row.pages))


# training

@pytest.mark.parametrize("load", [Path, pd.read_parquet], ids=["path", "pandas"])
def test_training_on_a_table(photos, tmp_path, backbone, load):
    embed(photos, tmp_path/"out", backbone)
    found = rows(tmp_path/"out")
    clf = EmbeddingClassifier(backbone, progress=False).fit(load(tmp_path/"out"/DATA))
    assert len(clf.names_) == 60 and sorted(clf.names_) == sorted(found.image)
    assert np.array_equal(np.sort(clf.background_[:, 0]), np.sort(np.stack(found.embedding)[:, 0]))
    model = clf.save(tmp_path/"model")
    assert np.array_equal(EmbeddingClassifier.load(model).scores(np.stack(found.embedding)), clf.scores(np.stack(found.embedding)))


def test_table_of_another_network(photos, tmp_path, backbone):
    embed(photos, tmp_path/"out", backbone)
    with pytest.raises(ValueError, match="another network"):
        EmbeddingClassifier(Backbone(**SMALL | dict(resize="crop"))).fit(tmp_path/"out")


# Ray

@pytest.fixture(scope="module")
def ray():
    ray = pytest.importorskip("ray")
    pytest.importorskip("ray.data")
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import the tests
    yield ray
    ray.shutdown()


@pytest.fixture(scope="module")
def two_cores(ray): ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)


def test_ray_and_loop_give_the_same_bits(two_cores, photos, tmp_path, classifier):
    (photos/"broken.png").write_bytes(b"no image")
    ledgers = [embed(photos, tmp_path/engine, classifier, engine=engine) for engine in ("local", "ray")]
    assert ledgers[0].errors == ledgers[1].errors and ledgers[1].now == 60
    assert same(rows(tmp_path/"local"), rows(tmp_path/"ray"))
    assert all((tmp_path/"ray"/DATA/file.name).read_bytes() == file.read_bytes() for file in (tmp_path/"local"/DATA).iterdir())


def test_ray_explains_as_the_loop(two_cores, photos, tmp_path, classifier):
    files, explainer = list(list_images(photos))[:6], Explainer(classifier)
    for engine in ("local", "ray"): explain_files(files, tmp_path/engine, explainer, part_size=2, progress=False, engine=engine)
    assert rows(tmp_path/"local", "explanations.parquet").maps.tolist() == rows(tmp_path/"ray", "explanations.parquet").maps.tolist()
    assert (tmp_path/"local"/"index.html").read_bytes() == (tmp_path/"ray"/"index.html").read_bytes()


class Deadly:
    "Work that kills its own process at the third part, once."
    def __init__(self, work, flag): self.work, self.flag, self.folder = work, flag, work.folder
    def __call__(self, part):
        if len(list(self.folder.glob("part-*"))) >= 2 and not self.flag.exists():
            self.flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.work(part)


@pytest.mark.skipif(os.name != "posix", reason="no SIGKILL")
def test_kill_of_a_worker(two_cores, photos, tmp_path, backbone, monkeypatch):
    from embcam.scale import parts as scale
    on_ray = scale._on_ray
    monkeypatch.setattr(scale, "_on_ray", lambda work, *rest: on_ray(Deadly(work, tmp_path/"killed"), *rest))
    assert embed(photos, tmp_path/"out", backbone, engine="ray", workers=2).now == 60
    assert (tmp_path/"killed").exists() and rows(tmp_path/"out").sha256.is_unique
    embed(photos, tmp_path/"whole", backbone)
    assert same(rows(tmp_path/"out"), rows(tmp_path/"whole"))


def test_kill_of_everything_under_ray(ray, photos, tmp_path, capsys):
    ray.shutdown()  # the commands start their own
    out, line = tmp_path/"out", command(photos, tmp_path/"out", "--engine", "ray", "--workers", "2")
    done = kill_in_the_middle(line, out)
    time.sleep(3)  # workers of the dead cluster may finish a part
    assert main(line[3:]) == 0
    found = rows(out)
    assert done <= len(found) == 60 and found.sha256.is_unique
    assert main(command(photos, tmp_path/"whole")[3:]) == 0 and same(found, rows(tmp_path/"whole"))


def test_loss_of_a_node(ray, photos, tmp_path, backbone, monkeypatch):
    from ray.cluster_utils import Cluster
    ray.shutdown()
    cluster = Cluster(initialize_head=True, head_node_args=dict(num_cpus=1, include_dashboard=False))
    second = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    from embcam.scale import embed_table as scale
    run, left = scale.run_parts, [second]

    def losing(*arguments, **options):
        for answer in run(*arguments, **options):
            yield answer
            if left: cluster.remove_node(left.pop(), allow_graceful=False)
    monkeypatch.setattr(scale, "run_parts", losing)
    try: ledger = embed(photos, tmp_path/"out", backbone, part_size=4, engine="ray", workers=2, address=cluster.address)
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert ledger.now == 60 and not left and rows(tmp_path/"out").sha256.is_unique
    embed(photos, tmp_path/"whole", backbone, part_size=4)
    assert same(rows(tmp_path/"out"), rows(tmp_path/"whole"))


@pytest.mark.skipif(os.name != "posix", reason="no locks on folders")
def test_two_runs_on_one_table(photos, tmp_path, backbone):
    "The second one is told, and nothing is done twice."
    embed_folder(photos, tmp_path/"out", backbone, part_size=8, progress=False)
    with alone_in(tmp_path/"out"/"embeddings.parquet"), pytest.raises(FileExistsError, match="Another run is at work"):
        embed_folder(photos, tmp_path/"out", backbone, progress=False)


@pytest.mark.parametrize("size", [0, -1, 1.5, float("nan"), 10**30])
def test_parts_hold_images(size, photos, tmp_path, backbone):
    with pytest.raises(ValueError, match="ask for a whole number of images"): embed_folder(photos, tmp_path/"out", backbone, size)
    assert not (tmp_path/"out").exists()
