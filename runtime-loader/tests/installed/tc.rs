//! Objects for the hooks of tc with real packets: hosts are blocked on the way in, packets judged on the way out,
//! VLAN tags found beside the packet, and headers outside the linear part.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use nnbpf_compiler::compile::Plan;
use nnbpf_compiler::ir::flow::Counter;
use nnbpf_compiler::ir::packet::Host;
use nnbpf_compiler::lower::packet::maps::{BLOCKED, CONFIG, COUNTERS, FLOWS};
use nnbpf_compiler::metadata;
use nnbpf_runtime_loader::attach_tc::{self, ClsactFilter, Hook};
use nnbpf_runtime_loader::{Kernel, Loaded, Update};

use crate::net::{INTERFACE, Lab, Wire, ip, within};
use crate::tc_hooks::{probe, settle};
use crate::{built, common};

/// Sender outside and receiver inside over both versions of IP.
const ENDS: [(&str, &str); 2] = [("10.99.0.2", "10.99.0.1"), ("fd99::2", "fd99::1")];

/// Time in which a datagram that the program has let through arrives.
const DELIVERY: Duration = Duration::from_millis(300);

/// Judges every packet, and remembers the longest frame.
fn plan(hook: Hook) -> Plan {
    let spec = format!(
        "spec gate v1;
        attach {};
        flow conn on tcp, udp {{
            key      five_tuple bidirectional;
            capacity 1024 evict lru;
            idle     60 s;
            end      tcp.fin or tcp.rst;
        }}
        features of conn {{
            packets = count() in 0..1000;
            longest = max(frame.len) in 0..9000;
        }}
        model {{ labels benign, attack; }}
        classify conn at every packet;
        on attack {{ drop; report; }}",
        hook.name()
    );
    built::plan_of(built::MODEL, &spec)
}

/// An object in the kernel, attached to the inside of a lab.
struct Gate {
    plan: Plan,
    loaded: Loaded,
    _attached: Attached,
}

/// What ends with the test: the link with its descriptor, the filter with the namespace.
enum Attached {
    Link { _fd: OwnedFd },
    Filter { _filter: ClsactFilter, _pins: Pins },
}

/// A directory in bpffs, removed also when the test fails.
struct Pins(PathBuf);

impl Drop for Pins {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The two ways to attach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Tcx,
    Clsact,
}

