"Exported explainers: networks, heads and methods agree with Python; what cannot be exported is refused; files are checked and whole."
import json
import subprocess
import sys
import warnings
from dataclasses import asdict, replace
from functools import lru_cache, partial

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier, SGDClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier
from torch import nn

import families
from embcam.export import Exported, ExportError, load_exported
from embcam.explanation import Explainer
from embcam.images import make_logos
from embcam.model import EmbeddingClassifier, EmbeddingModel, logistic_head
from embcam.network import Backbone

onnx = pytest.importorskip("onnx", reason="the extra is not installed: pip install 'embcam[export]'")
ort = pytest.importorskip("onnxruntime", reason="the extra is not installed: pip install 'embcam[export]'")

from embcam.export import onnx_file  # noqa: E402, after the check
from embcam.export.onnx_file import compare_exported, export_onnx, rank_correlation  # noqa: E402
from embcam.network.graphs import plain_graph  # noqa: E402
from embcam.network.onnx_graph import NoOperator, onnx_bytes  # noqa: E402

SIZE = 64
LOGOS = make_logos(36, size=SIZE, seed=0)


def pooled_by_maxima():
    "Maxima and averages between the layers with maps, a transposed convolution, gates of several kinds."
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.LeakyReLU(.1), nn.MaxPool2d(3, 2, 1), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, 1, 1),
                         nn.GroupNorm(2, 8), nn.Hardswish(),
                         nn.AvgPool2d(2), nn.ConvTranspose2d(8, 16, 2, 2), nn.SiLU(), nn.Conv2d(16, 16, 3, 2, 1, groups=16), nn.ELU(),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()


def small():
    "Three layers with maps: what is asked of heads and images does not depend on the network."
    return nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(),
                         nn.Conv2d(32, 48, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()


NETWORKS = {"small": small, "resnet18": "resnet18", "lite0": "timm/tf_efficientnet_lite0", "mobilenet": "mobilenet_v3_small",
            "convnext": families.convnext, "swin": families.swin, "vit": partial(families.vit, SIZE, 8, 4), "pooling": pooled_by_maxima}


@lru_cache(None)
def backbone(name="lite0", **options):
    torch.manual_seed(0)
    made = NETWORKS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Backbone(made if isinstance(made, str) else made(), None, **dict(size=SIZE, pooled="stages") | options)


@lru_cache(None)
def _fitted(name, head, options):
    return EmbeddingClassifier(backbone(name, **dict(options)), HEADS[head], n_features="all", progress=False).fit(LOGOS)


HEADS = {
    "logistic": logistic_head(), "bare": LogisticRegression(), "svm": make_pipeline(StandardScaler(), LinearSVC()),
    "ridge": RidgeClassifier(), "lda": LinearDiscriminantAnalysis(solver="lsqr", shrinkage=.3),
    "sgd": SGDClassifier(loss="log_loss", random_state=0),
    "forest": RandomForestClassifier(20, random_state=0), "extra": ExtraTreesClassifier(20, random_state=0),
    "tree": DecisionTreeClassifier(random_state=0), "neighbours": KNeighborsClassifier(), "huber": SGDClassifier(loss="modified_huber")}


def fitted(name="lite0", head="logistic", **options): return _fitted(name, head, tuple(options.items()))


def written(explainer, path, **options):
    "Opened again after it was written."
    export_onnx(explainer, path/"explainer.onnx", **dict(check=LOGOS.images[:2]) | options)
    return load_exported(path/"explainer.onnx", 1)


def check(explainer, exported, images=LOGOS.images[:4], scores=1e-5, least=.999):
    found = compare_exported(explainer, exported, images)
    assert found["classes"] == len(images) and found["scores"] <= scores
    assert min(found["correlation"].values()) >= least, found


@pytest.fixture(scope="session")
def usual_file(tmp_path_factory):
    "Of Lite0, a logistic head and focus: the explainer, and its file."
    path = tmp_path_factory.mktemp("usual")/"explainer.onnx"
    export_onnx(Explainer(fitted()), path, check=LOGOS.images[:2])
    return Explainer(fitted()), path


# agreement with Python

@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "small"])
def test_networks(name, tmp_path):
    explainer = Explainer(fitted(name, **dict(pooled=None) if name == "pooling" else {}))
    check(explainer, written(explainer, tmp_path))


