//! An object that judges single packets: there is no flow table, and every command works without one.

use std::time::{Duration, Instant};

use nnbpf_runtime_loader::events::{Events, Record};
use nnbpf_runtime_loader::installation::Installation;
use nnbpf_runtime_loader::pins::PinDirectory;
use serde_json::Value;

use crate::setup::{Fate, Setup};
use crate::{built, common};

/// Judges every UDP datagram with four bytes of payload or more.
const SPEC: &str = "
spec gate v1;
attach xdp;
packets on udp where l4.payload_len >= 4;
features {
    first = payload[0] in 0..200;
    ttl   = ip.ttl;
}
model { labels benign, attack; }
classify packet at every packet;
on attack { drop; block ip.src for 1 s; report; }
";

/// The object of the specification whose parameters find nothing.
fn setup(name: &str) -> Setup {
    let mut setup = Setup::new(name);
    setup.plan = built::plan_of(built::MODEL, SPEC);
    setup.plan.network = built::always(&setup.plan, 0);
    std::fs::write(setup.object(), built::object(&setup.plan)).unwrap();
    setup
}

#[test]
fn single_packets_are_judged_dropped_and_told() {
    if common::skip("single_packets_are_judged_dropped_and_told") {
        return;
    }
    let setup = setup("single");
    setup.load(&["--enforce"]);
    let status = setup.status();
    assert_eq!(status.flows, None);
    assert!(!setup.done(&["status"]).contains("  flows "));
    let json: Value = serde_json::from_str(&setup.done(&["status", "--json"])).unwrap();
    assert_eq!(json[0]["flows"], Value::Null);
    for (from, to) in [("10.99.0.2", "10.99.0.1"), ("fd99::2", "fd99::1")] {
        let wire = setup.lab.wire(from, to);
        let verdicts = setup.counter("verdicts");
        assert_eq!(setup.fate(&wire), Fate::Arrived);
        assert_eq!(setup.counter("verdicts"), verdicts + 1);
        // Lists act on every packet, and asking them stops nothing else.
        setup.done(&["block", from, "--for", "10min"]);
        assert_eq!(setup.fate(&wire), Fate::Dropped);
        setup.done(&["allow", from]);
        assert_eq!(setup.fate(&wire), Fate::Arrived);
        setup.done(&["allow", from, "--remove"]);
        setup.done(&["unblock", from]);
        assert_eq!(setup.fate(&wire), Fate::Arrived);
        // Parameters change under traffic: the packet is dropped, told and its sender blocked for a second.
        let mut reader = Events::open(Installation::open(PinDirectory::at(&setup.pins)).unwrap()).unwrap();
        setup.update(1);
        assert_eq!(setup.fate(&wire), Fate::Dropped);
        let event = reader.next(Some(Instant::now() + Duration::from_secs(5))).unwrap().unwrap();
        let Record::Verdict(event) = event else { panic!("{event:?}") };
        assert_eq!((event.packets, event.src.to_string().as_str()), (1, from));
        assert_eq!(setup.status().blocked.len(), 1);
        setup.update(0);
        std::thread::sleep(Duration::from_millis(1100));
        assert_eq!(setup.fate(&wire), Fate::Arrived);
    }
    setup.done(&["unload"]);
    assert!(!setup.pins.exists());
}

#[test]
fn a_shadow_runs_beside_single_packets() {
    if common::skip("a_shadow_runs_beside_single_packets") {
        return;
    }
    let setup = setup("sshadow");
    setup.load(&["--enforce"]);
    let wire = setup.lab.wire("10.99.0.2", "10.99.0.1");
    let path = setup.file("attack.params");
    std::fs::write(&path, built::params_bytes(built::always(&setup.plan, 1).get(), 9)).unwrap();
    setup.done(&["shadow", &path]);
    for _ in 0..3 {
        assert_eq!(setup.fate(&wire), Fate::Arrived);
    }
    let told: Value = serde_json::from_str(&setup.done(&["shadow", "--status", "--json"])).unwrap();
    assert_eq!((&told["verdicts"], &told["disagreements"]), (&Value::from(3), &Value::from(3)));
    setup.done(&["promote"]);
    assert_eq!(setup.fate(&wire), Fate::Dropped);
}

#[test]
fn flows_and_single_packets_replace_each_other() {
    if common::skip("flows_and_single_packets_replace_each_other") {
        return;
    }
    let setup = Setup::new("sflows");
    setup.load(&["--enforce"]);
    let wire = setup.lab.wire("10.99.0.2", "10.99.0.1");
    assert_eq!(setup.fate(&wire), Fate::Arrived);
    setup.done(&["block", "192.0.2.7"]);
    let mut plan = built::plan_of(built::MODEL, SPEC);
    plan.network = built::always(&plan, 0);
    let single = setup.file("single.o");
    std::fs::write(&single, built::object(&plan)).unwrap();
    let output = setup.run(&["update", &single]);
    assert!(output.status.success(), "{output:?}");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("judges single packets: 1 flows are forgotten"), "{told}");
    assert_eq!(setup.status().flows, None);
    assert_eq!(setup.fate(&wire), Fate::Arrived);
    // Lists and counters go on, with the epoch that says that there are lists.
    setup.done(&["block", "10.99.0.2"]);
    assert_eq!(setup.fate(&wire), Fate::Dropped);
    assert_eq!((setup.status().blocked.len(), setup.counter("parsed")), (2, 3));
    setup.done(&["unblock", "10.99.0.2"]);
    setup.done(&["rollback"]);
    assert_eq!(setup.status().flows.map(|(_, capacity)| capacity), Some(1024));
    assert_eq!(setup.fate(&wire), Fate::Arrived);
}
