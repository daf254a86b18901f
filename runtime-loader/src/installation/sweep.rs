//! A sweep: flows whose idle time has passed are judged without a further packet, by `nn_sweep`.
//!
//! The loader finds the records, a batch of buckets at a time; the program judges and removes them, one at each run.
//! It looks again at each one: a flow that has sent a packet meanwhile stays.

use nnbpf_compiler::diag::Outcome;
use nnbpf_compiler::ir::flow::{self, record::Layout};
use nnbpf_compiler::lower::packet::maps::FLOWS;
use nnbpf_compiler::lower::packet::sweep::{JUDGED, KEY_AT, REMOVED, SWEEP};
use nnbpf_compiler::spec::typed::{Flow, Nanos};
use nnbpf_compiler::spec::{self, Surroundings};

use super::{Installation, InstallationError};
use crate::test_run::RunInput;

/// Since this kernel no packet comes between on the processor of a test run: `bpf_test_run` in `net/bpf/test_run.c`
/// disables bottom halves around the program (commit `af2d0d09eabe`; 6.1.156 does not have it).
const KERNEL: (u32, u32) = (6, 3);

/// What a sweep came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// Records in the table.
    pub flows: u64,
    /// Those that were judged.
    pub judged: u64,
    /// Those that were removed, judged ones included.
    pub removed: u64,
}

impl Installation {
    /// Judges and removes every flow whose idle time has passed.
    ///
    /// # Errors
    /// An object without `nn_sweep` (`E0834`), a kernel before 6.3 (`E0802`), or what the kernel answers.
    pub fn sweep_flows(&self) -> Outcome<Swept> {
        let refused = |error: InstallationError| vec![error.diagnostic()];
        if !self.pins.programs().join(SWEEP).exists() {
            return Err(refused(InstallationError::NoSweep { directory: self.pins.path().to_owned() }));
        }
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        if version(&release) < KERNEL {
            let release = release.trim().to_owned();
            return Err(refused(InstallationError::OldKernel { release }));
        }
        let Some(said) = self.metadata()?.spec else { return Ok(Swept::default()) };
        let parameters = said.given();
        let surroundings = Surroundings { parameters: &parameters, fragments: &said };
        let spec = spec::compile_in(&said.file(), &said.source, &surroundings)?;
        let layout = flow::build(&spec)?.record;
        self.sweep_expired(&spec.flow, layout).map_err(refused)
    }

    fn sweep_expired(&self, flow: &Flow, layout: Layout) -> Result<Swept, InstallationError> {
        let now = self.now_ns()?;
        let program = self.program(SWEEP)?;
        let mut swept = Swept::default();
        let mut packet = vec![0; KEY_AT];
        self.map(FLOWS)?.entries(|key, record| {
            swept.flows += 1;
            if !is_expired(record, now, flow, layout) {
                return Ok::<_, InstallationError>(());
            }
            packet.truncate(KEY_AT);
            packet.extend(key);
            let ret = program.run(RunInput { data: &packet, repeat: 1, output: false })?.ret;
            swept.judged += u64::from(ret == JUDGED);
            swept.removed += u64::from(ret == JUDGED || ret == REMOVED);
            Ok(())
        })?;
        Ok(swept)
    }
}

/// Whether a record's last packet is longer ago than the idle time, or its first one than the active time. One
/// before its first packet has no last one yet.
fn is_expired(record: &[u8], now: u64, flow: &Flow, layout: Layout) -> bool {
    let longer_ago = |at: Option<u32>, time: Option<Nanos>| {
        let since = at
            .and_then(|at| record.get(at as usize..))
            .and_then(<[u8]>::first_chunk)
            .copied()
            .map(u64::from_ne_bytes);
        let gap = since.and_then(|since| now.checked_sub(since));
        gap.zip(time).is_some_and(|(gap, time)| gap > time.0)
    };
    longer_ago(layout.last, flow.idle) || longer_ago(layout.first, flow.active)
}

/// The first two numbers of a kernel's release.
fn version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use nnbpf_compiler::ir::flow;
    use nnbpf_compiler::ir::flow::record::Layout;
    use nnbpf_compiler::spec;
    use nnbpf_compiler::spec::typed::Flow;

    use super::{KERNEL, is_expired, version};

    #[test]
    fn kernels_that_let_packets_come_between_e0802() {
        for old in ["5.15.0-91-generic\n", "6.2.16", "6.1", "", "unknown"] {
            assert!(version(old) < KERNEL, "{old}");
        }
        for new in ["6.3.0", "6.18.3-arch1-1\n", "10.0-rc1", "6.10"] {
            assert!(version(new) >= KERNEL, "{new}");
        }
    }

    #[test]
    fn exactly_the_time_is_not_longer() {
        let built = |times: &str| {
            let source = format!(
                "spec s v1; attach xdp; flow f on udp {{ key five_tuple; capacity 9; {times} }} \
                 features of f {{ n = count(); }} model {{ labels a, b; }} classify f at end;"
            );
            let spec = spec::compile("s.spec", &source).unwrap();
            let layout = flow::build(&spec).unwrap().record;
            (spec.flow, layout)
        };
        let expired = |(flow, layout): &(Flow, Layout), last: u64, first: u64, now| {
            let mut record = vec![7; layout.size as usize];
            for (at, time) in [(layout.last, last), (layout.first, first)] {
                if let Some(at) = at.map(|at| at as usize) {
                    record[at..at + 8].copy_from_slice(&time.to_ne_bytes());
                }
            }
            is_expired(&record, now, flow, *layout)
        };
        let idle = built("idle 60 ns sweep;");
        assert!(!expired(&idle, 1_000, 1, 1_060));
        assert!(expired(&idle, 1_000, 1, 1_061));
        // Time that went backwards, a record before its first packet, no record.
        assert!(!expired(&idle, 1_000, 1, 900));
        assert!(!expired(&idle, u64::MAX, 1_000, 1_061));
        assert!(!is_expired(&[0; 15], 1_061, &idle.0, idle.1));
        let active = built("idle 60 ns sweep; active 90 ns;");
        assert!(!expired(&active, 1_000, 970, 1_060));
        assert!(expired(&active, 1_000, 969, 1_060));
    }
}
