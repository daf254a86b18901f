//! Packets on a veth pair are really dropped: by the block list and by rules, over IPv4 and IPv6; and never in
//! monitor mode.

use std::time::{Duration, Instant};

use nnbpf_compiler::params::file;

use crate::setup::{Fate, Setup, refusal};
use crate::{built, common};

/// Sender and receiver over both versions of IP.
const ENDS: [(&str, &str); 2] = [("10.99.0.2", "10.99.0.1"), ("fd99::2", "fd99::1")];

/// Blocked hosts of the specification are blocked for this long.
const BLOCK: Duration = Duration::from_secs(1);

#[test]
fn a_blocked_host_is_dropped() {
    if common::skip("a_blocked_host_is_dropped") {
        return;
    }
    let setup = Setup::new("lists");
    setup.load(&["--enforce"]);
    for (from, to) in ENDS {
        let wire = setup.lab.wire(from, to);
        assert_eq!(setup.fate(&wire), Fate::Arrived);
        // The flow is known by now: a block acts on its next packet all the same.
        setup.done(&["block", from, "--for", "10min"]);
        let before = setup.counter("blocked");
        assert_eq!(setup.fate(&wire), Fate::Dropped);
        assert_eq!(setup.counter("blocked"), before + 1);
        // Allowed hosts win, also as a part of a prefix.
        setup.done(&["allow", from]);
        assert_eq!(setup.fate(&wire), Fate::Arrived);
        setup.done(&["allow", from, "--remove"]);
        assert_eq!(setup.fate(&wire), Fate::Dropped);
        let prefix = if from.contains(':') { "fd99::/64" } else { "10.99.0.0/24" };
        setup.done(&["allow", prefix]);
        assert_eq!(setup.fate(&wire), Fate::Arrived);
        setup.done(&["allow", prefix, "--remove"]);
        setup.done(&["unblock", from]);
        assert_eq!(setup.fate(&wire), Fate::Arrived);
        // In monitor mode a block is counted only.
        setup.done(&["block", from]);
        assert_eq!(setup.fate(&wire), Fate::Dropped);
        assert_eq!(setup.done(&["mode", "monitor"]), "monitoring\n");
        assert_eq!(setup.done(&["mode", "monitor"]), "monitoring already\n");
        assert_eq!(setup.fate(&wire), Fate::Arrived);
        assert_eq!(setup.done(&["mode", "enforce"]), "enforcing\n");
        assert_eq!(setup.fate(&wire), Fate::Dropped);
        setup.done(&["unblock", from]);
        // Time sets a host free.
        setup.done(&["block", from, "--for", "4s"]);
        let blocked = Instant::now();
        assert_eq!(setup.fate(&wire), Fate::Dropped);
        std::thread::sleep(Duration::from_millis(4100).saturating_sub(blocked.elapsed()));
        assert_eq!(setup.fate(&wire), Fate::Arrived);
    }
}

#[test]
fn a_rule_blocks_from_the_next_packet_on() {
    if common::skip("a_rule_blocks_from_the_next_packet_on") {
        return;
    }
    let setup = Setup::new("rule");
    setup.load(&["--enforce"]);
    for (from, to) in ENDS {
        let wire = setup.lab.wire(from, to);
        assert_eq!(setup.fate(&wire), Fate::Arrived);
        // New parameters take effect while the flow goes on: the judged packet is dropped, its source blocked.
        setup.update(1);
        let (dropped, hosts) = (setup.counter("dropped"), setup.counter("hosts_blocked"));
        let verdicts = setup.counter("verdicts");
        assert_eq!(setup.fate(&wire), Fate::Dropped);
        let judged = Instant::now();
        assert_eq!(setup.counter("dropped"), dropped + 1);
        assert_eq!(setup.counter("hosts_blocked"), hosts + 1);
        let blocked = setup.status().blocked;
        assert_eq!(blocked.len(), 1);
        assert_eq!(blocked[0].0.to_string(), from);
        // Back to parameters that find nothing, and still nothing comes through: the list acts, unjudged.
        setup.update(0);
        if judged.elapsed() < BLOCK - Duration::from_millis(400) {
            assert_eq!(setup.fate(&wire), Fate::Dropped);
            assert_eq!(setup.counter("verdicts"), verdicts + 1);
            assert_eq!(setup.counter("dropped"), dropped + 1);
        }
        std::thread::sleep(BLOCK);
        assert!(setup.status().blocked.is_empty());
        assert_eq!(setup.fate(&wire), Fate::Arrived);
    }
    // Whoever is allowed is neither dropped nor blocked by a rule.
    setup.done(&["allow", "10.99.0.2"]);
    setup.update(1);
    let wire = setup.lab.wire("10.99.0.2", "10.99.0.1");
    assert_eq!(setup.fate(&wire), Fate::Arrived);
    assert!(setup.status().blocked.is_empty());
}

