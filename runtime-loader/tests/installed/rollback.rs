//! Back to what was at work before: parameters, programs, and the limits of the history.

use nnbpf_runtime_loader::installation::{Change, KEPT};

use crate::setup::{Fate, Setup, refusal};
use crate::{built, common};

#[test]
fn parameters_come_back() {
    if common::skip("parameters_come_back") {
        return;
    }
    let setup = Setup::new("back");
    setup.load(&["--enforce"]);
    setup.done(&["allow", "10.99.0.3"]);
    let wire = setup.lab.wire("10.99.0.2", "10.99.0.1");
    let error = refusal(&setup.run(&["rollback"]));
    assert!(error.contains("E0821") && error.contains("nothing before generation 1"), "{error}");
    assert_eq!(setup.fate(&wire), Fate::Arrived);
    setup.update(1);
    assert_eq!(setup.fate(&wire), Fate::Dropped);
    assert_eq!(setup.done(&["rollback"]), "generation 3: restores 1\n");
    assert_eq!(setup.done(&["rollback", "1"]), "generation 3: is at work already\n");
    setup.done(&["unblock", "10.99.0.2"]);
    assert_eq!(setup.fate(&wire), Fate::Arrived);
    assert_eq!(setup.status().provenance.unwrap().model_hash, setup.plan.model.hash);
    // Further back is nothing, but forth is.
    assert!(refusal(&setup.run(&["rollback"])).contains("E0821"));
    assert_eq!(setup.done(&["rollback", "2"]), "generation 4: restores 2\n");
    assert_eq!(setup.fate(&wire), Fate::Dropped);
    let event = setup.done(&["events", "--json", "--for", "0s"]);
    assert!(event.lines().last().unwrap().contains("\"generation\":4"), "{event}");
    let error = refusal(&setup.run(&["rollback", "9"]));
    assert!(error.contains("E0821") && error.contains("choose one of 1, 2, 3, 4;"), "{error}");
    let text = setup.done(&["status"]);
    assert!(text.contains("history     3: rollback of 1, programs 1"), "{text}");
    assert!(text.contains("history     4: rollback of 2, programs 1, model 010101010101, active"), "{text}");
}

#[test]
fn programs_come_back() {
    if common::skip("programs_come_back") {
        return;
    }
    let setup = Setup::new("programs");
    setup.load(&["--enforce"]);
    setup.update(1);
    let first = setup.status().attachments[0].program;
    let mut plan =
        built::plan_of(built::MODEL, &built::SPEC.replace("drop; block ip.src for 1 s; report;", "report;"));
    plan.network = built::always(&plan, 1);
    std::fs::write(setup.file("new.o"), built::object(&plan)).unwrap();
    setup.done(&["update", &setup.file("new.o")]);
    let wire = setup.lab.wire("10.99.0.2", "10.99.0.1");
    assert_eq!(setup.fate(&wire), Fate::Arrived);
    assert_eq!(setup.done(&["rollback"]), "generation 4: restores 2, programs 1\n");
    let status = setup.status();
    assert_eq!((status.attachments[0].program, status.code, status.generation), (first, 1, 4));
    // The flow of before goes on under the old rule, and the verdict names the new number.
    assert_eq!(setup.fate(&wire), Fate::Dropped);
    let events = setup.done(&["events", "--json", "--for", "0s"]);
    let last: serde_json::Value = serde_json::from_str(events.lines().last().unwrap()).unwrap();
    assert_eq!((&last["generation"], &last["packets"]), (&4.into(), &2.into()));
    // And forth.
    assert_eq!(setup.done(&["rollback", "3"]), "generation 5: restores 3, programs 2\n");
    setup.done(&["unblock", "10.99.0.2"]);
    assert_eq!(setup.fate(&wire), Fate::Arrived);
}

/// Neither parameters nor programs pile up.
#[test]
fn the_history_is_bounded() {
    if common::skip("the_history_is_bounded") {
        return;
    }
    let setup = Setup::new("bounded");
    setup.load(&[]);
    std::fs::write(setup.file("new.o"), built::object(&built::plan())).unwrap();
    setup.done(&["update", &setup.file("new.o")]);
    for class in 0..10 {
        setup.update(class % 2);
    }
    let status = setup.status();
    let numbers: Vec<u32> = status.history.iter().map(|generation| generation.number).collect();
    assert_eq!(numbers, (5..=12).collect::<Vec<u32>>());
    assert_eq!(numbers.len(), KEPT);
    assert!(status.history.iter().all(|generation| generation.change == Change::Parameters));
    // Of the first programs nothing is left: no generation that is kept is for them.
    assert!(!setup.pins.join("code/1").exists() && setup.pins.join("code/2").exists());
    assert!(refusal(&setup.run(&["rollback", "1"])).contains("E0821"));
}
