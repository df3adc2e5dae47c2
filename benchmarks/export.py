"""Exported explainers against Python: do they say the same, how fast, how large?

python benchmarks/export.py deeppcb=FOLDER bccd=FOLDER logos --out CSV [--n 100] [--few 25] [--train 400] [--heads logistic svm forest]
    [--floor 12]

Sets as in benchmarks/label_issues.py. A quarter is held out; a head is fitted on at most --train images of the rest, and n held-out images
are explained by Python and by the file: --n for the first head in float32, --few for all others. A row per set, head and kind of
weights (float16 for the first head only):
classes: images with the same class; scores, embedding: largest difference, the second as a share of its length; margins: largest
difference as a share of the largest margin; combined, layers: least rank correlation of a map; combined_mean, layers_mean: mean ones;
floor_combined, floor_layers: the same between Python in float32 and Python with a network in float64, on --floor images;
mb: the file; export_seconds: with its check on 8 images; ms, openvino_ms: CPU time of an explanation in one thread, median of 15;
times, openvino_times: over the plain network as ONNX in the same runtime.
A last row, `start`: wall time and peak memory of a process that explains one image by `load_exported` (seconds, memory_mb), and of `embcam
predict` on the model's folder (python_seconds, python_mb).
OMP_NUM_THREADS=1.
"""
import copy
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
import onnxruntime as ort
import pandas as pd
import torch
from PIL import Image

from common import labelled, sets_parser
from embcam import Backbone, EmbeddingClassifier, Explainer
from embcam.export import load_exported
from embcam.export.onnx_file import compare_exported, export_onnx
from embcam.export.twin import Twin
from embcam.images import open_image
from embcam.model import HEADS
from embcam.network.graphs import plain_graph
from embcam.network.onnx_graph import onnx_bytes


def fitted(images, backbone, head, train):
    "The held-out quarter, and a classifier of some of the rest."
    rest, test = images.split(test_size=.25, seed=0)
    some = np.sort(np.random.default_rng(0).permutation(len(rest))[:train])
    make, features = HEADS[head]
    return EmbeddingClassifier(backbone, make(), n_features=features, progress=False).fit(rest[some]), test


def in_double(explainer):
    "The same explainer with its network in double precision."
    model = copy.copy(explainer.classifier)
    network = copy.deepcopy(model.backbone.network).double()
    model.backbone = model.backbone.with_network(network, "float64")
    return explainer.replace(classifier=model)


def margins_apart(explainer, exported, sources):
    "Largest difference of margins, as a share of the largest margin."
    head, trace = explainer.classifier.head_, explainer.classifier.trace
    right = np.stack([head.margins(trace(source).embedding)[0] for source in sources])
    other = np.stack([list(exported(source).margins.values()) for source in sources])
    return np.abs(right - other).max()/np.abs(right).max()


def milliseconds(run, repeats=15):
    "Median CPU time."
    run()
    times = []
    for _ in range(repeats):
        start = process_time()
        run()
        times.append(process_time() - start)
    return 1e3*float(np.median(times))