@pytest.mark.parametrize("method", ["focus", "layercam", "gradcam", "hirescam", "cells"])
@pytest.mark.parametrize("head", ["logistic", "forest"])
def test_methods(method, head, tmp_path):
    explainer = Explainer(fitted("lite0" if head == "logistic" else "small", head), method=method)
    if (method, head) == ("cells", "forest"):
        with pytest.raises(ValueError, match="samples"): written(explainer, tmp_path)
    else: check(explainer, written(explainer, tmp_path))


@pytest.mark.parametrize("head", ["bare", "svm", "ridge", "lda", "sgd", "extra", "tree"])
def test_heads(head, tmp_path):
    explainer = Explainer(fitted("small", head))
    check(explainer, written(explainer, tmp_path))


def test_two_classes(tmp_path):
    two = LOGOS[np.flatnonzero(LOGOS.labels != LOGOS.labels[0])]
    for head in "logistic", "svm":
        explainer = Explainer(EmbeddingClassifier(backbone("small"), HEADS[head], n_features=40, progress=False).fit(two))
        check(explainer, written(explainer, tmp_path, overwrite=True))


@pytest.mark.parametrize("resize", ["letterbox", "crop"])
def test_wide_images(resize, tmp_path):
    explainer = Explainer(fitted("small", resize=resize))
    wide = [np.pad(image, ((0, 0), (9, 30), (0, 0))) for image in LOGOS.images[:3]]
    exported = written(explainer, tmp_path)
    check(explainer, exported, wide)
    assert exported(wide[0]).maps["combined"].shape == wide[0].shape[:2]


