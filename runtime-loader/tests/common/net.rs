//! Two network namespaces with a veth pair between them, removed at the end, also of a failed test.

use std::process::{Command, Output};

/// `inside` holds the interface that programs are attached to, `outside` sends.
pub(crate) struct Lab {
    pub(crate) inside: String,
    pub(crate) outside: String,
}

/// The interface in `inside`.
pub(crate) const INTERFACE: &str = "veth0";

impl Lab {
    pub(crate) fn new(name: &str) -> Self {
        let id = format!("nnbpf-{name}-{}", std::process::id());
        let lab = Self { inside: format!("{id}-in"), outside: format!("{id}-out") };
        ip(&["netns", "add", &lab.inside]);
        ip(&["netns", "add", &lab.outside]);
        let pair = ["link", "add", INTERFACE, "netns", &lab.inside, "type", "veth"];
        ip(&[&pair[..], &["peer", "name", "veth1", "netns", &lab.outside]].concat());
        for (namespace, interface, host) in [(&lab.inside, INTERFACE, 1), (&lab.outside, "veth1", 2)] {
            let v4 = format!("10.99.0.{host}/24");
            let v6 = format!("fd99::{host}/64");
            ip(&["-n", namespace, "addr", "add", &v4, "dev", interface]);
            ip(&["-n", namespace, "addr", "add", &v6, "dev", interface, "nodad"]);
            ip(&["-n", namespace, "link", "set", interface, "up"]);
        }
        lab
    }

    /// Sends one UDP datagram from `outside`.
    pub(crate) fn send(&self, address: &str) {
        let command = format!("echo hello > /dev/udp/{address}/9");
        let output = enter(&self.outside, "bash", &["-c", &command]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Runs our command in `inside`.
    pub(crate) fn nnbpf(&self, arguments: &[&str]) -> Output {
        enter(&self.inside, env!("CARGO_BIN_EXE_nnbpf"), arguments)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for namespace in [&self.inside, &self.outside] {
            let _ = Command::new("ip").args(["netns", "delete", namespace]).status();
        }
    }
}

/// Unlike `ip netns exec`, this keeps /sys and with it bpffs.
fn enter(namespace: &str, program: &str, arguments: &[&str]) -> Output {
    let net = format!("--net=/run/netns/{namespace}");
    Command::new("nsenter").arg(net).arg(program).args(arguments).output().unwrap()
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments:?}: {error}");
}
