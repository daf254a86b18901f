//! A folder with copies of committed files under short names, and runs of the command in it.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// `nobody`: what `uid` to take for a user without rights.
pub(crate) const NOBODY: u32 = 65_534;

/// A place to run commands in.
pub(crate) struct Folder {
    directory: tempfile::TempDir,
}

/// What a run left.
pub(crate) struct Outcome {
    pub(crate) code: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Whether this process has the rights of root.
pub(crate) fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    status.lines().any(|line| line.starts_with("Uid:") && line.split_whitespace().nth(2) == Some("0"))
}

impl Folder {
    /// With the model and the specification of one case, the committed capture and rows for the model.
    pub(crate) fn new() -> Self {
        let folder = Self { directory: tempfile::tempdir().unwrap() };
        // Others may look inside, for runs without rights.
        std::fs::set_permissions(folder.path("."), std::fs::Permissions::from_mode(0o755)).unwrap();
        folder.copy("testdata/cases/cic6-6-16-2/model.onnx", "model.onnx");
        folder.copy("specs/cic6.spec", "cic6.spec");
        folder.write(
            "rows.csv",
            b"fwd_len_std,dst_port,fwd_packets,fwd_bytes,fwd_len_min,fwd_len_max\n12.5,80,4,800,0,400\n",
        );
        folder
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn copy(&self, from: &str, to: &str) {
        std::fs::copy(root().join(from), self.path(to)).unwrap();
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    pub(crate) fn text(&self, name: &str) -> String {
        String::from_utf8(self.read(name)).unwrap()
    }

    /// Names of everything in it.
    pub(crate) fn content(&self) -> BTreeSet<String> {
        let entries = std::fs::read_dir(self.path(".")).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// Runs `nnbpfc` with words separated by blanks.
    pub(crate) fn run(&self, arguments: &str) -> Outcome {
        self.finish(self.command(env!("CARGO_BIN_EXE_nnbpfc"), arguments.split_whitespace()))
    }

    /// The same by a user without rights.
    pub(crate) fn run_as_nobody(&self, arguments: &str) -> Outcome {
        let mut command = self.command(env!("CARGO_BIN_EXE_nnbpfc"), arguments.split_whitespace());
        command.uid(NOBODY).gid(NOBODY);
        self.finish(command)
    }

    /// Runs another program.
    pub(crate) fn run_program(&self, program: &str, arguments: &[&str]) -> Outcome {
        self.finish(self.command(program, arguments))
    }

    fn command(&self, program: &str, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.path(".")).stdin(Stdio::null());
        command
    }

    fn finish(&self, mut command: Command) -> Outcome {
        let output = command.output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(!stderr.contains("panicked"), "{command:?}: {stderr}");
        let code = output.status.code().unwrap_or_else(|| panic!("{command:?}: {}", output.status));
        Outcome { code, stdout: output.stdout, stderr }
    }

    /// Runs, and demands success without a word.
    pub(crate) fn succeeds(&self, arguments: &str) -> Outcome {
        let outcome = self.run(arguments);
        assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""), "nnbpfc {arguments}");
        outcome
    }
}

/// A refusal has status 1 and diagnostics that name code, place and help.
pub(crate) fn assert_refused(outcome: &Outcome, place: &str) {
    assert_eq!(outcome.code, 1, "{place}: {}", outcome.stderr);
    let text = &outcome.stderr;
    let count = |part: &str| text.lines().filter(|line| line.trim_start().starts_with(part)).count();
    let errors = count("error[E");
    assert!(errors > 0 && count("--> ") >= errors && count("= help: ") >= errors, "{place}:\n{text}");
}

/// Compares with `testdata/cli/NAME.stderr`.
pub(crate) fn assert_golden(name: &str, text: &str) {
    let path = root().join("testdata/cli").join(format!("{name}.stderr"));
    if std::env::var_os("BLESS").is_some_and(|value| value == "1") {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, expected, "{name} (BLESS=1 rewrites the expected texts)");
}
