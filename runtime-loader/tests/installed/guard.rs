//! What keeps events and actions within bounds, on a real interface: the event filter, the fuse, and whether
//! every event is accounted for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use nnbpf_compiler::lower::packet::ENTRY;
use nnbpf_runtime_loader::RunInput;
use nnbpf_runtime_loader::installation::{Installation, Mode};
use nnbpf_runtime_loader::pins::PinDirectory;
use serde_json::Value;

use crate::common;
use crate::setup::{Fate, Setup, refusal};

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn judge(setup: &Setup, packets: usize) {
    let wire = setup.lab.wire("10.99.0.2", "10.99.0.1");
    for _ in 0..packets {
        setup.fate(&wire);
    }
}

/// Events carry the features by name, and the filter decides in the kernel which ones come.
#[test]
fn the_filter_holds_events_back() {
    if common::skip("the_filter_holds_events_back") {
        return;
    }
    let setup = Setup::new("filter");
    setup.load(&[]);
    setup.update(1);
    assert_eq!(setup.done(&["events", "--settings"]), "events: all\n");
    judge(&setup, 2);
    let events = lines(&setup.done(&["events", "--for", "0s", "--json"]));
    assert_eq!(events.len(), 2);
    assert_eq!(events[1]["kind"], "verdict");
    assert_eq!(events[1]["features"], serde_json::json!({ "packets": 2, "longest": 4 }));

    // Nothing is reported for `benign`, so nothing comes; what is held back is counted, and nothing is lost.
    assert_eq!(setup.done(&["events", "--set", "label=benign"]), "events: label=benign\n");
    judge(&setup, 2);
    assert_eq!(setup.done(&["events", "--for", "0s", "--json"]), "");
    assert_eq!((setup.counter("events_suppressed"), setup.counter("events_lost")), (2, 0));

    setup.done(&["events", "--set", "label=attack,acts=drop,sample=1/3"]);
    judge(&setup, 4);
    assert_eq!(lines(&setup.done(&["events", "--for", "0s", "--json"])).len(), 2);
    assert_eq!(setup.counter("events_suppressed"), 4);

    // Two at once, then one in 1,000 seconds.
    setup.done(&["events", "--set", "rate=1/s,burst=2"]);
    let installation = Installation::open(PinDirectory::at(&setup.pins)).unwrap();
    let mut slow = installation.event_filter().unwrap();
    assert_eq!((slow.interval_ns, slow.burst_ns), (1_000_000_000, 1_000_000_000));
    slow.interval_ns *= 1_000;
    slow.burst_ns *= 1_000;
    installation.set_event_filter(&slow).unwrap();
    drop(installation);
    judge(&setup, 4);
    assert_eq!(lines(&setup.done(&["events", "--for", "0s", "--json"])).len(), 2);
    assert_eq!(setup.counter("events_suppressed"), 6);

    let text = setup.done(&["status"]);
    assert!(text.contains("events      rate="), "{text}");
    assert_eq!(setup.done(&["events", "--set", "all"]), "events: all\n");
    judge(&setup, 1);
    assert_eq!(lines(&setup.done(&["events", "--for", "0s", "--json"])).len(), 1);

    for wrong in ["label=evil", "rate=0/s", "colour=red"] {
        let error = refusal(&setup.run(&["events", "--set", wrong]));
        assert!(error.contains("E0840"), "{error}");
    }
    // Recorded events are JSON lines in a file that nobody else reads.
    judge(&setup, 1);
    let file = setup.file("events.jsonl");
    let said = setup.done(&["events", "--for", "0s", "--record", &file]);
    assert!(said.contains("1 events recorded; 0 events lost, 6 events suppressed"), "{said}");
    assert_eq!(lines(&std::fs::read_to_string(&file).unwrap())[0]["features"]["longest"], 4);
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&file).unwrap());
    assert_eq!(mode & 0o777, 0o600);
    let error = refusal(&setup.run(&["events", "--for", "0s", "--record", "/proc/no/such"]));
    assert!(error.contains("E0841"), "{error}");
    // A full disk is told; the longest time is no error.
    judge(&setup, 1);
    let error = refusal(&setup.run(&["events", "--for", "0s", "--record", "/dev/full"]));
    assert!(error.contains("E0841"), "{error}");
    setup.done(&["events", "--count", "0", "--for", "18446744073709551615s"]);
}