impl Gate {
    /// Every flow belongs to `class`.
    fn new(lab: &Lab, hook: Hook, way: Way, class: usize, split: bool) -> Option<Self> {
        let mut plan = plan(hook);
        plan.network = built::always(&plan, class);
        let object = if split { built::split_object(&plan) } else { built::object(&plan) };
        assert_eq!(metadata::decode(&object, "gate.o").unwrap().hook, Some(hook));
        let loaded = Kernel::load(&object).unwrap();
        let program = loaded.program("nn_entry").unwrap();
        let attached = match way {
            Way::Tcx => {
                let attached = within(&lab.inside, || {
                    let index = attach_tc::interface_index(INTERFACE).unwrap();
                    attach_tc::attach_tcx(program.fd().unwrap(), index, hook)
                });
                match attached {
                    Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                        assert!(std::env::var_os("NNBPF_REQUIRE_KERNEL").is_none(), "{error}");
                        eprintln!("SKIP {way:?}: the kernel has no tcx");
                        return None;
                    }
                    link => Attached::Link { _fd: link.unwrap() },
                }
            }
            Way::Clsact => {
                let pins = Pins(PathBuf::from(format!("/sys/fs/bpf/{}", lab.inside)));
                std::fs::create_dir(&pins.0).unwrap();
                let path = pins.0.join("entry");
                program.pin(&path).unwrap();
                let filter =
                    within(&lab.inside, || attach_tc::attach_clsact(&path, INTERFACE, hook)).unwrap();
                Attached::Filter { _filter: filter, _pins: pins }
            }
        };
        Some(Self { plan, loaded, _attached: attached })
    }

    fn configure(&self, enforce: bool, epoch: u64) {
        let mut config = [0; 16];
        config[0] = u8::from(enforce);
        config[8..].copy_from_slice(&epoch.to_le_bytes());
        self.loaded.map(CONFIG).unwrap().write_value(&config).unwrap();
    }

    fn counter(&self, name: &str) -> u64 {
        let counter = Counter::all().find(|counter| counter.name() == name).unwrap();
        let at = counter.index() as usize * 8;
        let copies =
            self.loaded.map(COUNTERS).unwrap().lookup_per_cpu(&0_u32.to_le_bytes()).unwrap().unwrap();
        copies.iter().map(|copy| u64::from_le_bytes(*copy[at..].first_chunk().unwrap())).sum()
    }

    /// Waits until a counter has a value.
    fn reaches(&self, name: &str, value: u64) {
        for _ in 0..300 {
            if self.counter(name) >= value {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(self.counter(name), value, "{name}");
    }

    /// The longest frame of the only flow.
    fn longest(&self) -> u32 {
        let flows = self.loaded.map(FLOWS).unwrap();
        let keys = flows.keys().unwrap();
        assert_eq!(keys.len(), 1, "one flow");
        let record = flows.lookup(&keys[0]).unwrap().unwrap();
        let slots = &self.plan.flow.as_ref().unwrap().slots;
        let at = slots.iter().find(|slot| slot.name == "longest").unwrap().offset as usize;
        u32::from_le_bytes(*record[at..].first_chunk().unwrap())
    }
}

#[track_caller]
fn arrives(wire: &Wire) {
    wire.send(b"x");
    assert!(wire.receive(None).is_some(), "it has not arrived");
}

#[track_caller]
fn is_lost(wire: &Wire) {
    wire.send(b"x");
    assert!(wire.receive(Some(DELIVERY)).is_none(), "it has arrived");
}

#[test]
fn a_host_is_blocked_on_the_way_in() {
    if common::skip("a_host_is_blocked_on_the_way_in") {
        return;
    }
    for (way, split) in [(Way::Tcx, false), (Way::Clsact, true)] {
        let lab = Lab::new("tcblock");
        settle(&lab);
        let Some(gate) = Gate::new(&lab, Hook::TcIngress, way, 0, split) else { continue };
        gate.configure(true, 1);
        let mut epoch = 1;
        for (from, to) in ENDS {
            let wire = lab.wire(from, to);
            arrives(&wire);
            let host: std::net::IpAddr = from.parse().unwrap();
            let host = match host {
                std::net::IpAddr::V4(v4) => Host::from_ipv4(v4.octets()),
                std::net::IpAddr::V6(v6) => Host(v6.octets()),
            };
            let blocked = gate.loaded.map(BLOCKED).unwrap();
            blocked.update(&host.0, &u64::MAX.to_le_bytes(), Update::Any).unwrap();
            epoch += 1;
            gate.configure(true, epoch);
            let before = gate.counter("blocked");
            is_lost(&wire);
            gate.reaches("blocked", before + 1);
            blocked.delete(&host.0).unwrap();
            epoch += 1;
            gate.configure(true, epoch);
            arrives(&wire);
        }
        // What goes out is not seen.
        let parsed = gate.counter("parsed");
        arrives(&lab.wire_out("10.99.0.1", "10.99.0.2"));
        assert_eq!(gate.counter("parsed"), parsed);
    }
}

#[test]
fn packets_are_judged_on_the_way_out() {
    if common::skip("packets_are_judged_on_the_way_out") {
        return;
    }
    for (way, split) in [(Way::Tcx, true), (Way::Clsact, false)] {
        let lab = Lab::new("tcout");
        settle(&lab);
        // Finds every flow to be an attack.
        let Some(gate) = Gate::new(&lab, Hook::TcEgress, way, 1, split) else { continue };
        for (outside, inside) in ENDS {
            // What comes in is not seen.
            let parsed = gate.counter("parsed");
            let incoming = lab.wire(outside, inside);
            arrives(&incoming);
            drop(incoming);
            assert_eq!(gate.counter("parsed"), parsed);
            let wire = lab.wire_out(inside, outside);
            let (would, dropped) = (gate.counter("would_drop"), gate.counter("dropped"));
            gate.configure(false, 1);
            arrives(&wire);
            gate.reaches("would_drop", would + 1);
            gate.configure(true, 1);
            is_lost(&wire);
            gate.reaches("dropped", dropped + 1);
        }
    }
}

/// A UDP datagram over IPv4, without checksums.
fn datagram(payload: usize) -> Vec<u8> {
    let mut packet = vec![0x45, 0];
    packet.extend(u16::try_from(28 + payload).unwrap().to_be_bytes());
    packet.extend([0, 1, 0, 0, 64, 17, 0, 0, 10, 99, 0, 2, 10, 99, 0, 1]);
    packet.extend([0x9c, 0x40, 0x23, 0x28]);
    packet.extend(u16::try_from(8 + payload).unwrap().to_be_bytes());
    packet.extend([0, 0]);
    packet.resize(28 + payload, 7);
    packet
}

fn frame(tags: &[u16], ether_type: u16, packet: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    for tag in tags {
        frame.extend(tag.to_be_bytes());
        frame.extend([0, 7]);
    }
    frame.extend(ether_type.to_be_bytes());
    frame.extend(packet);
    frame
}

/// Puts a frame on an interface in a namespace; of long ones only so many bytes become linear.
fn inject(namespace: &str, interface: &str, frame: &[u8], linear: u16) {
    within(namespace, || {
        let index = attach_tc::interface_index(interface).unwrap();
        let all = u16::to_be(libc::ETH_P_ALL as u16);
        // SAFETY: no pointers; the answer is checked before it becomes a descriptor.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0) };
        assert!(fd >= 0, "{}", io::Error::last_os_error());
        // SAFETY: the kernel has just made this descriptor.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: the structure is plain numbers, for which zero is a value.
        let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        to.sll_family = libc::AF_PACKET as u16;
        to.sll_protocol = all;
        to.sll_ifindex = index.cast_signed();
        let on: libc::c_int = 1;
        // `struct virtio_net_hdr`, whose third and fourth byte are the length of the linear part.
        let mut bytes = vec![0; 10];
        bytes[2..4].copy_from_slice(&linear.to_ne_bytes());
        bytes.extend(frame);
        // SAFETY: option and address live through the calls and have the sizes that are passed.
        let (set, sent) = unsafe {
            let set = libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_VNET_HDR,
                (&raw const on).cast(),
                size_of_val(&on) as libc::socklen_t,
            );
            let sent = libc::sendto(
                socket.as_raw_fd(),
                bytes.as_ptr().cast(),
                bytes.len(),
                0,
                (&raw const to).cast(),
                size_of_val(&to) as libc::socklen_t,
            );
            (set, sent)
        };
        assert_eq!(set, 0, "{}", io::Error::last_os_error());
        assert_eq!(sent, bytes.len().cast_signed(), "{}", io::Error::last_os_error());
    });
}

