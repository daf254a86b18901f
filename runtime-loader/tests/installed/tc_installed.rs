//! Objects for the hooks of tc as installations: tcx links and clsact filters, several on one interface, updates.

use std::time::Duration;

use crate::net::INTERFACE;
use crate::setup::{Fate, Setup, refusal};
use crate::{built, common};

/// An object for a hook of tc, whose parameters give every flow this class.
pub(crate) fn object(setup: &Setup, name: &str, hook: &str, rule: &str, class: usize) -> String {
    let spec = built::SPEC.replace("attach xdp;", &format!("attach {hook};"));
    let spec = spec.replace("drop; block ip.src for 1 s; report;", rule);
    let mut plan = built::plan_of(built::MODEL, &spec);
    plan.network = built::always(&plan, class);
    let path = setup.file(name);
    std::fs::write(&path, built::object(&plan)).unwrap();
    path
}

/// Filters on the interface, as tc tells them.
fn filters(setup: &Setup, direction: &str) -> String {
    let mut tc = setup.lab.enter("tc");
    let output = tc.args(["filter", "show", "dev", INTERFACE, direction]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// The attached program, as the command sees it in the interface's namespace.
fn program(setup: &Setup) -> serde_json::Value {
    let status: serde_json::Value = serde_json::from_str(&setup.done(&["status", "--json"])).unwrap();
    status[0]["interfaces"][0]["program_id"].clone()
}

#[test]
fn tc_objects_are_attached_and_replaced() {
    if common::skip("tc_objects_are_attached_and_replaced") {
        return;
    }
    for (mode, way) in [("auto", "tcx"), ("clsact", "clsact")] {
        let setup = Setup::new(&format!("tc-{mode}"));
        let first = object(&setup, "first.o", "tc ingress", "drop;", 0);
        let load = ["load", &first, "--iface", INTERFACE, "--mode", mode, "--enforce"];
        let text = setup.done(&load);
        assert!(text.contains(&format!("veth0: attached, tc ingress {way}, enforcing")), "{text}");
        assert!(setup.done(&load).contains("already loaded"));
        assert_eq!(filters(&setup, "ingress").contains("nn_entry"), mode == "clsact");
        let wire = setup.lab.wire("10.99.0.2", "10.99.0.1");
        assert_eq!(setup.fate(&wire), Fate::Arrived);
        setup.done(&["block", "10.99.0.2"]);
        assert_eq!(setup.fate(&wire), Fate::Dropped);
        setup.done(&["unblock", "10.99.0.2"]);

        // Another program behind the same attachment, with the flow of before.
        let second = object(&setup, "second.o", "tc ingress", "drop; report;", 1);
        assert_eq!(setup.done(&["update", &second]), "generation 2: programs 2 are active\n");
        assert_eq!(setup.fate(&wire), Fate::Dropped);
        let event = setup.done(&["events", "--count", "1", "--json"]);
        let event: serde_json::Value = serde_json::from_str(&event).unwrap();
        assert_eq!((&event["generation"], &event["label"]), (&2.into(), &"attack".into()));
        assert!(event["packets"].as_u64().unwrap() >= 2, "{event}");
        assert_eq!(setup.done(&["rollback"]), "generation 3: restores 1, programs 1\n");
        assert_eq!(setup.fate(&wire), Fate::Arrived);

        let status: serde_json::Value = serde_json::from_str(&setup.done(&["status", "--json"])).unwrap();
        let one = &status[0]["interfaces"][0];
        assert_eq!(
            (&one["hook"], &one["mode"], &one["attached"]),
            (&"tc ingress".into(), &way.into(), &true.into())
        );
        assert!(setup.done(&["detach", "--iface", INTERFACE]).contains("detached"));
        assert!(!filters(&setup, "ingress").contains("nn_entry"));
        let before = setup.counter("parsed");
        wire.send(b"x");
        assert!(wire.receive(None).is_some());
        assert_eq!(setup.counter("parsed"), before);
        setup.done(&["attach", "--iface", INTERFACE, "--mode", mode]);
        setup.done(&["unload"]);
        assert!(!setup.pins.exists());
        assert!(!filters(&setup, "ingress").contains("nn_entry"));
    }
}

/// Unlike XDP, tc takes several objects per interface, each in its direction.
#[test]
fn several_objects_on_one_interface() {
    if common::skip("several_objects_on_one_interface") {
        return;
    }
    let setup = Setup::new("tc-several");
    let names = ["in", "more", "out"].map(|name| format!("test-{}-{name}", std::process::id()));
    let nnbpf = |arguments: &[&str]| {
        let output = setup.lab.nnbpf(arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    for (name, hook) in names.iter().zip(["tc ingress", "tc ingress", "tc egress"]) {
        let object = object(&setup, "one.o", hook, "drop;", 0);
        nnbpf(&["load", &object, "--iface", INTERFACE, "--name", name, "--enforce"]);
    }
    let packets = |name: &str| {
        let text = nnbpf(&["status", "--json", "--name", name]);
        let status: serde_json::Value = serde_json::from_str(&text).unwrap();
        status[0]["counters"]["parsed"].as_u64().unwrap()
    };
    let before = names.each_ref().map(|name| packets(name));
    let wire = setup.lab.wire("10.99.0.2", "10.99.0.1");
    wire.send(b"x");
    assert!(wire.receive(None).is_some());
    let after = names.each_ref().map(|name| packets(name));
    assert_eq!((after[0] - before[0], after[1] - before[1]), (1, 1), "{before:?} {after:?}");
    // An interface alone does not tell which one is meant.
    let error = refusal(&setup.lab.nnbpf(&["status", "--iface", INTERFACE]));
    assert!(error.contains("E0816") && error.contains("--name"), "{error}");
    // The second one drops what the first one lets through.
    nnbpf(&["block", "10.99.0.2", "--name", &names[1]]);
    wire.send(b"y");
    assert_eq!(wire.receive(Some(Duration::from_millis(300))), None);
    for name in &names {
        nnbpf(&["unload", "--name", name]);
    }
}

/// A filter belongs to its network namespace: from outside nothing is half done.
#[test]
fn a_filter_in_another_namespace() {
    if common::skip("a_filter_in_another_namespace") {
        return;
    }
    let setup = Setup::new("tc-outside");
    let first = object(&setup, "first.o", "tc egress", "drop;", 0);
    setup.done(&["load", &first, "--iface", INTERFACE, "--mode", "clsact"]);
    let before = program(&setup);
    assert!(before.is_u64());
    let pins = setup.pins.display().to_string();
    let second = object(&setup, "second.o", "tc egress", "report;", 0);
    for arguments in [["update", &second], ["unload", "--pin"]] {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_nnbpf"));
        command.args(arguments);
        if arguments[0] == "update" {
            command.arg("--pin");
        }
        let error = refusal(&command.arg(&pins).output().unwrap());
        assert!(error.contains("E0810") && error.contains("nsenter --net"), "{error}");
    }
    assert_eq!(program(&setup), before);
    assert!(filters(&setup, "egress").contains("nn_entry"));
    setup.done(&["unload"]);
    assert!(!filters(&setup, "egress").contains("nn_entry"));
}
