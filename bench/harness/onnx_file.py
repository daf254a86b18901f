"""ONNX files without the onnx package: the few messages of `onnx.proto` that the benchmark writes and reads."""
import struct
from array import array
from pathlib import Path
from typing import Iterator

FLOAT, INT64 = 1, 7


def varint(value: int) -> bytes:
    out = bytearray()
    value &= (1 << 64) - 1
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def number(tag: int, value: int) -> bytes:
    return varint(tag << 3) + varint(value)


def block(tag: int, value: bytes | str) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return varint(tag << 3 | 2) + varint(len(data)) + data


def tensor(name: str, shape: list[int], values: array) -> bytes:
    dims = b"".join(number(1, size) for size in shape)
    return dims + number(2, FLOAT) + block(8, name) + block(9, values.tobytes())


def value_info(name: str, kind: int, columns: int) -> bytes:
    batch = block(1, block(2, "batch"))
    rest = block(1, number(1, columns)) if columns else b""
    return block(1, name) + block(2, block(1, number(1, kind) + block(2, batch + rest)))


def ints(name: str, values: list[int]) -> bytes:
    return block(1, name) + b"".join(number(8, value) for value in values) + number(20, 7)


def floats(name: str, values: list[float]) -> bytes:
    return block(1, name) + b"".join(varint(7 << 3 | 5) + struct.pack("<f", value) for value in values) + number(20, 6)


def strings(name: str, values: list[str]) -> bytes:
    return block(1, name) + b"".join(block(9, value) for value in values) + number(20, 8)


def string(name: str, value: str) -> bytes:
    return block(1, name) + block(4, value) + number(20, 3)


def integer(name: str, value: int) -> bytes:
    return block(1, name) + number(3, value) + number(20, 2)


def node(kind: str, inputs: list[str], outputs: list[str], attributes: list[bytes] = [], domain: str = "") -> bytes:
    names = b"".join(block(1, name) for name in inputs) + b"".join(block(2, name) for name in outputs)
    rest = b"".join(block(5, attribute) for attribute in attributes)
    return names + block(3, f"{kind}_{outputs[0]}") + block(4, kind) + rest + (block(7, domain) if domain else b"")


def model(nodes: list[bytes], tensors: list[bytes], inputs: list[bytes], outputs: list[bytes], ml: bool) -> bytes:
    graph = b"".join(block(1, part) for part in nodes) + block(2, "bench") + b"".join(block(5, part) for part in tensors)
    graph += b"".join(block(11, part) for part in inputs) + b"".join(block(12, part) for part in outputs)
    opsets = block(8, block(1, "") + number(2, 17))
    if ml:
        opsets += block(8, block(1, "ai.onnx.ml") + number(2, 3))
    return number(1, 8) + block(2, "bench") + block(7, graph) + opsets


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Tag and value of every field of a message."""
    at = 0

    def read() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        key = read()
        if key & 7 == 0:
            yield key >> 3, read()
        else:
            size = {1: 8, 5: 4}.get(key & 7) or read()
            yield key >> 3, data[at:at + size]
            at += size


def initializers(path: Path) -> dict[str, tuple[list[int], array]]:
    """Shape and values of every float tensor with raw data."""
    found = {}
    graph = next(value for tag, value in fields(path.read_bytes()) if tag == 7)
    assert isinstance(graph, bytes)
    for tag, value in fields(graph):
        if tag != 5 or not isinstance(value, bytes):
            continue
        shape: list[int] = []
        name, kind, raw = "", 0, b""
        for inner, part in fields(value):
            if inner == 1:
                shape += [part] if isinstance(part, int) else list(part)
            elif inner == 2 and isinstance(part, int):
                kind = part
            elif inner == 8 and isinstance(part, bytes):
                name = part.decode()
            elif inner == 9 and isinstance(part, bytes):
                raw = part
        if kind == FLOAT and raw:
            found[name] = (shape, array("f", raw))
    return found
