//! Specifications of several files, with values from the command line.

use crate::common::Folder;

/// The shipped `cic6.spec` with its flow block in another folder and its numbers by name.
fn in_pieces() -> Folder {
    let folder = Folder::new();
    let whole = folder.text("cic6.spec");
    let (before, rest) = whole.split_once("flow ").unwrap();
    let (flow, after) = rest.split_once("\n}\n").unwrap();
    assert!(flow.contains("120 s") && after.contains("0.95"), "{whole}");
    let flow = flow.replace("120 s", "quiet");
    std::fs::create_dir_all(folder.path("lib/deep")).unwrap();
    folder.write("lib/flow.spec", format!("use \"deep/numbers.spec\";\nflow {flow}\n}}\n").as_bytes());
    folder.write("lib/deep/numbers.spec", b"param quiet = 120 s;\nparam sure = 0.95;\n");
    let rest = after.replace("0.95", "sure");
    folder.write("pieces.spec", format!("{before}use \"flow.spec\";\n{rest}").as_bytes());
    folder
}

#[test]
fn pieces_and_values_make_the_same_object_as_one_file() {
    let folder = in_pieces();
    folder.succeeds("model.onnx cic6.spec -o whole.o");
    folder.succeeds("model.onnx pieces.spec -o pieces.o -I lib --depfile out.d");
    assert_eq!(
        folder.text("out.d"),
        "pieces.o: model.onnx pieces.spec lib/flow.spec lib/deep/numbers.spec\n"
    );
    let code = |object: &str| {
        let inspected = folder.succeeds(&format!("inspect {object} --json")).stdout;
        let value: serde_json::Value = serde_json::from_slice(&inspected).unwrap();
        (value["programs"].clone(), value["functions"].clone())
    };
    assert_eq!(code("whole.o"), code("pieces.o"));
    // The object is all that a retrained model needs.
    folder.succeeds("model.onnx pieces.spec --like pieces.o -o new.params -I lib");
    folder.succeeds("check pieces.spec -I elsewhere -I lib");
    folder.succeeds("explain pieces.spec -I lib --param quiet=9s");
}

#[test]
fn values_from_the_command_line_change_what_is_computed() {
    let folder = in_pieces();
    folder.copy("testdata/ids/capture.pcap", "capture.pcap");
    let rows = |arguments: &str| {
        folder.succeeds(&format!("extract pieces.spec capture.pcap -o rows.csv -I lib {arguments}"));
        folder.text("rows.csv").lines().count()
    };
    // A shorter idle time makes more flows of the same packets.
    let long = rows("--param quiet=100h");
    assert!(rows("--param quiet=1ms --param sure=0.5") > long, "{long}");
}

#[test]
fn mistakes_are_shown_in_the_file_that_has_them() {
    let folder = in_pieces();
    let outcome = folder.run("check pieces.spec -I lib --param quite=9s");
    assert_eq!(outcome.code, 1);
    for part in ["E0251", "flag `--param quite=9s`", "did you mean `quiet`?"] {
        assert!(outcome.stderr.contains(part), "{}", outcome.stderr);
    }
    folder.write("lib/deep/numbers.spec", b"param quiet = 120 s;\nparam sure = 1.95;\nlet x = ;\n");
    let outcome = folder.run("check pieces.spec -I lib");
    for part in ["lib/deep/numbers.spec:3:9", "let x = ;", "`sure` is 1.95 here"] {
        assert!(outcome.stderr.contains(part), "{}", outcome.stderr);
    }
    let outcome = folder.run("check pieces.spec");
    assert!(outcome.stderr.contains("E0252") && outcome.stderr.contains("-I DIR"), "{}", outcome.stderr);
    assert_eq!(folder.run("check pieces.spec --param quiet").code, 2);
}

#[test]
fn a_file_that_uses_itself_is_found_under_every_name() {
    let folder = in_pieces();
    folder.write("own.spec", b"use \"lib/../own.spec\";\nspec a v1;\n");
    for name in ["own.spec", "./own.spec", "lib/../own.spec"] {
        let refused = folder.run(&format!("check {name}")).stderr;
        assert!(refused.contains("E0252") && refused.contains("uses itself"), "{refused}");
        assert!(!refused.contains("E0204"), "{refused}");
    }
    folder.write("folder.spec", b"use \"lib\";\n");
    let refused = folder.run("check folder.spec").stderr;
    assert!(refused.contains("E0252") && refused.contains("no regular file"), "{refused}");
}

/// A retrained model is compiled for what the object was compiled from.
#[test]
fn parameters_are_made_for_the_specification_of_the_object() {
    let folder = in_pieces();
    folder.succeeds("model.onnx pieces.spec -o pieces.o -I lib --param quiet=9s --param sure=0.8");
    let like = |arguments: &str| format!("model.onnx {arguments} --like pieces.o -o new.params -I lib");
    // Values of the object stand for those that are not given.
    folder.succeeds(&like("pieces.spec"));
    let own = folder.read("new.params");
    folder.succeeds(&like("pieces.spec --param quiet=9s --param sure=0.8"));
    assert_eq!(own, folder.read("new.params"));
    // Probabilities are parameters.
    folder.succeeds(&like("pieces.spec --param sure=0.9"));
    assert_ne!(own, folder.read("new.params"));
    let changed = folder.text("pieces.spec").replace("max(", "min(");
    folder.write("changed.spec", changed.as_bytes());
    std::fs::remove_file(folder.path("new.params")).unwrap();
    for arguments in ["pieces.spec --param quiet=10s", "changed.spec"] {
        let refused = folder.run(&like(arguments));
        assert!(refused.code == 1 && refused.stderr.contains("E0707"), "{}", refused.stderr);
        assert!(!folder.path("new.params").exists());
    }
}
