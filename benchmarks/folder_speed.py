"""What Ray costs against the plain loop, how much memory the driver takes, and what a row weighs.

python benchmarks/folder_speed.py [--n 2000] [--many 100000] [--skip-ray] [--csv nbs/results/scale.csv]

Drawn logos of 224 px, EfficientNet-Lite0 with four stages, one thread for each worker. The loop and Ray embed the same folder with as many
workers as there are cores (the loop: as many processes, each with its share of the folder), in turn, so that both meet the same load of the
machine. Both are timed whole, imports, network and Ray's start included, and once more without the start, where Ray's workers are taken to
need as long as the loop. Core seconds count what processes used, whatever else the machine did. Memory: the resident size of the driver
over
a folder of many tiny files, after each fifth of them, with a worker that only counts.
"""
import argparse
import csv
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np
from PIL import Image

from embcam.explanation import Explainer
from embcam.images import list_images, make_logos
from embcam.model import HEADS, EmbeddingClassifier
from embcam.network import Backbone
from embcam.scale import embed_folder, explain_files
from embcam.scale.parts import run_parts
from embcam.scale.parts import Ledger, cut_parts

LOOP = """import sys
from embcam.network import Backbone
from embcam.scale import embed_folder
embed_folder(sys.argv[1], sys.argv[2], Backbone(pooled='stages', cache=False), part_size=64, progress=False)"""


def seconds() -> np.ndarray:
    "By the clock, and on the cores: of this process and of those that have ended."
    used = os.times()
    return np.array([perf_counter(), sum(used[:4])])


def write(folder: Path, n: int, shares: int, size: int = 224) -> None:
    "Drawn logos as PNG, dealt out to folders of equal size."
    some = make_logos(min(n, 200), seed=0, size=size, progress=False).images
    for i in range(n):
        path = folder/f"share-{i % shares}"/f"{i:06}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = some[i % len(some)].copy()
        image[0, :3] = [[i % 256, i//256 % 256, i//65536]]*3  # no two alike
        Image.fromarray(image).save(path, compress_level=1)


def loop(folder: Path, out: Path, shares: int) -> np.ndarray:
    "Seconds by the clock and on the cores of one plain loop for each core, side by side, imports included."
    start = seconds()
    jobs = [subprocess.Popen([sys.executable, "-c", LOOP, str(folder/f"share-{i}"), str(out/f"{i}")],
                             env=os.environ | dict(OMP_NUM_THREADS="1")) for i in range(shares)]
    codes = [job.wait() for job in jobs]
    if any(codes): raise SystemExit("a loop failed")
    return seconds() - start


def started(out: Path) -> np.ndarray:
    "The same of a process that has no image to embed: imports and network."
    empty = out/"none"
    (empty/"share-0").mkdir(parents=True)
    return loop(empty, out/"start", 1)


def start_ray(workers: int) -> float:
    "Seconds to start Ray."
    import ray
    start = perf_counter()
    ray.init(address="local", num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level="warning")
    return perf_counter() - start


def with_ray(backbone: Backbone, folder: Path, out: Path, workers: int) -> float:
    "Seconds to start the workers, and to embed."
    start = perf_counter()
    embed_folder(folder, out, backbone, part_size=64, progress=False, engine="ray", workers=workers)
    return perf_counter() - start


def count(part):
    "Work that does nothing."
    import pyarrow as pa
    return pa.table(dict(done=[len(part)]))


def resident() -> float: return int(Path("/proc/self/statm").read_text().split()[1])*os.sysconf("SC_PAGE_SIZE")/2**20


def memory(folder: Path, n: int, engine: str) -> list[float]:
    "Resident size of this process, MiB, before and after each fifth of `n` tiny files."
    for i in range(n):
        path = folder/f"{i//1000:03}"/f"{i:06}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists(): path.write_bytes(f"{i}".encode())
    sizes, done = [resident()], 0
    for answer in run_parts(count, cut_parts(list_images(folder), Ledger({}), 256), engine=engine,
                            **dict(workers=2) if engine == "ray" else {}):
        done += sum(answer["done"].to_pylist())
        if done >= len(sizes)*n/5: sizes.append(resident())
    return sizes


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--many", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--skip-ray", action="store_true")
    parser.add_argument("--csv")
    args = parser.parse_args()
    cores, found = len(os.sched_getaffinity(0)), {}
    print(f"{platform.machine()}, {cores} cores, load {os.getloadavg()[0]:.1f}, one thread each")
    with tempfile.TemporaryDirectory() as home:
        home = Path(home)
        for engine in ["local", *([] if args.skip_ray else ["ray"])]:
            sizes = memory(home/"many", args.many, engine)
            found[f"driver, {engine}: bytes per image"] = (sizes[-1] - sizes[1])*2**20/(args.many*.8)
            print(f"driver's memory, {engine}, before and after each fifth of {args.many:,} tiny images: "
                  f"{', '.join(f'{size:.0f}' for size in sizes)} MiB", flush=True)
        write(home/"photos", args.n, cores)
        backbone, start = Backbone(pooled="stages", cache=False), started(home)
        loops, rays, begun = [], [], None if args.skip_ray else start_ray(cores)
        for i in range(args.rounds):
            loops.append(loop(home/"photos", home/f"loop-{i}", cores))
            if args.skip_ray: continue
            rays.append(begun + with_ray(backbone, home/"photos", home/f"ray-{i}", cores))
            print(f"round {i}: loop {loops[-1][0]:.1f} s, {start[0]:.1f} s of it to start; Ray {rays[-1]:.1f} s, {begun:.1f} s of it to "
                  f"start", flush=True)
        (wall, core), ready = np.min(loops, 0), start[0]
        found |= {"images": args.n, "cores": cores, "images per second": args.n/(wall - ready),
                  "core seconds per image": (core - cores*start[1])/args.n}
        if rays:
            once = (min(rays) - begun - ready)/(wall - ready)
            found |= {"Ray over loop, whole run": min(rays)/wall, "Ray over loop, once started": once, "seconds to start Ray": begun}
        size = sum(f.stat().st_size for f in home.glob("loop-0/*/embeddings.parquet/*"))
        found |= {"bytes of embedding": size/args.n, "bytes of image": np.mean([f.stat().st_size for f in (home/"photos").rglob("*.png")])}
        begun = seconds()
        list(cut_parts(list_images(home/"photos"), Ledger({}), 256))
        found["core seconds of hashing per image"] = (seconds() - begun)[1]/args.n
        logos, few = make_logos(120, seed=1, progress=False), list(list_images(home/"photos"))[:8]
        for head in ("forest", "logistic"):
            make, n_features = HEADS[head]
            explainer, begun = Explainer(EmbeddingClassifier(backbone, make(), n_features, progress=False).fit(logos)), seconds()
            explain_files(few, home/head, explainer, progress=False)
            found[f"core seconds per explanation, {head}"] = (seconds() - begun)[1]/len(few)
        found["bytes of explanation"] = sum(f.stat().st_size for f in (home/"logistic").rglob("*") if f.is_file())/len(few)
    for name, value in found.items(): print(f"{name}: {value:.4g}")
    if args.csv:
        with open(args.csv, "w", newline="") as file:
            csv.writer(file).writerows([("what", "value"), *((name, f"{value:.4g}") for name, value in found.items())])


if __name__ == "__main__": sys.exit(main())
