"What embcam writes: whole or not at all, and readable again."
import inspect
import os
import signal
import sys
import threading
import types
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import skops.io
import torch
from scipy.stats import loguniform
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import FeatureAgglomeration
from sklearn.decomposition import PCA
from sklearn.ensemble import AdaBoostClassifier, RandomForestClassifier, StackingClassifier, VotingClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401, makes the next import possible
from sklearn.feature_selection import RFECV, SelectFromModel, SelectKBest, SelectPercentile, SequentialFeatureSelector, mutual_info_classif
from sklearn.gaussian_process import GaussianProcessClassifier, kernels
from sklearn.impute import KNNImputer
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV, SGDClassifier
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, RandomizedSearchCV, StratifiedKFold, TunedThresholdClassifierCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer, KBinsDiscretizer, PowerTransformer, QuantileTransformer, SplineTransformer
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier, export_graphviz
from sklearn.utils import all_estimators

from embcam.files import alone_in, atomic_file, atomic_folder, check_parent, check_writable, MARK, sweep, WriteError
from embcam.model import ModelError
from embcam.model.model_files import is_trusted, pack_estimator, read_model, write_model
from embcam.network import DiskCache

rng = np.random.default_rng(0)
X = rng.random((60, 8))
Y = (X[:, 0] + .1*rng.random(60) > .5).astype(int) + (X[:, 1] > .6)
L, S = LogisticRegression(), SVC()
NEED_MORE = {"ClassifierChain": "predicts several labels", "MultiOutputClassifier": "predicts several labels"}
ARGUMENTS = {"NuSVC": dict(nu=.1), "SelfTrainingClassifier": dict(estimator=L),
             "VotingClassifier": dict(estimators=[("l", L), ("t", DecisionTreeClassifier())]),
             "StackingClassifier": dict(estimators=[("l", L), ("t", DecisionTreeClassifier())])}
SEARCHES = {"grid": GridSearchCV(S, {"C": [1, 2]}, scoring="f1_macro", cv=StratifiedKFold(3)),
            "random": RandomizedSearchCV(S, {"C": loguniform(.1, 1)}, n_iter=2, random_state=0),
            "halving": HalvingGridSearchCV(S, {"C": [1, 2]})}
HEADS = {
    "selector": make_pipeline(FunctionTransformer(np.log1p), PowerTransformer(), SelectKBest(k=3), L),
    "partial": make_pipeline(FunctionTransformer(partial(np.power, 2.)), L),
    "select from a model": make_pipeline(SelectFromModel(RandomForestClassifier(5)), L),
    "mutual information": make_pipeline(SelectPercentile(mutual_info_classif), L),
    "rfecv": RFECV(L), "sequential": make_pipeline(SequentialFeatureSelector(L, n_features_to_select=2, scoring="accuracy"), L),
    "isotonic": CalibratedClassifierCV(LinearSVC(), method="isotonic"),
    "forest calibrated": CalibratedClassifierCV(RandomForestClassifier(5)),
    "kernels": GaussianProcessClassifier(kernels.Matern()*kernels.DotProduct() + kernels.RationalQuadratic()**2 + kernels.WhiteKernel()),
    "mlp": MLPClassifier(solver="sgd", early_stopping=True), "spline": make_pipeline(SplineTransformer(), L),
    "union": make_pipeline(make_union(PCA(2), SelectKBest()), L),
    "bins": make_pipeline(QuantileTransformer(n_quantiles=9), KBinsDiscretizer(3), L),
    "clusters": make_pipeline(FeatureAgglomeration(3), L),
    "imputer": make_pipeline(KNNImputer(), L), "own score": LogisticRegressionCV(scoring="f1_macro"),
    "sgd": SGDClassifier(loss="modified_huber"), "boosted": AdaBoostClassifier(S),
    "random state": RandomForestClassifier(5, random_state=np.random.RandomState(3)), "one against the rest": OneVsRestClassifier(S),
    **{f"neighbours, {a}, {m}": KNeighborsClassifier(metric=m, algorithm=a) for m in ("manhattan", "chebyshev",
        "canberra") for a in ("ball_tree", "brute")},
    **SEARCHES, "search in a pipeline": make_pipeline(PCA(3), SEARCHES["grid"]),
    "search of pipelines": GridSearchCV(make_pipeline(PCA(3), S), {"pca__n_components": [2, 3]}),
    "search calibrated": CalibratedClassifierCV(SEARCHES["random"]),
    "searches voting": VotingClassifier([("g", SEARCHES["halving"]), ("l", L)]),
    "searches stacked": StackingClassifier([("g", SEARCHES["grid"]), ("l", L)], final_estimator=GridSearchCV(L, {"C": [1]})),
    "search within a search": GridSearchCV(make_pipeline(SEARCHES["grid"]), {"gridsearchcv__cv": [2, 3]}),
    "search, one against the rest": OneVsRestClassifier(SEARCHES["grid"])}


