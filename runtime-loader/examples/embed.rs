//! A program that embeds the loader: attaches an object to an interface, prints what its rules report for some
//! seconds, swaps in a retrained model halfway, and leaves nothing behind.
//!
//! ```sh
//! cargo run --example embed -- ids.o eth0 10 retrained.params
//! ```

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nnbpf_compiler::diag::{Outcome, render};
use nnbpf_compiler::params::file;
use nnbpf_runtime_loader::events::{Events, Record};
use nnbpf_runtime_loader::installation::{
    AttachMode, Installation, InstallationError, Mode, Request, install,
};
use nnbpf_runtime_loader::pins::PinDirectory;
use nnbpf_runtime_loader::{Kernel, open};

/// Name of the directory in bpffs.
const NAME: &str = "embedded";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (object, interface, seconds, retrained) = match arguments.as_slice() {
        [object, interface, seconds] => (object, interface, seconds, None),
        [object, interface, seconds, retrained] => (object, interface, seconds, Some(retrained)),
        _ => {
            eprintln!("usage: embed OBJ INTERFACE SECONDS [NEW.params]");
            return ExitCode::from(2);
        }
    };
    let Ok(seconds) = seconds.parse().map(Duration::from_secs) else {
        eprintln!("embed: `{seconds}` is no number of seconds");
        return ExitCode::from(2);
    };
    match run(object, interface, seconds, retrained.map(String::as_str)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(diagnostics) => {
            // Every error has a code, a place and a remedy.
            for diagnostic in &diagnostics {
                eprint!("{}", render::plain(diagnostic, &[]));
            }
            ExitCode::FAILURE
        }
    }
}

fn run(object: &str, interface: &str, time: Duration, retrained: Option<&str>) -> Outcome<()> {
    let pins = PinDirectory::named(NAME);
    let opened = open::open(Path::new(object)).map_err(|error| error.diagnostics())?;
    let loaded = Kernel::load(&opened.bytes).map_err(|error| error.diagnostics(object))?;
    let interfaces = [interface.to_owned()];
    let request = Request { interfaces: &interfaces, attach: AttachMode::Auto, mode: Mode::Monitor };
    let (installation, attachments) = install(&loaded, &opened, request, pins.clone()).map_err(told)?;
    for attachment in &attachments {
        println!("attached to {}", attachment.interface);
    }
    // The pins keep everything alive; what was loaded may go.
    drop(loaded);
    let result = watch(installation, &pins, time, retrained);
    Installation::open(pins).and_then(Installation::remove).map_err(told)?;
    println!("removed");
    result
}

fn watch(
    installation: Installation,
    pins: &PinDirectory,
    time: Duration,
    retrained: Option<&str>,
) -> Outcome<()> {
    let begin = Instant::now();
    let mut events = Events::open(installation)?;
    report(&mut events, begin + time / 2)?;
    if let Some(path) = retrained {
        let bytes = std::fs::read(path).unwrap_or_default();
        let params = file::read(path, &bytes).map_err(|refused| vec![*refused])?;
        let active = Installation::open(pins.clone()).map_err(told)?.update(&params, path)?;
        println!("generation {}", active.generation);
    }
    report(&mut events, begin + time)
}

/// Prints events until a time.
fn report(events: &mut Events, deadline: Instant) -> Outcome<()> {
    for record in events.until(Some(deadline)) {
        match record.map_err(|error| vec![error.diagnostic()])? {
            Record::Verdict(event) => println!(
                "{} > {}: {} by generation {}",
                event.src, event.dst, event.label_name, event.generation
            ),
            Record::Fuse(_) => println!("the fuse blew"),
        }
    }
    Ok(())
}

fn told(error: InstallationError) -> Vec<nnbpf_compiler::diag::Diagnostic> {
    vec![error.diagnostic()]
}
