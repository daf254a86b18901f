//! A second model in the shadow: it is counted and decides nothing, until it is promoted.

use std::path::Path;

use nnbpf_runtime_loader::hot_update::Active;
use nnbpf_runtime_loader::installation::Change;
use nnbpf_runtime_loader::shadow::Counts;
use serde_json::{Value, json};

use crate::net::Wire;
use crate::setup::{Fate, Setup, refusal};
use crate::{built, common};

/// Parameters that give every flow this class, in a file.
fn always(setup: &Setup, class: usize) -> String {
    let path = setup.file(&format!("always-{class}.params"));
    let network = built::always(&setup.plan, class);
    std::fs::write(&path, built::params_bytes(network.get(), class as u8 + 7)).unwrap();
    path
}

fn told(setup: &Setup) -> Value {
    serde_json::from_str(&setup.done(&["shadow", "--status", "--json"])).unwrap()
}

fn wire(setup: &Setup) -> Wire {
    setup.lab.wire("10.99.0.2", "10.99.0.1")
}

#[test]
fn a_shadow_is_counted_and_decides_nothing() {
    if common::skip("a_shadow_is_counted_and_decides_nothing") {
        return;
    }
    let setup = Setup::new("shadow");
    setup.load(&["--enforce"]);
    let wire = wire(&setup);
    let (benign, attack) = (always(&setup, 0), always(&setup, 1));
    assert!(setup.done(&["shadow", &benign]).contains("slot 1 runs in the shadow of generation 1"));
    for _ in 0..3 {
        assert_eq!(setup.fate(&wire), Fate::Arrived);
    }
    let model = nnbpf_compiler::metadata::hex(&[7; 32]);
    let wanted = json!({ "model_hash": model, "verdicts": 3, "disagreements": 0,
        "labels": ["benign", "attack"], "pairs": [[3, 0], [0, 0]] });
    assert_eq!(told(&setup), wanted);

    // Another shadow starts from nothing. It would drop every packet.
    setup.done(&["shadow", &attack]);
    for _ in 0..2 {
        assert_eq!(setup.fate(&wire), Fate::Arrived);
    }
    let told = told(&setup);
    assert_eq!((&told["disagreements"], &told["pairs"]), (&json!(2), &json!([[0, 2], [0, 0]])));
    let text = setup.done(&["shadow", "--status"]);
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert!(text.contains(": 2 of 2 verdicts differ\n"), "{text}");
    assert_eq!(
        rows[1..],
        [
            vec!["active", "\\", "shadow", "benign", "attack"],
            vec!["benign", "0", "2"],
            vec!["attack", "0", "0"]
        ]
    );
    let status = setup.done(&["status"]);
    assert!(status.contains("  shadow      model 0808") && status.contains(": 2 of 2"), "{status}");
    let json: Value = serde_json::from_str(&setup.done(&["status", "--json"])).unwrap();
    assert_eq!(json[0]["shadow"]["disagreements"], 2);
    assert_eq!(json[0]["generation"], 1);

    // Its slot is taken, unless one says so.
    let error = refusal(&setup.run(&["update", &benign]));
    assert!(error.starts_with("error[E0832]") && error.contains("nnbpf shadow --stop"), "{error}");
    assert!(setup.done(&["shadow", "--stop"]).contains("2 of 2 verdicts differ"));
    for arguments in [&["shadow", "--stop"][..], &["shadow", "--status"], &["promote"]] {
        let error = refusal(&setup.run(arguments));
        assert!(error.starts_with("error[E0833]"), "{error}");
    }
    assert_eq!(setup.fate(&wire), Fate::Arrived);
    setup.done(&["shadow", &benign]);
    setup.done(&["update", &attack, "--replace-shadow"]);
    assert_eq!(setup.fate(&wire), Fate::Dropped);
    let status = setup.status();
    assert_eq!((status.shadow, status.active), (None, Some(Active { index: 1, generation: 2 })));
}

#[test]
fn a_promoted_shadow_decides() {
    if common::skip("a_promoted_shadow_decides") {
        return;
    }
    let setup = Setup::new("promote");
    setup.load(&["--enforce"]);
    let wire = wire(&setup);
    setup.done(&["shadow", &always(&setup, 1)]);
    assert_eq!(setup.fate(&wire), Fate::Arrived);
    let text = setup.done(&["promote"]);
    assert!(text.contains(": 1 of 1 verdicts differ\ngeneration 2: slot 1 is active\n"), "{text}");
    assert_eq!(setup.fate(&wire), Fate::Dropped);
    let status = setup.status();
    assert_eq!(status.shadow, None);
    assert_eq!(status.provenance.unwrap().model_hash, [8; 32]);
    let last = status.history.last().unwrap();
    assert_eq!((last.number, last.change, last.model_hash), (2, Change::Promotion, [8; 32]));
    // The verdict names the new generation, whose unit is known.
    let event: Value = serde_json::from_str(&setup.done(&["events", "--count", "1", "--json"])).unwrap();
    assert_eq!((&event["label"], &event["generation"]), (&json!("attack"), &json!(2)));
    assert!(event["score"].is_number(), "{event}");
    // The other slot is free again, for a shadow or an update.
    setup.done(&["shadow", &always(&setup, 0)]);
    setup.done(&["promote"]);
    assert_eq!(setup.status().active, Some(Active { index: 0, generation: 3 }));
}

