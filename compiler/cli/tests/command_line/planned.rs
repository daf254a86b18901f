//! The plan in `--report` and `inspect`, and budgets that it does not meet.
//!
//! Nanoseconds change with every calibration, so that no test knows one.

use serde_json::Value;

use super::common::{Folder, assert_refused};

fn json(text: &[u8]) -> Value {
    serde_json::from_slice(text).unwrap()
}

#[test]
fn report_and_inspect_print_the_same_plan() {
    let folder = Folder::new();
    for split in ["auto", "layer"] {
        folder.succeeds(&format!("model.onnx cic6.spec -o out.o --report r.json --split {split}"));
        let plan = json(&folder.read("r.json"))["plan"].clone();
        let inspected = json(&folder.succeeds("inspect out.o --json").stdout);
        assert_eq!(plan, inspected["planned"]);
        let total = plan["predicted_ns"].as_f64().unwrap();
        let parts = plan["parts"].as_array().unwrap();
        assert!(total > parts.iter().map(|part| part["predicted_ns"].as_f64().unwrap()).sum::<f64>() / 2.0);
        // A quantiser and two layers.
        assert_eq!(parts.len(), 3, "{plan:#}");
        let layer = &parts[1]["layer"];
        assert_eq!((&layer["outputs"], &layer["inputs"]), (&Value::from(16), &Value::from(6)));
        let (lanes, outputs) = (layer["lanes"].as_u64().unwrap(), layer["outputs"].as_u64().unwrap());
        let registers: u64 =
            layer["blocks"].as_array().unwrap().iter().map(|block| block.as_u64().unwrap()).sum();
        assert_eq!(registers, outputs.div_ceil(lanes), "{plan:#}");
        let scratch = inspected["maps"].as_array().unwrap().iter().find(|map| map["name"] == "nn_scratch");
        assert_eq!(plan["scratch_bytes"], scratch.unwrap()["value_bytes"]);
        assert_eq!(plan["slot_bytes"], inspected["metadata"]["slot_bytes"]);
        let programs = plan["programs"].as_array().unwrap();
        let entry = programs.iter().find(|program| program["name"] == "nn_entry").unwrap();
        assert!(entry["processed"].as_u64().unwrap() >= entry["instructions"].as_u64().unwrap(), "{entry:#}");
        assert!((1..=512).contains(&entry["stack_bytes"].as_u64().unwrap()), "{entry:#}");
        let chained =
            programs.iter().filter(|program| program["name"].as_str().unwrap().starts_with("nn_layer"));
        assert_eq!(chained.count() > 0, split == "layer");
    }
    let text = String::from_utf8(folder.succeeds("inspect out.o").stdout).unwrap();
    for part in
        ["plan: about ", " per register, ", "blocks of ", "bytes of scratch", "bytes of stack", " processed"]
    {
        assert!(text.contains(part), "{part}:\n{text}");
    }
}

#[test]
fn constants_in_the_code_are_never_loops() {
    let folder = Folder::new();
    folder.succeeds("model.onnx cic6.spec -o out.o --report r.json --weights const");
    let plan = json(&folder.read("r.json"))["plan"].clone();
    assert_eq!(plan["slot_bytes"], 0);
    let layers = plan["parts"].as_array().unwrap().iter().filter_map(|part| part.get("layer"));
    assert!(layers.clone().count() == 2 && layers.clone().all(|layer| layer["unroll"].is_null()), "{plan:#}");
}

#[test]
fn a_model_that_is_too_slow_is_explained() {
    let folder = Folder::new();
    let before = folder.content();
    folder.succeeds("model.onnx cic6.spec -o out.o --max-ns 100000 --report r.json");
    let needed = json(&folder.read("r.json"))["plan"]["predicted_ns"].as_f64().unwrap();
    for (allowed, layer) in
        [(1.0, "a smaller layer is not enough"), (needed - 2.0, "neurons in place of 16 in layer 0")]
    {
        let refused = folder.run(&format!("model.onnx cic6.spec -o no.o --max-ns {allowed:.1}"));
        assert_refused(&refused, "--max-ns");
        for part in ["error[E0340]", "`--weights const`", "more flips", layer, "write `--max-ns "] {
            assert!(refused.stderr.contains(part), "{part}:\n{}", refused.stderr);
        }
    }
    let expected: Vec<String> = before.into_iter().chain(["out.o", "r.json"].map(str::to_owned)).collect();
    assert_eq!(folder.content(), expected.into_iter().collect());
    // What the refusal says is enough is enough.
    let refused = folder.run(&format!("model.onnx cic6.spec -o no.o --max-ns {:.1}", needed - 2.0));
    let written = refused.stderr.split("write `--max-ns ").nth(1).unwrap().split('`').next().unwrap();
    folder.succeeds(&format!("model.onnx cic6.spec -o out.o --max-ns {written}"));
}

#[test]
fn times_above_zero_are_demanded() {
    let folder = Folder::new();
    for wrong in ["0", "-1", "NaN", "inf", "fast"] {
        let refused = folder.run(&format!("model.onnx cic6.spec -o no.o --max-ns={wrong}"));
        assert_eq!(refused.code, 2, "{wrong}: {}", refused.stderr);
    }
}

#[test]
fn an_old_kernel_is_explained_with_the_model() {
    let folder = Folder::new();
    let refused = folder.run("model.onnx cic6.spec -o no.o --kernel 4.19");
    assert_refused(&refused, "--kernel");
    for part in
        ["E0410", "Linux 5.2 brought", "Linux 5.10 brought", "this model takes about", "target Linux 5.10"]
    {
        assert!(refused.stderr.contains(part), "{part}:\n{}", refused.stderr);
    }
    let newer = folder.run("model.onnx cic6.spec -o no.o --kernel 5.8").stderr;
    assert!(newer.contains("Linux 5.10 brought") && !newer.contains("Linux 5.8 brought"), "{newer}");
}
