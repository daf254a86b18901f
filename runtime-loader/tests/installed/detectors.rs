//! Several interfaces, several objects, and every command twice.

use nnbpf_runtime_loader::pins::PinDirectory;

use crate::net::{INTERFACE, ip};
use crate::setup::{Fate, Setup, refusal};
use crate::{built, common};

/// A second pair beside the one that every setup has.
const SECOND: &str = "veth2";

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn one_object_on_two_interfaces() {
    if common::skip("one_object_on_two_interfaces") {
        return;
    }
    let setup = Setup::new("two");
    setup.lab.pair(SECOND, "veth3", 98);
    setup.load(&["--enforce", "--iface", SECOND]);
    let (first, second) =
        (setup.lab.wire("10.99.0.2", "10.99.0.1"), setup.lab.wire("10.98.0.2", "10.98.0.1"));
    // Counters, flows and lists are common to both.
    assert_eq!((setup.fate(&first), setup.fate(&second)), (Fate::Arrived, Fate::Arrived));
    assert_eq!(setup.status().flows, Some((2, 1024)));
    setup.done(&["block", "10.98.0.2"]);
    setup.done(&["block", "10.99.0.2"]);
    assert_eq!((setup.fate(&first), setup.fate(&second)), (Fate::Dropped, Fate::Dropped));

    // Without the second one, its packets are nobody's business.
    assert!(setup.done(&["detach", "--iface", SECOND]).contains("veth2: detached"));
    assert!(setup.done(&["detach", "--iface", SECOND]).contains("veth2: was not attached"));
    let before = setup.counter("parsed");
    second.send(b"x");
    assert!(second.receive(None).is_some());
    assert_eq!(setup.counter("parsed"), before);
    assert_eq!(setup.fate(&first), Fate::Dropped);

    let text = setup.done(&["attach", "--iface", SECOND]);
    assert_eq!(text, "veth2: attached, xdp native\n");
    assert_eq!(setup.done(&["attach", "--iface", SECOND]), "veth2: attached, xdp native, already\n");
    assert_eq!(setup.fate(&second), Fate::Dropped);
    let status = &json(&setup.done(&["status", "--json"]))[0];
    let ways: Vec<&str> =
        status["interfaces"].as_array().unwrap().iter().map(|one| one["mode"].as_str().unwrap()).collect();
    assert_eq!((status["interfaces"].as_array().unwrap().len(), ways), (2, vec!["generic", "native"]));
    setup.done(&["unload"]);
    assert!(!setup.pins.exists());
    for interface in [INTERFACE, SECOND] {
        let link = ip(&["-n", &setup.lab.inside, "link", "show", "dev", interface]);
        assert!(!link.contains("xdp"), "{link}");
    }
}