def there_and_back(estimator, folder, values=X, y=Y, trusted=()):
    "Fit, write, read: predictions must agree."
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write_model(folder/"model", {}, {"x": values}, estimator.fit(values, y), values)
        again = read_model(folder/"model", trusted)[2]
    assert np.array_equal(again.predict(values), estimator.predict(values))
    for method in [m for m in ("predict_proba", "decision_function") if hasattr(estimator, m)]:
        assert np.allclose(getattr(again, method)(values), getattr(estimator, method)(values), rtol=1e-9, atol=1e-12)
    return again


@pytest.mark.parametrize("name, kind", [found for found in all_estimators(type_filter="classifier") if found[0] not in NEED_MORE])
def test_every_classifier_of_scikit_learn(name, kind, tmp_path):
    "With the arguments that some cannot do without, on two classes where more make no sense."
    first = next(iter(inspect.signature(kind).parameters.values()))
    needs = {"estimator": L} if (first.name, first.default) == ("estimator", first.empty) else {}
    there_and_back(kind(**ARGUMENTS.get(name, needs)), tmp_path, np.round(3*X) if name == "CategoricalNB" else X,
                   np.minimum(Y, 1) if "Threshold" in name else Y)


@pytest.mark.parametrize("name", HEADS)
def test_what_people_build(name, tmp_path): there_and_back(HEADS[name], tmp_path)


def test_tuned_threshold_with_a_score(tmp_path):
    there_and_back(TunedThresholdClassifierCV(L, scoring="f1_macro"), tmp_path, y=np.minimum(Y, 1))


@pytest.mark.parametrize("name", [name for name in HEADS if name.startswith("search") or name in SEARCHES])
def test_no_search_is_left(name):
    "Neither in what is used nor in the parameters; the original keeps it."
    data, _ = pack_estimator(estimator := HEADS[name].fit(X, Y), X)
    assert b"SearchCV" not in data and "SearchCV" in str(estimator)


@pytest.fixture
def library():
    "A library that embcam does not know."
    module = types.ModuleType("some_library")
    exec("from sklearn.linear_model import LogisticRegression\nclass Better(LogisticRegression): pass\n"
         "def double(values): return 2*values", vars(module))
    sys.modules["some_library"] = module
    yield module
    del sys.modules["some_library"]


def test_other_libraries_by_name(library, tmp_path):
    model = make_pipeline(FunctionTransformer(library.double), library.Better()).fit(X, Y)
    with pytest.warns(UserWarning, match="--trust some_library.Better --trust some_library.double") as told:
        write_model(tmp_path/"model", {}, {"x": X}, model, X)
    assert len(told) == 1
    with pytest.raises(ModelError,
                       match="some_library.Better, some_library.double, which embcam does not trust.*--trust some_library.Better"):
        read_model(tmp_path/"model")
    with pytest.raises(ModelError, match="holds some_library.double, which"): read_model(tmp_path/"model", "some_library.Better")
    assert read_model(tmp_path/"model", ("some_library.Better", "some_library.double"))[2].score(X, Y) == model.score(X, Y)