/// On ingress the kernel has taken the outermost tag off by the time that the program runs.
#[test]
fn tags_beside_the_packet_count() {
    if common::skip("tags_beside_the_packet_count") {
        return;
    }
    let lab = Lab::new("tctags");
    settle(&lab);
    let packet = datagram(30);
    let send = |tags: &[u16]| {
        let frame = frame(tags, 0x0800, &packet);
        inject(&lab.outside, "veth1", &frame, 0);
        u32::try_from(frame.len()).unwrap()
    };
    let Some(gate) = Gate::new(&lab, Hook::TcIngress, Way::Tcx, 0, false) else { return };
    for (done, tags) in [&[][..], &[0x8100], &[0x88a8, 0x8100], &[0x9100, 0x8100]].into_iter().enumerate() {
        let length = send(tags);
        gate.reaches("parsed", done as u64 + 1);
        // Frames grow with their tags, so the longest one is the last.
        assert_eq!(gate.longest(), length, "{tags:x?}");
    }
    send(&[0x88a8, 0x8100, 0x8100]);
    gate.reaches("too_many_tags", 1);
    drop(gate);
    // Behind a program that drops whatever has a tag beside it nothing with a tag is left, so it was beside.
    let index = within(&lab.inside, || attach_tc::interface_index(INTERFACE)).unwrap();
    let beside = probe::tagged();
    let program = beside.program("nn_entry").unwrap();
    let _probe =
        within(&lab.inside, || attach_tc::attach_tcx(program.fd().unwrap(), index, Hook::TcIngress)).unwrap();
    let Some(gate) = Gate::new(&lab, Hook::TcIngress, Way::Tcx, 0, false) else { return };
    send(&[0x8100]);
    send(&[0x88a8, 0x8100]);
    send(&[]);
    gate.reaches("parsed", 1);
    assert_eq!(gate.counter("too_many_tags"), 0);
}

