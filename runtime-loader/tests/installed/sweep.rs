//! Idle flows are judged without a further packet, once; objects without the program for it say so.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nnbpf_compiler::compile::Plan;
use serde_json::{Value, json};

use crate::setup::{Fate, Setup, refusal};
use crate::{built, common, net};

/// Long enough for a command on a busy machine to run within it.
const IDLE: Duration = Duration::from_secs(5);

/// Verdicts at the end only, and sweeps where `idle` says so.
fn plan(idle: &str) -> Plan {
    let spec = built::SPEC
        .replace("60 s;", idle)
        .replace("at every packet;", "at end;")
        .replace("for 1 s;", "for 10 min;");
    built::plan_of(built::MODEL, &spec)
}

/// An object whose every verdict is of this class, in a file.
fn object_of(setup: &Setup, idle: &str, class: usize) -> String {
    let mut plan = plan(idle);
    plan.network = built::always(&plan, class);
    let path = setup.file(&format!("{}{class}.o", idle.replace([' ', ';'], "")));
    std::fs::write(&path, built::object(&plan)).unwrap();
    path
}

fn object(setup: &Setup, idle: &str) -> String {
    object_of(setup, idle, 1)
}

fn load(setup: &Setup, object: &str) {
    setup.done(&["load", object, "--iface", setup.lab.interface(), "--mode", "skb", "--enforce"]);
}

fn sweep(setup: &Setup) -> Value {
    serde_json::from_str(&setup.done(&["sweep", "--json"])).unwrap()
}

#[test]
fn an_idle_flow_is_judged_without_a_further_packet() {
    if common::skip("an_idle_flow_is_judged_without_a_further_packet") {
        return;
    }
    let setup = Setup::new("sweep");
    load(&setup, &object(&setup, "5 s sweep;"));
    let wire = setup.lab.wire("10.99.0.2", "10.99.0.1");
    assert_eq!(setup.fate(&wire), Fate::Arrived);
    let sent = Instant::now();
    let early = sweep(&setup);
    if sent.elapsed() < IDLE {
        assert_eq!(early, json!({ "flows": 1, "judged": 0, "removed": 0 }));
        assert_eq!((setup.counter("verdicts"), setup.status().flows), (0, Some((1, 1024))));
    }
    std::thread::sleep((IDLE + Duration::from_millis(100)).saturating_sub(sent.elapsed()));
    assert_eq!(setup.done(&["sweep"]), "1 flows: 1 judged, 1 removed\n");
    assert_eq!(setup.status().flows, Some((0, 1024)));
    let event: Value = serde_json::from_str(&setup.done(&["events", "--count", "1", "--json"])).unwrap();
    assert_eq!((&event["label"], &event["trigger"]), (&json!("attack"), &json!("idle")));
    assert_eq!((&event["src"], &event["features"]["packets"]), (&json!("10.99.0.2"), &json!(1)));
    // Once, and nothing was dropped: there was no packet at hand. The block is for those to come.
    assert_eq!(sweep(&setup), json!({ "flows": 0, "judged": 0, "removed": 0 }));
    let counters = ["parsed", "verdicts", "dropped", "hosts_blocked"].map(|name| setup.counter(name));
    assert_eq!(counters, [1, 1, 0, 1]);
    assert_eq!(setup.fate(&wire), Fate::Dropped);
    assert_eq!(setup.counter("verdicts"), 1);
    setup.done(&["unload"]);
    assert!(!setup.pins.exists());
}