def test_boosters(tmp_path):
    "XGBoost and LightGBM, where they are installed."
    xgboost = pytest.importorskip("xgboost")
    again = there_and_back(xgboost.XGBClassifier(n_estimators=5), tmp_path,
                           trusted=("xgboost.core.Booster", "xgboost.sklearn.XGBClassifier"))
    assert again.n_features_in_ == 8
    lightgbm = pytest.importorskip("lightgbm")
    there_and_back(lightgbm.LGBMClassifier(n_estimators=5, verbose=-1), tmp_path/"more",
                   trusted=("lightgbm.basic.Booster", "lightgbm.sklearn.LGBMClassifier"))


class Forgetful(LogisticRegression):
    "Predicts otherwise once it was read again."
    def __getstate__(self): return super().__getstate__() | {"coef_": np.zeros_like(self.coef_)}


class Unwilling(LogisticRegression):
    "Holds something that skops cannot write."
    def fit(self, X, y):
        self.extra_ = np.zeros(2, dtype=[("a", object)])
        return super().fit(X, y)


def lost():
    "What cannot come back: (estimator, words of the refusal)."
    class Local(LogisticRegression): "Stands in a function."
    Script = type("Script", (LogisticRegression,), {"__module__": "__main__"})
    sys.modules["__main__"].Script = Script
    return [(make_pipeline(FunctionTransformer(lambda values: values), L), r"estimator.steps\[0\]\[1\].func is a lambda"),
            (make_pipeline(PCA(2), Local()), r"estimator.steps\[1\]\[1\] is .*Local, which its module does not hold"),
            (VotingClassifier([("s", Script()), ("l", L)]), "is Script, which stands in a script or a notebook"),
            (KNeighborsClassifier(metric=lambda a, b: abs(a - b).sum()), "estimator.metric is a lambda|could not be loaded again"),
            (Forgetful(), "its predict gives other values"), (Unwilling(), "cannot be saved")]


@pytest.mark.parametrize("case", range(6))
def test_refused_before_anything_is_written(case, tmp_path):
    estimator, words = lost()[case]
    with pytest.raises(ModelError, match=words): write_model(tmp_path/"model", {}, {"x": X}, estimator.fit(X, Y), X)
    assert not os.listdir(tmp_path)


def test_functions_that_do_more_than_compute_are_not_trusted(tmp_path):
    "A file that names a function of scikit-learn as a constructor would have it called."
    assert not is_trusted(f"{export_graphviz.__module__}.export_graphviz")
    data = skops.io.dumps(FunctionTransformer(export_graphviz))
    (tmp_path/"estimator.skops").write_bytes(data)
    assert [name for name in skops.io.get_untrusted_types(data=data) if not is_trusted(name)] == ["sklearn.tree._export.export_graphviz"]
    for name in ("sklearn.callback._transport.ListenerHandle", "sklearn.utils._testing.raises", "sklearn.externals._arff.load",
                 "sklearn.no.such", "sklearn", "", "sklearn..x"):
        assert not is_trusted(name)
    method = make_pipeline(FunctionTransformer(make_pipeline(PCA(2), memory="cache").fit_transform), L)
    assert any("fit_transform" in name and not is_trusted(name) for name in skops.io.get_untrusted_types(data=skops.io.dumps(method)))


def dies(function) -> int:
    "Run in a child that is killed in the end: the signal."
    if os.name != "posix": pytest.skip("no fork")
    if not (child := os.fork()):
        try: function()
        finally: os._exit(1)
    return os.WTERMSIG(os.waitpid(child, 0)[1])


def half(path):
    with atomic_folder(path, overwrite=True) as part:
        (part/"half").touch()
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("name", ["out", "a name of more than forty characters, äöü, which is shortened", "out [1] *"])
def test_a_killed_process_leaves_nothing_for_long(name, tmp_path):
    path = tmp_path/name
    assert dies(lambda: half(path)) == signal.SIGKILL and not path.exists() and len(os.listdir(tmp_path)) == 1
    with atomic_folder(path) as part: (part/"whole").touch()
    assert os.listdir(tmp_path) == [name]
    assert dies(lambda: half(path)) == signal.SIGKILL and (path/"whole").exists() and len(os.listdir(tmp_path)) == 2
    sweep(path)
    assert os.listdir(tmp_path) == [name]


