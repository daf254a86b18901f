//! `eval`, `replay` and `extract`: every engine writes the same file.

use super::common::{Folder, is_root};

/// The kernel's engine needs rights that a test run may not have.
fn engines(test: &str) -> Vec<&'static str> {
    let mut engines = vec!["ir", "vm"];
    match nnbpf_runtime_loader::permission::check() {
        Ok(()) => engines.push("kernel"),
        Err(error) => {
            assert!(std::env::var_os("NNBPF_REQUIRE_KERNEL").is_none(), "{test}: {error}");
            eprintln!("SKIP {test} (kernel): {error}");
        }
    }
    engines
}

/// Runs a command once for each engine, whole and split; all files must be the same. Gives the file.
pub(crate) fn same(folder: &Folder, test: &str, command: &str) -> String {
    let mut first: Option<String> = None;
    for engine in engines(test) {
        for split in ["auto", "layer"] {
            folder.succeeds(&format!("{command} --engine {engine} --split {split} -o out.csv"));
            let text = folder.text("out.csv");
            match &first {
                None => first = Some(text),
                Some(first) => assert!(text == *first, "{command}: {engine}, split {split}"),
            }
        }
    }
    first.unwrap()
}

/// Decimals of every size, which clamp, saturate and round.
fn decimals(columns: usize) -> String {
    let cells = [
        "0",
        "1",
        "-1",
        "0.5",
        "-0.5",
        "255.99609375",
        "1e3",
        "65535",
        "1e6",
        "1e12",
        "1e18",
        "1e19",
        "-1e19",
        "1e300",
        "-1e300",
        "9223372036854775807",
        "-9223372036854775808",
        "4611686018427387904",
        "-4611686018427387905",
        "1e-300",
        "0.001953125",
        "123456789.987654321",
        "1e400",
        "+7.",
    ];
    let mut text = String::new();
    for row in 0..cells.len() * 5 {
        for column in 0..columns {
            // Every cell in every column, beside different neighbours.
            let cell = cells[(row + column * (1 + row / cells.len())) % cells.len()];
            text.push_str(cell);
            text.push(if column + 1 == columns { '\n' } else { ',' });
        }
    }
    text
}

#[test]
fn rows_of_any_size_are_judged_alike() {
    let test = "rows_of_any_size_are_judged_alike";
    for (model, spec, header) in [
        (
            "cic6-6-16-2",
            Some("specs/cic6.spec"),
            "dst_port,fwd_packets,fwd_bytes,fwd_len_min,fwd_len_max,fwd_len_std",
        ),
        (
            "dsn24-6-32-32-2",
            Some("specs/dsn24.spec"),
            "max_packet_length,max_duration_ns,min_packet_length,dst_port,header_length,num_packet",
        ),
        ("scales-6-32-32-2", None, "a,b,c,d,e,f"),
        ("logit-6-10-1", None, "a,b,c,d,e,f"),
        ("regressor-4-8-1", None, "a,b,c,d"),
        ("three-classes-5-12-3", None, "a,b,c,d,e"),
    ] {
        let folder = Folder::new();
        folder.copy(&format!("testdata/cases/{model}/model.onnx"), "model.onnx");
        let columns = header.split(',').count();
        let rows = decimals(columns);
        folder.write("rows.csv", format!("{header}\n{rows}").as_bytes());
        let spec = spec.map_or("", |spec| {
            folder.copy(spec, "the.spec");
            "the.spec"
        });
        let text = same(&folder, test, &format!("eval model.onnx {spec} --features rows.csv"));
        assert_eq!(text.lines().count(), 1 + rows.lines().count(), "{model}");
        assert!(text.starts_with("label,score,out0"), "{model}");
        // The float engine has as many rows.
        folder.succeeds(&format!("eval model.onnx {spec} --features rows.csv --engine float -o float.csv"));
        assert_eq!(folder.text("float.csv").lines().count(), text.lines().count(), "{model}");
    }
}

