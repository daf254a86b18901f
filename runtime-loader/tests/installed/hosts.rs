//! The lists of hosts through a file and over time, and corrections of wrong verdicts.

use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use nnbpf_runtime_loader::installation::Installation;
use nnbpf_runtime_loader::pins::PinDirectory;
use serde_json::{Value, json};

use crate::common;
use crate::setup::{Fate, Setup, refusal};

fn hosts(setup: &Setup) -> Value {
    serde_json::from_str(&setup.done(&["hosts", "--json"])).unwrap()
}

/// Addresses of blocked hosts with whether they are expired.
fn blocked(setup: &Setup) -> Vec<(String, bool)> {
    let lists = hosts(setup);
    let entries = lists["blocked"].as_array().unwrap().clone();
    let text = |entry: &Value| entry["host"].as_str().unwrap().to_owned();
    entries.iter().map(|entry| (text(entry), entry["expired"].as_bool().unwrap())).collect()
}

#[test]
fn lists_expire_and_travel_in_files() {
    if common::skip("lists_expire_and_travel_in_files") {
        return;
    }
    let setup = Setup::new("files");
    setup.load(&["--enforce"]);
    assert_eq!(setup.done(&["hosts"]), "no host is blocked or allowed\n");
    setup.done(&["block", "10.0.0.1", "--for", "1s"]);
    setup.done(&["block", "2001:db8::7", "--for", "1h"]);
    setup.done(&["block", "10.99.0.2"]);
    setup.done(&["allow", "2001:db8::/32"]);
    std::thread::sleep(Duration::from_millis(1100));
    let text = setup.done(&["hosts"]);
    assert!(text.contains("expired  10.0.0.1 ") && text.contains("allowed  2001:db8::/32 "), "{text}");
    assert_eq!(setup.done(&["hosts", "--sweep"]), "1 expired blocks removed\n");
    let two = [("10.99.0.2".to_owned(), false), ("2001:db8::7".to_owned(), false)];
    assert_eq!(blocked(&setup), two);
    // A change of a list sweeps too.
    setup.done(&["block", "10.0.0.1", "--for", "1s"]);
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(blocked(&setup)[0], ("10.0.0.1".to_owned(), true));
    setup.done(&["allow", "10.1.0.0/16"]);
    assert_eq!(blocked(&setup), two);

    let before = hosts(&setup);
    let wire = setup.lab.wire("10.99.0.2", "10.99.0.1");
    for name in ["hosts.jsonl", "hosts.csv"] {
        let file = setup.file(name);
        setup.done(&["hosts", "export", &file]);
        assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        for host in ["10.99.0.2", "2001:db8::7"] {
            setup.done(&["unblock", host]);
        }
        for prefix in ["2001:db8::/32", "10.1.0.0/16"] {
            setup.done(&["allow", prefix, "--remove"]);
        }
        assert_eq!(hosts(&setup), json!({ "allowed": [], "blocked": [] }));
        assert_eq!(setup.fate(&wire), Fate::Arrived);
        let said = setup.done(&["hosts", "import", &file]);
        assert!(said.contains("2 blocked, 2 allowed, 0 whose time is over"), "{said}");
        // It acts from the next packet on.
        assert_eq!(setup.fate(&wire), Fate::Dropped);
        let after = hosts(&setup);
        assert_eq!(after["allowed"], before["allowed"]);
        // The clock of packets and the time of day are read one after the other.
        let until = |lists: &Value| lists["blocked"][1]["until"].as_str().unwrap()[..17].to_owned();
        assert_eq!(until(&after), until(&before));
    }

    // One bad line, and nothing of the file is taken.
    let file = setup.file("bad.csv");
    std::fs::write(&file, "list,host,until\nblocked,10.0.0.3,\nblocked,10.0.0.0/8,\n").unwrap();
    let error = refusal(&setup.run(&["hosts", "import", &file]));
    assert!(error.contains("E0841") && error.contains("line 3"), "{error}");
    assert_eq!(blocked(&setup), two);
    // More prefixes than the list holds: those that fitted are taken back.
    let many: String =
        (0..1_100_u32).map(|number| format!("allowed,10.2.{}.{},\n", number / 256, number % 256)).collect();
    std::fs::write(&file, format!("list,host,until\nblocked,10.0.0.3,\n{many}")).unwrap();
    let error = refusal(&setup.run(&["hosts", "import", &file]));
    assert!(error.contains("E0808") && error.contains("full"), "{error}");
    assert_eq!(
        (hosts(&setup)["allowed"].clone(), blocked(&setup)),
        (before["allowed"].clone(), two.to_vec())
    );
    // Who began to send meanwhile has seen the allowed prefixes, so every flow asks again.
    let epoch = || setup.status().config.epoch;
    let before = epoch();
    setup.run(&["hosts", "import", &file]);
    assert!(epoch() > before);
    // The list of blocked hosts would forget some of these for others.
    let many: String = (0..=held(&setup))
        .map(|number| format!("blocked,2001:db8::{:x}:{:x},\n", number >> 16, number & 0xffff))
        .collect();
    std::fs::write(&file, format!("list,host,until\n{many}")).unwrap();
    let error = refusal(&setup.run(&["hosts", "import", &file]));
    assert!(error.contains("E0808") && error.contains("`nn_blocked` is full"), "{error}");
    assert_eq!(blocked(&setup), two);
}