/// Two detectors of which one gets new parameters: each is swept on its own, with the parameters at work.
#[test]
fn a_sweep_judges_with_the_parameters_at_work() {
    if common::skip("a_sweep_judges_with_the_parameters_at_work") {
        return;
    }
    let setup = Setup::new("sweeps");
    setup.lab.pair("veth2", "veth3", 98);
    let other = PathBuf::from(format!("{}-other", setup.pins.display()));
    let beside = |arguments: &[&str]| {
        let output = setup.lab.nnbpf(&[arguments, &["--pin", other.to_str().unwrap()]].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    // Both find nothing at first.
    let object = object_of(&setup, "5 s sweep;", 0);
    load(&setup, &object);
    beside(&["load", &object, "--iface", "veth2", "--mode", "skb"]);
    let (wire, second) = (setup.lab.wire("10.99.0.2", "10.99.0.1"), setup.lab.wire("10.98.0.2", "10.98.0.1"));
    assert_eq!(setup.fate(&wire), Fate::Arrived);
    second.send(b"x");
    assert!(second.receive(None).is_some());
    let sent = Instant::now();
    let mut changed = plan("5 s sweep;");
    changed.network = built::always(&changed, 1);
    let file = setup.file("new.params");
    std::fs::write(&file, built::params_bytes(changed.network.get(), 1)).unwrap();
    setup.done(&["update", &file]);
    std::thread::sleep((IDLE + Duration::from_millis(100)).saturating_sub(sent.elapsed()));
    assert_eq!(sweep(&setup), json!({ "flows": 1, "judged": 1, "removed": 1 }));
    let event: Value = serde_json::from_str(&setup.done(&["events", "--count", "1", "--json"])).unwrap();
    let said = ["label", "trigger", "generation"].map(|name| &event[name]);
    assert_eq!(said, [&json!("attack"), &json!("idle"), &json!(2)]);
    // The other one has its flow yet, and its verdict is its own.
    let status = |what: &str| {
        let status: Value = serde_json::from_str(&beside(&["status", "--json"])).unwrap();
        status[0]["counters"][what].as_u64().unwrap()
    };
    assert_eq!((status("created"), status("verdicts")), (1, 0));
    let swept: Value = serde_json::from_str(&beside(&["sweep", "--json"])).unwrap();
    assert_eq!(swept, json!({ "flows": 1, "judged": 1, "removed": 1 }));
    assert_eq!((status("verdicts"), status("hosts_blocked")), (1, 0));
    beside(&["unload"]);
    setup.done(&["unload"]);
    assert!(!other.exists() && !setup.pins.exists());
}

#[test]
fn an_object_without_sweeps_is_told_and_updated_e0834() {
    if common::skip("an_object_without_sweeps_is_told_and_updated_e0834") {
        return;
    }
    let setup = Setup::new("unswept");
    let (plain, swept) = (object(&setup, "5 s;"), object(&setup, "5 s sweep;"));
    load(&setup, &plain);
    let wire = setup.lab.wire("10.99.0.2", "10.99.0.1");
    assert_eq!(setup.fate(&wire), Fate::Arrived);
    let error = refusal(&setup.run(&["sweep"]));
    assert!(error.starts_with("error[E0834]") && error.contains("idle 60 s sweep;"), "{error}");
    // The flow goes on in the new object, and a sweep that is repeated finds it when its time has come.
    setup.done(&["update", &swept]);
    let pins = setup.pins.display().to_string();
    let mut command = setup.lab.enter(env!("CARGO_BIN_EXE_nnbpf"));
    let arguments = ["sweep", "--follow", "1", "--json", "--pin", &pins];
    let mut child = command.args(arguments).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let sweeps = lines.take(60).map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    let found: Vec<Value> = sweeps.filter(|swept| swept["removed"] != json!(0)).take(1).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(found, [json!({ "flows": 1, "judged": 1, "removed": 1 })]);
    assert_eq!((setup.counter("verdicts"), setup.status().flows), (1, Some((0, 1024))));
    // Back to the programs before: they have no sweep.
    setup.done(&["rollback"]);
    assert!(refusal(&setup.run(&["sweep"])).starts_with("error[E0834]"));
}

#[test]
fn bpftool_loads_an_object_with_sweeps() {
    let test = "bpftool_loads_an_object_with_sweeps";
    if common::skip(test) {
        return;
    }
    if Command::new("bpftool").arg("version").output().is_err() {
        assert!(std::env::var_os("NNBPF_REQUIRE_KERNEL").is_none(), "{test}: no bpftool");
        eprintln!("SKIP {test}: no bpftool");
        return;
    }
    let spec = built::SPEC.replace("60 s;", "60 s sweep;");
    let mut plan = built::plan_of(built::MODEL, &spec);
    plan.network = built::always(&plan, 1);
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("sweep.o");
    for object in [built::object(&plan), built::split_object(&plan)] {
        std::fs::write(&path, object).unwrap();
        let lab = net::Lab::new("loadall");
        let pins = format!("/sys/fs/bpf/{}", lab.inside);
        let output = Command::new("bpftool")
            .args(["prog", "loadall", path.to_str().unwrap(), &pins, "pinmaps", &format!("{pins}/maps")])
            .output()
            .unwrap();
        let found = ["nn_entry", "nn_sweep"].map(|name| std::path::Path::new(&pins).join(name).exists());
        let _ = std::fs::remove_dir_all(&pins);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(found, [true; 2]);
    }
}