/// A model whose integers are over the budget: every engine that runs integers refuses it, and the float engine, which
/// makes none, judges rows as ever.
#[test]
fn the_float_engine_needs_no_budget() {
    let folder = Folder::new();
    // Values beyond every range count as the last one for the integers, and as themselves for the float model.
    let mut far = String::from("dst_port,fwd_packets,fwd_bytes,fwd_len_min,fwd_len_max,fwd_len_std\n");
    for row in 0..240_u64 {
        let cell = |column: u64| {
            if row % 6 == column { -1_000_000_000 } else { ((row * 7919 + column * 104_729) % 3000) as i64 }
        };
        far.push_str(&(0..6).map(|column| cell(column).to_string()).collect::<Vec<_>>().join(","));
        far.push('\n');
    }
    folder.write("far.csv", far.as_bytes());
    let command = "eval model.onnx cic6.spec --features rows.csv --calibrate far.csv --max-flips 0";
    for engine in ["ir", "vm", "kernel"] {
        let outcome = folder.run(&format!("{command} --engine {engine} -o out.csv"));
        assert_eq!(outcome.code, 1, "{engine}: {}", outcome.stderr);
        assert!(outcome.stderr.contains("error[E0306]"), "{engine}: {}", outcome.stderr);
    }
    folder.succeeds(&format!("{command} --engine float -o float.csv"));
    folder.succeeds("eval model.onnx cic6.spec --features rows.csv --engine float -o plain.csv");
    assert_eq!(folder.text("float.csv"), folder.text("plain.csv"));
    // What is wrong with the command line is still said.
    let outcome =
        folder.run("eval model.onnx cic6.spec --features rows.csv --engine float --max-flips many -o x.csv");
    assert!(outcome.stderr.contains("error[E0903]"), "{}", outcome.stderr);
}

/// The first packets of the committed capture, which is in the older format with microseconds.
fn beginning(folder: &Folder, packets: usize) {
    folder.copy("testdata/ids/capture.pcap", "capture.pcap");
    let bytes = folder.read("capture.pcap");
    let mut end = 24;
    for _ in 0..packets {
        let length = u32::from_le_bytes(*bytes[end + 8..].first_chunk().unwrap());
        end += 16 + length as usize;
    }
    folder.write("capture.pcap", &bytes[..end]);
}

#[test]
fn captures_are_replayed_alike() {
    let test = "captures_are_replayed_alike";
    let folder = Folder::new();
    beginning(&folder, 6_000);
    folder.copy("testdata/ids/ids.onnx", "ids.onnx");
    folder.copy("testdata/ids/calibration.csv", "calibration.csv");
    folder.copy("specs/ids.spec", "ids.spec");
    let replay = "replay ids.onnx ids.spec capture.pcap --calibrate calibration.csv";
    let monitored = same(&folder, test, replay);
    let enforced = same(&folder, test, &format!("{replay} --enforce"));
    assert_eq!(
        monitored.lines().next(),
        Some("packet,ts_ns,src,dst,sport,dport,proto,trigger,label,score,action")
    );
    assert!(monitored.lines().count() > 6_000);
    assert!(enforced.contains("drop+block+report"), "nobody was blocked");
    assert!(enforced.contains(",blocked") && !monitored.contains(",blocked"));

    // A verdict at the end of a flow is a row of features.
    folder.succeeds("extract ids.spec capture.pcap -o flows.csv");
    let flows = folder.text("flows.csv");
    let header = flows.lines().next().unwrap();
    assert!(header.starts_with("first_ns,last_ns,src,dst,sport,dport,proto,trigger,"), "{header}");
    for trigger in [",end,", ",every,", ",idle,"] {
        let count = |text: &str| text.lines().filter(|line| line.contains(trigger)).count();
        assert_eq!(count(&flows), count(&monitored), "{trigger}");
    }

    // Judged as a row, a flow has the label and score that it had as packets.
    let verdicts = |text: &str, from: usize| -> Vec<String> {
        let judged = text.lines().filter(|line| line.contains(",end,") || line.contains(",every,"));
        judged.map(|line| line.split(',').skip(from).take(2).collect::<Vec<_>>().join(",")).collect()
    };
    let eval = "eval ids.onnx ids.spec --features flows.csv --calibrate calibration.csv";
    let rows = same(&folder, test, eval);
    let judged: Vec<String> = flows
        .lines()
        .zip(rows.lines())
        .filter(|(flow, _)| flow.contains(",end,") || flow.contains(",every,"))
        .map(|(_, row)| row.split(',').take(2).collect::<Vec<_>>().join(","))
        .collect();
    assert_eq!(judged, verdicts(&monitored, 8));
}

