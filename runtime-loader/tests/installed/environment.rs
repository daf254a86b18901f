//! What surrounds a load: bpffs that is missing or read only, two loaders at once, files that are cut off.

use std::process::{Command, Output, Stdio};

use crate::net::INTERFACE;
use crate::setup::{Setup, refusal};
use crate::{built, common};

/// Runs our command in a mount namespace of its own, after changing what is mounted.
fn with_mounts(setup: &Setup, mounts: &str, arguments: &[&str]) -> Output {
    let script = format!("{mounts} && exec \"$0\" \"$@\"");
    let mut unshare: Command = setup.lab.enter("unshare");
    unshare.args(["--mount", "sh", "-c", &script, env!("CARGO_BIN_EXE_nnbpf")]).args(arguments);
    unshare.output().unwrap()
}

#[test]
fn bpffs_that_cannot_be_written() {
    if common::skip("bpffs_that_cannot_be_written") {
        return;
    }
    let setup = Setup::new("mounts");
    let (object, pins) = (setup.object(), setup.pins.display().to_string());
    let load = ["load", &object, "--iface", INTERFACE, "--pin", &pins];
    let error = refusal(&with_mounts(&setup, "umount /sys/fs/bpf", &load));
    assert!(error.contains("E0811") && error.contains("mount -t bpf"), "{error}");
    const READ_ONLY: &str = "mount --bind /sys/fs/bpf /sys/fs/bpf && mount -o remount,bind,ro /sys/fs/bpf";
    let error = refusal(&with_mounts(&setup, READ_ONLY, &load));
    assert!(error.contains("E0814") && error.contains("Read-only"), "{error}");
    assert!(!setup.pins.exists());

    // Of what is installed, nothing is changed.
    setup.load(&[]);
    let path = setup.file("new.params");
    let attack = built::always(&setup.plan, 1);
    std::fs::write(&path, built::params_bytes(attack.get(), 1)).unwrap();
    std::fs::write(setup.file("other.o"), built::object(&built::plan())).unwrap();
    let other = setup.file("other.o");
    for arguments in [["update", &path, "--pin", &pins], ["update", &other, "--pin", &pins]] {
        let error = refusal(&with_mounts(&setup, READ_ONLY, &arguments));
        assert!(error.contains("E0814") && error.contains("Read-only"), "{error}");
    }
    let error = refusal(&with_mounts(&setup, READ_ONLY, &["unload", "--pin", &pins]));
    assert!(error.contains("E0814"), "{error}");
    let status = setup.status();
    assert_eq!((status.generation, status.code), (1, 1));
    assert!(status.attachments[0].program.is_some());
}

/// Both succeed: one loads, the other finds it done.
#[test]
fn two_loaders_at_once() {
    if common::skip("two_loaders_at_once") {
        return;
    }
    let setup = Setup::new("race");
    let (object, pins) = (setup.object(), setup.pins.display().to_string());
    let arguments = ["load", &object, "--iface", INTERFACE, "--pin", &pins];
    for _ in 0..5 {
        let spawn = || {
            let mut command = setup.lab.enter(env!("CARGO_BIN_EXE_nnbpf"));
            command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let loads = [spawn(), spawn(), spawn()].map(|load| load.wait_with_output().unwrap());
        let texts = loads.map(|output| {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        });
        let attached = texts.iter().filter(|text| text.contains("attached, xdp native")).count();
        let already = texts.iter().filter(|text| text.contains("already loaded")).count();
        assert_eq!((attached, already), (1, 2), "{texts:?}");
        assert_eq!(setup.status().attachments.len(), 1);
        // Nor do they disturb those that remove: every one finds it removed in the end.
        let unload = || {
            let mut command = setup.lab.enter(env!("CARGO_BIN_EXE_nnbpf"));
            command.args(["unload", "--pin", &pins]).stdout(Stdio::null()).spawn().unwrap()
        };
        for mut unload in [unload(), unload()] {
            assert!(unload.wait().unwrap().success());
        }
        assert!(!setup.pins.exists());
    }
}

#[test]
fn a_file_that_is_cut_off_is_refused() {
    if common::skip("a_file_that_is_cut_off_is_refused") {
        return;
    }
    let setup = Setup::new("cut");
    setup.load(&[]);
    let whole = built::params_bytes(built::always(&setup.plan, 1).get(), 1);
    let path = setup.file("new.params");
    for length in [0, 7, 40, 96, whole.len() / 2, whole.len() - 32, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).unwrap();
        let error = refusal(&setup.run(&["update", &path]));
        assert!(error.contains("E0721") || error.contains("E0723"), "{length}: {error}");
    }
    let object = std::fs::read(setup.object()).unwrap();
    let path = setup.file("new.o");
    for length in [0, 3, 64, object.len() / 2, object.len() - 1] {
        std::fs::write(&path, &object[..length]).unwrap();
        let error = refusal(&setup.run(&["update", &path]));
        assert!(error.contains("error[E07"), "{length}: {error}");
    }
    assert_eq!((setup.status().generation, setup.status().code), (1, 1));
}
