//! Three capabilities are enough, and the command keeps no others; pins are for their owner only.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use crate::built;
use crate::common;
use crate::setup::{Setup, refusal};
use crate::tc_installed::object;

/// Bits of CAP_NET_ADMIN, CAP_PERFMON and CAP_BPF.
const NEEDED: u64 = 1 << 12 | 1 << 38 | 1 << 39;

/// Runs a script as `nobody` with some capabilities; `$nnbpf` is the command, `$pins` a place in a bpffs that
/// belongs to `nobody`, `$files` the files of the test.
fn as_nobody(setup: &Setup, capabilities: &str, script: &str) -> Output {
    let files = setup.files.path();
    std::fs::set_permissions(files, std::fs::Permissions::from_mode(0o755)).unwrap();
    let (copy, bpffs) = (files.join("nnbpf"), files.join("bpffs"));
    if !copy.exists() {
        std::fs::copy(env!("CARGO_BIN_EXE_nnbpf"), &copy).unwrap();
        std::fs::create_dir(&bpffs).unwrap();
    }
    std::fs::write(files.join("script"), format!("set -e\n{script}\n")).unwrap();
    let outer = "mount -t bpf -o mode=0755 bpf \"$1/bpffs\"
        mkdir \"$1/bpffs/own\" && chown 65534:65534 \"$1/bpffs/own\"
        export nnbpf=\"$1/nnbpf\" pins=\"$1/bpffs/own/gate\" files=\"$1\"
        exec setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=\"$2\" --ambient-caps=\"$2\" \
            --bounding-set=\"$2\" sh \"$1/script\"";
    let mut command: Command = setup.lab.enter("unshare");
    command.args(["--mount", "sh", "-ec", outer, "sh"]).arg(files).arg(capabilities).output().unwrap()
}

#[test]
fn three_capabilities_are_enough() {
    let test = "three_capabilities_are_enough";
    if common::skip(test) {
        return;
    }
    let setup = Setup::new("caps");
    let knows = Command::new("setpriv").arg("--list-caps").output();
    if !knows.is_ok_and(|known| String::from_utf8_lossy(&known.stdout).contains("perfmon")) {
        eprintln!("SKIP {test}: setpriv does not know the capability perfmon");
        return;
    }
    let network = built::always(&setup.plan, 1);
    std::fs::write(setup.file("new.params"), built::params_bytes(network.get(), 1)).unwrap();
    let interface = setup.lab.interface();
    let all = "-all,+bpf,+net_admin,+perfmon";
    let script = format!(
        "$nnbpf load $files/gate.o --iface {interface} --mode skb --pin $pins --enforce --max-drop-rate 50%
         $nnbpf update $files/new.params --pin $pins
         $nnbpf block 10.0.0.1 --pin $pins
         $nnbpf allow 10.0.0.0/8 --pin $pins
         $nnbpf hosts --pin $pins
         $nnbpf events --set rate=10/s --pin $pins
         $nnbpf events --for 0s --pin $pins
         $nnbpf status --pin $pins
         $nnbpf unload --pin $pins
         [ ! -e $pins ]"
    );
    let output = as_nobody(&setup, all, &script);
    let (said, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}{error}");
    assert!(said.contains("generation 2") && said.contains("at most 50% dropped"), "{said}");
    // tc, by links and by filters, with a program update.
    object(&setup, "first.o", "tc ingress", "drop;", 0);
    object(&setup, "second.o", "tc ingress", "drop; report;", 1);
    for mode in ["tcx", "clsact"] {
        let script = format!(
            "$nnbpf load $files/first.o --iface {interface} --mode {mode} --pin $pins
             $nnbpf update $files/second.o --pin $pins
             $nnbpf status --pin $pins
             $nnbpf unload --pin $pins"
        );
        let output = as_nobody(&setup, all, &script);
        let (said, error) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{mode}: {said}{error}");
        assert!(said.contains("programs 2 are active") && said.contains(mode), "{said}");
    }
    for (without, name) in [("bpf", "CAP_BPF"), ("net_admin", "CAP_NET_ADMIN"), ("perfmon", "CAP_PERFMON")] {
        let rest: Vec<&str> =
            ["bpf", "net_admin", "perfmon"].into_iter().filter(|cap| *cap != without).collect();
        let output = as_nobody(&setup, &format!("-all,+{}", rest.join(",+")), "$nnbpf status --pin $pins");
        let error = refusal(&output);
        assert!(error.contains("E0801") && error.contains(&format!("it lacks {name}\n")), "{error}");
    }
}

#[test]
fn other_capabilities_are_dropped() {
    if common::skip("other_capabilities_are_dropped") {
        return;
    }
    let setup = Setup::new("drops");
    setup.load(&[]);
    let pins = setup.pins.display().to_string();
    let mut reader = Command::new(env!("CARGO_BIN_EXE_nnbpf"))
        .args(["events", "--follow", "--pin", &pins])
        .spawn()
        .unwrap();
    let sets = |name: &str| {
        let status = std::fs::read_to_string(format!("/proc/{}/status", reader.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
        u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap()
    };
    let begin = Instant::now();
    while sets("CapEff") != NEEDED && begin.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let found = ["CapEff", "CapPrm", "CapInh", "CapAmb", "CapBnd", "NoNewPrivs"].map(sets);
    reader.kill().unwrap();
    reader.wait().unwrap();
    assert_eq!(found, [NEEDED, NEEDED, 0, 0, 0, 1]);
}

/// Modes of everything under a directory.
fn tight(path: &Path) {
    let found = std::fs::symlink_metadata(path).unwrap();
    if found.is_symlink() {
        return;
    }
    let wanted = if found.is_dir() { 0o700 } else { 0o600 };
    assert_eq!(found.mode() & 0o777, wanted, "{}", path.display());
    if found.is_dir() {
        std::fs::read_dir(path).unwrap().for_each(|entry| tight(&entry.unwrap().path()));
    }
}

#[test]
fn pins_are_for_their_owner() {
    if common::skip("pins_are_for_their_owner") {
        return;
    }
    let setup = Setup::new("modes");
    setup.load(&[]);
    tight(&setup.pins);
}
