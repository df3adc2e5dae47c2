"""How long embcam takes to begin: seconds, processor seconds and memory of `embcam --help`, and of `embcam predict` on one image.

python benchmarks/startup.py [CHECKOUT...]

Medians of five runs, after one that warms the disk cache; several checkouts (default: this one) take turns, so that all meet the same
load. Beside them `import torch`
and `import timm`, which brings torchvision and with it torch._dynamo: below their sum no command with the default network can come. The
model is a forest on drawn logos.
"""
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

RUN = "import sys; from embcam.cli import main; sys.exit(main(sys.argv[1:]))"


# in a process of its own: a child's peak of memory is never below what its parent had when it was started
PREPARE = """import sys
from pathlib import Path
from PIL import Image
from embcam import Backbone, EmbeddingClassifier, make_logos
home = Path(sys.argv[1])
train, test = make_logos(60, size=112, seed=0, progress=False).split(seed=0)
EmbeddingClassifier(Backbone()).fit(train).save(home/"model")
(home/"one").mkdir()
Image.fromarray(test.images[0]).save(home/"one"/"a.png")"""


def measure(checkout: str, code: str, *arguments) -> tuple[float, float, float]:
    "Run Python code in a process of its own: (seconds, processor seconds, peak of memory in MB)."
    environment, start = os.environ | dict(PYTHONPATH=checkout, OMP_NUM_THREADS="1"), time.perf_counter()
    with open(os.devnull, "w") as nowhere:
        quiet = [(os.POSIX_SPAWN_DUP2, nowhere.fileno(), n) for n in (1, 2)]
        child = os.posix_spawn(sys.executable, [sys.executable, "-c", code, *map(str, arguments)], environment, file_actions=quiet)
        _, status, used = os.wait4(child, 0)
    assert status == 0, (code, arguments)
    return time.perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss/1024  # kilobytes on Linux


if __name__ == "__main__":
    checkouts = sys.argv[1:] or [str(Path(__file__).parents[1])]
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        measure(checkouts[0], PREPARE, home)
        cases = {f"{what}, {checkout}": (checkout, RUN, *arguments) for checkout in checkouts for what, arguments in
                 (("embcam --help", ["--help"]), ("embcam predict, one image", ["predict", home/"model", home/"one", "--out", home/"t.csv",
                     "--force"]))}
        cases |= {code: (checkouts[0], code) for code in ("import torch", "import timm", "import skops.io")}
        found = {name: [] for name in cases}
        for i in range(6):
            for name, case in cases.items():
                if (seen := measure(*case)) and i: found[name].append(seen)
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    for name, values in found.items():
        wall, cpu, memory = map(statistics.median, zip(*values))
        print(f"{name}: {wall:.2f} s, processor {cpu:.2f} s, {memory:.0f} MB")
