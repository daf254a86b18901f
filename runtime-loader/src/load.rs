//! Loads an object with aya and hands out its programs and maps.
//!
//! Program arrays are the one thing that aya does not load from our objects: their initial content is hidden
//! from it and filled in here, after the programs have descriptors.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::PathBuf;

use aya::maps::MapError as AyaMapError;
use aya::programs::{Program as AyaProgram, ProgramError};
use aya::{Ebpf, EbpfError, EbpfLoader};
use nnbpf_compiler::diag::codes::kernel as codes;
use nnbpf_compiler::diag::{Diagnostic, Origin};
use nnbpf_compiler::elf::read::{self, Inventory};

use crate::log::VerifierLog;
use crate::maps::{Map, MapError, Update};
use crate::permission::{self, PermissionError};
use crate::sys;
use crate::test_run::{self, RunError, RunInput, RunOutput};

/// What stands before the name of the variable in the name of its section.
const DATA_PREFIX: &str = ".data.";

/// The running kernel.
#[derive(Debug, Clone, Copy)]
pub struct Kernel;

/// Programs and maps in the kernel. They live as long as this value, unless they are pinned or attached.
#[derive(Debug)]
pub struct Loaded {
    ebpf: Ebpf,
    maps: BTreeMap<String, Map>,
}

/// A pinned map that a new object uses instead of one of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shared {
    /// Name of the map or data section in the object.
    pub name: String,
    /// Where it is pinned.
    pub path: PathBuf,
    /// What a data section holds, and is to hold after the load; `None` for other maps.
    pub value: Option<Vec<u8>>,
}

/// A loaded program.
#[derive(Debug)]
pub struct Program<'loaded> {
    name: String,
    program: &'loaded AyaProgram,
}

/// An object that the kernel did not take.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(transparent)]
    Permission(#[from] PermissionError),
    #[error("the object is refused")]
    Object(Vec<Diagnostic>),
    #[error("the verifier refused `{program}`: {source}")]
    Verifier { program: String, log: VerifierLog, source: io::Error },
    #[error("the kernel refused the map `{map}`: {source}")]
    Map { map: String, source: io::Error },
    #[error("the kernel lacks what `{part}` needs: {source}")]
    Feature { part: String, source: io::Error },
    #[error("the object cannot be loaded: {source}")]
    Aya {
        #[source]
        source: Box<EbpfError>,
    },
    #[error("the program array cannot be filled: {0}")]
    Chain(#[from] MapError),
}

impl LoadError {
    /// What the user is told. `file` is how the user named the object.
    #[must_use]
    pub fn diagnostics(&self, file: &str) -> Vec<Diagnostic> {
        let kernel = |object: &String| Origin::Kernel { object: object.clone() };
        let diagnostic = match self {
            Self::Permission(error) => error.diagnostic(),
            Self::Object(diagnostics) => return diagnostics.clone(),
            Self::Verifier { program, log, .. } => {
                let mut diagnostic = Diagnostic::new(
                    &codes::VERIFIER,
                    kernel(program),
                    self.to_string(),
                    "report this together with the object: the compiler promises that the verifier agrees",
                );
                if let Some(line) = log.source_line() {
                    diagnostic = diagnostic.with_note(format!("the refused instruction came from: {line}"));
                }
                if !log.is_empty() {
                    diagnostic = diagnostic.with_note(format!("the verifier says: {}", log.short()));
                }
                diagnostic
            }
            Self::Map { map, .. } => Diagnostic::new(
                &codes::MAP_CREATE,
                kernel(map),
                self.to_string(),
                "free memory, or lower `capacity` in the specification and compile again",
            ),
            Self::Feature { part, .. } => Diagnostic::new(
                &codes::MISSING_FEATURE,
                kernel(part),
                self.to_string(),
                "compile again with `--kernel` set to the version that `uname -r` prints",
            ),
            Self::Aya { .. } => Diagnostic::new(
                &codes::NOT_LOADABLE,
                Origin::File { file: file.to_owned() },
                self.to_string(),
                "compile the model again with the `nnbpfc` of this release",
            ),
            Self::Chain(error) => error.diagnostic(),
        };
        vec![diagnostic]
    }
}

impl Kernel {
    /// Loads the bytes of an object: creates its maps with their initial content, loads every program, fills
    /// the program array. Nothing is attached and nothing is pinned.
    ///
    /// # Errors
    /// A [`LoadError`] that says which part was refused; nothing stays in the kernel then.
    pub fn load(object: &[u8]) -> Result<Loaded, LoadError> {
        Self::load_sharing(object, &[])
    }

    /// As [`Self::load`], with maps that exist already: their kinds and sizes must be those of the object's.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_sharing(object: &[u8], shared: &[Shared]) -> Result<Loaded, LoadError> {
        permission::check()?;
        sys::lift_memory_limit();
        let mut bytes = object.to_vec();
        let inventory = read::read(&bytes, "object").map_err(LoadError::Object)?;
        read::hide_program_arrays(&mut bytes, "object").map_err(LoadError::Object)?;
        let mut loader = EbpfLoader::new();
        for map in shared {
            loader.map_pin_path(&map.name, map.path.as_path());
            if let Some(value) = &map.value {
                // aya writes every data section after it has opened it, so it is given what is there.
                let variable = map.name.strip_prefix(DATA_PREFIX).unwrap_or(&map.name);
                loader.override_global(variable, value.as_slice(), true);
            }
        }
        let mut ebpf = loader.load(&bytes).map_err(refused_object)?;
        for (name, program) in ebpf.programs_mut() {
            load_program(name, program)?;
        }
        let mut maps = BTreeMap::new();
        for (name, map) in ebpf.maps() {
            let fd = map_fd(map)
                .try_clone_to_owned()
                .map_err(|source| LoadError::Map { map: name.to_owned(), source })?;
            maps.insert(name.to_owned(), Map::from_fd(name, fd)?);
        }
        let loaded = Loaded { ebpf, maps };
        loaded.fill_program_arrays(&inventory)?;
        Ok(loaded)
    }
}

