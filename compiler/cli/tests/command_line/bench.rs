//! `bench --objects`: what would be measured, as files.

use nnbpf_compiler::elf::read;

use super::common::{Folder, assert_refused};

/// Names of the programs and maps of an object.
fn parts(folder: &Folder, name: &str) -> (Vec<String>, Vec<String>) {
    let inventory = read::read(&folder.read(name), name).unwrap();
    let programs = inventory.programs.iter().map(|program| program.name.clone()).collect();
    let sections = inventory.data.iter().map(|data| data.section.clone());
    (programs, inventory.maps.iter().map(|map| map.name.clone()).chain(sections).collect())
}

#[test]
fn what_would_be_measured_is_written() {
    let folder = Folder::new();
    std::fs::create_dir(folder.path("map")).unwrap();
    std::fs::create_dir(folder.path("const")).unwrap();
    for weights in ["map", "const"] {
        let outcome = folder.succeeds(&format!(
            "bench model.onnx cic6.spec --calibrate rows.csv --weights {weights} --objects {weights}"
        ));
        assert_eq!(
            String::from_utf8(outcome.stdout).unwrap(),
            "0 of 1 labels differ from the float model's\n"
        );
        let (programs, maps) = parts(&folder, &format!("{weights}/inference.o"));
        assert!(programs.iter().any(|name| name == "nn_bench"), "{programs:?}");
        assert_eq!(maps.iter().any(|name| name == ".data.nn_params"), weights == "map", "{maps:?}");
        for packets in ["packet.o", "verdict.o"] {
            let (programs, maps) = parts(&folder, &format!("{weights}/{packets}"));
            assert_eq!(programs, ["nn_entry"]);
            assert_eq!(maps.iter().any(|name| name == ".data.nn_params"), weights == "map", "{maps:?}");
        }
        assert_ne!(folder.read(&format!("{weights}/packet.o")), folder.read(&format!("{weights}/verdict.o")));
        // The row's features are in it.
        let scratch = folder.read(&format!("{weights}/scratch.bin"));
        assert!(scratch.windows(8).any(|word| word == 800_i64.to_le_bytes()));
    }
}

#[test]
fn without_a_specification_there_are_no_packets() {
    let folder = Folder::new();
    std::fs::create_dir(folder.path("out")).unwrap();
    folder.succeeds("bench model.onnx --objects out");
    assert!(folder.path("out/inference.o").exists());
    assert!(!folder.path("out/packet.o").exists());
    assert_eq!(folder.run("bench model.onnx --objects out --json").code, 2);
    assert_refused(&folder.run("bench model.onnx --objects nowhere"), "bench-nowhere");
}