def runners(raw, feeds):
    "A file's content in both runtimes, one thread each."
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(raw, options)
    found = {"": lambda: session.run(None, feeds)}
    try: import openvino
    except ImportError: return found
    core = openvino.Core()
    core.set_property("CPU", {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"})
    compiled = core.compile_model(core.read_model(raw), "CPU")
    return found | {"openvino_": lambda: compiled(feeds)}


def speed(explainer, raw):
    "Times of the file and of the plain network."
    twin = Twin(explainer)
    feeds = {name: x.numpy() for name, x in twin.inputs().items()}
    image = twin.inputs()["image"]
    with torch.no_grad(): plain = onnx_bytes(plain_graph(twin.network, image), {"image": image}, ["embedding"])
    whole, alone = runners(raw, feeds), runners(plain, {"image": feeds["image"]})
    found = {}
    for name in whole:
        found[f"{name}ms"] = milliseconds(whole[name])
        found[f"{name}times"] = found[f"{name}ms"]/milliseconds(alone[name])
    return found


def started(command):
    "Wall seconds of a process."
    start = perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return perf_counter() - start


def peak(command):
    "Peak memory of a process, MB: measured by a process that has this one child."
    code = ("import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, capture_output=True); "
            "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)")
    return int(subprocess.run([sys.executable, "-c", code, *command], check=True, capture_output=True, text=True).stdout)/1e3


def starting(explainer, file, image, home):
    "Start and memory of both ways to one prediction."
    explainer.classifier.save(home/"model")
    (home/"one").mkdir()
    Image.fromarray(image).save(home/"one/image.png")
    code = f"from embcam.export import load_exported; load_exported({str(file)!r})({str(home/'one/image.png')!r}).maps['combined']"
    ours = [sys.executable, "-c", code]
    theirs = [sys.executable, "-c", "import sys; from embcam.cli import main; sys.exit(main(sys.argv[1:]))", "predict",
              str(home/"model"), str(home/"one"), "--force", "--out", str(home/"table.csv")]
    return dict(seconds=min(started(ours) for _ in range(5)), memory_mb=peak(ours),
                python_seconds=min(started(theirs) for _ in range(3)), python_mb=peak(theirs))


def measure(explainer, test, n, floor, weights, home):
    "One row."
    file = home/f"{weights}.onnx"
    sources = [test.images[i] for i in np.sort(np.random.default_rng(1).permutation(len(test))[:n])]
    start = perf_counter()
    export_onnx(explainer, file, weights, check=sources[:8], overwrite=True)
    seconds, exported = perf_counter() - start, load_exported(file, 1)
    found, least = compare_exported(explainer, exported, sources), {}
    if floor:
        base = compare_exported(explainer, in_double(explainer), sources[:floor])
        least = dict(floor_combined=base["correlation"]["combined"], floor_layers=min([*base["correlation"].values()][1:]))
    layers, means = [*found["correlation"].values()][1:], [*found["mean"].values()][1:]
    return dict(images=len(sources), classes=found["classes"], scores=found["scores"], embedding=found["embedding"],
                margins=margins_apart(explainer, exported, sources[:20]), combined=found["correlation"]["combined"], layers=min(layers),
                combined_mean=found["mean"]["combined"], layers_mean=float(np.mean(means)), **least, mb=file.stat().st_size/1e6,
                export_seconds=seconds, **speed(explainer, file.read_bytes()))


def main():
    parser = sets_parser(__doc__)
    parser.add_argument("--n", type=int, default=100)
    parser.add_argument("--few", type=int, default=25)
    parser.add_argument("--train", type=int, default=400)
    parser.add_argument("--heads", nargs="+", default=["logistic", "svm", "forest"])
    parser.add_argument("--floor", type=int, default=12)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for one in args.sets:
        name, _, folder = one.partition("=")
        images, backbone = labelled(folder or name), Backbone(pooled="stages")
        for head in args.heads:
            model, test = fitted(images, backbone, head, args.train)
            explainer = Explainer(model)
            for weights in ("float32", "float16") if head == args.heads[0] else ("float32",):
                with tempfile.TemporaryDirectory() as home:
                    first = head == args.heads[0] and weights == "float32"
                    row = measure(explainer, test, args.n if first else args.few, args.floor*first, weights, Path(home))
                    rows.append(dict(set=name, head=head, weights=weights) | row)
                    print(rows[-1], flush=True)
                    if len(rows) == 1:
                        image = open_image(test.images[0])
                        start = starting(explainer, Path(home, "float32.onnx"), image, Path(home))
                pd.DataFrame([*rows, dict(set="start") | start]).to_csv(args.out, index=False, float_format="%.6g")


if __name__ == "__main__": main()
