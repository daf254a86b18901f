//! `explain` and `rank`.

use serde_json::Value;

use super::common::{Folder, assert_golden, assert_refused};

fn json(folder: &Folder, arguments: &str) -> Value {
    serde_json::from_slice(&folder.succeeds(arguments).stdout).unwrap()
}

fn text(folder: &Folder, arguments: &str) -> String {
    String::from_utf8(folder.succeeds(arguments).stdout).unwrap()
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect()
}

/// A specification with labelled rows.
fn labelled() -> Folder {
    let folder = Folder::new();
    folder.copy("specs/dsn24.spec", "dsn24.spec");
    folder.copy("testdata/rank/flows.csv", "flows.csv");
    folder
}

const RANK: &str = "rank dsn24.spec --features flows.csv --labels label";

#[test]
fn a_specification_is_explained_without_a_model() {
    let folder = Folder::new();
    let before = folder.content();
    let explanation = json(&folder, "explain cic6.spec --json");
    assert_eq!(
        names(&explanation["features"]),
        ["dst_port", "fwd_packets", "fwd_bytes", "fwd_len_min", "fwd_len_max", "fwd_len_std"]
    );
    assert_eq!(explanation["kernel"], "6.1");
    let flows = &explanation["tables"][0];
    assert_eq!((&flows["map"], flows["capacity"].as_u64()), (&Value::from("nn_flows"), Some(65_536)));
    // A standard deviation is computed from the sum and the count of other features, and is the dearest verdict.
    let std = &explanation["features"][5];
    assert_eq!(names(&std["slots"]), ["fwd_packets", "fwd_bytes", "fwd_len_std_squares"]);
    assert_eq!(std["slots"][1]["shared_with"][0], "fwd_bytes");
    let verdict = |index: usize| explanation["features"][index]["verdict_ns"].as_f64().unwrap();
    assert!((0..5).all(|index| verdict(index) < verdict(5)));
    let shown = text(&folder, "explain cic6.spec --kernel 6.18");
    for part in [
        "cic6 at xdp, for Linux 6.18 and later",
        "record of nn_flows",
        "key of nn_flows, 40 bytes",
        "kernel/bpf/hashtab.c",
        "ordinary",
        "bpf_map_lookup_elem nn_flows",
        "fwd_bytes 8 (also fwd_len_std)",
    ] {
        assert!(shown.contains(part), "{part}:\n{shown}");
    }
    assert_eq!(folder.content(), before);
}

#[test]
fn features_are_ranked_by_worth_and_cost() {
    let folder = labelled();
    let ranked = json(&folder, &format!("{RANK} --json"));
    assert_eq!(ranked["classes"], serde_json::json!(["0", "1"]));
    assert_eq!((ranked["training_rows"].as_u64(), ranked["held_out_rows"].as_u64()), (Some(280), Some(120)));
    // The rows are made so that the longest pause decides, the port helps, and the rest is noise.
    let order = names(&ranked["features"]);
    assert_eq!(order[..2], ["max_duration_ns", "dst_port"]);
    let first = &ranked["features"][0];
    assert_eq!(first["best_for_its_cost"], true);
    assert!(first["permutation"].as_f64().unwrap() > 0.2 && first["gini"].as_f64().unwrap() > 0.5);
    // What costs nothing beside the others and is worth nothing is not recommended.
    let packets =
        ranked["features"].as_array().unwrap().iter().find(|one| one["name"] == "num_packet").unwrap();
    assert_eq!(
        (&packets["packet_ns"], &packets["best_for_its_cost"]),
        (&Value::from(0.0), &Value::from(false))
    );
    // Together they cost more and do not get worse.
    let together = ranked["together"].as_array().unwrap();
    assert_eq!(together[0]["last"], "max_duration_ns");
    let value = |index: usize, key: &str| together[index][key].as_f64().unwrap();
    assert!(value(1, "accuracy") > value(0, "accuracy") && value(1, "packet_ns") > value(0, "packet_ns"));
    // The costs are those that `explain` shows.
    let explained = json(&folder, "explain dsn24.spec --json");
    let gap = &explained["features"][1];
    assert_eq!((&gap["name"], &gap["packet_ns"]), (&first["name"], &first["packet_ns"]));
    let shown = text(&folder, RANK);
    assert!(shown.contains("seed 1") && shown.contains("best for its cost"), "{shown}");
    assert_eq!(shown, text(&folder, RANK), "the same rows give the same answer");
}

#[test]
fn rows_that_cannot_be_ranked() {
    let refused = |name: &str, arguments: &str, change: &dyn Fn(String) -> String| {
        let folder = labelled();
        let rows = change(folder.text("flows.csv"));
        folder.write("flows.csv", rows.as_bytes());
        let outcome = folder.run(arguments);
        assert_refused(&outcome, name);
        assert_golden(name, &outcome.stderr);
    };
    let column = "rank dsn24.spec --features flows.csv --labels class";
    refused("rank-labels-missing", column, &|rows| rows);
    refused("rank-labels-case", RANK, &|rows| rows.replacen("label", "Label", 1));
    refused("rank-labels-empty", RANK, &|rows| format!("{rows}1,2,3,4,5,6,\n"));
    refused("rank-one-class", RANK, &|rows| {
        let kept: Vec<&str> = rows.lines().filter(|line| !line.ends_with(",1")).collect();
        kept.join("\n")
    });
    refused("rank-numbers", "rank dsn24.spec --features flows.csv --labels max_duration_ns", &|rows| rows);
    refused("rank-few-rows", RANK, &|rows| rows.lines().take(8).map(|line| format!("{line}\n")).collect());
    // Mistakes of columns and of labels are shown together.
    refused("rank-columns", column, &|rows| rows.replacen("header_length", "header", 1));
    refused("rank-cells", RANK, &|rows| format!("{rows}1,2,3,ssh,5,inf,0\n"));
    refused("rank-file", "rank dsn24.spec --features nowhere.csv --labels label", &|rows| rows);
}

#[test]
fn specifications_that_cannot_be_explained() {
    let folder = Folder::new();
    let text = folder.text("cic6.spec").replace("first(", "fist(");
    folder.write("broken.spec", text.as_bytes());
    let outcome = folder.run("explain broken.spec");
    assert_refused(&outcome, "explain-broken");
    assert_golden("explain-broken", &outcome.stderr);
    let outcome = folder.run("explain cic6.spec --kernel 5.10");
    assert_refused(&outcome, "explain-kernel");
    assert_golden("explain-kernel", &outcome.stderr);
    assert_eq!(folder.run("rank cic6.spec").code, 2);
}
