"""Baseline (b): C for a dense network in int8 with a scale per layer, as one would write it for clang.

Four forms: constant weights or weights in a map, loops unrolled or left alone. Where straight-line code would
outgrow the verifier, rows are called by `bpf_loop`, and what is unrolled is 16 columns of a row.
Activations live in a map value: on the stack, the unrolled forms do not compile.
"""
import math
import os
import struct
from pathlib import Path

from .common import run
from .models import Layer

# More multiply-accumulates than this are neither unrolled nor walked iteration by iteration.
STRAIGHT = 20_000
FRACTION = 16

HEAD = """#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
typedef signed char s8;
typedef unsigned char u8;
typedef int s32;
typedef unsigned int u32;
typedef long long s64;
typedef unsigned long long u64;
/* 0 to 255 without a branch. */
#define CLAMP(v) ({ s64 _v = (v); _v &= ~(_v >> 63); _v -= 255; _v &= _v >> 63; _v + 255; })
#define ARRAY(name, kind) struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); \\
	__type(key, u32); __type(value, kind); } name SEC(".maps")
"""


def quantised(layer: Layer) -> tuple[list[int], list[int], int]:
    """Weights, biases, and the factor that brings sums back to 0 to 255."""
    scale = 127 / max(max(abs(value) for value in layer.weights), 1e-9)
    weights = [round(value * scale) for value in layer.weights]
    biases = [round(value * scale * 64) for value in layer.bias]
    norm = math.sqrt(sum(value * value for value in weights) / layer.rows)
    return weights, biases, max(1, round((1 << FRACTION) / max(norm, 1)))


def numbers(values: list[int]) -> str:
    return "{" + ",".join(map(str, values)) + "}"


def source(layers: list[Layer], constant: bool, unrolled: bool) -> str:
    """One program `infer`; the harness fills `net` where weights are in a map."""
    straight = sum(layer.rows * layer.columns for layer in layers) <= STRAIGHT
    pragma = '_Pragma("clang loop unroll(full)") ' if unrolled and straight else ""
    part = '_Pragma("clang loop unroll_count(16)") ' if unrolled and not straight else pragma
    text = [HEAD, f"struct io {{ s64 x[{layers[0].columns}]; u8 in[{layers[0].columns}];"]
    text += [f" u8 h{index}[{layer.rows}];" for index, layer in enumerate(layers[:-1])]
    text.append(f" s32 out[{layers[-1].rows}]; u32 label; }};\nstruct net {{")
    text += [f" s8 w{index}[{layer.rows * layer.columns}];" for index, layer in enumerate(layers)]
    text += [f" s32 b{index}[{layer.rows}];" for index, layer in enumerate(layers)]
    text.append(" };\nARRAY(ios, struct io);\n")
    if constant:
        for index, layer in enumerate(layers):
            weights, biases, _ = quantised(layer)
            text.append(f"static const s8 w{index}[] = {numbers(weights)};\n")
            text.append(f"static const s32 b{index}[] = {numbers(biases)};\n")
    else:
        text.append("ARRAY(nets, struct net);\n")
    prefix = "" if constant else "net->"
    body, callbacks = [], []
    for index, layer in enumerate(layers):
        last = index == len(layers) - 1
        read = "in" if index == 0 else f"h{index - 1}"
        factor = quantised(layer)[2]
        write = "io->out[i] = sum;" if last else f"io->h{index}[i] = CLAMP((sum * {factor}LL + {1 << FRACTION - 1}) >> {FRACTION});"
        inner = (f"s64 sum = {prefix}b{index}[i]; {part}for (int j = 0; j < {layer.columns}; j++)"
                 f" sum += (s32){prefix}w{index}[i * {layer.columns} + j] * io->{read}[j]; {write}")
        if straight:
            body.append(f"\t{pragma}for (int i = 0; i < {layer.rows}; i++) {{ {inner} }}\n")
        else:
            callbacks.append(f"static long layer{index}(u32 i, struct at *at)\n{{\n\tstruct io *io = at->io;\n"
                             f"\tstruct net *net = at->net;\n\tif (i >= {layer.rows}) return 1;\n\t{inner}\n\treturn 0;\n}}\n")
            body.append(f"\tbpf_loop({layer.rows}, layer{index}, &at, 0);\n")
    if callbacks:
        text += ["struct at { struct io *io; struct net *net; };\n", *callbacks]
    text.append('SEC("xdp") int infer(struct xdp_md *context)\n{\n\tu32 zero = 0, label = 0;\n'
                "\tstruct io *io = bpf_map_lookup_elem(&ios, &zero);\n\tstruct net *net = 0;\n\tif (!io) return 0;\n")
    if not constant:
        text.append("\tnet = bpf_map_lookup_elem(&nets, &zero);\n\tif (!net) return 0;\n")
    if callbacks:
        text.append("\tstruct at at = { io, net };\n")
    text.append(f"\t{pragma}for (int j = 0; j < {layers[0].columns}; j++) io->in[j] = CLAMP((io->x[j] * 90112 + 32768) >> 16);\n")
    text += body
    text.append(f"\ts32 best = io->out[0];\n\t{pragma}for (int i = 1; i < {layers[-1].rows}; i++) "
                "{ s64 more = ((s64)best - io->out[i]) >> 63; label = (label & ~more) | (i & more);"
                " best = (best & ~more) | (io->out[i] & more); }\n"
                "\tio->label = label;\n\treturn XDP_PASS;\n}\nchar program_license[] SEC(\"license\") = \"GPL\";\n")
    return "".join(text)


def parameters(layers: list[Layer]) -> bytes:
    """`struct net` as the compiler lays it out."""
    parts = [quantised(layer) for layer in layers]
    data = b"".join(struct.pack(f"{len(weights)}b", *weights) for weights, _, _ in parts)
    data += bytes(-len(data) % 4)
    return data + b"".join(struct.pack(f"<{len(biases)}i", *biases) for _, biases, _ in parts)


def forms() -> list[tuple[str, bool, bool]]:
    """Name, constant weights, unrolled."""
    return [(f"{'const' if constant else 'map'} {'unrolled' if unrolled else 'looped'}", constant, unrolled)
            for constant in (True, False) for unrolled in (True, False)]


def compile_form(layers: list[Layer], constant: bool, unrolled: bool, out: Path) -> None:
    out.with_suffix(".c").write_text(source(layers, constant, unrolled))
    clang(out.with_suffix(".c"), out)


def clang(path: Path, out: Path, *defines: str) -> None:
    include = f"-I/usr/include/{os.uname().machine}-linux-gnu"
    run("clang", "-g", "-O3", "-target", "bpf", "-mcpu=v3", include, *defines, "-c", path, "-o", out)
