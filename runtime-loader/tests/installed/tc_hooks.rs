//! Programs on the hooks of tc, without an installation: attached, exchanged and detached, as tcx links and as
//! clsact filters, one direction at a time.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

use nnbpf_compiler::bpf::asm::{exit, mov};
use nnbpf_compiler::bpf::module::{Function, Line, Module, Parameter};
use nnbpf_compiler::bpf::{Insn, Reg};
use nnbpf_compiler::elf;
use nnbpf_runtime_loader::attach_tc::{self, Hook};
use nnbpf_runtime_loader::{Kernel, Loaded};

use crate::common;
use crate::net::{INTERFACE, Lab, Wire, ip, within};

/// `TC_ACT_UNSPEC` and `TC_ACT_SHOT` of `include/uapi/linux/pkt_cls.h`.
const NEXT: i32 = -1;
const DROP: i32 = 2;

/// Time in which a datagram that no program drops arrives.
const DELIVERY: Duration = Duration::from_millis(300);

/// Programs that look at how a packet lies in its socket buffer.
pub(crate) mod probe {
    use nnbpf_compiler::bpf::asm::{add, exit, jeq, jgt, label, ldx, mov};
    use nnbpf_compiler::bpf::{Label, Reg, Size};

    use super::{DROP, Loaded, NEXT, loaded};

    const OUT: Label = Label(0);
    const VLAN_PRESENT: i16 = 20;
    const DATA: i16 = 76;
    const DATA_END: i16 = 80;

    /// Drops packets with a VLAN tag beside them.
    pub(crate) fn tagged() -> Loaded {
        loaded(vec![
            ldx(Size::W, Reg::R2, Reg::R1, VLAN_PRESENT),
            mov(Reg::R0, NEXT),
            jeq(Reg::R2, 0, OUT),
            mov(Reg::R0, DROP),
            label(OUT),
            exit(),
        ])
    }

    /// Drops packets whose first bytes are linear.
    pub(crate) fn linear(bytes: i32) -> Loaded {
        loaded(vec![
            ldx(Size::W, Reg::R2, Reg::R1, DATA),
            ldx(Size::W, Reg::R3, Reg::R1, DATA_END),
            add(Reg::R2, bytes),
            mov(Reg::R0, NEXT),
            jgt(Reg::R2, Reg::R3, OUT),
            mov(Reg::R0, DROP),
            label(OUT),
            exit(),
        ])
    }
}

/// A program of tc that answers every packet with the same number.
fn constant(answer: i32) -> Loaded {
    loaded(vec![mov(Reg::R0, answer), exit()])
}

fn loaded(code: Vec<Insn<Reg>>) -> Loaded {
    let line = Line { file: "test".to_owned(), line: 1, column: 1, text: "answer".to_owned() };
    let program = Function {
        name: "nn_entry".to_owned(),
        section: "classifier".to_owned(),
        line_of: vec![0; code.len()],
        lines: vec![line],
        code,
        parameters: vec![Parameter::Context],
    };
    let module = Module { programs: vec![program], ..Module::default() };
    Kernel::load(&elf::write(&module).unwrap()).unwrap()
}

/// Programs that are pinned, removed also when the test fails.
struct Pinned(PathBuf);

impl Pinned {
    fn new(lab: &Lab) -> Self {
        let pins = PathBuf::from(format!("/sys/fs/bpf/{}", lab.inside));
        std::fs::create_dir(&pins).unwrap();
        Self(pins)
    }