/// Of these packets only the Ethernet header is in reach at first.
#[test]
fn headers_outside_the_linear_part_are_pulled_in() {
    if common::skip("headers_outside_the_linear_part_are_pulled_in") {
        return;
    }
    let lab = Lab::new("tcpull");
    for (namespace, interface) in [(&lab.inside, INTERFACE), (&lab.outside, "veth1")] {
        ip(&["-n", namespace, "link", "set", interface, "mtu", "9000"]);
    }
    settle(&lab);
    // IPv6 with extension headers of 2,048 bytes each, then UDP.
    let mut six = vec![0x60, 0, 0, 0];
    let extensions = 2;
    let rest = extensions * 2_048 + 8 + 100;
    six.extend(u16::try_from(rest).unwrap().to_be_bytes());
    six.extend([60, 64]);
    for last in [2, 1] {
        six.extend([0xfd, 0x99, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    }
    for next in [60, 17] {
        six.extend([next, 255]);
        // One option that fills the header.
        six.resize(six.len() + 2_046, 0);
    }
    six.extend([0x9c, 0x40, 0x23, 0x28, 0, 108, 0, 0]);
    six.resize(40 + rest, 7);
    for (ether_type, packet) in [(0x0800, datagram(5_000)), (0x86dd, six)] {
        for (hook, namespace, interface) in
            [(Hook::TcIngress, &lab.outside, "veth1"), (Hook::TcEgress, &lab.inside, INTERFACE)]
        {
            let frame = frame(&[], ether_type, &packet);
            let index = within(&lab.inside, || attach_tc::interface_index(INTERFACE)).unwrap();
            {
                // A program that drops what is linear in its first 60 bytes lets these through.
                let linear = probe::linear(60);
                let program = linear.program("nn_entry").unwrap();
                let _probe =
                    within(&lab.inside, || attach_tc::attach_tcx(program.fd().unwrap(), index, hook))
                        .unwrap();
                let Some(gate) = Gate::new(&lab, hook, Way::Tcx, 0, false) else { return };
                inject(namespace, interface, &frame, 14);
                gate.reaches("parsed", 1);
                assert_eq!(gate.counter("truncated"), 0);
                assert_eq!(gate.longest(), u32::try_from(frame.len()).unwrap(), "{}", hook.name());
            }
            // Cut packets stay truncated, however they lie.
            let Some(gate) = Gate::new(&lab, hook, Way::Tcx, 0, false) else { return };
            let keep = if ether_type == 0x0800 { 14 + 24 } else { 14 + 40 + 4_100 };
            inject(namespace, interface, &frame[..keep], 14);
            gate.reaches("truncated", 1);
            assert_eq!(gate.counter("parsed"), 0);
        }
    }
}

/// A device whose packets have no Ethernet header, with the descriptor that keeps it up.
fn tun(namespace: &str) -> std::fs::File {
    within(namespace, || {
        let device = std::fs::File::options().read(true).write(true).open("/dev/net/tun").unwrap();
        // SAFETY: the structure is plain numbers and bytes, for which zero is a value.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (place, byte) in request.ifr_name.iter_mut().zip(b"tun0") {
            *place = byte.cast_signed();
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as i16;
        // SAFETY: the structure lives through the call.
        let result = unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF, &raw const request) };
        assert_eq!(result, 0, "{}", io::Error::last_os_error());
        device
    })
}