#[test]
fn what_cannot_run_in_the_shadow_is_refused() {
    if common::skip("what_cannot_run_in_the_shadow_is_refused") {
        return;
    }
    let setup = Setup::new("unfit");
    setup.load(&[]);
    let params = always(&setup, 1);
    let mut other = built::params(built::always(&setup.plan, 1).get(), 1);
    other.layout_hash = [3; 32];
    let path = setup.file("other.params");
    std::fs::write(&path, nnbpf_compiler::params::file::write(&other)).unwrap();
    assert!(refusal(&setup.run(&["shadow", &path])).starts_with("error[E0817]"));
    // As an object without the code for it would be.
    std::fs::remove_file(setup.pins.join("maps/nn_shadow")).unwrap();
    let error = refusal(&setup.run(&["shadow", &params]));
    assert!(error.starts_with("error[E0831]") && error.contains("compile it"), "{error}");
    assert!(!error.contains("tail calls"), "{error}");
    setup.done(&["unload"]);

    std::fs::write(setup.object(), built::split_object(&setup.plan)).unwrap();
    setup.load(&[]);
    std::fs::remove_file(setup.pins.join("maps/nn_shadow")).unwrap();
    let error = refusal(&setup.run(&["shadow", &params]));
    assert!(error.contains("= note: its chain of 2 tail calls"), "{error}");
    setup.done(&["unload"]);

    std::fs::write(setup.object(), built::constant_object(&setup.plan)).unwrap();
    setup.load(&[]);
    assert!(refusal(&setup.run(&["shadow", &params])).starts_with("error[E0708]"));
    assert!(refusal(&setup.run(&["promote"])).starts_with("error[E0833]"));
}

#[test]
fn a_chain_of_programs_runs_a_shadow() {
    if common::skip("a_chain_of_programs_runs_a_shadow") {
        return;
    }
    let setup = Setup::new("chain");
    std::fs::write(setup.object(), built::split_object(&setup.plan)).unwrap();
    setup.load(&["--enforce"]);
    let wire = wire(&setup);
    setup.done(&["shadow", &always(&setup, 1)]);
    for _ in 0..4 {
        assert_eq!(setup.fate(&wire), Fate::Arrived);
    }
    assert_eq!(setup.status().shadow.unwrap().counts, Counts::Pairs(vec![vec![0, 4], vec![0, 0]]));
    setup.done(&["promote"]);
    assert_eq!(setup.fate(&wire), Fate::Dropped);
}

/// Runs a command that is killed before each of its calls into the kernel's BPF in turn, until it lives to its
/// end; looks after each.
fn killed_everywhere(setup: &Setup, arguments: &[&str], mut look: impl FnMut(usize)) -> usize {
    for call in 1..500 {
        let inject = format!("inject=bpf:signal=SIGKILL:when={call}");
        let mut command = setup.lab.enter("strace");
        command.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=bpf", "-e", &inject]);
        command.arg(env!("CARGO_BIN_EXE_nnbpf")).args(arguments);
        let output = command.arg("--pin").arg(&setup.pins).output().unwrap();
        if output.status.success() {
            return call;
        }
        assert_eq!(output.stderr, b"", "{arguments:?} {call}");
        look(call);
    }
    panic!("{arguments:?} does not end");
}

#[test]
fn killed_commands_leave_the_active_model_right() {
    let test = "killed_commands_leave_the_active_model_right";
    if common::skip(test) {
        return;
    }
    if !Path::new("/usr/bin/strace").exists() {
        eprintln!("SKIP {test}: strace is not installed");
        return;
    }
    let setup = Setup::new("undead");
    setup.load(&["--enforce"]);
    let wire = wire(&setup);
    let attack = always(&setup, 1);
    let first = Active { index: 0, generation: 1 };
    let calls = killed_everywhere(&setup, &["shadow", &attack], |call| {
        assert_eq!(setup.fate(&wire), Fate::Arrived, "killed at {call}");
        let status = setup.status();
        assert_eq!((status.active, status.history.len()), (Some(first), 1), "killed at {call}");
        // That there is one is the last call's to say.
        assert_eq!(status.shadow, None, "killed at {call}");
    });
    assert!(calls > 15, "{calls}");

    // Either the old model decides beside its shadow, or the new one alone.
    let mut seen = [0; 2];
    let calls = killed_everywhere(&setup, &["promote"], |call| {
        let status = setup.status();
        let active = status.active.unwrap();
        let promoted = usize::from(active != first);
        seen[promoted] += 1;
        assert_eq!(status.history.last().unwrap().number, active.generation, "killed at {call}");
        assert_eq!(status.provenance.unwrap().generation, active.generation, "killed at {call}");
        if promoted == 0 {
            assert_eq!(setup.fate(&wire), Fate::Arrived, "killed at {call}");
            assert_eq!(status.shadow.unwrap().provenance.unwrap().model_hash, [8; 32], "killed at {call}");
            return;
        }
        assert_eq!(setup.fate(&wire), Fate::Dropped, "killed at {call}");
        assert_eq!((active, status.shadow), (Active { index: 1, generation: 2 }, None), "killed at {call}");
        // Back to where it was, for the calls behind this one.
        setup.done(&["unblock", "10.99.0.2"]);
        let bytes = [2, 0, 0, 0, 1, 0, 0, 0];
        reset(&setup, &bytes);
    });
    assert!(calls > 15 && seen[0] > 0 && seen[1] > 0, "{calls} {seen:?}");
}

/// Writes `.data.nn_active` as it was before a promotion.
fn reset(setup: &Setup, bytes: &[u8; 8]) {
    let path = setup.pins.join("maps/_data_nn_active");
    nnbpf_runtime_loader::Map::from_pin("active", &path).unwrap().write_value(bytes).unwrap();
}
