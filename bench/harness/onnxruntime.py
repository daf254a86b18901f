"""The shared library of onnxruntime, out of its Python package: the benchmark needs no Python binding of it."""
import subprocess
import sys
import zipfile
from pathlib import Path

from .common import ROOT, Skip

HERE = ROOT / "target" / "bench" / "onnxruntime"
PACKAGE = "onnxruntime>=1.20"
PATIENCE = 120


def library() -> Path:
    """Downloads the package once, with pip; whoever has no network gets a visible skip."""
    found = sorted(HERE.glob("libonnxruntime.so.*"))
    if found:
        return found[0]
    HERE.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "-d", str(HERE), PACKAGE]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        raise Skip("downloading onnxruntime took too long") from None
    wheels = sorted(HERE.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        words = done.stderr.strip().splitlines()
        raise Skip(f"onnxruntime cannot be had with pip: {words[-1] if words else 'no package'}")
    with zipfile.ZipFile(wheels[0]) as wheel:
        for name in wheel.namelist():
            if Path(name).name.startswith("libonnxruntime.so."):
                (HERE / Path(name).name).write_bytes(wheel.read(name))
    wheels[0].unlink()
    found = sorted(HERE.glob("libonnxruntime.so.*"))
    if not found:
        raise Skip("the package of onnxruntime holds no shared library")
    return found[0]