/// Sweeps every second: silent flows are judged where no packet comes, by every engine alike.
#[test]
fn captures_are_swept_alike() {
    let test = "captures_are_swept_alike";
    let folder = Folder::new();
    beginning(&folder, 6_000);
    folder.copy("testdata/ids/ids.onnx", "ids.onnx");
    folder.copy("testdata/ids/calibration.csv", "calibration.csv");
    folder.copy("specs/ids.spec", "plain.spec");
    let plain = folder.text("plain.spec");
    let idle = plain.lines().find(|line| line.trim_start().starts_with("idle ")).unwrap();
    folder.write("ids.spec", plain.replace(idle, "    idle 2 s sweep;").as_bytes());
    let replay = "replay ids.onnx ids.spec capture.pcap --calibrate calibration.csv";
    let unswept = same(&folder, test, replay);
    let idle_verdicts = |text: &str| text.lines().filter(|line| line.contains(",idle,")).count();
    for mode in ["", " --enforce"] {
        let swept = same(&folder, test, &format!("{replay}{mode} --sweep 1"));
        let by_sweep: Vec<Vec<&str>> = swept
            .lines()
            .filter(|line| line.starts_with(','))
            .map(|line| line.split(',').collect())
            .collect();
        // Rows are in the order of time, sweeps a whole number of seconds behind the first packet.
        let times: Vec<u64> =
            swept.lines().skip(1).map(|line| line.split(',').nth(1).unwrap().parse().unwrap()).collect();
        assert!(times.is_sorted());
        assert!(!by_sweep.is_empty());
        for row in &by_sweep {
            let time: u64 = row[1].parse().unwrap();
            assert_eq!((time - times[0]) % 1_000_000_000, 0, "{row:?}");
            assert_eq!(row[7], "idle");
        }
        // Nothing was left to be judged by a packet but what was idle for less than a second more.
        assert!(idle_verdicts(&swept) > by_sweep.len(), "late packets judge too");
        if mode.is_empty() {
            assert!(idle_verdicts(&swept) > idle_verdicts(&unswept));
        }
    }
}

#[test]
fn measurements_are_printed() {
    if nnbpf_runtime_loader::permission::check().is_err() || !is_root() {
        eprintln!("SKIP measurements_are_printed: no rights");
        return;
    }
    let folder = Folder::new();
    let json: serde_json::Value =
        serde_json::from_slice(&folder.succeeds("bench model.onnx cic6.spec --json").stdout).unwrap();
    for key in ["empty_ns", "inference_ns", "packet_ns", "verdict_ns"] {
        assert!(json[key]["median"].is_i64(), "{key}: {json:#}");
    }
    assert!(json["predicted_ns"].as_f64().unwrap() > 1.0, "{json:#}");
    assert_eq!(json["layers"].as_array().unwrap().len(), 2);
    assert!(json["layers"][0]["lanes"].as_u64().unwrap() >= 1, "{json:#}");
    assert_eq!(json["calibrated"], false);
    assert!(json["rows"].as_u64().unwrap() > 0 && json["flips"].is_u64(), "{json:#}");
    let without: serde_json::Value =
        serde_json::from_slice(&folder.succeeds("bench model.onnx --json").stdout).unwrap();
    assert!(without.get("packet_ns").is_none(), "{without:#}");
}