    fn pin(&self, name: &str, answer: i32) -> PathBuf {
        let path = self.0.join(name);
        constant(answer).program("nn_entry").unwrap().pin(&path).unwrap();
        path
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Whether a datagram arrives that comes in, and whether one does that goes out: with patience where one should.
fn arrive(lab: &Lab, expected: (bool, bool)) -> (bool, bool) {
    let arrives = |wire: &Wire, expected: bool| {
        wire.send(b"x");
        wire.receive((!expected).then_some(DELIVERY)).is_some()
    };
    // One after the other: both wires need the same ports.
    let incoming = arrives(&lab.wire("10.99.0.2", "10.99.0.1"), expected.0);
    (incoming, arrives(&lab.wire_out("10.99.0.1", "10.99.0.2"), expected.1))
}

/// A datagram that comes in and one that goes out arrive, or do not.
#[track_caller]
fn check(lab: &Lab, expected: (bool, bool)) {
    assert_eq!(arrive(lab, expected), expected);
}

/// What arrives while a program at the hook drops everything.
fn dropped(hook: Hook) -> (bool, bool) {
    match hook {
        Hook::Xdp | Hook::TcIngress => (false, true),
        Hook::TcEgress => (true, false),
    }
}

/// Addresses of neighbours, which ARP cannot find while everything is dropped.
pub(crate) fn settle(lab: &Lab) {
    check(lab, (true, true));
    for (namespace, interface, neighbour) in
        [(&lab.inside, INTERFACE, "10.99.0.2"), (&lab.outside, "veth1", "10.99.0.1")]
    {
        // The same address, but for good.
        let shown = ip(&["-n", namespace, "neigh", "show", neighbour, "dev", interface]);
        let words: Vec<&str> = shown.split_whitespace().collect();
        let at = words.iter().position(|word| *word == "lladdr").unwrap();
        ip(&["-n", namespace, "neigh", "replace", neighbour, "lladdr", words[at + 1], "dev", interface]);
    }
}

#[test]
fn tcx_links_attach_exchange_and_end() {
    let test = "tcx_links_attach_exchange_and_end";
    if common::skip(test) {
        return;
    }
    let lab = Lab::new("tcx");
    settle(&lab);
    let (drop_all, next) = (constant(DROP), constant(NEXT));
    let index = within(&lab.inside, || attach_tc::interface_index(INTERFACE)).unwrap();
    for hook in [Hook::TcIngress, Hook::TcEgress] {
        let attach = |program: &Loaded| {
            let program = program.program("nn_entry").unwrap();
            within(&lab.inside, || attach_tc::attach_tcx(program.fd().unwrap(), index, hook))
        };
        let link = match attach(&drop_all) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                assert!(std::env::var_os("NNBPF_REQUIRE_KERNEL").is_none(), "{test}: {error}");
                eprintln!("SKIP {test}: the kernel has no tcx");
                return;
            }
            link => link.unwrap(),
        };
        check(&lab, dropped(hook));
        // The same link with another program, and back.
        attach_tc::update_link(link.as_fd(), next.program("nn_entry").unwrap().fd().unwrap()).unwrap();
        check(&lab, (true, true));
        // A second program is asked after the first, which lets everything through.
        let second = attach(&drop_all).unwrap();
        check(&lab, dropped(hook));
        drop(second);
        check(&lab, (true, true));
        attach_tc::update_link(link.as_fd(), drop_all.program("nn_entry").unwrap().fd().unwrap()).unwrap();
        check(&lab, dropped(hook));
        drop(link);
        check(&lab, (true, true));
    }
    let program = drop_all.program("nn_entry").unwrap();
    let refused = attach_tc::attach_tcx(program.fd().unwrap(), index, Hook::Xdp).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::InvalidInput);
    let nowhere = within(&lab.inside, || attach_tc::attach_tcx(program.fd().unwrap(), 9999, Hook::TcIngress));
    assert_eq!(nowhere.unwrap_err().raw_os_error(), Some(libc::ENODEV));
}

#[test]
fn clsact_filters_attach_exchange_and_end() {
    if common::skip("clsact_filters_attach_exchange_and_end") {
        return;
    }
    let lab = Lab::new("clsact");
    settle(&lab);
    let pinned = Pinned::new(&lab);
    let (drop_all, next) = (pinned.pin("drop", DROP), pinned.pin("next", NEXT));
    for hook in [Hook::TcIngress, Hook::TcEgress] {
        let attach = |program| within(&lab.inside, || attach_tc::attach_clsact(program, INTERFACE, hook));
        let filter = attach(&drop_all).unwrap();
        check(&lab, dropped(hook));
        within(&lab.inside, || attach_tc::replace_clsact(&next, &filter)).unwrap();
        check(&lab, (true, true));
        // A second filter stands beside the first, wherever the kernel puts it: neither ends the search.
        let second = attach(&drop_all).unwrap();
        assert_ne!(second, filter);
        check(&lab, dropped(hook));
        // Nothing but the numbers is needed to find a filter again.
        let numbers = attach_tc::ClsactFilter { interface: INTERFACE.to_owned(), ..second };
        within(&lab.inside, || attach_tc::detach_clsact(&numbers)).unwrap();
        check(&lab, (true, true));
        within(&lab.inside, || attach_tc::replace_clsact(&drop_all, &filter)).unwrap();
        check(&lab, dropped(hook));
        within(&lab.inside, || attach_tc::detach_clsact(&filter)).unwrap();
        check(&lab, (true, true));
        let twice = within(&lab.inside, || attach_tc::detach_clsact(&filter)).unwrap_err();
        assert!([Some(libc::ENOENT), Some(libc::EINVAL)].contains(&twice.raw_os_error()), "{twice}");
        let gone = within(&lab.inside, || attach_tc::replace_clsact(&next, &filter)).unwrap_err();
        assert!(gone.raw_os_error().is_some(), "{gone}");
        check(&lab, (true, true));
    }
    let refused = attach_tc::attach_clsact(&drop_all, INTERFACE, Hook::Xdp).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::InvalidInput);
    let nowhere = within(&lab.inside, || attach_tc::attach_clsact(&drop_all, "nowhere", Hook::TcEgress));
    assert_eq!(nowhere.unwrap_err().raw_os_error(), Some(libc::ENODEV));
}
