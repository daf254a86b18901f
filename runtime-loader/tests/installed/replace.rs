//! Program updates under traffic: what is kept, what is lost and said to be, and models straight to parameters.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use nnbpf_runtime_loader::events::{Events, Record};
use nnbpf_runtime_loader::installation::Installation;
use nnbpf_runtime_loader::pins::PinDirectory;

use crate::net::INTERFACE;
use crate::setup::{Fate, Setup, refusal};
use crate::{built, common};

/// Writes an object of another specification whose parameters give every flow this class.
fn other(setup: &Setup, name: &str, spec: &str, class: usize) -> String {
    let mut plan = built::plan_of(built::MODEL, spec);
    plan.network = built::always(&plan, class);
    let path = setup.file(name);
    std::fs::write(&path, built::object(&plan)).unwrap();
    path
}

#[test]
fn flows_and_lists_outlive_the_program() {
    if common::skip("flows_and_lists_outlive_the_program") {
        return;
    }
    let setup = Setup::new("replace");
    setup.load(&["--enforce"]);
    setup.update(1);
    setup.update(0);
    let wire = setup.lab.wire("10.99.0.2", "10.99.0.1");
    for _ in 0..3 {
        assert_eq!(setup.fate(&wire), Fate::Arrived);
    }
    setup.done(&["block", "192.0.2.7"]);
    setup.done(&["allow", "198.51.100.0/24"]);
    // A reader of events goes on over the update.
    let mut reader = Events::open(Installation::open(PinDirectory::at(&setup.pins)).unwrap()).unwrap();
    let before = setup.status();
    // Other rules and another name of a feature make another program for the same records.
    let spec =
        built::SPEC.replace("drop; block ip.src for 1 s; report;", "report;").replace("longest", "most");
    let new = other(&setup, "new.o", &spec, 1);
    let output = setup.run(&["update", &new]);
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "generation 4: programs 2 are active\n");
    assert_eq!(setup.done(&["update", &new]), "generation 4: the object is at work already\n");

    // The new rule reports and lets through; the flow is the one of before.
    assert_eq!(setup.fate(&wire), Fate::Arrived);
    let event = reader.next(Some(std::time::Instant::now() + Duration::from_secs(5))).unwrap().unwrap();
    let Record::Verdict(event) = event else { panic!("{event:?}") };
    assert_eq!((event.packets, event.generation, event.actions), (4, 4, vec!["report"]));
    let names: Vec<&str> = reader.features().iter().map(|feature| feature.name.as_str()).collect();
    assert_eq!(names, ["packets", "most"], "the reader has not noticed the update");
    let after = setup.status();
    assert_eq!(after.flows, Some((1, 1024)));
    assert_eq!((after.blocked.len(), after.allowed.len()), (1, 1));
    assert_eq!(after.config.mode, before.config.mode);
    assert_eq!(setup.counter("parsed"), 4);
    assert_ne!(after.attachments[0].program, before.attachments[0].program);
    assert_eq!(
        after.attachments[0].program,
        Some(after.details.iter().find(|p| p.name == "nn_entry").unwrap().id)
    );

    // Parameters are updated as before, and lists act.
    setup.done(&["block", "10.99.0.2"]);
    assert_eq!(setup.fate(&wire), Fate::Dropped);
    setup.done(&["unload"]);
    assert!(!setup.pins.exists());
}

#[test]
fn other_records_start_anew_and_that_is_said() {
    if common::skip("other_records_start_anew_and_that_is_said") {
        return;
    }
    let setup = Setup::new("anew");
    setup.load(&["--enforce"]);
    let wire = setup.lab.wire("10.99.0.2", "10.99.0.1");
    for _ in 0..3 {
        assert_eq!(setup.fate(&wire), Fate::Arrived);
    }
    setup.done(&["block", "192.0.2.7"]);
    let spec = built::SPEC.replace("max(l4.payload_len)", "min(l4.payload_len)");
    let output = setup.run(&["update", &other(&setup, "new.o", &spec, 1)]);
    let warning = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.success() && warning.contains("warning: the flow records are of another kind: 1 flows")
    );
    assert_eq!(setup.status().flows, Some((0, 1024)));
    assert_eq!(setup.status().blocked.len(), 1);
    assert_eq!(setup.fate(&wire), Fate::Dropped);
    let event = setup.done(&["events", "--count", "1", "--json"]);
    let event: serde_json::Value = serde_json::from_str(&event).unwrap();
    assert_eq!((&event["packets"], &event["generation"]), (&1.into(), &2.into()));
    // And back: the old programs' records are of another time.
    let output = setup.run(&["rollback"]);
    let warning = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && warning.contains("1 flows are forgotten"), "{warning}");
    assert_eq!(setup.status().flows, Some((0, 1024)));
    assert_eq!(setup.status().blocked.len(), 2);
}

