//! The loader killed at every one of its steps: at each system call that changes something.

use std::process::Output;

use crate::net::INTERFACE;
use crate::setup::{Fate, Setup};
use crate::{built, common};

/// System calls that change bpffs or the kernel's BPF objects.
const STEPS: [&str; 8] = ["bpf", "mkdir", "symlink", "rename", "unlink", "unlinkat", "rmdir", "flock"];

fn skip(test: &str) -> bool {
    if common::skip(test) {
        return true;
    }
    if std::process::Command::new("strace").arg("-V").output().is_ok() {
        return false;
    }
    assert!(std::env::var_os("NNBPF_REQUIRE_KERNEL").is_none(), "{test}: no strace");
    eprintln!("SKIP {test}: no strace");
    true
}

/// Runs our command under strace with these arguments of its own.
fn traced(setup: &Setup, tracing: &[&str], arguments: &[&str]) -> Output {
    let pins = setup.pins.display().to_string();
    let mut strace = setup.lab.enter("strace");
    strace.args(["-f", "-qq"]).args(tracing).arg(env!("CARGO_BIN_EXE_nnbpf")).args(arguments);
    strace.args(["--pin", &pins]).output().unwrap()
}

/// Kills a command at each of its calls; `check` looks at what is left each time, and is told
/// whether the command came to its end all the same.
fn at_every_step(
    setup: &Setup,
    prepare: impl Fn(),
    arguments: impl Fn() -> Vec<String>,
    mut check: impl FnMut(bool),
) {
    let mut killed = 0;
    for call in STEPS {
        prepare();
        let words = arguments();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let log = setup.file("calls");
        let output = traced(setup, &["-o", &log, "-e", &format!("trace={call}")], &words);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = std::fs::read_to_string(&log).unwrap();
        check(true);
        // Before the first pin nothing is made that outlives the process.
        let first = text.lines().position(|line| line.contains("BPF_OBJ_PIN")).unwrap_or(0);
        // What is left of one attempt may give the next one more to do, so the end is where nothing is killed.
        for at in first.. {
            prepare();
            let words = arguments();
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let inject = format!("inject={call}:signal=KILL:when={}", at + 1);
            let output = traced(setup, &["-o", "/dev/null", "-e", &inject], &words);
            check(output.status.success());
            if output.status.success() {
                break;
            }
            killed += 1;
        }
    }
    eprintln!("killed {killed} times");
    assert!(killed > 8, "{killed}");
}

#[test]
fn a_load_killed_at_any_step_is_repeated_or_removed() {
    let test = "a_load_killed_at_any_step_is_repeated_or_removed";
    if skip(test) {
        return;
    }
    let setup = Setup::new("kill-load");
    let object = setup.object();
    let load = ["load", &object, "--iface", INTERFACE, "--mode", "skb"];
    let mut round = 0;
    at_every_step(
        &setup,
        || {},
        || load.map(str::to_owned).to_vec(),
        |_| {
            round += 1;
            if round % 2 == 0 {
                // The same again comes to its end, whatever the first one has left.
                setup.done(&load);
                let status = setup.status();
                assert_eq!((status.generation, status.code, status.attachments.len()), (1, 1, 1));
                assert!(status.attachments[0].program.is_some());
            }
            setup.done(&["unload"]);
            assert!(!setup.pins.exists());
            let link = crate::net::ip(&["-n", &setup.lab.inside, "link", "show", "dev", INTERFACE]);
            assert!(!link.contains("xdp"), "{link}");
        },
    );
}

#[test]
fn an_unload_killed_at_any_step_is_repeated() {
    let test = "an_unload_killed_at_any_step_is_repeated";
    if skip(test) {
        return;
    }
    let setup = Setup::new("kill-unload");
    let mut round = 0;
    at_every_step(
        &setup,
        || {
            setup.done(&["load", &setup.object(), "--iface", INTERFACE, "--mode", "skb"]);
        },
        || vec!["unload".to_owned()],
        |_| {
            round += 1;
            if round % 2 == 0 {
                setup.done(&["unload"]);
                assert!(!setup.pins.exists());
                let link = crate::net::ip(&["-n", &setup.lab.inside, "link", "show", "dev", INTERFACE]);
                assert!(!link.contains("xdp"), "{link}");
            }
        },
    );
}

