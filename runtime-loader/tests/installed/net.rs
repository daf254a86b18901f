//! Two network namespaces with a veth pair between them, removed at the end, also of a failed test.

use std::fs::File;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// `inside` holds the interface that programs are attached to, `outside` sends.
pub(crate) struct Lab {
    pub(crate) inside: String,
    pub(crate) outside: String,
    interface: String,
}

/// The interface in `inside`.
pub(crate) const INTERFACE: &str = "veth0";

/// A port that both ends use, so that all datagrams are of one flow.
const PORT: u16 = 9000;

/// How long a datagram over a veth pair may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(5);

/// One sender and one receiver, in their namespaces.
pub(crate) struct Wire {
    sender: UdpSocket,
    receiver: UdpSocket,
    to: SocketAddr,
}

impl Lab {
    pub(crate) fn new(name: &str) -> Self {
        Self::with(name, INTERFACE)
    }

    /// With an interface of this name.
    pub(crate) fn with(name: &str, interface: &str) -> Self {
        let id = format!("nnbpf-{name}-{}", std::process::id());
        let (inside, outside) = (format!("{id}-in"), format!("{id}-out"));
        let lab = Self { inside, outside, interface: interface.to_owned() };
        ip(&["netns", "add", &lab.inside]);
        ip(&["netns", "add", &lab.outside]);
        lab.pair(interface, "veth1", 99);
        lab
    }

    /// One more pair of interfaces, with addresses of the networks `10.N.0.0/24` and `fdN::/64`.
    pub(crate) fn pair(&self, inside: &str, outside: &str, network: u8) {
        let pair = ["link", "add", inside, "netns", &self.inside, "type", "veth"];
        ip(&[&pair[..], &["peer", "name", outside, "netns", &self.outside]].concat());
        for (namespace, interface, host) in [(&self.inside, inside, 1), (&self.outside, outside, 2)] {
            let v4 = format!("10.{network}.0.{host}/24");
            let v6 = format!("fd{network}::{host}/64");
            ip(&["-n", namespace, "addr", "add", &v4, "dev", interface]);
            ip(&["-n", namespace, "addr", "add", &v6, "dev", interface, "nodad"]);
            ip(&["-n", namespace, "link", "set", interface, "up"]);
        }
    }

    /// A sender outside and a receiver inside.
    pub(crate) fn wire(&self, from: &str, to: &str) -> Wire {
        Self::between(&self.outside, from, &self.inside, to)
    }

    /// A sender inside and a receiver outside.
    pub(crate) fn wire_out(&self, from: &str, to: &str) -> Wire {
        Self::between(&self.inside, from, &self.outside, to)
    }

    fn between(sending: &str, from: &str, receiving: &str, to: &str) -> Wire {
        let address = |host: &str| SocketAddr::new(host.parse::<IpAddr>().unwrap(), PORT);
        let bind = |at: SocketAddr| {
            // A process that another test is just starting holds every socket for a moment, closed ones too.
            let begin = Instant::now();
            let socket = loop {
                match UdpSocket::bind(at) {
                    Err(error) if error.kind() == ErrorKind::AddrInUse && begin.elapsed() < PATIENCE => {
                        std::thread::sleep(Duration::from_millis(5));
                    }
                    socket => break socket.unwrap(),
                }
            };
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket
        };
        let receiver = within(receiving, || bind(address(to)));
        let sender = within(sending, || bind(address(from)));
        Wire { sender, receiver, to: address(to) }
    }

    /// Runs our command in `inside`.
    pub(crate) fn nnbpf(&self, arguments: &[&str]) -> Output {
        self.enter(env!("CARGO_BIN_EXE_nnbpf")).args(arguments).output().unwrap()
    }

    /// A command in `inside`. Unlike `ip netns exec`, this keeps /sys and with it bpffs.
    pub(crate) fn enter(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.inside)).arg(program);
        command
    }

    pub(crate) fn interface(&self) -> &str {
        &self.interface
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for namespace in [&self.inside, &self.outside] {
            let _ = Command::new("ip").args(["netns", "delete", namespace]).status();
        }
    }
}

impl Wire {
    pub(crate) fn send(&self, datagram: &[u8]) {
        self.sender.send_to(datagram, self.to).unwrap();
    }

    /// What arrives next; nothing within the time when `wait` is given.
    pub(crate) fn receive(&self, wait: Option<Duration>) -> Option<Vec<u8>> {
        self.receiver.set_read_timeout(Some(wait.unwrap_or(PATIENCE))).unwrap();
        let mut datagram = [0; 64];
        let bytes = self.receiver.recv(&mut datagram).ok()?;
        Some(datagram[..bytes].to_vec())
    }
}

/// Runs something on a thread of its own in a namespace; sockets that it makes stay there.
pub(crate) fn within<T: Send>(namespace: &str, work: impl FnOnce() -> T + Send) -> T {
    let file = File::open(format!("/run/netns/{namespace}")).unwrap();
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                // SAFETY: only this thread changes its namespace.
                let result = unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) };
                assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
                work()
            })
            .join()
            .unwrap()
    })
}

/// Runs `ip` and gives what it prints.
pub(crate) fn ip(arguments: &[&str]) -> String {
    let output = Command::new("ip").args(arguments).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}