/// Every packet meets a program: none is missed while programs replace each other.
#[test]
fn no_packet_passes_between_two_programs() {
    if common::skip("no_packet_passes_between_two_programs") {
        return;
    }
    let setup = Setup::new("gapless");
    setup.load(&[]);
    let spec = built::SPEC.replace("drop; block ip.src for 1 s; report;", "drop;");
    let objects = [other(&setup, "a.o", &spec, 0), setup.object()];
    let wire = setup.lab.wire("10.99.0.2", "10.99.0.1");
    assert_eq!(setup.fate(&wire), Fate::Arrived);
    let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(1));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                wire.send(b"flood");
                sent.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_micros(200));
            }
        });
        for round in 0..6 {
            setup.done(&["update", &objects[round % 2]]);
        }
        stop.store(true, Ordering::Relaxed);
    });
    std::thread::sleep(Duration::from_millis(300));
    let sent = sent.into_inner();
    eprintln!("{sent} packets during 6 program updates");
    assert_eq!(setup.counter("parsed"), sent);
    assert_eq!((setup.status().generation, setup.status().flows), (7, Some((1, 1024))));
}

#[test]
fn a_model_is_compiled_for_the_installed_object() {
    if common::skip("a_model_is_compiled_for_the_installed_object") {
        return;
    }
    let setup = Setup::new("model");
    setup.load(&[]);
    let path = setup.file("model.onnx");
    std::fs::write(&path, built::MODEL).unwrap();
    assert_eq!(setup.done(&["update", &path]), "generation 2: slot 1 is active\n");
    let status = setup.status();
    assert_eq!(status.provenance.unwrap().model_hash, setup.plan.model.hash);
    // The compiler's parameters, to the byte.
    let expected = nnbpf_compiler::params::slot::bytes(built::plan().network.get());
    assert_eq!(status.history.last().unwrap().slot, expected);
    // A model for other features.
    let other =
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/cases/scaled-6-32-32-2/model.onnx"));
    std::fs::write(&path, other).unwrap();
    let error = refusal(&setup.run(&["update", &path]));
    assert!(error.contains("E0301"), "{error}");
    std::fs::write(&path, b"no model").unwrap();
    assert!(refusal(&setup.run(&["update", &path])).contains("error[E01"));
    assert_eq!(setup.status().generation, 2);
}

#[test]
fn an_object_for_another_hook_is_refused_e0822() {
    if common::skip("an_object_for_another_hook_is_refused_e0822") {
        return;
    }
    let setup = Setup::new("hook");
    setup.load(&[]);
    let spec = built::SPEC.replace("attach xdp;", "attach tc egress;");
    let path = setup.file("egress.o");
    std::fs::write(&path, built::object(&built::plan_of(built::MODEL, &spec))).unwrap();
    let error = refusal(&setup.run(&["update", &path]));
    assert!(error.contains("E0822") && error.contains("for tc egress, the installed one for xdp"), "{error}");
    assert_eq!(setup.status().code, 1);
}

/// Programs are replaced on every interface, and an object that the kernel refuses on none.
#[test]
fn all_interfaces_change_together() {
    if common::skip("all_interfaces_change_together") {
        return;
    }
    let setup = Setup::new("together");
    setup.lab.pair("veth2", "veth3", 98);
    let object = setup.object();
    setup.done(&["load", &object, "--iface", INTERFACE, "--iface", "veth2"]);
    let programs = || {
        let mut found: Vec<_> = setup.status().attachments.iter().map(|one| one.program.unwrap()).collect();
        found.dedup();
        found
    };
    let before = programs();
    assert_eq!(before.len(), 1);
    let spec = built::SPEC.replace("drop; block ip.src for 1 s; report;", "drop;");
    setup.done(&["update", &other(&setup, "new.o", &spec, 0)]);
    let after = programs();
    assert_eq!(after.len(), 1);
    assert_ne!(before, after);
}
