//! The flows of a capture, from `nnbpfc extract`, and which of them were reported.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::reports::{Ends, Report};

/// Flows of a capture.
pub struct Flows {
    /// By five-tuple without direction, then by first packet.
    flows: BTreeMap<Ends, BTreeMap<u64, Flow>>,
}

/// One flow.
#[derive(Debug, Default)]
pub struct Flow {
    /// A running program judges it at least once; others are unfinished at the end of the capture.
    pub judged: bool,
    /// The model's class, whatever the rule makes of it.
    pub classified: bool,
    pub reported: bool,
}

impl Flows {
    /// Reads what `nnbpfc extract` wrote.
    pub fn read(text: &str) -> Result<Self, String> {
        let mut flows: BTreeMap<Ends, BTreeMap<u64, Flow>> = BTreeMap::new();
        for row in csv::Reader::from_reader(text.as_bytes()).records() {
            let row = row.map_err(|error| format!("flows: {error}"))?;
            let cell = |index: usize| row.get(index).unwrap_or_default();
            let wrong = || format!("flows: this is no flow: {row:?}");
            let ends = Ends::parse([cell(2), cell(3), cell(4), cell(5), cell(6)]).ok_or_else(wrong)?;
            let first_ns = cell(0).parse().map_err(|_| wrong())?;
            let flow = flows.entry(ends).or_default().entry(first_ns).or_default();
            flow.judged |= cell(7) != "eof";
        }
        Ok(Self { flows })
    }

    /// The flow that a report is about: of those between its ends, the last one that had begun. A packet
    /// that retires an idle flow begins the next one at the same moment, so that one does not count there.
    pub fn find(&mut self, report: &Report) -> Result<&mut Flow, String> {
        let limit = if report.trigger == "idle" { report.time_ns } else { report.time_ns + 1 };
        let flow = self.flows.get_mut(&report.ends).and_then(|flows| flows.range_mut(..limit).next_back());
        flow.map(|(_, flow)| flow).ok_or_else(|| format!("no flow of the capture fits {report:?}"))
    }

    /// All flows: hosts, first packet, state.
    pub fn iter(&self) -> impl Iterator<Item = ([IpAddr; 2], u64, &Flow)> {
        self.flows
            .iter()
            .flat_map(|(ends, flows)| flows.iter().map(|(first_ns, flow)| (ends.hosts(), *first_ns, flow)))
    }
}
