//! Every command on a specification over single packets.

use super::common::{Folder, root};
use super::engines::same;

/// Bytes, flags and a condition, and a model of as many inputs.
const SPEC: &str = "spec tiny v1;
attach xdp;
packets on tcp, udp where l4.payload_len > 0;
features { first = payload[0]; port = l4.dst_port; }
model { labels benign, attack; }
classify packet at every 5 packets;
on attack { drop; report; }
";

fn folder() -> Folder {
    let folder = Folder::new();
    folder.copy("testdata/cases/tiny-2-3-2/model.onnx", "tiny.onnx");
    folder.write("tiny.spec", SPEC.as_bytes());
    std::fs::copy(root().join("testdata/ids/capture.pcap"), folder.path("capture.pcap")).unwrap();
    folder
}

#[test]
fn engines_write_the_same_files() {
    let test = "engines_write_the_same_files";
    let folder = folder();
    folder.write("rows.csv", b"port,first\n80,22\n443,0\n53,255\n");
    assert_eq!(same(&folder, test, "eval tiny.onnx tiny.spec --features rows.csv").lines().count(), 4);
    let verdicts = same(&folder, test, "replay tiny.onnx tiny.spec capture.pcap");
    let judged = verdicts.lines().filter(|line| line.contains(",every,")).count();
    folder.succeeds("extract tiny.spec capture.pcap -o rows.csv");
    let rows = folder.text("rows.csv");
    assert_eq!(rows.lines().count(), judged + 1);
    assert!(judged > 1_000, "{judged}");
    assert_eq!(rows.lines().next(), Some("first_ns,last_ns,src,dst,sport,dport,proto,trigger,first,port"));
    // A row's port is that of the packet.
    for row in rows.lines().skip(1) {
        let cells: Vec<&str> = row.split(',').collect();
        assert_eq!((cells[0], cells[5], cells[7]), (cells[1], cells[9], "every"), "{row}");
    }
}

#[test]
fn objects_are_compiled_inspected_and_retrained() {
    let folder = folder();
    folder.succeeds("tiny.onnx tiny.spec -o tiny.o");
    folder.succeeds("tiny.onnx tiny.spec --like tiny.o -o new.params");
    let inspected = String::from_utf8(folder.run("inspect tiny.o").stdout).unwrap();
    assert!(inspected.contains("nn_blocked") && !inspected.contains("nn_flows"), "{inspected}");
    assert_eq!(folder.run("check tiny.spec").code, 0);
    folder.succeeds("fmt tiny.spec");
    assert!(folder.text("tiny.spec").contains("packets on tcp, udp where l4.payload_len > 0;\n"));
    assert!(folder.text("tiny.spec").contains("payload[0];"));
    // Its own layout is a fixed point.
    let text = folder.text("tiny.spec");
    folder.succeeds("fmt tiny.spec");
    assert_eq!(folder.text("tiny.spec"), text);
}

#[test]
fn costs_are_explained_and_features_ranked() {
    let folder = folder();
    let text = String::from_utf8(folder.run("explain tiny.spec").stdout).unwrap();
    assert!(!text.contains("nn_flows") && !text.contains("flow"), "{text}");
    assert!(text.contains("judged") && text.contains("bpf_map_lookup_elem nn_counters"), "{text}");
    let every = SPEC.replace("at every 5 packets", "at every 50 packets");
    folder.write("few.spec", every.as_bytes());
    folder.succeeds("extract few.spec capture.pcap -o rows.csv");
    let ranked = folder.run("rank few.spec --features rows.csv --labels proto");
    assert_eq!(ranked.code, 0, "{}", ranked.stderr);
    let text = String::from_utf8(ranked.stdout).unwrap();
    assert!(text.contains("port") && text.contains("first"), "{text}");
}