def test_grey_network(tmp_path):
    torch.manual_seed(0)
    stem = nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU()
    network = nn.Sequential(*stem, nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    model = EmbeddingClassifier(Backbone(network, None, size=SIZE, pooled="stages"), logistic_head(), "all", progress=False).fit(LOGOS)
    check(Explainer(model), written(Explainer(model), tmp_path))


def test_other_classes_and_limits(tmp_path):
    explainer = Explainer(fitted("small")).calibrate(LOGOS.images[:6], progress=False)
    exported = written(explainer, tmp_path)
    for label in explainer.classifier.classes_.tolist():
        right, other = explainer(LOGOS.images[0], label=label), exported(LOGOS.images[0], label=label)
        assert (other.label, other.prediction) == (right.label, right.prediction)
        for layer in right.maps: np.testing.assert_allclose(other.maps[layer], right.maps[layer], atol=5e-3)
        assert other.evidence == pytest.approx(right.evidence, abs=1e-4)


def test_outputs_of_the_graph_are_those_of_layer_maps(usual_file):
    exported = load_exported(usual_file[1], 1)
    image, frame, made = exported.run(LOGOS.images[3])
    ex = exported(LOGOS.images[3])
    np.testing.assert_allclose(made["combined"], replace(ex.maps, frame=replace(frame, image_size=(SIZE, SIZE)))["combined"], atol=1e-4)
    np.testing.assert_allclose(made["evidence"], [ex.evidence["combined"], *(ex.evidence[layer] for layer in ex.maps.layers)], atol=1e-6)
    np.testing.assert_allclose(made["embedding"][0], backbone().embed([image], progress=False)[0], atol=1e-4)


def test_images_are_prepared_to_the_bit(usual_file):
    rng, exported = np.random.default_rng(0), load_exported(usual_file[1], 1)
    for options in {}, dict(resize="letterbox", interpolation="bicubic"), dict(mean=(.1, .2, .3), std=(.4, .5, .6), resize="crop"):
        kept = json.loads(json.dumps(asdict(backbone(**options).preparation)))
        ours = Exported(exported.session, exported.facts | dict(preparation=kept))
        for shape in (64, 64), (50, 90), (200, 130):
            image = rng.integers(0, 256, (*shape, 3), np.uint8)
            np.testing.assert_array_equal(ours.preparation.prepare(image)[0], backbone(**options).prepare(image)[0].numpy())


def test_half_precision(usual_file, tmp_path):
    explainer, path = usual_file
    exported = written(explainer, tmp_path, weights="float16")
    assert (tmp_path/"explainer.onnx").stat().st_size < .6*path.stat().st_size
    check(explainer, exported, scores=2e-2, least=.9)


def test_standard_operators_of_an_old_opset(usual_file, tmp_path):
    export_onnx(Explainer(fitted("pooling", pooled=None)), tmp_path/"pooling.onnx", check=LOGOS.images[:1])
    for path, opset in (usual_file[1], 13), (tmp_path/"pooling.onnx", 16):
        model = onnx.load(path)
        assert [(one.domain, one.version) for one in model.opset_import] == [("", opset)]
        assert {node.domain for node in model.graph.node} == {""}


# refusals

def refusal(explainer, path):
    with pytest.raises(ValueError) as caught: export_onnx(explainer, path/"explainer.onnx", check=LOGOS.images[:1])
    assert not list(path.iterdir())
    return str(caught.value)


@pytest.mark.parametrize("head, options, words", [
    ("neighbours", {}, "KNeighborsClassifier is neither linear nor a forest"),
    ("huber", {}, "neither a softmax nor squashed margins"),
    ("logistic", dict(method="eigengradcam"), "method='eigengradcam'"), ("logistic", dict(target="TZZ"), "target='TZZ'"),
    ("logistic", dict(ranking="lime"), "ranking='lime'"), ("logistic", dict(top=5), "top=5"),
    ("forest", dict(target="TOZ"), "target='TOZ'")])
def test_refused_explainers(head, options, words, tmp_path):
    said = refusal(Explainer(fitted(head=head), **options), tmp_path)
    assert words in said and ":" in said and said.count(". ") == 0


def test_refused_networks(tmp_path):
    assert "resize='native'" in refusal(Explainer(fitted(resize="native")), tmp_path)
    assert "--pooled stages" in refusal(Explainer(fitted("vit", pooled=None)), tmp_path)

    class Sorts(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.last = nn.Conv2d(3, 8, 3, 4, 1), nn.Conv2d(8, 8, 3, 2, 1)

        def forward(self, x): return self.last(self.stem(x).cumsum(2)).mean((2, 3))
    model = EmbeddingClassifier(Backbone(Sorts().eval(), None, size=SIZE), logistic_head(), "all", progress=False).fit(LOGOS)
    assert "Sorts has the operator aten.cumsum" in refusal(Explainer(model), tmp_path)


def test_no_classifier(tmp_path):
    model = EmbeddingModel(backbone(), Ridge(), progress=False).fit(list(LOGOS.images), np.arange(len(LOGOS), dtype=float))
    assert "Ridge is no classifier" in refusal(Explainer(model), tmp_path)


# files

def test_what_falls_short_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setitem(onnx_file.LEAST["float32"], "combined", 1.1)
    with pytest.raises(ExportError, match="falls short of Python, so nothing is written"):
        export_onnx(Explainer(fitted("small")), tmp_path/"explainer.onnx", check=LOGOS.images[:1])
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(tmp_path):
    mine = tmp_path/"explainer.onnx"
    mine.write_text("mine")
    with pytest.raises(FileExistsError): export_onnx(Explainer(fitted()), mine)
    assert mine.read_text() == "mine"


def test_changed_and_other_files(usual_file, tmp_path):
    raw = usual_file[1].read_bytes()
    model = onnx.load_from_string(raw)
    onnx.helper.set_model_props(model, {"made": "elsewhere"})
    for content, words in ((raw[:-9], "changed"), (b"", "not written by embcam"), (model.SerializeToString(), "not written by embcam"),
                           (raw.replace(b'"classes"', b'"Classes"'), "changed")):
        (tmp_path/"other.onnx").write_bytes(content)
        with pytest.raises(ExportError, match=words): load_exported(tmp_path/"other.onnx")
    with pytest.raises(FileNotFoundError): load_exported(tmp_path/"none.onnx")


def test_an_image_that_cannot_be_read(usual_file, tmp_path):
    exported = load_exported(usual_file[1], 1)
    (tmp_path/"broken.png").write_bytes(b"not an image")
    with pytest.raises(ValueError, match="broken.png"): exported(tmp_path/"broken.png")
    with pytest.raises(ValueError, match="no such class"): exported(LOGOS.images[0], label="no such class")


def test_neither_torch_nor_scikit_learn_is_imported(usual_file):
    code = ("import sys, numpy as np; from embcam.export import load_exported; from embcam.cli import main; "
            f"ex = load_exported({str(usual_file[1])!r})(np.zeros((64, 64, 3), np.uint8)); "
            "ex.maps['combined'], ex.evidence; print({'torch', 'sklearn', 'skimage', 'scipy', 'matplotlib'} & set(sys.modules))")
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "set()"


def test_rank_correlation():
    m = np.arange(6.).reshape(2, 3)
    assert rank_correlation(m, m**3) == pytest.approx(1) and rank_correlation(m, -m) == pytest.approx(-1)
    assert (rank_correlation(0*m, 0*m), rank_correlation(m, 0*m)) == (1, 0)


# another runtime embeds

@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_runtimes(runtime):
    pytest.importorskip(runtime, reason=f"{runtime} is not installed")
    plain = backbone()
    other = plain.at_runtime(runtime)
    assert other.fingerprint != plain.fingerprint and runtime in repr(other)
    a, b = (one.uncached().embed(LOGOS.images[:6], progress=False) for one in (plain, other))
    assert (np.sum(a*b, 1)/np.linalg.norm(a, axis=1)/np.linalg.norm(b, axis=1)).min() > .99999
    assert list(fitted().predict(a)) == list(fitted().predict(b))


def test_refused_runtimes():
    with pytest.raises(ValueError, match="choose 'torch', 'onnxruntime'"): backbone().at_runtime("tensorrt")
    with pytest.raises(ValueError, match="resize='native'"): backbone(resize="native").at_runtime("onnxruntime")


# operators

X = torch.randn(1, 4, 6, 8, generator=torch.Generator().manual_seed(0))
OPERATORS = {
    "slice with steps": lambda x: x[:, :, 1::2, ::3], "flip": lambda x: x.flip(2, 3), "roll": lambda x: x.roll((1, 2), (2, 3)),
    "pad": lambda x: nn.functional.pad(x, (1, 2, 0, 3), value=2.), "split": lambda x: torch.cat(x.split([1, 3], 1)[::-1], 1),
    "chunk": lambda x: torch.stack(x.chunk(2, 3)), "topk": lambda x: x.flatten().topk(3).values, "any": lambda x: (x > 2).any(1).float(),
    "where": lambda x: torch.where(x > 0, x, 1.), "gelu": lambda x: nn.functional.gelu(x, approximate="tanh"),
    "rsqrt": lambda x: (x*x + 1).rsqrt(),
    "var": lambda x: x.var(1), "gather": lambda x: x.gather(1, (x > 0).long()), "compare": lambda x: ((x >= .5) != (x < 1)).float(),
    "matrix": lambda x: x[0, 0].addmm(x[0, 1], x[0, 2].new_ones(8, 8)), "mean": lambda x: x.mean((0, 2)), "prod": lambda x: x.prod(3),
    "max pool": lambda x: nn.functional.max_pool2d(x, 3, 2, 1, ceil_mode=True), "group norm": lambda x: nn.functional.group_norm(x, 2),
    "rsub": lambda x: 1 - x}


@pytest.mark.parametrize("name", OPERATORS)
def test_operators(name):
    raw = onnx_bytes(plain_graph(OPERATORS[name], X), {"x": X}, ["y"])
    made, = ort.InferenceSession(raw).run(None, {"x": (2*X).numpy()})
    np.testing.assert_allclose(made, OPERATORS[name](2*X).numpy(), rtol=1e-4, atol=1e-5)


GATES = {
    "slice": lambda x: x[:, :, ::2, 1::2], "unfold": lambda x: x.unflatten(2, (3, 2)).permute(0, 1, 3, 2, 4),
    "norm": lambda x: nn.functional.layer_norm(x, (8,)), "softmax": lambda x: x.softmax(3), "silu": nn.functional.silu,
    "hardsigmoid": nn.functional.hardsigmoid, "relu": torch.relu, "roll": lambda x: x.roll(2, 3),
    "attention": lambda x: nn.functional.scaled_dot_product_attention(x, x, x),
    "transposed": nn.ConvTranspose2d(4, 2, 3, 2, 1).requires_grad_(False), "maxima": lambda x: nn.functional.max_pool2d(x, 3, 2, 1),
    "averages": lambda x: nn.functional.avg_pool2d(x, 2)}


@pytest.mark.parametrize("name", GATES)
def test_gradients(name):
    def gradient(x):
        x = x.detach().requires_grad_()
        with torch.enable_grad(): y = GATES[name](x)
        return torch.autograd.grad(y.square().sum(), x)[0]
    raw = onnx_bytes(plain_graph(gradient, X), {"x": X}, ["y"])
    made, = ort.InferenceSession(raw).run(None, {"x": (2*X).numpy()})
    np.testing.assert_allclose(made, gradient(2*X).numpy(), rtol=1e-3, atol=1e-4)


def test_unknown_operators():
    with pytest.raises(NoOperator, match="aten.cumsum"): onnx_bytes(plain_graph(lambda x: x.cumsum(1), X), {"x": X}, ["y"])