#[test]
fn two_objects_side_by_side() {
    if common::skip("two_objects_side_by_side") {
        return;
    }
    let setup = Setup::new("beside");
    setup.lab.pair(SECOND, "veth3", 98);
    let names = ["a", "b"].map(|name| format!("test.{}-{name}", std::process::id()));
    let nnbpf = |arguments: &[&str]| {
        let output = setup.lab.nnbpf(arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let object = setup.object();
    nnbpf(&["load", &object, "--iface", INTERFACE, "--name", &names[0], "--enforce"]);
    // One XDP program per interface: whoever is there is named.
    let other = setup.lab.nnbpf(&["load", &object, "--iface", INTERFACE, "--name", &names[1]]);
    let error = refusal(&other);
    assert!(
        error.contains("E0810") && error.contains(&format!("of the installation `{}`", names[0])),
        "{error}"
    );
    assert!(!PinDirectory::named(&names[1]).path().exists());
    // One interface of two is none: the first one is free again.
    let both = ["load", &object, "--iface", SECOND, "--iface", INTERFACE, "--name", &names[1]];
    assert!(refusal(&setup.lab.nnbpf(&both)).contains("E0810"));
    assert!(!PinDirectory::named(&names[1]).path().exists());
    assert!(!ip(&["-n", &setup.lab.inside, "link", "show", "dev", SECOND]).contains("xdp"));

    nnbpf(&["load", &object, "--iface", SECOND, "--name", &names[1], "--enforce"]);
    // An interface names what is attached to it.
    nnbpf(&["block", "10.99.0.2", "--iface", INTERFACE]);
    let status = |iface: &str| json(&nnbpf(&["status", "--json", "--iface", iface]))[0].clone();
    assert_eq!(status(INTERFACE)["blocked"][0]["host"], "10.99.0.2");
    assert_eq!(status(SECOND)["blocked"], serde_json::json!([]));
    let wire = setup.lab.wire("10.98.0.2", "10.98.0.1");
    wire.send(b"x");
    assert!(wire.receive(None).is_some());
    assert!(status(SECOND)["packets"].as_u64().unwrap() > 0);
    nnbpf(&["unload", "--iface", SECOND]);
    assert!(!PinDirectory::named(&names[1]).path().exists());
    nnbpf(&["unload", "--name", &names[0]]);
    assert!(!PinDirectory::named(&names[0]).path().exists());
}

#[test]
fn every_command_twice() {
    if common::skip("every_command_twice") {
        return;
    }
    let setup = Setup::new("twice");
    setup.lab.pair(SECOND, "veth3", 98);
    setup.load(&[]);
    let object = setup.object();
    let again = ["load", &object, "--iface", INTERFACE];
    assert!(setup.done(&again).contains("veth0: already loaded"));
    // The parameters may have changed since.
    setup.update(1);
    assert!(setup.done(&again).contains("veth0: already loaded"));
    assert_eq!(setup.status().generation, 2);
    for (more, help) in [
        (&["--enforce"][..], "nnbpf mode enforce"),
        (&["--mode", "native"], "nnbpf detach --iface veth0"),
        (&["--iface", SECOND], "nnbpf attach --iface veth2"),
    ] {
        let error = refusal(&setup.run(&[&again[..], more].concat()));
        assert!(error.contains("E0812") && error.contains(help), "{more:?}: {error}");
    }
    setup.done(&["unload"]);
    assert!(setup.done(&["unload"]).contains("nothing is installed"));
    let error = refusal(&setup.lab.nnbpf(&["unload", "--iface", "nosuch0"]));
    assert!(error.contains("E0813"), "{error}");
}

#[test]
fn what_has_no_native_xdp_falls_back_and_says_so() {
    if common::skip("what_has_no_native_xdp_falls_back_and_says_so") {
        return;
    }
    let setup = Setup::new("fallback");
    let object = setup.object();
    let text = setup.done(&["load", &object, "--iface", "lo", "--iface", INTERFACE]);
    assert!(text.contains("lo: attached, xdp generic (native refused: Operation not supported"), "{text}");
    assert!(text.contains("veth0: attached, xdp native, monitoring"), "{text}");
    let text = setup.done(&["status"]);
    assert!(text.contains("lo, xdp generic (native refused: Operation not supported"), "{text}");
    let status = &json(&setup.done(&["status", "--json"]))[0];
    assert_eq!(status["interfaces"][0]["interface"], "lo");
    assert!(status["interfaces"][0]["fallback"].as_str().unwrap().contains("not supported"), "{status}");
    assert_eq!(status["interfaces"][1]["fallback"], serde_json::Value::Null);
    setup.done(&["unload"]);
    // Nothing else was asked for, nothing else is done.
    let error = refusal(&setup.run(&["load", &object, "--iface", "lo", "--mode", "native"]));
    assert!(error.contains("E0810") && error.contains("--mode skb"), "{error}");
    let error = refusal(&setup.run(&["load", &object, "--iface", "lo", "--mode", "tcx"]));
    assert!(error.contains("E0810") && error.contains("`attach` decides"), "{error}");
    assert!(!setup.pins.exists());
}

#[test]
fn an_interface_that_is_removed() {
    if common::skip("an_interface_that_is_removed") {
        return;
    }
    let setup = Setup::new("removed");
    setup.lab.pair(SECOND, "veth3", 98);
    setup.load(&["--iface", SECOND]);
    ip(&["-n", &setup.lab.inside, "link", "delete", SECOND]);
    let text = setup.done(&["status"]);
    assert!(text.contains("veth2, not attached: the interface is gone"), "{text}");
    let status = &json(&setup.done(&["status", "--json"]))[0];
    assert_eq!(
        (&status["interfaces"][1]["attached"], &status["interface"]),
        (&false.into(), &"veth0".into())
    );
    // Updates go on for the others.
    setup.update(1);
    std::fs::write(setup.file("other.o"), built::object(&built::plan())).unwrap();
    setup.done(&["update", &setup.file("other.o")]);
    // An interface of the same name is another interface.
    setup.lab.pair(SECOND, "veth3", 98);
    assert!(setup.done(&["status"]).contains("veth2, not attached"));
    assert_eq!(setup.done(&["attach", "--iface", SECOND]), "veth2: attached, xdp native\n");
    ip(&["-n", &setup.lab.inside, "link", "delete", SECOND]);
    assert!(setup.done(&["detach", "--iface", SECOND]).contains("veth2: detached"));
    ip(&["-n", &setup.lab.inside, "link", "delete", INTERFACE]);
    setup.done(&["unload"]);
    assert!(!setup.pins.exists());
}

/// One installation that says nothing about itself does not keep the others from being shown.
#[test]
fn a_damaged_installation_hides_no_other() {
    if common::skip("a_damaged_installation_hides_no_other") {
        return;
    }
    let setup = Setup::new("damaged");
    let script = "mount -t bpf bpf /sys/fs/bpf
        bad=/sys/fs/bpf/nnbpf/bad
        mkdir -p $bad/code/1/programs/nn_entry
        ln -s code/1 $bad/current
        $1 load $2 --iface $3 --mode skb --name good
        $1 status || echo refused
        $1 unload --name good";
    let mut command = setup.lab.enter("unshare");
    command.args(["--mount", "sh", "-ec", script, "sh", env!("CARGO_BIN_EXE_nnbpf"), &setup.object()]);
    let output = command.arg(INTERFACE).output().unwrap();
    let (text, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{text}{error}");
    assert!(text.contains("mode        monitor") && text.contains("refused"), "{text}{error}");
    assert!(error.starts_with("error[E080"), "{error}");
}
