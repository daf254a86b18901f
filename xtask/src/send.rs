//! `cargo xtask send`: puts the packets of a capture on an interface.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nnbpf_compiler::capture::{self, Packet};
use nnbpf_compiler::diag::render;
use nnbpf_compiler::ir::flow::Counter;
use nnbpf_compiler::ir::packet::{self, Reason};
use nnbpf_compiler::lower::packet::maps::{CLOCK, COUNTERS};
use nnbpf_compiler::spec::typed::Transports;
use nnbpf_runtime_loader::pins::PinDirectory;
use nnbpf_runtime_loader::{Map, pin_to_cpu};

use crate::packet_socket::PacketSocket;

/// Shortest frame that an interface takes: an Ethernet header.
const SHORTEST_FRAME: usize = 14;
/// How long a packet may be on its way over a veth pair.
const PATIENCE: Duration = Duration::from_secs(5);

/// Send the packets of a capture on an interface, as they were captured.
#[derive(clap::Args)]
pub struct Send {
    /// The interface of this network namespace that sends.
    #[arg(value_name = "IFACE")]
    interface: String,
    /// A pcap or pcapng file.
    #[arg(value_name = "CAPTURE")]
    capture: PathBuf,
    /// How many times faster than it was captured.
    #[arg(long, value_name = "X", default_value_t = 1.0)]
    speed: f64,
    /// As fast as possible, with the capture's time: before each packet, writes its time into the clock of the
    /// replay build that is pinned in DIR, and goes on when that program has counted the packet. Once the program
    /// drops a packet of a connection, the recorded replies are left out: nobody would have sent them.
    #[arg(long, value_name = "DIR", conflicts_with = "speed")]
    lockstep: Option<PathBuf>,
}

impl Send {
    pub fn run(&self) -> Result<(), String> {
        if !(self.speed.is_finite() && self.speed > 0.0) {
            return Err("--speed is a number above zero".to_owned());
        }
        let name = self.capture.display().to_string();
        let bytes = std::fs::read(&self.capture).map_err(|error| format!("{name}: {error}"))?;
        let capture = capture::read(&name, &bytes).map_err(|diagnostics| {
            diagnostics.iter().map(|diagnostic| render::plain(diagnostic, &[])).collect::<String>()
        })?;
        let socket = PacketSocket::open(&self.interface)
            .map_err(|error| format!("cannot send on `{}`: {error}", self.interface))?;
        let packets: Vec<Packet<'_>> =
            capture.packets.into_iter().filter(|packet| packet.data.len() >= SHORTEST_FRAME).collect();
        let begin = Instant::now();
        let left_out = match &self.lockstep {
            None => self.paced(&socket, &packets).map(|()| 0)?,
            Some(pins) => lockstep(&socket, &packets, &PinDirectory::at(pins))?,
        };
        println!("{} packets sent in {:.1} s", packets.len() - left_out, begin.elapsed().as_secs_f64());
        if left_out > 0 {
            println!("{left_out} packets left out: replies to packets that were dropped");
        }
        Ok(())
    }

    /// Keeps the capture's distances in time, divided by the speed.
    fn paced(&self, socket: &PacketSocket, packets: &[Packet<'_>]) -> Result<(), String> {
        let begin = Instant::now();
        let first = packets.first().map_or(0, |packet| packet.ts_ns);
        for packet in packets {
            let after = Duration::from_nanos(packet.ts_ns.saturating_sub(first)).div_f64(self.speed);
            let early = after.saturating_sub(begin.elapsed());
            if !early.is_zero() {
                std::thread::sleep(early);
            }
            socket.send(packet.data).map_err(|error| format!("packet {}: {error}", packet.number))?;
        }
        Ok(())
    }
}

/// One packet at a time, with the capture's clock. Gives the number of replies that were left out.
fn lockstep(socket: &PacketSocket, packets: &[Packet<'_>], pins: &PinDirectory) -> Result<usize, String> {
    let open = |name: &str| {
        Map::from_pin(name, &pins.map(name))
            .map_err(|error| format!("{error}; was a replay build loaded with `--pin`?"))
    };
    let (clock, counters) = (open(CLOCK)?, open(COUNTERS)?);
    // A veth pair delivers on the processor that sends, and nothing else of ours runs there meanwhile.
    pin_to_cpu(0).map_err(|error| format!("cannot stay on one processor: {error}"))?;
    let mut counted = Counts::read(&counters)?;
    // Directions of connections that nobody sends in any more.
    let mut silent: BTreeSet<Direction> = BTreeSet::new();
    let mut left_out = 0;
    for packet in packets {
        let direction = Direction::of(packet.data);
        if direction.is_some_and(|direction| silent.contains(&direction)) {
            left_out += 1;
            continue;
        }
        clock.write_value(&packet.ts_ns.to_ne_bytes()).map_err(|error| error.to_string())?;
        socket.send(packet.data).map_err(|error| format!("packet {}: {error}", packet.number))?;
        let sent = Instant::now();
        let mut now = Counts::read(&counters)?;
        while now.seen == counted.seen {
            if sent.elapsed() > PATIENCE {
                return Err(format!("the program has not seen packet {}", packet.number));
            }
            std::thread::yield_now();
            now = Counts::read(&counters)?;
        }
        if now.seen != counted.seen + 1 {
            return Err("packets of others came in between".to_owned());
        }
        if now.dropped != counted.dropped {
            silent.extend(direction.map(Direction::reverse));
        }
        counted = now;
    }
    Ok(left_out)
}

/// Sender and receiver with their ports, and the protocol.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Direction {
    from: ([u8; 16], u16),
    to: ([u8; 16], u16),
    proto: u8,
}

impl Direction {
    fn of(frame: &[u8]) -> Option<Self> {
        let fields = packet::parse(frame, Transports::ALL).ok()?;
        let (from, to) = ((fields.src.0, fields.src_port), (fields.dst.0, fields.dst_port));
        Some(Self { from, to, proto: fields.proto })
    }

    fn reverse(self) -> Self {
        Self { from: self.to, to: self.from, proto: self.proto }
    }
}

/// What the program has counted.
struct Counts {
    /// Every packet once, under what the parser said of it.
    seen: u64,
    dropped: u64,
}

impl Counts {
    fn read(counters: &Map) -> Result<Self, String> {
        let copies = counters.lookup_per_cpu(&0_u32.to_ne_bytes()).map_err(|error| error.to_string())?;
        let copies = copies.unwrap_or_default();
        let sum = |counter: Counter| -> u64 {
            let at = counter.index() as usize * 8;
            let words = copies.iter().filter_map(|copy| copy.get(at..)?.first_chunk().copied());
            words.map(u64::from_ne_bytes).sum()
        };
        Ok(Self {
            seen: Reason::ALL.into_iter().map(|reason| sum(Counter::Packet(reason))).sum(),
            dropped: sum(Counter::Blocked) + sum(Counter::Dropped),
        })
    }
}
