//! Estimates of whole packets beside the kernel's own measurement of the same packet through the same code.

use nnbpf_compiler::compile::{self, Named, Target};
use nnbpf_compiler::explain::{self, Traffic};
use nnbpf_compiler::kernel::KernelVersion;
use nnbpf_compiler::lower::network;
use nnbpf_compiler::lower::packet::{Clock, ENTRY};
use nnbpf_compiler::spec;
use nnbpf_runtime_loader::{Kernel, RunInput};

/// Runs of one sample, as in `nnbpfc bench`.
const REPEAT: u32 = 100_000;

/// Prints estimate and measurement of each specification.
pub(super) fn compare(specs: &[String], samples: u32, counts: bool) -> Result<(), String> {
    let target = Target {
        kernel: KernelVersion::DEFAULT,
        network: network::Options::default(),
        clock: Clock::Kernel,
        fragments: false,
    };
    println!("| specification | packet | estimate | measured | error |\n|---|---|---|---|---|");
    for path in specs {
        let bytes = std::fs::read(path).map_err(|error| format!("{path}: {error}"))?;
        let spec = spec::from_bytes(Named { name: path, bytes: &bytes }).map_err(|e| format!("{e:?}"))?;
        for (kind, judged) in [("ordinary", false), ("judged", true)] {
            let case = explain::repeated(&spec, &target, judged).map_err(|errors| format!("{errors:?}"))?;
            let Traffic { module, empty, frame, work } = case;
            let estimate = work.nanoseconds_per_packet(explain::prices::price);
            let load = |module| -> Result<_, String> {
                let object = compile::object(module).map_err(|errors| format!("{errors:?}"))?;
                Kernel::load(&object).map_err(|error| error.to_string())
            };
            let (loaded, empty) = (load(&module)?, load(&empty)?);
            let (mut best, mut floor) = (u64::MAX, u64::MAX);
            for _ in 0..samples {
                let input = RunInput { data: &frame, repeat: REPEAT, output: false };
                best = best.min(loaded.run(ENTRY, input).map_err(|e| e.to_string())?.duration_ns);
                floor = floor.min(empty.run(ENTRY, input).map_err(|e| e.to_string())?.duration_ns);
            }
            // Whole nanoseconds of one packet.
            let measured = best.saturating_sub(floor) as f64;
            let name = path.rsplit('/').next().unwrap_or(path);
            let error = (estimate / measured - 1.0) * 100.0;
            println!("| {name} | {kind} | {estimate:.1} | {measured:.0} | {error:+.0} % |");
            if counts {
                for (class, count) in &work.classes {
                    // Counts of 64 packets.
                    println!("    {class:?} {:.2}", *count as f64 / work.packets as f64);
                }
            }
        }
    }
    Ok(())
}
