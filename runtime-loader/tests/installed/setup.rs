//! A real object in a file, a veth pair to load it on, and a directory in bpffs that no other test uses.

use std::cell::Cell;
use std::path::PathBuf;
use std::process::Output;
use std::time::Duration;

use nnbpf_compiler::compile::Plan;
use nnbpf_runtime_loader::installation::{Installation, Status};
use nnbpf_runtime_loader::pins::PinDirectory;

use crate::built;
use crate::net::{Lab, Wire};

/// Time in which a datagram that the program has let through arrives.
const DELIVERY: Duration = Duration::from_millis(300);

pub(crate) struct Setup {
    pub(crate) lab: Lab,
    pub(crate) pins: PathBuf,
    pub(crate) files: tempfile::TempDir,
    pub(crate) plan: Plan,
    /// Numbers the datagrams.
    sent: Cell<u32>,
}

/// What became of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Arrived,
    Dropped,
}

impl Setup {
    /// The object's compiled-in parameters find nothing.
    pub(crate) fn new(name: &str) -> Self {
        let mut plan = built::plan();
        plan.network = built::always(&plan, 0);
        let lab = Lab::new(name);
        let pins = PathBuf::from(format!("/sys/fs/bpf/{}", lab.inside));
        let files = tempfile::tempdir().unwrap();
        std::fs::write(files.path().join("gate.o"), built::object(&plan)).unwrap();
        Self { lab, pins, files, plan, sent: Cell::new(0) }
    }

    pub(crate) fn file(&self, name: &str) -> String {
        self.files.path().join(name).display().to_string()
    }

    pub(crate) fn object(&self) -> String {
        self.file("gate.o")
    }

    /// Runs a command on this installation.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        let pins = self.pins.display().to_string();
        self.lab.nnbpf(&[arguments, &["--pin", &pins]].concat())
    }

    pub(crate) fn done(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "nnbpf {arguments:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn load(&self, more: &[&str]) {
        let object = self.object();
        let interface = self.lab.interface();
        self.done(&[&["load", &object, "--iface", interface, "--mode", "skb"], more].concat());
    }

    /// Swaps in parameters that give every flow this class.
    pub(crate) fn update(&self, class: usize) {
        let path = self.file("new.params");
        let network = built::always(&self.plan, class);
        std::fs::write(&path, built::params_bytes(network.get(), class as u8)).unwrap();
        self.done(&["update", &path]);
    }

    pub(crate) fn status(&self) -> Status {
        Installation::open(PinDirectory::at(&self.pins)).unwrap().status().unwrap()
    }

    pub(crate) fn counter(&self, name: &str) -> u64 {
        self.status().counters.iter().find(|(counter, _)| *counter == name).unwrap().1
    }

    /// Sends a datagram, waits until the program has seen it, and looks whether it arrived.
    pub(crate) fn fate(&self, wire: &Wire) -> Fate {
        let number = self.sent.get() + 1;
        self.sent.set(number);
        let before = self.counter("parsed");
        wire.send(&number.to_ne_bytes());
        // The first datagram waits for an answer of the neighbour's.
        for _ in 0..500 {
            if self.counter("parsed") > before {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(self.counter("parsed"), before + 1, "the program has not seen the datagram");
        match wire.receive(Some(DELIVERY)) {
            Some(datagram) => {
                assert_eq!(datagram, number.to_ne_bytes(), "a datagram arrived late");
                Fate::Arrived
            }
            None => Fate::Dropped,
        }
    }
}

impl Drop for Setup {
    fn drop(&mut self) {
        if let Ok(Some(installation)) = Installation::find(PinDirectory::at(&self.pins)) {
            let _ = installation.remove();
        }
    }
}

/// The text of a refusal.
pub(crate) fn refusal(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}
