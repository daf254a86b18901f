//! `nnbpf events`: what the `report` action tells, as it happens; and which events are sent at all.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nnbpf_compiler::diag::codes::kernel as codes;
use nnbpf_compiler::diag::{Diagnostic, Origin, Outcome};
use nnbpf_compiler::ir::flow::Counter;
use nnbpf_runtime_loader::capabilities;
use nnbpf_runtime_loader::events::{Events as Reader, Record};
use nnbpf_runtime_loader::installation::EventCounts;

use super::filter::{Settings, describe};
use super::record::{in_json, in_words, losses_in_json};
use super::target::Target;
use super::time::{WallClock, duration};
use super::{bad_setting, refused};

/// Bytes that are gathered before they are written, while events wait.
const BATCH: usize = 64 << 10;
/// How long a reader with much to do rests between two looks at the ring buffer: many events then cost one
/// wake-up.
const REST: Duration = Duration::from_millis(1);
/// Events in one look that count as much to do.
const MUCH: u32 = 64;
/// Events after which the clock is looked at even when more are waiting: more than the ring buffer holds.
const LOOK: u32 = 32_768;
/// How often a stream of JSON lines is told what was lost.
const LOSSES: Duration = Duration::from_secs(1);

/// Print verdicts that a rule reports, one line each, until interrupted.
#[derive(clap::Args)]
pub(crate) struct Events {
    /// Go on until interrupted; this is what happens without --count and --for.
    #[arg(long, conflicts_with_all = ["count", "time"])]
    follow: bool,
    /// End after so many events.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// End after this time, such as 30s or 10min; 0s prints what is waiting.
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    time: Option<Duration>,
    /// Print one JSON object per line.
    #[arg(long)]
    json: bool,
    /// Append JSON lines to a file instead of printing.
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    record: Option<PathBuf>,
    /// Set which events the kernel sends, and end: label=L (several), acts=drop|block, sample=1/N, rate=N/s,
    /// burst=N, joined by commas; `all` for every event.
    #[arg(long, value_name = "SETTINGS", conflicts_with_all = ["follow", "count", "time", "json", "record"])]
    set: Option<String>,
    /// Show which events the kernel sends, and end.
    #[arg(long, conflicts_with_all = ["follow", "count", "time", "json", "record", "set"])]
    settings: bool,
    #[command(flatten)]
    target: Target,
}

impl Events {
    pub(crate) fn run(&self) -> Outcome<()> {
        if self.set.is_some() || self.settings {
            return self.configure();
        }
        let installation = self.target.open()?;
        let clock = WallClock::of(&installation).map_err(refused)?;
        let counts = installation.event_counts().map_err(refused)?;
        let mut reader = Reader::open(installation)?;
        let mut out = Out::new(self, clock)?;
        // What runs for long needs nothing else. Opening the installation may: it mends what a killed command has
        // left, and filters of clsact are found by number, which takes CAP_SYS_ADMIN.
        capabilities::keep_needed();
        let deadline = self.time.map(|time| Instant::now() + time);
        let mut left = self.count.unwrap_or(u64::MAX);
        let mut looked = (Instant::now(), counts.read().map_err(|error| vec![error.diagnostic()])?);
        'all: while left > 0 {
            let mut taken = 0;
            while let Some(record) = if left > 0 && taken < LOOK { reader.waiting() } else { None } {
                if out.put(&record, &reader).is_err() {
                    break 'all;
                }
                left -= 1;
                taken += 1;
            }
            if self.record.is_some() || self.json {
                let now = Instant::now();
                if now.duration_since(looked.0) >= LOSSES {
                    let read = counts.read().map_err(|error| vec![error.diagnostic()])?;
                    if read.lost != looked.1.lost {
                        losses_in_json(read.lost, read.suppressed, &mut out.text);
                    }
                    looked = (now, read);
                }
            }
            // A reader that went away, as `head` does, has seen enough.
            if out.flush().is_err() {
                break;
            }
            let rest = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == 0 || rest == Some(Duration::ZERO) {
                break;
            }
            if taken == LOOK {
                continue;
            }
            if taken > MUCH {
                std::thread::sleep(rest.map_or(REST, |rest| rest.min(REST)));
            } else {
                reader.wait(rest).map_err(|error| vec![error.diagnostic()])?;
            }
        }
        out.end(counts.read().map_err(|error| vec![error.diagnostic()])?)
    }

    /// Changes or shows the filter.
    fn configure(&self) -> Outcome<()> {
        let installation = self.target.open()?;
        let labels = installation.metadata()?.labels;
        if let Some(text) = &self.set {
            let settings = Settings::parse(text, &labels).map_err(|reason| bad_setting("--set", reason))?;
            installation.set_event_filter(&settings.0).map_err(refused)?;
        }
        println!("events: {}", describe(&installation.event_filter().map_err(refused)?, &labels));
        Ok(())
    }
}

/// Where events go.
struct Out {
    file: Option<(File, PathBuf)>,
    json: bool,
    clock: WallClock,
    text: String,
    events: u64,
    /// The error that ended the writing.
    failed: Option<io::Error>,
}

impl Out {
    fn new(events: &Events, clock: WallClock) -> Outcome<Self> {
        let file = match &events.record {
            None => None,
            Some(path) => {
                let mut options = OpenOptions::new();
                // Addresses of people are in it.
                options.append(true).create(true).mode(0o600);
                Some((options.open(path).map_err(|error| unwritable(path, &error))?, path.clone()))
            }
        };
        Ok(Self {
            json: events.json || file.is_some(),
            file,
            clock,
            text: String::new(),
            events: 0,
            failed: None,
        })
    }

    fn put(&mut self, record: &Record, reader: &Reader) -> io::Result<()> {
        if self.json {
            in_json(record, reader.features(), self.clock, &mut self.text);
        } else {
            self.text.push_str(&in_words(record, self.clock));
            self.text.push('\n');
        }
        self.events += 1;
        if self.text.len() >= BATCH { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        let bytes = self.text.as_bytes();
        let written = match &mut self.file {
            Some((file, _)) => file.write_all(bytes),
            None => io::stdout().write_all(bytes).and_then(|()| io::stdout().flush()),
        };
        self.text.clear();
        if let Err(error) = written {
            let kind = error.kind();
            self.failed = Some(error);
            return Err(kind.into());
        }
        Ok(())
    }

    /// Says what was recorded, or why it could not be.
    fn end(mut self, counts: EventCounts) -> Outcome<()> {
        let _kept = self.flush();
        let Some((_, path)) = self.file else { return Ok(()) };
        if let Some(error) = self.failed {
            return Err(unwritable(&path, &error));
        }
        println!(
            "{}: {} events recorded; {} {}, {} {}",
            path.display(),
            self.events,
            counts.lost,
            Counter::EventsLost.name().replace('_', " "),
            counts.suppressed,
            Counter::EventsSuppressed.name().replace('_', " "),
        );
        Ok(())
    }
}

fn unwritable(path: &std::path::Path, error: &io::Error) -> Vec<Diagnostic> {
    vec![Diagnostic::new(
        &codes::RECORDS,
        Origin::File { file: path.display().to_string() },
        format!("cannot write {}: {error}", path.display()),
        "name a file in a directory that you can write to",
    )]
}
