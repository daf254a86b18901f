//! `nnbpf sweep`: verdicts on flows that send no further packet.

use std::time::Duration;

use nnbpf_compiler::diag::Outcome;
use nnbpf_runtime_loader::installation::Swept;
use serde_json::json;

use super::target::Target;

/// Judge and remove the flows whose idle time has passed.
#[derive(clap::Args)]
pub(crate) struct Sweep {
    /// Sweep again and again, with a pause of so many seconds.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    follow: Option<u64>,
    /// Print one JSON object per sweep.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

impl Sweep {
    pub(crate) fn run(&self) -> Outcome<()> {
        loop {
            // Opened for each sweep: other commands have their turn, and an update replaces the program.
            let swept = self.target.open()?.sweep_flows()?;
            self.show(swept);
            let Some(pause) = self.follow else { return Ok(()) };
            std::thread::sleep(Duration::from_secs(pause));
        }
    }

    fn show(&self, swept: Swept) {
        let Swept { flows, judged, removed } = swept;
        if self.json {
            println!("{}", json!({ "flows": flows, "judged": judged, "removed": removed }));
        } else {
            println!("{flows} flows: {judged} judged, {removed} removed");
        }
    }
}
