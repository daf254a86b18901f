"""Cuts a capture down to headers, and to a size, by whole flows.

    python3 headers.py RAW.pcap OUT.pcap [--bytes N] [--truth LABELS.csv]

Payload is removed from every frame; the lengths in the IP headers stay, so all lengths remain known.
With `--bytes`, long flows are left out, in an order that depends on their five-tuple only, until the rest fits.
"""

import argparse
import hashlib
import struct

RECORD = struct.Struct("<IIII")
# Flows up to this many packets always stay.
SHORT = 250
EXTENSIONS = (0, 43, 60)


def packets(path):
    """Yields seconds, fraction, original length and bytes of each packet of a little-endian classic capture."""
    with open(path, "rb") as file:
        magic = file.read(24)[:4]
        if magic != b"\xd4\xc3\xb2\xa1":
            raise SystemExit(f"{path}: not a little-endian microsecond capture")
        while len(head := file.read(16)) == 16:
            seconds, fraction, kept, length = RECORD.unpack(head)
            data = file.read(kept)
            if len(data) < kept:
                break
            yield seconds, fraction, length, data


def dissect(frame):
    """Length of all headers, and the flow (both directions alike) or None."""
    kind = frame[12:14]
    if kind == b"\x08\x00":
        start = 14 + (frame[14] & 15) * 4
        protocol, ends = frame[23], (frame[26:30], frame[30:34])
        if struct.unpack("!H", frame[20:22])[0] & 0x1FFF:
            return start, None
    elif kind == b"\x86\xdd":
        start, protocol, ends = 54, frame[20], (frame[22:38], frame[38:54])
        while protocol in EXTENSIONS and len(frame) > start + 1:
            protocol, start = frame[start], start + 8 + frame[start + 1] * 8
    else:
        return len(frame), None
    if protocol == 6 and len(frame) >= start + 14:
        size = (frame[start + 12] >> 4) * 4
    elif protocol == 17:
        size = 8
    else:
        # ICMP: the packet that it complains about is part of the header.
        return min(len(frame), start + 48), None
    ports = frame[start : start + 2], frame[start + 2 : start + 4]
    return start + size, (protocol, *sorted(zip(ends, ports)))


def trim(source, target, budget=None):
    """Writes the trimmed capture; returns how many packets it has."""
    kept = []
    counts, sizes = {}, {}
    for seconds, fraction, length, data in packets(source):
        size, flow = dissect(data)
        data = data[:size]
        kept.append((seconds, fraction, length, data, flow))
        counts[flow] = counts.get(flow, 0) + 1
        sizes[flow] = sizes.get(flow, 0) + 16 + len(data)
    left_out = set()
    if budget is not None:
        total = 24 + sum(sizes.values())
        longest = [flow for flow in counts if flow is not None and counts[flow] > SHORT]
        for flow in sorted(longest, key=lambda flow: hashlib.sha256(repr(flow).encode()).digest()):
            if total <= budget:
                break
            left_out.add(flow)
            total -= sizes[flow]
        if total > budget:
            raise SystemExit(f"{total} bytes remain without any long flow, more than {budget}")
    written = 0
    # tcpdump may store two packets out of order; a capture's time goes forward.
    kept.sort(key=lambda packet: packet[:2])
    with open(target, "wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 128, 1))
        for seconds, fraction, length, data, flow in kept:
            if flow not in left_out:
                file.write(RECORD.pack(seconds, fraction, len(data), length) + data)
                written += 1
    print(f"{target}: {written} packets, {len(counts) - len(left_out)} flows, {len(left_out)} long flows left out")
    return written


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("raw")
    parser.add_argument("out")
    parser.add_argument("--bytes", type=int)
    chosen = parser.parse_args()
    trim(chosen.raw, chosen.out, chosen.bytes)


if __name__ == "__main__":
    main()