impl Loaded {
    /// A program by its name.
    ///
    /// # Errors
    /// The object holds none of this name.
    pub fn program(&self, name: &str) -> Result<Program<'_>, RunError> {
        match self.ebpf.program(name) {
            Some(program) => Ok(Program { name: name.to_owned(), program }),
            None => Err(RunError::NoProgram { program: name.to_owned() }),
        }
    }

    /// Names of the programs, sorted.
    #[must_use]
    pub fn program_names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.ebpf.programs().map(|(name, _)| name.to_owned()).collect();
        names.sort();
        names
    }

    /// A map or data section by its name; data sections are called like `.data.nn_params`.
    ///
    /// # Errors
    /// The object holds none of this name.
    pub fn map(&self, name: &str) -> Result<&Map, MapError> {
        self.maps.get(name).ok_or_else(|| MapError::NoMap { map: name.to_owned() })
    }

    /// All maps and data sections, by name.
    pub fn maps(&self) -> impl Iterator<Item = &Map> {
        self.maps.values()
    }

    /// Runs a program on a packet.
    ///
    /// # Errors
    /// No such program, or a packet that the kernel does not take.
    pub fn run(&self, name: &str, input: RunInput<'_>) -> Result<RunOutput, RunError> {
        self.program(name)?.run(input)
    }

    /// Instructions that the verifier walked for a program; `None` before kernel 5.16.
    ///
    /// # Errors
    /// No such program, or the kernel refuses to describe it.
    pub fn verified_instructions(&self, name: &str) -> Result<Option<u32>, RunError> {
        self.program(name)?.verified_instructions()
    }

    fn fill_program_arrays(&self, inventory: &Inventory) -> Result<(), LoadError> {
        for map in &inventory.maps {
            for (slot, program) in &map.programs {
                let fd = match self.ebpf.program(program).map(AyaProgram::fd) {
                    Some(Ok(fd)) => fd.as_fd().as_raw_fd(),
                    Some(Err(_)) | None => {
                        return Err(LoadError::Chain(MapError::NoMap { map: program.clone() }));
                    }
                };
                self.map(&map.name)?.update(&slot.to_ne_bytes(), &fd.to_ne_bytes(), Update::Any)?;
            }
        }
        Ok(())
    }
}