#[test]
fn interfaces_without_ethernet_are_refused() {
    let test = "interfaces_without_ethernet_are_refused";
    if common::skip(test) {
        return;
    }
    if !std::path::Path::new("/dev/net/tun").exists() {
        eprintln!("SKIP {test}: there is no /dev/net/tun");
        return;
    }
    let lab = Lab::new("tctun");
    let device = tun(&lab.inside);
    ip(&["-n", &lab.inside, "link", "set", "tun0", "up"]);
    let loaded = Kernel::load(&built::object(&plan(Hook::TcIngress))).unwrap();
    let program = loaded.program("nn_entry").unwrap();
    let pins = Pins(PathBuf::from(format!("/sys/fs/bpf/{}", lab.inside)));
    std::fs::create_dir(&pins.0).unwrap();
    let path = pins.0.join("entry");
    program.pin(&path).unwrap();
    let (link, filter) = within(&lab.inside, || {
        let index = attach_tc::interface_index("tun0").unwrap();
        let link = attach_tc::attach_tcx(program.fd().unwrap(), index, Hook::TcIngress);
        (link, attach_tc::attach_clsact(&path, "tun0", Hook::TcIngress))
    });
    assert_eq!(link.unwrap_err().kind(), io::ErrorKind::Unsupported);
    assert_eq!(filter.unwrap_err().kind(), io::ErrorKind::Unsupported);
    // By hand it goes, and finds no packet that it understands.
    let path = path.display().to_string();
    for arguments in [
        &["qdisc", "add", "dev", "tun0", "clsact"][..],
        &["filter", "add", "dev", "tun0", "ingress", "bpf", "direct-action", "object-pinned", &path],
    ] {
        assert!(lab.enter("tc").args(arguments).status().unwrap().success(), "tc {arguments:?}");
    }
    let gate = Gate {
        plan: plan(Hook::TcIngress),
        loaded,
        _attached: Attached::Filter {
            _filter: ClsactFilter {
                interface: "tun0".to_owned(),
                hook: Hook::TcIngress,
                priority: 0,
                handle: 0,
            },
            _pins: pins,
        },
    };
    io::Write::write_all(&mut &device, &datagram(30)).unwrap();
    gate.reaches("not_ip", 1);
    assert_eq!(gate.counter("parsed"), 0);
}

const CHAPTER: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../book/src/tc.md"));

#[test]
fn the_chapter_about_tc_is_true() {
    let test = "the_chapter_about_tc_is_true";
    if common::skip(test) {
        return;
    }
    for tool in [["bpftool", "version"], ["tc", "-V"]] {
        if std::process::Command::new(tool[0]).arg(tool[1]).output().is_err() {
            assert!(std::env::var_os("NNBPF_REQUIRE_KERNEL").is_none(), "{test}: no {}", tool[0]);
            eprintln!("SKIP {test}: no {}", tool[0]);
            return;
        }
    }
    let lab = Lab::with("tchand", "eth0");
    let pins = Pins(PathBuf::from(format!("/sys/fs/bpf/{}", lab.inside)));
    let files = tempfile::tempdir().unwrap();
    let mut gate = plan(Hook::TcIngress);
    gate.network = built::always(&gate, 0);
    std::fs::write(files.path().join("ids.o"), built::split_object(&gate)).unwrap();
    let run = |block: &str| {
        let block =
            format!("set -euo pipefail\n{}", block.replace("/sys/fs/bpf/ids", &pins.0.display().to_string()));
        let output = lab.enter("bash").args(["-c", &block]).current_dir(files.path()).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{block}\n{error}");
        String::from_utf8(output.stdout).unwrap()
    };
    let blocks: Vec<&str> =
        CHAPTER.split("```bash\n").skip(1).map(|block| block.split_once("\n```").unwrap().0).collect();
    let [load, look, remove] = blocks[..] else { panic!("{} blocks", blocks.len()) };
    run(load);
    let wire = lab.wire("10.99.0.2", "10.99.0.1");
    wire.send(b"1");
    assert_eq!(wire.receive(None).as_deref(), Some(&b"1"[..]));
    let seen = run(look);
    for text in ["nn_entry", "direct-action", "\"parsed\": 1", "\"verdicts\": 1"] {
        assert!(seen.contains(text), "{text}: {seen}");
    }
    run(remove);
    assert!(!pins.0.exists());
    wire.send(b"2");
    assert_eq!(wire.receive(None).as_deref(), Some(&b"2"[..]));
}
