//! The `nnbpf` command with a real object on a veth pair: installing, removing, refusing.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nnbpf_runtime_loader::installation::Installation;
use nnbpf_runtime_loader::pins::PinDirectory;

use crate::setup::{Fate, Setup, refusal};
use crate::{built, common, net};

#[test]
fn unload_leaves_nothing_behind() {
    if common::skip("unload_leaves_nothing_behind") {
        return;
    }
    let setup = Setup::new("unload");
    setup.load(&[]);
    assert!(setup.pins.join("maps/_data_nn_config").exists());
    // Another object is no repetition.
    let other = setup.file("other.o");
    std::fs::write(&other, built::object(&built::plan())).unwrap();
    let error = refusal(&setup.run(&["load", &other, "--iface", net::INTERFACE]));
    assert!(error.contains("E0812") && error.contains("nnbpf update"), "{error}");
    setup.done(&["unload"]);
    assert!(!setup.pins.exists());
    assert!(setup.done(&["unload"]).contains("nothing is installed"));
    // The interface is free again.
    setup.load(&[]);
    setup.done(&["unload"]);
    let error = refusal(&setup.run(&["status"]));
    assert!(error.contains("E0813"), "{error}");
}

#[test]
fn status_tells_everything() {
    if common::skip("status_tells_everything") {
        return;
    }
    let setup = Setup::new("status");
    setup.load(&["--enforce"]);
    let wire = setup.lab.wire("10.99.0.2", "10.99.0.1");
    assert_eq!(setup.fate(&wire), Fate::Arrived);
    setup.done(&["block", "192.0.2.7", "--for", "10min"]);
    setup.done(&["block", "fd00::7"]);
    setup.done(&["allow", "10.0.0.0/8"]);
    let text = setup.done(&["status"]);
    for line in [
        "interface   veth0, xdp generic, for 0 s",
        "mode        enforce",
        "parameters  generation 1, slot 0",
        "flows       1 of 1024",
        "blocked     192.0.2.7 for 600 s",
        "blocked     fd00::7\n",
        "allowed     10.0.0.0/8",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    // From outside, an interface of the same number would have another name.
    let outside = &setup.status().attachments[0].interface;
    assert!(outside.contains("veth0 (in another network namespace)"), "{outside}");
    let json: serde_json::Value = serde_json::from_str(&setup.done(&["status", "--json"])).unwrap();
    let status = &json[0];
    assert_eq!(status["interface"], "veth0");
    assert_eq!(
        (&status["interfaces"][0]["mode"], &status["interfaces"][0]["hook"]),
        (&"generic".into(), &"xdp".into())
    );
    assert_eq!((&status["mode"], &status["generation"]), (&"enforce".into(), &1.into()));
    assert_eq!((&status["flows"], &status["flow_capacity"]), (&1.into(), &1024.into()));
    assert_eq!(status["blocked"][0]["host"], "192.0.2.7");
    assert_eq!(status["blocked"][1]["seconds"], serde_json::Value::Null);
    assert_eq!(status["allowed"][0], "10.0.0.0/8");
    let counters = &status["counters"];
    for (name, count) in [("parsed", 1), ("created", 1), ("verdicts", 1), ("dropped", 0), ("blocked", 0)] {
        assert_eq!(counters[name], count, "{name}: {counters}");
    }
    let hash = nnbpf_compiler::metadata::hex(&setup.plan.model.hash);
    assert_eq!(status["model_hash"], hash);
}

#[test]
fn a_load_that_fails_leaves_nothing_behind() {
    if common::skip("a_load_that_fails_leaves_nothing_behind") {
        return;
    }
    let setup = Setup::new("refused");
    let object = setup.object();
    let load = |interface: &str| setup.run(&["load", &object, "--iface", interface]);
    assert!(refusal(&load("nothing0")).contains("E0809"));

    // Somebody else's program is attached.
    setup.load(&[]);
    let pins = format!("{}-other", setup.pins.display());
    let output = setup.lab.nnbpf(&["load", &object, "--iface", net::INTERFACE, "--pin", &pins]);
    let error = refusal(&output);
    assert!(error.contains("E0810") && error.contains("bpftool net show"), "{error}");
    assert!(!Path::new(&pins).exists());
    setup.done(&["unload"]);

    // A place outside of bpffs.
    let outside = setup.file("pins");
    let output = setup.lab.nnbpf(&["load", &object, "--iface", net::INTERFACE, "--pin", &outside]);
    assert!(refusal(&output).contains("E0811"));
    // A name that bpffs refuses.
    let dotted = format!("{}.x", setup.pins.display());
    let output = setup.lab.nnbpf(&["load", &object, "--iface", net::INTERFACE, "--pin", &dotted]);
    let error = refusal(&output);
    assert!(error.contains("E0814") && error.contains("without a dot"), "{error}");

    std::fs::write(&object, b"\x7fELF").unwrap();
    assert!(refusal(&load(net::INTERFACE)).contains("E0701"));
    assert!(!setup.pins.exists());
}

/// A load that is killed at any moment leaves what one `nnbpf unload` removes.
#[test]
fn a_load_that_is_killed_is_cleaned_up_by_unload() {
    if common::skip("a_load_that_is_killed_is_cleaned_up_by_unload") {
        return;
    }
    let setup = Setup::new("killed");
    let start = Instant::now();
    setup.load(&[]);
    let whole = start.elapsed();
    setup.done(&["unload"]);
    let (pins, object) = (setup.pins.display().to_string(), setup.object());
    const MOMENTS: u32 = 16;
    let mut left_behind = 0;
    for moment in 0..MOMENTS {
        let mut load = setup.lab.enter(env!("CARGO_BIN_EXE_nnbpf"));
        let arguments = ["load", &object, "--iface", net::INTERFACE, "--mode", "skb", "--pin", &pins];
        let mut load = load.args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(whole * moment / MOMENTS);
        load.kill().unwrap();
        load.wait().unwrap();
        if setup.pins.exists() {
            left_behind += 1;
            setup.done(&["unload"]);
        }
        assert!(!setup.pins.exists());
    }
    // Nothing is attached: a load in the ordinary way works.
    setup.load(&[]);
    setup.done(&["unload"]);
    eprintln!("{left_behind} of {MOMENTS} loads left something");

    // What a load leaves that is killed right after it made the directory.
    std::fs::create_dir_all(setup.pins.join("maps")).unwrap();
    let error = refusal(&setup.run(&["status"]));
    assert!(error.contains("E0820") && error.contains("nnbpf unload --pin"), "{error}");
    setup.done(&["unload"]);
    assert!(!setup.pins.exists());
}

#[test]
fn interfaces_whose_names_differ_in_a_dot_only() {
    if common::skip("interfaces_whose_names_differ_in_a_dot_only") {
        return;
    }
    let setup = Setup::new("dots");
    let name = |dot: char| format!("t{}{dot}7", std::process::id() % 100_000);
    let object = setup.object();
    for dot in ['.', '_'] {
        let lab = net::Lab::with(&format!("dots-{}", u32::from(dot)), &name(dot));
        // No `--pin`: these use the default place.
        let nnbpf = |arguments: &[&str]| {
            let output = lab.nnbpf(&[arguments, &["--iface", &name(dot)]].concat());
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        };
        nnbpf(&["load", &object]);
        assert!(PinDirectory::named(&name(dot)).path().exists());
        if dot == '_' {
            // Both are in place.
            for dot in ['.', '_'] {
                let pins = PinDirectory::named(&name(dot));
                Installation::open(pins).unwrap().remove().unwrap();
            }
        } else {
            nnbpf(&["status"]);
        }
    }
}

#[test]
fn what_is_no_host_is_refused() {
    let nnbpf = || std::process::Command::new(env!("CARGO_BIN_EXE_nnbpf"));
    for arguments in [["block", "localhost"], ["unblock", "10.0.0.0/8"], ["allow", "10.0.0.0/64"]] {
        let error = refusal(&nnbpf().args(arguments).output().unwrap());
        assert!(error.contains("E0815"), "{error}");
    }
    // Wrong usage is another exit status.
    assert_eq!(nnbpf().arg("load").output().unwrap().status.code(), Some(2));
    assert_eq!(nnbpf().args(["block", "::1", "--for", "10"]).output().unwrap().status.code(), Some(2));
}

/// One reader at a time; what nobody has read waits.
#[test]
fn events_have_one_reader() {
    if common::skip("events_have_one_reader") {
        return;
    }
    let setup = Setup::new("events");
    setup.load(&[]);
    setup.update(1);
    let wire = setup.lab.wire("10.99.0.2", "10.99.0.1");
    assert_eq!(setup.fate(&wire), Fate::Arrived);
    let wire = setup.lab.wire("fd99::2", "fd99::1");
    assert_eq!(setup.fate(&wire), Fate::Arrived);
    let text = setup.done(&["events", "--count", "1"]);
    let told = "every  udp 10.99.0.2:9000 > 10.99.0.1:9000  attack";
    assert!(text.contains(told) && text.contains("drop+block+report"), "{text}");

    let text = setup.done(&["events", "--for", "0s", "--json"]);
    let event: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&event["src"], &event["dst"]), (&"fd99::2".into(), &"fd99::1".into()));
    assert_eq!((&event["sport"], &event["dport"]), (&9000.into(), &9000.into()));
    assert_eq!((&event["label"], &event["trigger"]), (&"attack".into(), &"every".into()));
    assert_eq!((&event["packets"], &event["proto"]), (&1.into(), &17.into()));
    assert_eq!(event["generation"], 2);
    assert_eq!(event["outputs"], serde_json::json!([0, 1]));
    let difference = setup.plan.network.get().decision.unit;
    let score = 1.0 / (1.0 + (-difference).exp());
    assert!((event["score"].as_f64().unwrap() - score).abs() < 1e-9, "{event}");
    // The time of day, now.
    let shown = event["time"].as_str().unwrap();
    let today = std::process::Command::new("date").args(["-u", "+%Y-%m-%dT%H"]).output().unwrap();
    assert!(shown.starts_with(String::from_utf8(today.stdout).unwrap().trim()), "{shown}");

    let installation = Installation::open(PinDirectory::at(&setup.pins)).unwrap();
    let first = nnbpf_runtime_loader::events::Events::open(installation).unwrap();
    let error = refusal(&setup.run(&["events", "--count", "1"]));
    assert!(error.contains("E0819"), "{error}");
    // The other commands go on.
    setup.done(&["status"]);
    drop(first);
    let begin = Instant::now();
    assert_eq!(setup.done(&["events", "--for", "1s"]), "");
    assert!(begin.elapsed() >= Duration::from_secs(1));
}