impl Program<'_> {
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs the program on a packet.
    ///
    /// # Errors
    /// A packet that the kernel does not take.
    pub fn run(&self, input: RunInput<'_>) -> Result<RunOutput, RunError> {
        let marks = matches!(self.program, AyaProgram::SchedClassifier(_));
        test_run::run(self.fd()?, &self.name, &input, marks)
    }

    /// Instructions that the verifier walked; `None` before kernel 5.16.
    ///
    /// # Errors
    /// The kernel refuses to describe the program.
    pub fn verified_instructions(&self) -> Result<Option<u32>, RunError> {
        let info = self.program.info().map_err(|error| self.error(&error))?;
        Ok(info.verified_instruction_count())
    }

    /// Pins the program at a path in bpffs.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn pin(&self, path: &std::path::Path) -> io::Result<()> {
        let fd = self.fd().map_err(io::Error::other)?;
        sys::pin(fd, path)
    }

    /// The program's descriptor, for attaching it.
    ///
    /// # Errors
    /// The program has none.
    pub fn fd(&self) -> Result<BorrowedFd<'_>, RunError> {
        Ok(self.program.fd().map_err(|error| self.error(&error))?.as_fd())
    }

    fn error(&self, error: &ProgramError) -> RunError {
        RunError::Kernel { program: self.name.clone(), source: io::Error::other(error.to_string()) }
    }
}

fn load_program(name: &str, program: &mut AyaProgram) -> Result<(), LoadError> {
    let result = if let AyaProgram::Xdp(xdp) = program {
        xdp.load()
    } else if let AyaProgram::SchedClassifier(classifier) = program {
        classifier.load()
    } else {
        // Objects of other kinds have nothing that this loader could run.
        Err(ProgramError::UnexpectedProgramType)
    };
    match result {
        Ok(()) => Ok(()),
        Err(ProgramError::LoadError { io_error, verifier_log }) => Err(LoadError::Verifier {
            program: name.to_owned(),
            log: VerifierLog::new(verifier_log.to_string()),
            source: io_error,
        }),
        Err(error) => Err(LoadError::Aya { source: Box::new(EbpfError::ProgramError(error)) }),
    }
}

fn refused_object(error: EbpfError) -> LoadError {
    if let EbpfError::MapError(AyaMapError::CreateError { name, io_error }) = error {
        // EINVAL is how a kernel says that it does not know the kind of map or a flag.
        if io_error.raw_os_error() == Some(libc::EINVAL) {
            LoadError::Feature { part: name, source: io_error }
        } else {
            LoadError::Map { map: name, source: io_error }
        }
    } else {
        LoadError::Aya { source: Box::new(error) }
    }
}

/// The descriptor of a map of any kind.
fn map_fd(map: &aya::maps::Map) -> BorrowedFd<'_> {
    use aya::maps::Map as Kind;
    let data = match map {
        Kind::Array(data)
        | Kind::ArrayOfMaps(data)
        | Kind::BloomFilter(data)
        | Kind::CgroupArray(data)
        | Kind::CgroupStorage(data)
        | Kind::CgrpStorage(data)
        | Kind::CpuMap(data)
        | Kind::DevMap(data)
        | Kind::DevMapHash(data)
        | Kind::HashMap(data)
        | Kind::HashOfMaps(data)
        | Kind::InodeStorage(data)
        | Kind::LpmTrie(data)
        | Kind::LruHashMap(data)
        | Kind::PerCpuArray(data)
        | Kind::PerCpuCgroupStorage(data)
        | Kind::PerCpuHashMap(data)
        | Kind::PerCpuLruHashMap(data)
        | Kind::PerfEventArray(data)
        | Kind::ProgramArray(data)
        | Kind::Queue(data)
        | Kind::ReusePortSockArray(data)
        | Kind::RingBuf(data)
        | Kind::SkStorage(data)
        | Kind::SockHash(data)
        | Kind::SockMap(data)
        | Kind::Stack(data)
        | Kind::StackTraceMap(data)
        | Kind::Unsupported(data)
        | Kind::XskMap(data) => data,
    };
    data.fd().as_fd()
}
