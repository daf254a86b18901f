//! A retrained model in the shadow of an installation: begin, look, end, promote.

use nnbpf_compiler::bpf::limits;
use nnbpf_compiler::diag::codes::kernel as codes;
use nnbpf_compiler::diag::{Code, Diagnostic, Origin, Outcome};
use nnbpf_compiler::lower::network::PROGRAMS;
use nnbpf_compiler::metadata::Metadata;
use nnbpf_compiler::params::file::ParamsFile;

use super::history::Change;
use super::parameters::{self, Provenance};
use super::{Installation, InstallationError};
use crate::hot_update::{self, Active, UpdateError};
use crate::maps::{Map, MapError};
use crate::shadow::{self, Counts};

/// A shadow that runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Shadow {
    /// Where its parameters came from; `None` when they were written by hand. It has no generation.
    pub provenance: Option<Provenance>,
    /// Since it began.
    pub counts: Counts,
}

impl Installation {
    /// The shadow that runs; `None` when there is none.
    ///
    /// # Errors
    /// A pin is gone or a map is not readable.
    pub fn shadow(&self) -> Result<Option<Shadow>, InstallationError> {
        let (Some(active), true) = (self.active()?, self.has_shadow()?) else { return Ok(None) };
        // What was written by hand has the description of whatever was in the slot before. One of the next
        // generation belongs to a promotion that was killed.
        let is_shadow = |provenance: &Provenance| {
            provenance.unit > 0.0
                && (provenance.generation == 0 || provenance.generation == active.generation.wrapping_add(1))
        };
        let provenance = parameters::provenance_of_slot(&self.pins, 1 - active.index)?.filter(is_shadow);
        Ok(Some(Shadow { provenance, counts: Counts::read(&self.map(shadow::COUNTS)?)? }))
    }

    /// Whether a shadow runs.
    pub(super) fn has_shadow(&self) -> Result<bool, MapError> {
        match self.map(hot_update::ACTIVE) {
            Ok(active) => shadow::runs(&active),
            Err(MapError::NoMap { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Proves parameters against the plan of the installed object and runs them in the shadow, in place of
    /// another one. `file` is how the user named them.
    ///
    /// # Errors
    /// An object with constant weights (`E0708`) or that was compiled without a shadow (`E0831`), parameters of
    /// another plan (`E0817`) or that the proof refuses (`E0818`); then nothing was touched. A map that is not
    /// accessible, as [`shadow::start`] says.
    pub fn begin_shadow(&self, params: &ParamsFile, file: &str) -> Outcome<Active> {
        let metadata = self.metadata()?;
        self.can_shadow(&metadata)?;
        parameters::prove(&metadata, params, file)?;
        let [slots, active, counts] = self.sections()?;
        let now = shadow::stop(&active).map_err(of_update)?;
        // Zero is no generation: a shadow has given no verdict.
        let provenance = Provenance { generation: 0, unit: params.unit, model_hash: params.model_hash };
        parameters::describe_slot(&self.pins, 1 - now.index, &provenance).map_err(of_map)?;
        shadow::start(&slots, &active, &counts, &params.slot).map_err(of_update)
    }

    /// Ends the shadow; says whether there was one. The next one begins with counts of its own.
    ///
    /// # Errors
    /// A map that is not accessible.
    pub fn end_shadow(&self) -> Outcome<bool> {
        if !self.has_shadow().map_err(of_map)? {
            return Ok(false);
        }
        let active = self.map(hot_update::ACTIVE).map_err(of_map)?;
        shadow::stop(&active).map_err(of_update)?;
        Ok(true)
    }

    /// Makes the shadow the active model, with a generation of its own; what was active is in the history.
    ///
    /// # Errors
    /// No shadow (`E0833`), parameters that were written by hand and fail the proof (`E0818`), or a map that is
    /// not accessible.
    pub fn promote(&self) -> Outcome<Active> {
        let metadata = self.metadata()?;
        let none = || vec![self.no_shadow()];
        let shadow = self.shadow().map_err(refused)?.ok_or_else(none)?;
        let [slots, active, _] = self.sections()?;
        let before = Active::read(&active).map_err(of_update)?;
        let idle = Active { index: 1 - before.index, ..before };
        let slot = parameters::slot_of(&slots, idle).map_err(of_map)?;
        let (unit, model_hash) = match shadow.provenance {
            Some(provenance) => (provenance.unit, provenance.model_hash),
            None => (metadata.plan.decision.unit, [0; 32]),
        };
        let layout_hash = parameters::unhex(&metadata.layout_hash);
        let params = ParamsFile { layout_hash, model_hash, unit, slot };
        parameters::prove(&metadata, &params, "the shadow")?;
        self.record(
            before,
            &parameters::Parameters {
                change: Change::Promotion,
                restores: None,
                unit,
                model_hash,
                slot: &params.slot,
            },
        )?;
        let promoted = shadow::promote(&active).map_err(of_update);
        // A promotion that failed is no generation.
        self.repair().map_err(refused)?;
        promoted?.ok_or_else(none)
    }

    /// Parameters, which of them are active, counts.
    fn sections(&self) -> Outcome<[Map; 3]> {
        let map = |name| self.map(name).map_err(of_map);
        Ok([map(hot_update::PARAMS)?, map(hot_update::ACTIVE)?, map(shadow::COUNTS)?])
    }

    /// The refusal of an update that would overwrite a shadow.
    pub(super) fn shadow_is_in_the_way(&self) -> Diagnostic {
        let message = "a shadow runs in the slot that the update would write";
        let help = "make it active with `nnbpf promote`, end it with `nnbpf shadow --stop`, or overwrite it with \
                    `nnbpf update --replace-shadow`";
        self.refusal(&codes::SHADOW_RUNS, message, help)
    }

    /// The refusal of what needs a shadow.
    #[must_use]
    pub fn no_shadow(&self) -> Diagnostic {
        let help = "begin one with `nnbpf shadow NEW.params`";
        self.refusal(&codes::NO_SHADOW, "no shadow runs", help)
    }

    fn can_shadow(&self, metadata: &Metadata) -> Outcome<()> {
        if let Some(refusal) = metadata.constant_weights(&self.pins.metadata().display().to_string()) {
            return Err(vec![*refusal]);
        }
        if self.pins.map(shadow::COUNTS).exists() {
            return Ok(());
        }
        let message = "the installed object cannot run a shadow";
        let help = "compile it with this release of nnbpfc; if it is a chain of programs, leave out `--split layer` \
                    or use a model with fewer or narrower layers, so that two runs fit";
        let mut refusal = self.refusal(&codes::SHADOW_UNSUPPORTED, message, help);
        if let Ok(programs) = self.map(PROGRAMS) {
            let (chain, limit) = (programs.shape().max_entries, limits::TAIL_CALLS);
            refusal = refusal.with_note(format!(
                "its chain of {chain} tail calls would run twice for each verdict, of which a packet can have \
                 two; the kernel follows {limit} tail calls per packet"
            ));
        }
        Err(vec![refusal])
    }

    fn refusal(&self, code: &'static Code, message: &str, help: &str) -> Diagnostic {
        let object = self.pins.path().display().to_string();
        Diagnostic::new(code, Origin::Kernel { object }, message, help)
    }
}

fn refused(error: InstallationError) -> Vec<Diagnostic> {
    vec![error.diagnostic()]
}

fn of_map(error: MapError) -> Vec<Diagnostic> {
    vec![error.diagnostic()]
}

fn of_update(error: UpdateError) -> Vec<Diagnostic> {
    vec![error.diagnostic()]
}
