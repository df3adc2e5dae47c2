"Commands with wrong input: one line that says what is wrong, exit code 2, and nothing left behind."
import io
import os
import shutil
import socket
import sys
from importlib import import_module
from unittest.mock import patch

import pytest
from PIL import Image
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from embcam import cli
from embcam.auditing import audit
from embcam.images import load_folder, make_logos
from embcam.model import EmbeddingClassifier
from embcam.network import Backbone


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    "Photographs, a linear model, a forest, an audit, and folders with too little in them."
    home = tmp_path_factory.mktemp("cli")
    logos = make_logos(24, seed=1, size=64, progress=False)
    for image, name in zip(logos.images, logos.names):
        (home/"photos"/name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(home/"photos"/name)
    backbone, photos = Backbone(size=64), load_folder(home/"photos", progress=False)
    for name, estimator in dict(model=LogisticRegression(), forest=RandomForestClassifier(20)).items():
        EmbeddingClassifier(backbone, estimator, 8, progress=False).fit(photos).save(home/name)
    found = audit(EmbeddingClassifier.load(home/"model"), photos, progress=False)
    found.save(home/"audit")
    (home/"empty").mkdir()
    (home/"one"/"only").mkdir(parents=True)
    Image.fromarray(logos.images[0]).save(home/"one"/"only"/"a.png")
    (home/"cut").mkdir()
    (home/"cut"/"cut.png").write_bytes((home/"one"/"only"/"a.png").read_bytes()[:1500])
    (home/"table.csv").write_text("image,prediction\n")
    (home/"latin.csv").write_bytes("image,group\nZoë.png,a\n".encode("latin-1"))
    (home/"out").mkdir()
    (home/"out"/"mine.txt").write_text("not embcam's")
    return home


def error_of(home, capfd, words: list) -> str:
    "Run a command whose words below `home` begin with ~; its one line."
    before = sorted(os.listdir(home))
    try: code = cli.main([str(word).replace("~", str(home)) for word in words])
    except SystemExit as error: code = error.code
    lines = [line for line in capfd.readouterr().err.replace("\r", "\n").splitlines() if line.startswith(("embcam: ", "Traceback"))]
    assert (code, len(lines), sorted(os.listdir(home))) == (2, 1, before), lines
    return lines[0]


FIT = ["fit", "~/photos", "--out"]
EXPLAIN = ["explain", "~/model", "~/one", "--out", "~/o"]
EVALUATE = ["evaluate", "~/model", "~/one", "--out"]
WRONG = [
    (["fit", "~/nowhere", "--out", "~/m"], "nowhere"),
    (["fit", "~/empty", "--out", "~/m"], "empty"),
    (["fit", "~/one", "--out", "~/m"], "holds one class, 'only'"),
    ([*FIT, "~/model"], "exists: choose another name, or pass --force"),
    ([*FIT, "~/m", "--backbone", "resnet19"], "resnet19"),
    ([*FIT, "~/m", "--weights", "~/table.csv"], "table.csv"),
    ([*FIT, "~/photos", "--force"], "photos"),
    ([*FIT, "~/m", "--head", "forrest"], "--head forrest: choose auto, "),
    (["explain", "~/empty", "~/one", "--out", "~/o"], "is no embcam model"),
    (["explain", "~/nowhere", "~/one", "--out", "~/o"], "nowhere: no such folder"),
    (["explain", "~/model", "~/cut", "--out", "~/o"], "or pass --skip-broken"),
    (["explain", "~/model", "~/one", "--out", "~/out", "--no-pages"], "out"),
    (["embed", "~/photos", "--out", "~/o", "--workers", "2"], "workers"),
    (["embed", "~/photos", "--out", "~/o", "--model", "~/model", "--size", "64"], "--size: --model"),
    ([*EXPLAIN, "--target", "TTT"], "TTT"),
    ([*EXPLAIN, "--label", "bad"], "There is no class 'bad': choose "),
    (["explain", "~/forest", "~/one", "--out", "~/o", "--target", "logit"], "has no useful gradient"),
    (["explain", "~/model", "~/empty", "--out", "~/o", "--only-wrong"], "holds no images"),
    ([*EXPLAIN, "--only-wrong"], "no image lies in a folder of one of the classes"),
    ([*EXPLAIN, "--method", "grandcam"], "grandcam"),
    ([*EXPLAIN, "--top", "0"], "--top: '0' is no whole number from 1 to"),
    ([*EXPLAIN, "--coco", "~/one"], "one is a folder"),
    ([*EXPLAIN, "--coco", "~/nowhere/b.json", "--no-pages"], "--coco is written beside pages"),
    ([*EXPLAIN, "--coco", "~/table.csv/b.json"], "is no folder that you may write to"),
    ([*EXPLAIN, "--label"], "--label: expected one argument"),
    ([*EXPLAIN, "--wrong"], "unrecognized arguments: --wrong"),
    (["explain", "~/model", "~/one", "--out", "~/model", "--force"], "model"),
    ([*EVALUATE, "~/model", "--force"], "model"),
    ([*EVALUATE, "~/e"], "The model was fitted on all 1 images: name others, or pass --all"),
    ([*EVALUATE, "~/e", "--n", "0"], "--n: '0' is no whole number from 1"),
    ([*EVALUATE, "~/e", "--all", "--metrics", "pixel_acu"], "pixel_acu"),
    ([*EVALUATE, "~/e", "--all", "--metrics", "pixel_auc"], "There are no masks"),
    (["evaluate", "~/model", "~/empty", "--out", "~/e"], "empty"),
    ([*EVALUATE, "~/e", "--target", "~/table.csv"], "--target has no meaning for a model that predicts no numbers"),
    ([*EVALUATE, "~/e", "--good", "good"], "--good has no meaning for a model that is no outlier detector"),
    ([*EXPLAIN, "--static"], "should end in .html"),
    (["explain", "~/model", "~/one", "--static", "--out", "~/o.html", "--versus", "good"], "--versus has no meaning beside --static"),
    (["export", "~/model", "--out", "~/o.pdf"], "writes a file that ends in .onnx or .html"),
    (["export", "~/model", "--out", "~/o.onnx", "--examples", "~/one"], "--examples has no meaning beside"),
    (["export", "~/nowhere", "--out", "~/o.html"], "nowhere: no such folder"),
    (["export", "~/model", "--out", "~/table.csv.html", "--examples", "~/empty"], "holds no images"),
    (["predict", "~/model", "~/one", "--out", "~/one/only/a.png", "--force"], "is no table of embcam predict"),
    (["predict", "~/model", "~/one", "--out", "~/table.csv"], "exists: choose another name, or pass --force"),
    (["predict", "~/model", "~/empty", "--out", "~/f.csv"], "holds no images"),
    (["predict", "~/model", "~/one", "--out", "~/f.xlsx"], "a table is CSV, which a spreadsheet opens; name it f.csv"),
    (["predict", "~/nowhere", "~/one", "--out", "~/f.csv"], "nowhere: no such folder"),
    (["audit", "~/model", "~/one/only", "--out", "~/o"], "Or explain them as they are: embcam explain"),
    (["compare", "~/photos", "~/photos/good", "--out", "~/o"], "share their images"),
    (["compare", "~/photos", "~/empty", "--out", "~/o"], "empty holds no images"),
    (["compare", "~/photos", "~/one", "--out", "~/o"], "one holds 1 image: a comparison needs two or more"),
    (["compare", "~/nowhere", "~/one", "--out", "~/o"], "nowhere does not exist"),
    (["compare", "~/photos/good", "~/photos/interrupted", "--out", "~/o", "--groups", "twins"], "groups='twins': give a pattern"),
    ([*FIT, "~/m", "--good", "bad"], "--good bad: there is no such class"),
    ([*FIT, "~/m", "--good", "good", "--head", "svm"], "--head has no meaning beside --good"),
    ([*FIT, "~/m", "--good", "interrupted"], "are too few: fourteen are needed"),
    (["audit", "~/nowhere", "~/photos", "--out", "~/a"], "nowhere: no such folder"),
    (["explore", "~/model"], "or neither"),
    (["explore", "~/nowhere", "~/one"], "nowhere: no such folder"),
    (["explore", "~/model", "~/empty"], "holds no images"),
    (["explore", "~/model", "~/nowhere"], "nowhere: no such folder"),
    (["explore", "~/model", "~/one", "--audit", "~/nowhere"], "holds no finished audit"),
    (["explore", "~/model", "~/one", "--audit", "~/audit"], "is an audit of other images"),
    (["explore", "--audit", "~/audit"], "An audit needs its model"),
    (["explore", "~/model", "~/one", "--host", "no.such.host.invalid"], "There is no host 'no.such.host.invalid'"),
    (["explore", "~/model", "~/one", "--base-url", "a b?"], "base_url='a b?': give a path"),
    (["explore", "~/model", "~/one", "--port", "70000"], "--port: '70000' is no whole number from 0 to 65535"),
    (["embed", "~/empty", "--out", "~/o"], "empty holds no images"),
    ([*FIT, "~/m", "--n-features", "705"], "n_features=705: the embedding has 704 values"),
    ([*FIT, "~/m", "--groups", "(?P<group>"], "is no regular expression"),
    ([*FIT, "~/m", "--groups", "~/no.csv"], "no.csv cannot be read (No such file or directory): check the name"),
    ([*FIT, "~/m", "--groups", "~/latin.csv"], "latin.csv is no UTF-8"),
    ([*FIT, "~/" + "m"*300], "cannot be made (File name too long)"),
    (["predict", "~/model", "~/one", "--out", "~/" + "m"*300], "File name too long"),
    ([], "the following arguments are required: COMMAND"),
]
NUMBERS = [([*FIT, "~/m"], "--seed --size --bits --n-features"), (EXPLAIN, "--top --samples --seed --workers"),
           ([*EVALUATE, "~/e"], "--n --seed"), (["embed", "~/photos", "--out", "~/o"], "--part-size --workers --size --bits --seed"),
           (["demo", "--out", "~/o"], "--n --seed"), (["explore"], "--port"), (["audit", "~/model", "~/photos", "--out", "~/o"], "--seed")]
WRONG += [([*words, flag, wrong], f"{flag}: '{wrong}'") for words, flags in NUMBERS for flag in flags.split()
          for wrong in ("-1", "1.5", "nan", "-.5", "1e400", "", "abc", "9"*30, "0x10", "１") if (flag, wrong) != ("--n-features", "9"*30)]
NAMED = [([*FIT, "~/m"], "--weights --backbone --pooled --resize --precision --head --groups --cache --out"),
         (EXPLAIN, "--target --ranking --method --label --versus --coco --out --trust --address"), ([*EVALUATE, "~/e"], "--metrics --out"),
         (["embed", "~/photos", "--out", "~/o"], "--model --address --out"), (["explore", "~/model", "~/one"], "--audit --host --base-url")]
WRONG += [([*words, flag, ""], f"{flag}: '' names nothing") for words, flags in NAMED for flag in flags.split()]
WRONG += [([command, "", "--out", "~/o"], "names nothing") for command in ("fit", "embed")]
WRONG += [([command, "~/model", "", "--out", "~/o"], "'' names nothing") for command in ("explain", "predict", "audit", "evaluate")]


@pytest.mark.parametrize("words, message", WRONG, ids=[" ".join(words) for words, _ in WRONG])
def test_wrong_input_is_one_line(words, message, home, capfd):
    assert message in error_of(home, capfd, words)


def test_explore_says_what_to_install(home, capfd):
    import_module("embcam.explorer")  # before nothing is found any more: its pages are found in the same way
    with patch("importlib.util.find_spec", return_value=None):
        assert "is not installed: pip install" in error_of(home, capfd, ["explore", "~/model", "~/one"])


def test_a_port_that_is_taken(home, capfd):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        assert f"Port {port} of 127.0.0.1 cannot be used" in error_of(home, capfd, ["explore", "~/model", "~/one", "--port", port])


def test_every_command_has_a_table():
    assert set(cli._COMMANDS) == set(cli._TABLES)


def test_help_shows_the_order_of_use():
    "Every example is a command that the parser takes."
    text = cli.parser().format_help()
    examples = [line.split()[1:] for line in text.splitlines() if line.startswith("  embcam ")]
    assert [words[0] for words in examples] == list(cli._TABLES)
    for words in examples: assert cli.parser().parse_args(words).command == words[0]


@pytest.mark.parametrize("command, said", [("fit", "with --cache DIR embeddings are kept"), ("audit", "the same command goes on"),
                                           ("compare", "nothing was written")])
def test_whoever_stops_a_command_hears_how_to_go_on(command, said, tmp_path, capfd, monkeypatch):
    def stop(args):
        if command == "audit": os.mkdir(args.out)  # as it is begun
        raise KeyboardInterrupt
    monkeypatch.setitem(cli._COMMANDS, command, stop)
    words = dict(fit=["photos"], audit=["model", "photos"], compare=["a", "b"])[command]
    assert cli.main([command, *words, "--out", str(tmp_path/"out")]) == 130
    assert said in capfd.readouterr().err


def test_groups_and_near_duplicates_in_fit(home, capfd, tmp_path):
    "Copies across a split of the folder's own are counted, and the anew split keeps them apart; a forest and groups of a table go, too."
    images = load_folder(home/"photos", progress=False)
    for part, k in ("train", 0), ("test", 1):
        for image, name in zip(images.images, images.names):
            file = tmp_path/"set"/part/name
            file.parent.mkdir(parents=True, exist_ok=True)
            if k: Image.open(image).convert("RGB").save(file.with_suffix(".jpg"), quality=80)
            else: file.write_bytes(image.read_bytes())
    words = ["fit", str(tmp_path/"set"), "--size", "64", "--head"]
    assert cli.main([*words, "logistic", "--out", str(tmp_path/"m")]) == 0
    text = capfd.readouterr().out
    assert "24 of 24 held-out images have a near duplicate" in text and "fitted and scored anew with near duplicates apart" in text
    rows = [f"{part}/{name.removesuffix('png')}{kind},{i//2}" for part, kind in (("train", "png"), ("test", "jpg"))
            for i, name in enumerate(images.names)]
    (tmp_path/"groups.csv").write_text("\n".join(["image,group", *rows]))
    assert cli.main([*words, "forest", "--out", str(tmp_path/"n"), "--groups", str(tmp_path/"groups.csv")]) == 0
    text = capfd.readouterr().out
    assert "share a group with training images" in text and "near duplicate" not in text
    assert cli.main(["audit", str(home/"model"), str(home/"photos"), "--out", str(tmp_path/"a"), "--groups", "twins"]) == 0
    assert "in no folder of level 1" in error_of(home, capfd, ["audit", "~/model", "~/photos", "--out", str(tmp_path/"b"), "--groups", "1"])


def test_explain_marks_training_images_and_wrong_predictions(home, capfd, tmp_path):
    "Wrong predictions come first, the surest ahead; copies of training images under other names are known."
    photos = load_folder(home/"photos", progress=False)[::3]
    classifier = EmbeddingClassifier.load(home/"model")
    for i, (image, label) in enumerate(zip(photos.images, photos.labels)):
        where = tmp_path/"mixed"/(photos.classes[(photos.classes.index(label) + 1) % 3] if i < 4 else label)
        where.mkdir(parents=True, exist_ok=True)
        Image.open(image).transpose(Image.Transpose.FLIP_LEFT_RIGHT if i % 2 else Image.Transpose.ROTATE_180).save(where/f"n{i}.png")
    (tmp_path/"mixed"/photos.labels[0]).mkdir(exist_ok=True)
    Image.open(photos.images[0]).save(tmp_path/"mixed"/photos.labels[0]/"again.bmp")
    assert cli.main(["explain", str(home/"model"), str(tmp_path/"mixed"), "--out", str(tmp_path/"why")]) == 0
    text = capfd.readouterr().out
    page = (tmp_path/"why/index.html").read_text()
    assert f"1 of {len(photos) + 1} images are training images" in text and page.count(">training image<") == 1
    files = sorted((tmp_path/"mixed").rglob("*.*"))
    wrong = sum(predicted != file.parent.name for predicted, file in zip(classifier.predict(files), files))
    assert f"{wrong} of {len(photos) + 1} predictions differ" in text and page.count(">wrong: its folder is") == wrong
    tiles = page.split('<a href="')[1:]
    assert all("wrong: " in tile for tile in tiles[:wrong]) and not any("wrong: " in tile for tile in tiles[wrong:])
    assert cli.main(["explain", str(home/"model"), str(home/"one/only/a.png"), "--out", str(tmp_path/"one")]) == 0
    assert "differ" not in capfd.readouterr().out


def test_labels_come_from_folders_that_were_named(home, tmp_path):
    "A class name above the named folder labels nothing."
    classifier = EmbeddingClassifier.load(home/"model")
    one = classifier.classes_.tolist()[0]
    for place in f"{one}/new/a.png", f"{one}/new/{one}/b.png":
        (tmp_path/place).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8)).save(tmp_path/place)
    folder = tmp_path/one/"new"
    images = {path.name: path for path in folder.rglob("*.png")}
    assert cli._folder_labels(classifier.classes_, images, [str(folder)]) == {"a.png": None, "b.png": one}
    assert cli._folder_labels(classifier.classes_, images, [str(folder.parent)]) == {"a.png": one, "b.png": one}
    assert cli._folder_labels(classifier.classes_, {"b.png": folder/one/"b.png"}, [str(folder/one/"b.png")]) == {"b.png": one}


def test_a_tilde_is_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    args = cli.parser().parse_args(["explain", "~/m", "~/a", "b~c", "--out=~/o", "--label", "~x"])
    assert (args.model, args.images, args.out, args.label) == (f"{tmp_path}/m", [f"{tmp_path}/a", "b~c"], f"{tmp_path}/o", "~x")


def test_a_console_of_few_letters_loses_nothing(home, tmp_path):
    "The model is there, whatever the console can write."
    for name, other in zip(("\u597d", "\u574f"), ("good", "interrupted")): shutil.copytree(home/"photos"/other, tmp_path/"photos"/name)
    console, errors = (io.TextIOWrapper(io.BytesIO(), "cp1252") for _ in range(2))
    with patch.multiple(sys, stdout=console, stderr=errors):
        assert cli.main(["fit", str(tmp_path/"photos"), "--out", str(tmp_path/"m"), "--size", "64", "--head", "ridge"]) == 0
    console.flush()
    assert b"classes: ?" in console.buffer.getvalue()
    assert EmbeddingClassifier.load(tmp_path/"m").classes_.tolist() == ["\u574f", "\u597d"]
