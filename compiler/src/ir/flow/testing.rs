//! Helpers of tests that need specifications, captures of the shared folder, or reference tables.
//!
//! Nothing here is compiled into the library.

use crate::ir::flow::formula::Formula;
use std::path::PathBuf;
use std::process::Command;

use crate::capture;
use crate::ir::Interval;
use crate::ir::packet::TCP;
use crate::spec::typed::{
    Aggregate, Clock, Directions, End, Feature, FeatureSpec, Filter, Flow, Function, Hook, Operand, Output,
    Scope, Transports, Triggers, Unit,
};

use super::key::KeyParts;
use super::ranges;

/// The shared folder beside the repository, or a visible skip.
pub(crate) fn shared(test: &str, path: &str) -> Option<PathBuf> {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data")).join(path);
    if path.exists() {
        return Some(path);
    }
    eprintln!("SKIP {test}: the shared data folder is missing");
    None
}

/// One row of the captures' manifest.
pub(crate) struct Listed {
    pub(crate) file: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) packets: usize,
    pub(crate) ethernet: bool,
}

/// All captures of the shared folder; empty after a visible skip.
pub(crate) fn captures(test: &str) -> Vec<Listed> {
    let Some(folder) = shared(test, "pcaps") else { return Vec::new() };
    let mut manifest = csv::Reader::from_path(folder.join("manifest.csv")).unwrap();
    let columns = manifest.headers().unwrap().clone();
    let column = |name: &str| columns.iter().position(|c| c == name).unwrap();
    let (file, packets, encap) = (column("file"), column("packets"), column("encap"));
    manifest
        .records()
        .map(|row| {
            let row = row.unwrap();
            Listed {
                file: row[file].to_owned(),
                bytes: std::fs::read(folder.join(&row[file])).unwrap(),
                packets: row[packets].parse().unwrap(),
                ethernet: &row[encap] == "1",
            }
        })
        .collect()
}

/// Packets of an Ethernet capture of the shared folder.
pub(crate) fn capture(bytes: &[u8]) -> capture::Capture<'_> {
    capture::read("test", bytes).unwrap()
}

/// A compressed CSV of the reference features: columns and rows.
pub(crate) fn table(path: &std::path::Path) -> (Vec<String>, Vec<csv::StringRecord>) {
    let output = Command::new("gzip").arg("-dc").arg(path).output().expect("gzip unpacks the tables");
    assert!(output.status.success(), "{}", path.display());
    let mut reader = csv::Reader::from_reader(output.stdout.as_slice());
    let columns = reader.headers().unwrap().iter().map(str::to_owned).collect();
    (columns, reader.records().map(Result::unwrap).collect())
}

/// A feature that is one aggregate.
pub(crate) fn feature(name: &str, function: Function, operand: Option<Operand>, filter: Filter) -> Feature {
    let aggregate = Aggregate { function, operand, filter, table: None, window: None, span: 0..0 };
    Feature {
        name: name.to_owned(),
        unit: Unit::Plain,
        fraction_bits: ranges::fraction_bits(function),
        range: Interval { low: i64::MIN, high: i64::MAX },
        value: Formula::leaf(
            aggregate,
            ranges::fraction_bits(function),
            Interval { low: i64::MIN, high: i64::MAX },
        ),
        span: 0..0,
    }
}

/// TCP and UDP, both directions, no timeouts, no end, verdicts at the end.
pub(crate) fn spec(features: Vec<Feature>) -> FeatureSpec {
    FeatureSpec {
        name: "test".to_owned(),
        version: 1,
        file: "test.spec".to_owned(),
        fragments: Vec::new(),
        parameters: Vec::new(),
        source: String::new(),
        hook: Hook::Xdp,
        clock: Clock::Exact,
        flow: Flow {
            scope: Scope::Flow,
            filter: Filter::default(),
            name: "conn".to_owned(),
            transports: Transports { tcp: true, udp: true, ..Transports::default() },
            key: KeyParts::FIVE_TUPLE,
            directions: Directions::Both,
            capacity: 65_536,
            idle: None,
            active: None,
            sweep: false,
            end: End::Never,
            span: 0..0,
        },
        tables: Vec::new(),
        features,
        outputs: vec![Output {
            name: None,
            labels: vec!["benign".to_owned(), "attack".to_owned()],
            span: 0..0,
        }],
        reconstruction: None,
        triggers: Triggers { end: true, ..Triggers::default() },
        rules: Vec::new(),
    }
}

/// A specification with these features: TCP and UDP, both directions, an idle time of two minutes, no other end.
pub(crate) fn compiled(features: &str) -> FeatureSpec {
    let source = format!(
        "spec s v1;\nattach xdp;\nflow conn on tcp, udp {{ key five_tuple bidirectional; capacity 64 evict lru; \
         idle 120 s; end never; }}\nfeatures of conn {{ {features} }}\nmodel {{ labels benign, attack; }}\n\
         classify conn at end;\n"
    );
    crate::spec::compile("s.spec", &source).unwrap_or_else(|errors| panic!("{errors:#?}"))
}

/// A frame between 10.0.0.x hosts with so many payload bytes.
pub(crate) fn frame(
    proto: u8,
    (src, sport): (u8, u16),
    (dst, dport): (u8, u16),
    flags: u8,
    payload: u16,
) -> Vec<u8> {
    let header = if proto == TCP { 20 } else { 8 };
    let mut frame = vec![0; 12];
    frame.extend([8, 0, 0x45, 0]);
    frame.extend((20 + header + payload).to_be_bytes());
    frame.extend([0, 0, 0, 0, 64, proto, 0, 0, 10, 0, 0, src, 10, 0, 0, dst]);
    frame.extend([sport.to_be_bytes(), dport.to_be_bytes()].concat());
    if proto == TCP {
        frame.extend([0, 0, 0, 0, 0, 0, 0, 0, 0x50, flags, 0, 0, 0, 0, 0, 0]);
    } else {
        frame.extend([0; 4]);
    }
    frame.resize(frame.len() + usize::from(payload), 0);
    frame
}
