//! How `nn_infer` is called: with the context and, where parameters are in slots, the word that says which.
//!
//! The caller reads the word once. An update between two loads would give a verdict the number of parameters
//! that it was not made with, or compare it with a shadow that is none any more.

use super::{FUNCTION, NetworkCode, Weights};
use crate::bpf::Size;
use crate::lower::builder::Builder;
use crate::lower::code::VReg;
use crate::params::layout::ACTIVE_SECTION;

impl NetworkCode {
    /// Calls the model with whichever slot is active; gives 0, or 1 when there is no verdict.
    pub fn call(&self, b: &mut Builder, context: VReg) -> VReg {
        let active = active(b, self.weights);
        infer(b, context, active)
    }
}

/// Loads `.data.nn_active`: index of the active slot, whether the other one is a shadow, generation.
pub(crate) fn active(b: &mut Builder, weights: Weights) -> Option<VReg> {
    match weights {
        Weights::Map => {
            let section = b.map_value(ACTIVE_SECTION, 0);
            Some(b.load(Size::DW, section, 0))
        }
        Weights::Const => None,
    }
}

/// Calls the model; gives 0, or 1 when there is no verdict.
pub(crate) fn infer(b: &mut Builder, context: VReg, active: Option<VReg>) -> VReg {
    match active {
        Some(active) => b.call_function(FUNCTION, &[context, active]),
        None => b.call_function(FUNCTION, &[context]),
    }
}
