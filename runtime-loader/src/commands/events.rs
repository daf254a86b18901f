//! `nnbpf events`: what the `report` action tells, as it happens; and which events are sent at all.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
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
        let deadline = self.time.and_then(|time| Instant::now().checked_add(time));
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
                let file = options.open(path).and_then(|file| cut_unfinished(path, &file).map(|()| file));
                Some((file.map_err(|error| unwritable(path, &error))?, path.clone()))
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
        let Some((_, path)) = self.file else {
            return match self.failed {
                Some(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                    Err(unwritable(Path::new("/dev/stdout"), &error))
                }
                Some(_) | None => Ok(()),
            };
        };
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

/// Removes what a killed recorder has left of a line, so that the next one does not begin in its middle.
fn cut_unfinished(path: &Path, file: &File) -> io::Result<()> {
    let about = file.metadata()?;
    if !about.is_file() {
        return Ok(());
    }
    let (mut end, mut block) = (about.len(), [0; 4096]);
    let reader = File::open(path)?;
    while end > 0 {
        let start = end.saturating_sub(block.len() as u64);
        let Some(bytes) = block.get_mut(..(end - start) as usize) else { break };
        reader.read_exact_at(bytes, start)?;
        if let Some(at) = bytes.iter().rposition(|byte| *byte == b'\n') {
            end = start + at as u64 + 1;
            break;
        }
        end = start;
    }
    if end < about.len() { file.set_len(end) } else { Ok(()) }
}

fn unwritable(path: &Path, error: &io::Error) -> Vec<Diagnostic> {
    vec![Diagnostic::new(
        &codes::RECORDS,
        Origin::File { file: path.display().to_string() },
        format!("cannot write {}: {error}", path.display()),
        "name a file in a directory that you can write to",
    )]
}

#[cfg(test)]
mod tests {
    use super::cut_unfinished;
    use std::fs::OpenOptions;

    #[test]
    fn recordings_go_on_at_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        let long = format!("{{}}\n{}", "x".repeat(10_000));
        for (before, after) in
            [("", ""), ("{}\n", "{}\n"), ("{}\n{\"ki", "{}\n"), ("{\"ki", ""), (&long, "{}\n")]
        {
            std::fs::write(&path, before).unwrap();
            let file = OpenOptions::new().append(true).open(&path).unwrap();
            cut_unfinished(&path, &file).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), after);
        }
        let device = OpenOptions::new().append(true).open("/dev/null").unwrap();
        cut_unfinished("/dev/null".as_ref(), &device).unwrap();
    }
}
