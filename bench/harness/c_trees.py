"""Baseline (b) for trees: C as one would write it for clang.

Constant trees as nested comparisons or as a table, trees in a map as a table; loops over a table unrolled or left alone.
Votes are added up in a map value, which the verifier forgets: in a register, its paths multiply from tree to tree.
"""
import struct
from pathlib import Path

from .int8 import HEAD, clang, numbers
from .models import Forest


def nested(trees: Forest, tree: int, place: int, depth: int) -> str:
    """The comparisons below a node."""
    inner, pad = len(trees.features[tree]), "\t" * (depth + 1)
    if place >= inner:
        return f"{pad}io->sum += {trees.votes[tree][place - inner]};\n"
    left, right = (nested(trees, tree, 2 * place + side, depth + 1) for side in (1, 2))
    return (f"{pad}if (io->x[{trees.features[tree][place]}] <= {trees.limits[tree][place]}) {{\n{left}{pad}}} else {{\n"
            f"{right}{pad}}}\n")


def source(trees: Forest, constant: bool, unrolled: bool) -> str:
    count, room = len(trees.features), 1 << trees.depth
    pragma = '_Pragma("clang loop unroll(full)") ' if unrolled else ""
    text = [HEAD, "struct io { s64 x[8]; s64 sum; u32 label; };\nstruct node { s32 limit; u32 feature; };\n"
            f"struct net {{ struct node nodes[{count * room}]; s32 votes[{count * room}]; }};\nARRAY(ios, struct io);\n"]
    text.append("" if constant else "ARRAY(nets, struct net);\n")
    table = not (constant and unrolled)
    if constant and table:
        nodes = ",".join(f"{{{limit},{feature}}}" for limits, features in zip(trees.limits, trees.features)
                         for limit, feature in zip([*limits, 0], [*features, 0]))
        votes = [vote for votes in trees.votes for vote in votes]
        text.append(f"static const struct net table = {{ {{{nodes}}}, {numbers(votes)} }};\n")
    text.append('SEC("xdp") int infer(struct xdp_md *context)\n{\n\tu32 zero = 0;\n'
                "\tstruct io *io = bpf_map_lookup_elem(&ios, &zero);\n\tif (!io) return 0;\n")
    if table:
        text.append("\tconst struct net *net = &table;\n" if constant
                    else "\tstruct net *net = bpf_map_lookup_elem(&nets, &zero);\n\tif (!net) return 0;\n")
    text.append("\tio->sum = 0;\n")
    if table:
        text.append(f"\t{pragma}for (u32 t = 0; t < {count}; t++) {{\n\t\tu32 i = 0;\n"
                    f"\t\t{pragma}for (int d = 0; d < {trees.depth}; d++) {{\n"
                    f"\t\t\tconst struct node *node = &net->nodes[t * {room} + (i & {room - 1})];\n"
                    "\t\t\ti = 2 * i + 1 + (u32)((u64)(node->limit - io->x[node->feature & 7]) >> 63);\n\t\t}\n"
                    f"\t\tio->sum += net->votes[t * {room} + ((i - {room - 1}) & {room - 1})];\n\t}}\n")
    else:
        text += [nested(trees, tree, 0, 0) for tree in range(count)]
    text.append(f"\tio->label = io->sum > {count * (1 << 15)};\n\treturn XDP_PASS;\n}}\n"
                'char program_license[] SEC("license") = "GPL";\n')
    return "".join(text)


def parameters(trees: Forest) -> bytes:
    """`struct net` as the compiler lays it out."""
    nodes = b"".join(struct.pack("<iI", limit, feature) for limits, features in zip(trees.limits, trees.features)
                     for limit, feature in zip([*limits, 0], [*features, 0]))
    return nodes + b"".join(struct.pack("<i", vote) for votes in trees.votes for vote in votes)


def compile_form(trees: Forest, constant: bool, unrolled: bool, out: Path) -> None:
    out.with_suffix(".c").write_text(source(trees, constant, unrolled))
    clang(out.with_suffix(".c"), out)