/// How many hosts can be blocked.
fn held(setup: &Setup) -> u32 {
    let installation = Installation::open(PinDirectory::at(&setup.pins)).unwrap();
    installation.map("nn_blocked").unwrap().shape().max_entries
}

#[test]
fn corrections_become_training_rows() {
    if common::skip("corrections_become_training_rows") {
        return;
    }
    let setup = Setup::new("wrong");
    setup.load(&["--enforce"]);
    setup.update(1);
    let wire = setup.lab.wire("10.99.0.2", "10.99.0.1");
    assert_eq!(setup.fate(&wire), Fate::Dropped);
    let (log, events, rows) =
        (setup.file("state/corrections.jsonl"), setup.file("e.jsonl"), setup.file("r.csv"));
    let said = setup.done(&["allow", "10.99.0.2", "--because", "backup server", "--log", &log]);
    assert!(said.contains("benign from now on") && said.contains("10.99.0.2: unblocked"), "{said}");
    assert_eq!(setup.fate(&wire), Fate::Arrived);
    assert_eq!(blocked(&setup), []);
    assert_eq!(std::fs::metadata(&log).unwrap().mode() & 0o777, 0o600);
    let strange = setup.file("strange.jsonl");
    setup.done(&["allow", "10.99.0.9", "--because", "two\nlines\u{1b}[31m", "--log", &strange]);
    let listed = setup.done(&["corrections", "list", "--log", &strange]);
    assert!(listed.ends_with("10.99.0.9/32  benign  two lines [31m\n"), "{listed}");
    let listed = setup.done(&["corrections", "list", "--log", &log]);
    assert!(listed.contains("10.99.0.2/32  benign  backup server"), "{listed}");

    setup.done(&["events", "--for", "0s", "--record", &events]);
    let export = ["corrections", "export", "--events", &events, "-o", &rows, "--log", &log];
    assert!(setup.done(&export).contains("2 rows of corrected hosts; 0 verdicts of others"));
    let csv = std::fs::read_to_string(&rows).unwrap();
    assert_eq!(csv, "packets,longest,label\n1,4,benign\n2,4,benign\n");
    // Who was missed is corrected the other way; a later correction counts.
    setup.done(&["block", "10.99.0.2", "--because", "stolen", "--log", &log]);
    setup.done(&export);
    assert!(std::fs::read_to_string(&rows).unwrap().ends_with("2,4,attack\n"));

    let error = refusal(&setup.run(&["allow", "::1", "--because", "x", "--log", &log, "--label", "evil"]));
    assert!(error.contains("E0840") && error.contains("benign, attack"), "{error}");
    // What cannot be recorded changes nothing.
    let error = refusal(&setup.run(&["allow", "10.9.9.9", "--because", "x", "--log", "/proc/no/log"]));
    assert!(error.contains("E0841"), "{error}");
    assert!(!setup.done(&["hosts"]).contains("10.9.9.9"));
    std::fs::write(&events, "{\"kind\":\"verdict\"}\n").unwrap();
    let error = refusal(&setup.run(&export));
    assert!(error.contains("E0841") && error.contains("line 1"), "{error}");
}
