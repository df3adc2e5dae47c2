"""Embedding from files: embcam against torchvision's loop in float32, and against OpenVINO and ONNX Runtime where they are installed.

python benchmarks/embedding_speed.py FOLDER [--images 64] [--predictions 480] [--rounds 5] [--pooled stages] [--out
    nbs/results/embedding_speed.csv]

FOLDER holds classes in subfolders, such as photographs of circuit boards (DeepPCB). All sides embed the same files with the same network in
one run, alternating: a warm-up on eight, then `rounds` rounds, of which the median of the ratios to torchvision's loop is taken (images a
second).
torchvision's loop is the one from its documentation: open, transform, stack 32, run the network, in float32 with contiguous memory.

Columns: side; images a second from files; that over torchvision's; decoding and preparing alone; the network alone; the smallest cosine to
torchvision's embeddings; and the predictions that differ on the held-out quarter, of a logistic regression and of a forest, if the head
is fitted
on torchvision's embeddings and asked with this side's (`same head`), and if it is fitted on this side's (`own head`).
"""
import argparse
import importlib.util
import platform
import re
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torchvision import transforms

from embcam.images import load_folder
from embcam.network import Backbone

HEADS = {"logistic": lambda: make_pipeline(StandardScaler(), LogisticRegression(C=.1, max_iter=2000)),
         "forest": lambda: RandomForestClassifier(300, random_state=0)}


def transform_of(backbone):
    "torchvision's way to the backbone's input."
    mode = transforms.InterpolationMode(backbone.interpolation)
    return transforms.Compose([transforms.Resize((backbone.size,)*2, mode), transforms.ToTensor(),
                               transforms.Normalize(backbone.mean, backbone.std)])


class Loop:
    "Files to embeddings in torchvision's way, with any function from a batch to embeddings."
    def __init__(self, backbone, network, batch=32): self.transform, self.network, self.batch = transform_of(backbone), network, batch

    def prepare(self, files): return [self.transform(Image.open(file).convert("RGB")) for file in files]

    @torch.inference_mode()
    def run(self, inputs):
        return np.concatenate([np.asarray(self.network(torch.stack(inputs[i:i + self.batch]))) for i in range(0, len(inputs), self.batch)])

    def embed(self, files):
        return np.concatenate([self.run(self.prepare(files[i:i + self.batch])) for i in range(0, len(files), self.batch)])


class Ours:
    "embcam's own way."
    def __init__(self, backbone): self.backbone = backbone.uncached()

    def prepare(self, files):
        from embcam.images import open_image
        return [self.backbone.prepare(open_image(file))[0] for file in files]

    def run(self, inputs):
        return np.concatenate([self.backbone.embed_inputs(inputs[i:i + 32]) for i in range(0, len(inputs), 32)])

    def embed(self, files): return self.backbone.embed(files, progress=False)


def openvino(network, size, precision):
    "The network compiled by OpenVINO for this processor."
    import openvino as ov
    model = ov.convert_model(network, example_input=torch.zeros(1, 3, size, size))
    options = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    compiled = ov.Core().compile_model(model, "CPU", options)
    return lambda x: compiled(x.numpy())[0]


def onnxruntime(network, size):
    "The network in ONNX Runtime, float32."
    import io

    import onnxruntime as ort
    file = io.BytesIO()
    torch.onnx.export(network, torch.zeros(1, 3, size, size), file, dynamo=False, input_names=["x"], output_names=["e"],
                      dynamic_axes={"x": {0: "n"}, "e": {0: "n"}})
    options = ort.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = ort.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {"x": x.numpy()})[0]


def sides_of(backbone, fast):
    "{name: side}, torchvision's first."
    sides = {"torchvision, float32": Loop(backbone, backbone.network),
             "torchvision, float32, batches of 4": Loop(backbone, backbone.network, 4),
             "embcam, float32": Ours(backbone)}
    if fast: sides["embcam, bfloat16"] = Ours(fast)
    if importlib.util.find_spec("onnxruntime"):
        sides["ONNX Runtime, float32"] = Loop(backbone, onnxruntime(backbone.network, backbone.size), 8)
    if importlib.util.find_spec("openvino"):
        for precision in ("f32", "bf16") if fast else ("f32",):
            sides[f"OpenVINO, {precision}"] = Loop(backbone, openvino(backbone.network, backbone.size, precision), 8)
    return sides


def seconds(function, *args):
    start = time.perf_counter()
    function(*args)
    return time.perf_counter() - start


def changed(right, E, train, test, labels, head):
    "Predictions that differ from those on torchvision's embeddings: of the same head, and of one fitted on these."
    fitted = HEADS[head]().fit(right[train], labels[train])
    before = fitted.predict(right[test])
    return int((fitted.predict(E[test]) != before).sum()), int((HEADS[head]().fit(E[train],
        labels[train]).predict(E[test]) != before).sum())


def processor():
    "Its name, and whether it has bfloat16."
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    name = re.search(r"model name\s*: (.*)", text)
    flags = [flag for flag in ("avx512f", "avx512_bf16", "amx_bf16") if flag in text]
    return f"{name[1] if name else platform.processor()} ({', '.join(flags)}), {torch.get_num_threads()} thread(s)"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--images", type=int, default=64, help="files that are timed (default: %(default)s)")
    parser.add_argument("--predictions", type=int, default=480,
                        help="files for the heads, a quarter of them held out (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="(default: %(default)s)")
    parser.add_argument("--pooled", help="'stages' for an embedding of several stages")
    parser.add_argument("--out", help="CSV to write; default: print only")
    args = parser.parse_args()
    images = load_folder(args.folder, progress=False)
    images = images[np.random.default_rng(0).permutation(len(images))[:args.predictions]]
    train, test = np.split(np.arange(len(images)), [len(images)*3//4])
    files = images.images[:args.images]
    backbone, fast = Backbone(pooled=args.pooled), Backbone(pooled=args.pooled, precision="auto")
    sides = sides_of(backbone, fast if fast.precision == "bfloat16" else None)
    for side in sides.values(): side.embed(files[:8])
    times = {name: [] for name in sides}
    inputs = {name: side.prepare(files) for name, side in sides.items()}
    for _ in range(args.rounds):
        for name, side in sides.items():
            times[name].append((seconds(side.embed, files), seconds(side.prepare, files), seconds(side.run, inputs[name])))
    times = {name: np.array(each) for name, each in times.items()}
    first, rows = next(iter(sides)), []
    right = sides[first].embed(images.images)
    for name, side in sides.items():
        E = right if name.startswith("torchvision") else side.embed(images.images)
        cosine = ((E*right).sum(1)/np.linalg.norm(E, axis=1)/np.linalg.norm(right, axis=1)).min()
        differ = {head: changed(right, E, train, test, np.asarray(images.labels), head) for head in HEADS}
        whole, prepare, run = (len(files)/np.median(times[name], 0)).round(1).tolist()
        rows.append({"side": name, "images/s": whole, "ratio": round(float(np.median(times[first][:, 0]/times[name][:, 0])), 2),
                     "prepare/s": prepare, "network/s": run,
                     "cosine": round(float(cosine), 6),
                     **{f"{head}, {kind} head": n for head, both in differ.items() for kind, n in zip(("same", "own"), both)}})
        print(rows[-1], flush=True)
    table = pd.DataFrame(rows).assign(predictions=len(test), machine=processor())
    print(table.iloc[0, -2:].to_dict())
    if args.out: table.to_csv(args.out, index=False)


if __name__ == "__main__": sys.exit(main())
