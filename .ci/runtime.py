"""The WebAssembly runtime that exported pages hold, as package data: python .ci/runtime.py onnxruntime-web-VERSION.tgz

The file is what `npm pack onnxruntime-web` brings. Kept are the smallest build (processor, one thread) and its bundle; the licence and the
notices of third parties come from the installed onnxruntime.
"""
import io
import json
import lzma
import sys
import tarfile
from importlib.metadata import distribution
from pathlib import Path

STATIC = Path(__file__).parents[1]/"embcam"/"static"
KEPT = {"package/dist/ort.wasm.bundle.min.mjs": "bundle.mjs", "package/dist/ort-wasm-simd-threaded.wasm": "runtime.wasm"}


def main(package: str) -> None:
    with tarfile.open(package) as whole:
        version = json.load(whole.extractfile("package/package.json"))["version"]
        files = {name: whole.extractfile(path).read() for path, name in KEPT.items()}
    notices = [distribution("onnxruntime").locate_file(f"onnxruntime/{name}") for name in ("LICENSE", "ThirdPartyNotices.txt")]
    files["licence.txt"] = b"\n\n".join(Path(path).read_bytes() for path in notices)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, content in sorted(files.items()):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    for old in STATIC.glob("onnxruntime-web-*.tar.xz"): old.unlink()
    out = STATIC/f"onnxruntime-web-{version}.tar.xz"
    out.write_bytes(lzma.compress(packed.getvalue(), preset=9 | lzma.PRESET_EXTREME))
    print(out.name, f"{out.stat().st_size/1e6:.2f} MB")


if __name__ == "__main__": main(*sys.argv[1:])