/// A chain of programs outlives the command that loaded it, and so do updates of it.
#[test]
fn a_split_object_judges_as_well() {
    if common::skip("a_split_object_judges_as_well") {
        return;
    }
    let setup = Setup::new("split");
    std::fs::write(setup.object(), built::split_object(&setup.plan)).unwrap();
    setup.load(&["--enforce"]);
    assert!(setup.status().programs.len() > 2, "{:?}", setup.status().programs);
    let wire = setup.lab.wire("10.99.0.2", "10.99.0.1");
    assert_eq!(setup.fate(&wire), Fate::Arrived);
    setup.update(1);
    assert_eq!(setup.fate(&wire), Fate::Dropped);
    assert_eq!(setup.counter("dropped"), 1);
}

#[test]
fn monitor_mode_drops_nothing() {
    if common::skip("monitor_mode_drops_nothing") {
        return;
    }
    let setup = Setup::new("monitor");
    setup.load(&[]);
    for (from, to) in ENDS {
        let wire = setup.lab.wire(from, to);
        setup.update(1);
        let before = setup.counter("would_drop");
        assert_eq!(setup.fate(&wire), Fate::Arrived);
        assert_eq!(setup.counter("would_drop"), before + 1);
        setup.update(0);
        setup.done(&["block", from]);
        let before = setup.counter("would_block");
        assert_eq!(setup.fate(&wire), Fate::Arrived);
        assert_eq!(setup.counter("would_block"), before + 1);
    }
    assert_eq!(setup.counter("hosts_blocked"), 0);
    assert_eq!((setup.counter("blocked"), setup.counter("dropped")), (0, 0));
    assert!(setup.done(&["status"]).contains("mode        monitor"));
    assert!(setup.done(&["unblock", "10.0.0.1"]).contains("was not blocked"));
}

/// Parameters that find every flow to be an attack, changed, in a file.
fn changed(setup: &Setup, change: impl FnOnce(&mut file::ParamsFile)) -> String {
    let mut params = built::params(built::always(&setup.plan, 1).get(), 1);
    change(&mut params);
    let path = setup.file("changed.params");
    std::fs::write(&path, file::write(&params)).unwrap();
    path
}

/// A file is read, compared with the installed object and proved before the kernel sees a byte of it.
#[test]
fn parameters_are_proved_first() {
    if common::skip("parameters_are_proved_first") {
        return;
    }
    let setup = Setup::new("params");
    setup.load(&[]);
    setup.update(1);
    let status = setup.status();
    assert_eq!(status.provenance.unwrap().model_hash, [1; 32]);
    let refuse = |path: &str, code: &str, reason: &str| {
        let error = refusal(&setup.run(&["update", path]));
        assert!(error.contains(code) && error.contains(reason), "{code} {reason}: {error}");
    };
    // Another plan, another size, units that are none.
    refuse(&changed(&setup, |params| params.layout_hash = [7; 32]), "E0817", "another plan");
    refuse(&changed(&setup, |params| params.slot.extend([0; 8])), "E0817", "bytes");
    refuse(&changed(&setup, |params| params.unit = f64::NAN), "E0721", "unit");
    // A shift with bits that code masks away; no compiler writes it.
    refuse(&changed(&setup, |params| params.slot[33] = 1), "E0818", "never writes");
    // A multiplier that overflows the quantiser.
    let overflow = i64::MAX.to_le_bytes();
    let path = changed(&setup, |params| params.slot[16..24].copy_from_slice(&overflow));
    refuse(&path, "E0818", "proof");
    // Another content than the checksum says, and no file at all.
    let mut damaged = std::fs::read(&path).unwrap();
    damaged[100] ^= 1;
    std::fs::write(&path, damaged).unwrap();
    refuse(&path, "E0723", "checksum");
    std::fs::remove_file(&path).unwrap();
    refuse(&path, "E0817", "cannot read");
    assert_eq!(setup.status().active, status.active);
}