def test_an_earlier_folder_is_put_back(tmp_path):
    with atomic_folder(tmp_path/"out") as part: (part/"whole").touch()
    os.replace(tmp_path/"out", tmp_path/".out-123-0123abcd-old")
    sweep(tmp_path/"ou")  # another name
    assert not (tmp_path/"out").exists()
    with pytest.raises(FileExistsError): check_writable(tmp_path/"out", False, "model")
    assert os.listdir(tmp_path/"out") and os.listdir(tmp_path) == ["out"]


def test_hidden_folders_of_others_stay(tmp_path):
    for name in (".out-old", ".out-12-x", ".out-abc-01234567", ".other-12-01234567", "out-12-01234567"): (tmp_path/name).mkdir()
    sweep(tmp_path/"out")
    assert len(os.listdir(tmp_path)) == 5


def with_a_full_disk(function, size: int = 20_000) -> str:
    "Run in a child that may write no file larger than `size` bytes: its error."
    if os.name != "posix": pytest.skip("no fork")
    resource = import_module("resource")
    read, write = os.pipe()
    if not (child := os.fork()):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        try: function()
        except BaseException as error: os.write(write, f"{type(error).__name__}: {error}".encode())
        finally: os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with os.fdopen(read) as pipe: return pipe.read()


@pytest.mark.parametrize("arrays, estimator", [({"x": np.zeros((500, 500))}, L), ({"x": X}, RandomForestClassifier(50, random_state=0))])
def test_full_disk_while_a_model_is_written(arrays, estimator, tmp_path):
    estimator.fit(X, Y)
    error = with_a_full_disk(lambda: write_model(tmp_path/"model", {}, arrays, estimator, X))
    assert error.startswith(f"WriteError: {tmp_path/'model'} cannot be written (") and "large" in error
    assert "\n" not in error and not os.listdir(tmp_path)


def test_full_disk_spares_what_was_there(tmp_path):
    write_model(tmp_path/"model", {}, {"x": X}, L.fit(X, Y), X)
    assert "cannot be written" in with_a_full_disk(lambda: write_model(tmp_path/"model", {}, {"x": np.zeros((500, 500))}, L, X,
        overwrite=True))
    assert os.listdir(tmp_path) == ["model"] and read_model(tmp_path/"model")[2].score(X, Y) == L.score(X, Y)


def test_full_disk_while_a_table_is_written(tmp_path):
    def write():
        with atomic_file(tmp_path/"t.csv") as part: part.write_bytes(bytes(100_000))
    assert f"{tmp_path/'t.csv'} cannot be written (File too large)" in with_a_full_disk(write) and not os.listdir(tmp_path)


def test_full_disk_while_embeddings_are_kept(tmp_path):
    error = with_a_full_disk(lambda: DiskCache(tmp_path).update({"key": np.zeros(10_000)}))
    assert error.startswith(f"OSError: {tmp_path} cannot keep embeddings") and not os.listdir(tmp_path)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="takes another user's part")
def test_folder_without_write_permission(tmp_path):
    def forbidden():
        os.setuid(65534)
        for make in (lambda: check_parent("/usr/t.csv"), lambda: check_writable("/usr/model", False, "model")):
            with pytest.raises(PermissionError, match="is no folder that you may write to"): make()
        with atomic_file("/usr/t.csv"): pass
    assert with_a_full_disk(forbidden).startswith("PermissionError: /usr/t.csv cannot be made: /usr is no folder that you may write to")


def test_errors_of_the_work_keep_their_words(tmp_path):
    "Only writing is named as writing."
    for error in (FileNotFoundError(2, "No such file", "other.png"), ValueError("no"), WriteError("elsewhere", "as it is")):
        with pytest.raises(type(error)) as found, atomic_folder(tmp_path/"out"): raise error
        assert found.value is error
    assert not os.listdir(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="Windows has no umask")