/// The program in the kernel stops dropping by itself, says so, and goes on when told to.
#[test]
fn the_fuse_ends_enforcement() {
    if common::skip("the_fuse_ends_enforcement") {
        return;
    }
    let setup = Setup::new("fuse");
    setup.load(&["--enforce"]);
    let wire = setup.lab.wire("10.99.0.2", "10.99.0.1");
    assert_eq!(setup.done(&["fuse"]), "fuse: off\n");
    // Half of four packets: the third drop of a window is one too many.
    let said = setup.done(&["fuse", "--max-drop-rate", "50%", "--window", "4"]);
    assert_eq!(said, "fuse: at most 50% dropped of 4 packets\n");
    assert_eq!(setup.fate(&wire), Fate::Arrived);
    setup.update(1);
    // The first is dropped by its verdict, the others because their sender is blocked.
    for _ in 0..3 {
        assert_eq!(setup.fate(&wire), Fate::Dropped);
    }
    assert_eq!(setup.fate(&wire), Fate::Arrived, "the fuse has blown");
    let status = setup.status();
    let blown = status.fuse.blown.unwrap();
    assert_eq!((blown.packets, blown.drops), (4, 3));
    let text = setup.done(&["status"]);
    assert!(text.contains("mode        monitor") && text.contains("fuse        blown at 2"), "{text}");
    assert!(text.contains("share 75% (3 of 4 packets dropped, limit 50%)"), "{text}");
    let json: Value = serde_json::from_str(&setup.done(&["status", "--json"])).unwrap();
    assert_eq!((&json[0]["mode"], &json[0]["fuse"]["blown"]["share"]), (&"monitor".into(), &0.75.into()));
    let events = lines(&setup.done(&["events", "--for", "0s", "--json"]));
    let told: Vec<&Value> = events.iter().filter(|event| event["kind"] == "fuse").collect();
    assert_eq!(told.len(), 1, "{events:?}");
    assert_eq!((&told[0]["share"], &told[0]["limit"]), (&0.75.into(), &0.5.into()));

    // Nobody brings enforcement back by changing a list.
    let mode = Installation::open(PinDirectory::at(&setup.pins)).unwrap().map(".data.nn_config").unwrap();
    let mut config = mode.read_value().unwrap();
    // As if the fuse had blown between the reading and the writing of a change.
    config[0] = 1;
    mode.write_value(&config).unwrap();
    setup.done(&["block", "10.99.0.9"]);
    assert_eq!(setup.fate(&wire), Fate::Arrived);
    assert_eq!(setup.status().config.mode, Mode::Monitor);
    let refused = refusal(&setup.run(&["mode", "enforce"]));
    assert!(refused.contains("the fuse has blown") && refused.contains("fuse --reset"), "{refused}");
    let said = setup.done(&["fuse", "--reset"]);
    assert!(said.starts_with("fuse reset: enforcing\nfuse: at most 50%"), "{said}");
    setup.done(&["block", "10.99.0.2"]);
    assert_eq!(setup.fate(&wire), Fate::Dropped);
    assert_eq!(setup.done(&["fuse", "--off"]), "fuse: off\n");
    for _ in 0..4 {
        assert_eq!(setup.fate(&wire), Fate::Dropped);
    }
    assert_eq!(setup.run(&["fuse", "--max-drop-rate", "0%"]).status.code(), Some(2));
}

/// Processor time of the commands that have ended.
fn processor_seconds() -> f64 {
    // SAFETY: the structure is plain numbers, for which zero is a value, and is not shared.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        assert_eq!(libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage), 0);
        usage
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// Every event that was asked for was received, counted as lost, or counted as suppressed. Prints how many
/// came each second.
#[test]
fn every_event_is_accounted_for() {
    let test = "every_event_is_accounted_for";
    if common::skip(test) {
        return;
    }
    let setup = Setup::new("rate");
    setup.load(&[]);
    setup.update(1);
    let file = setup.file("many.jsonl");
    let stop = AtomicBool::new(false);
    let program = Installation::open(PinDirectory::at(&setup.pins)).unwrap().program(ENTRY).unwrap();
    let (received, seconds) = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut frame =
                vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 32, 0, 1, 0, 0, 64, 17];
            frame.extend([0, 0, 10, 99, 0, 2, 10, 99, 0, 1, 0x23, 0x28, 0x23, 0x28, 0, 12, 0, 0]);
            frame.extend([1, 2, 3, 4]);
            while !stop.load(Ordering::Relaxed) {
                program.run(RunInput { data: &frame, repeat: 1_000, output: false }).unwrap();
            }
        });
        let (begin, before) = (Instant::now(), processor_seconds());
        setup.done(&["events", "--for", "2s", "--record", &file]);
        let seconds = (begin.elapsed().as_secs_f64(), processor_seconds() - before);
        stop.store(true, Ordering::Relaxed);
        (std::fs::read(&file).unwrap(), seconds)
    });
    let first =
        received.split(|byte| *byte == b'\n').filter(|line| line.starts_with(br#"{"kind":"verdict""#));
    let first = first.count() as u64;
    // What came after the recording ended is still in the ring.
    let rest = lines(&setup.done(&["events", "--for", "0s", "--json"])).len() as u64;
    let counter = |name| setup.counter(name);
    let (verdicts, lost) = (counter("verdicts"), counter("events_lost"));
    println!(
        "{test}: {:.0} events recorded each second, {:.0} in a second of processor time; {verdicts} verdicts, \
         {lost} events lost",
        first as f64 / seconds.0,
        first as f64 / seconds.1
    );
    assert!(first > 0);
    assert_eq!(first + rest + lost + counter("events_suppressed"), verdicts);
}
