//! Files that a specification uses: beside the one that uses them, or in a folder that `-I` names.

use std::cell::RefCell;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use nnbpf_compiler::spec::lexer::MAX_SOURCE_BYTES;
use nnbpf_compiler::spec::sources::Found;
use nnbpf_compiler::spec::{Fragments, Surroundings};

use crate::Refusal;
use crate::args::SpecArgs;
use crate::files;

/// Reads files for a specification, and remembers them.
pub struct Uses<'a> {
    args: &'a SpecArgs,
    /// The specification itself.
    file: PathBuf,
    read: RefCell<Vec<Used>>,
}

/// A file that was read.
struct Used {
    /// Without links and detours.
    place: PathBuf,
    /// How the user would call it.
    path: PathBuf,
    bytes: Vec<u8>,
}

impl<'a> Uses<'a> {
    /// For the specification in `file`.
    #[must_use]
    pub fn of(args: &'a SpecArgs, file: &Path) -> Self {
        Self { args, file: file.to_path_buf(), read: RefCell::default() }
    }

    /// For the library.
    #[must_use]
    pub fn surroundings(&self) -> Surroundings<'_> {
        Surroundings { parameters: &self.args.parameters, fragments: self }
    }

    /// The files that were read, in the order of the first time.
    #[must_use]
    pub fn paths(&self) -> Vec<PathBuf> {
        self.read.borrow().iter().map(|used| used.path.clone()).collect()
    }

    /// The texts of the files that were read, for rendering.
    #[must_use]
    pub fn with_sources(&self, refusal: Refusal) -> Refusal {
        self.read
            .borrow()
            .iter()
            .fold(refusal, |refusal, used| refusal.with_source(&files::name(&used.path), &used.bytes))
    }
}

impl Fragments for Uses<'_> {
    fn read(&self, user: &str, path: &str) -> Result<Found, String> {
        let beside = Path::new(user).parent().map(Path::to_path_buf).unwrap_or_default();
        let folders = std::iter::once(&beside).chain(&self.args.include);
        let places: Vec<PathBuf> = folders.map(|folder| folder.join(path)).collect();
        let Some(path) = places.iter().find(|path| path.is_file()) else {
            return Err(match places.iter().find(|path| path.exists()) {
                Some(path) => format!("{} is no regular file", path.display()),
                None => "there is no such file beside this one or in a folder that `-I` names".to_owned(),
            });
        };
        let place = path.canonicalize().map_err(|error| error.to_string())?;
        if self.file.canonicalize().is_ok_and(|file| file == place) {
            return Ok(Found { name: files::name(&self.file), bytes: Vec::new() });
        }
        let mut read = self.read.borrow_mut();
        if let Some(known) = read.iter().find(|used| used.place == place) {
            return Ok(Found { name: files::name(&known.path), bytes: known.bytes.clone() });
        }
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(|error| error.to_string())?;
        // One more than is accepted, so that the library says what is wrong with it.
        let limit = MAX_SOURCE_BYTES as u64 + 1;
        file.take(limit).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        let found = Found { name: files::name(path), bytes: bytes.clone() };
        read.push(Used { place, path: path.clone(), bytes });
        Ok(found)
    }
}