#[test]
fn an_update_killed_at_any_step_leaves_one_of_two_states() {
    let test = "an_update_killed_at_any_step_leaves_one_of_two_states";
    if skip(test) {
        return;
    }
    let setup = Setup::new("kill-update");
    setup.lab.pair("veth2", "veth3", 98);
    let second = setup.file("second.o");
    let spec = built::SPEC.replace("drop; block ip.src for 1 s; report;", "drop;");
    let mut plan = built::plan_of(built::MODEL, &spec);
    plan.network = built::always(&plan, 0);
    std::fs::write(&second, built::object(&plan)).unwrap();
    let objects = [setup.object(), second];
    setup.load(&["--iface", "veth2"]);
    let wire = setup.lab.wire("10.99.0.2", "10.99.0.1");
    assert_eq!(setup.fate(&wire), Fate::Arrived);
    let before = std::cell::Cell::new(setup.status());
    let (mut done, mut undone) = (0, 0);
    at_every_step(
        &setup,
        || before.set(setup.status()),
        || {
            // Whichever object is not at work.
            let at_work = setup.status().object_hash;
            let other = objects.iter().find(|path| {
                let opened = nnbpf_runtime_loader::open::open(path.as_ref()).unwrap();
                at_work != Some(nnbpf_runtime_loader::installation::object_hash(&opened))
            });
            vec!["update".to_owned(), other.unwrap().clone()]
        },
        |ended| {
            // Before anything is repaired, both interfaces have programs of ours.
            let link =
                |interface| crate::net::ip(&["-n", &setup.lab.inside, "link", "show", "dev", interface]);
            assert!(link(INTERFACE).contains("xdp") && link("veth2").contains("xdp"));
            let (old, new) = (before.replace(setup.status()), setup.status());
            let changed = new.generation != old.generation;
            assert!(changed || !ended);
            *(if changed { &mut done } else { &mut undone }) += 1;
            assert_eq!(new.generation, old.generation + u32::from(changed));
            assert_eq!(new.code != old.code, changed);
            // Programs on both interfaces, parameters, history and pins agree.
            let entry = new.details.iter().find(|program| program.name == "nn_entry").unwrap().id;
            assert!(new.attachments.iter().all(|one| one.program == Some(entry)), "{new:?}");
            assert_eq!(new.attachments.len(), 2);
            let last = new.history.last().unwrap();
            assert_eq!((last.number, last.code), (new.generation, new.code));
            assert_eq!(new.flows, old.flows);
        },
    );
    eprintln!("{done} updates took place, {undone} did not");
    assert!(done > 20 && undone > 20);
    assert_eq!(setup.fate(&wire), Fate::Arrived);
    let event = setup.status();
    assert_eq!(event.flows, Some((1, 1024)));
}

#[test]
fn new_parameters_killed_at_any_step_leave_one_of_two_states() {
    let test = "new_parameters_killed_at_any_step_leave_one_of_two_states";
    if skip(test) {
        return;
    }
    let setup = Setup::new("kill-params");
    setup.load(&[]);
    let before = std::cell::Cell::new(setup.status());
    at_every_step(
        &setup,
        || before.set(setup.status()),
        || {
            let generation = setup.status().generation;
            let path = setup.file("new.params");
            let network = built::always(&setup.plan, generation as usize % 2);
            std::fs::write(&path, built::params_bytes(network.get(), generation as u8)).unwrap();
            vec!["update".to_owned(), path]
        },
        |ended| {
            let (old, new) = (before.replace(setup.status()), setup.status());
            let changed = new.generation != old.generation;
            assert!(changed || !ended);
            assert_eq!(new.generation, old.generation + u32::from(changed));
            let last = new.history.last().unwrap();
            assert_eq!(last.number, new.generation);
            // The slot that is active is the one of the history.
            let installation = nnbpf_runtime_loader::installation::Installation::open(
                nnbpf_runtime_loader::pins::PinDirectory::at(&setup.pins),
            );
            let slots = installation.unwrap().map(".data.nn_params").unwrap().read_value().unwrap();
            let active = new.active.unwrap().index as usize;
            let size = slots.len() / 2;
            assert_eq!(slots[active * size..(active + 1) * size], last.slot);
            assert_eq!(new.provenance.unwrap().model_hash, last.model_hash);
        },
    );
}