@pytest.mark.parametrize("umask, mode", [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_files_are_as_readable_as_the_user_s_others(umask, mode, tmp_path):
    before = os.umask(umask)
    try:
        L.fit(X, Y)
        model = write_model(tmp_path/"model", {}, {"a": np.zeros(3)}, L, X, tensors={"w": torch.zeros(3)})  # safetensors writes 0600
        with atomic_file(tmp_path/"alone") as part: part.chmod(0o400)
        with atomic_folder(tmp_path/"nested") as part:
            (part/"inner").mkdir()
            (part/"inner/file").touch(0o600)
    finally: os.umask(before)
    files = [*model.iterdir(), tmp_path/"alone", tmp_path/"nested/inner/file"]
    assert len(files) == 7 and {file.stat().st_mode & 0o777 for file in files} == {mode}
    assert model.stat().st_mode & 0o777 == mode | (mode & 0o444) >> 2


# two at once

def test_of_two_that_make_one_folder_the_last_one_wins(tmp_path):
    with atomic_folder(tmp_path/"out") as first, atomic_folder(tmp_path/"out") as second:
        (first/"first").touch()
        (second/"second").touch()  # the inner one ends first
    assert sorted(os.listdir(tmp_path)) == ["out"] and sorted(os.listdir(tmp_path/"out")) == [MARK, "first"]


@pytest.fixture
def restless():
    "Threads that change places all the time, as on a busy machine."
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.mark.parametrize("draw", range(5))
def test_many_at_the_same_moment_leave_one_whole_folder(draw, tmp_path, restless):
    start = threading.Barrier(8, timeout=60)

    def make(i):
        with atomic_folder(tmp_path/"out") as part:
            for name in "ab": (part/name).write_text(str(i))
            start.wait()
    with ThreadPoolExecutor(8) as pool: list(pool.map(make, range(8)))
    assert os.listdir(tmp_path) == ["out"] and (tmp_path/"out"/"a").read_text() == (tmp_path/"out"/"b").read_text()


def test_many_files_at_the_same_moment(tmp_path, restless):
    start = threading.Barrier(8, timeout=60)

    def make(i):
        with atomic_file(tmp_path/"out") as part:
            start.wait()
            part.write_text(str(i)*1000)
    with ThreadPoolExecutor(8) as pool: list(pool.map(make, range(8)))
    assert os.listdir(tmp_path) == ["out"] and len(set((tmp_path/"out").read_text())) == 1


def test_what_others_put_there_meanwhile_is_kept_and_so_is_the_work(tmp_path):
    with pytest.raises(FileExistsError, match="was made meanwhile, by another program.*out-2"), atomic_folder(tmp_path/"out") as part:
        (part/"work").touch()
        (tmp_path/"out").mkdir()
        (tmp_path/"out"/"mine").touch()
    assert os.listdir(tmp_path/"out") == ["mine"] and (tmp_path/"out-2"/"work").exists() and len(os.listdir(tmp_path)) == 2


def test_a_file_that_is_open_elsewhere(tmp_path, monkeypatch):
    "As Windows has it: what holds an open file cannot be moved."
    with atomic_folder(tmp_path/"out"): pass
    real = os.replace

    def replace(old, new):
        if Path(old) == tmp_path/"out": raise PermissionError(13, "Access is denied", str(old))
        real(old, new)
    monkeypatch.setattr("os.replace", replace)
    with pytest.raises(FileExistsError, match="has a file that is open in another program.*out-2"):
        with atomic_folder(tmp_path/"out", overwrite=True) as part: (part/"work").touch()
    assert (tmp_path/"out-2"/"work").exists()


@pytest.mark.skipif(os.name != "posix", reason="no locks on folders")
def test_a_second_run_in_one_folder_is_told(tmp_path):
    with alone_in(tmp_path), pytest.raises(FileExistsError, match="Another run is at work in"):
        with alone_in(tmp_path): pass
    with alone_in(tmp_path): pass  # the first has ended
