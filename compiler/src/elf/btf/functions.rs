//! Functions in BTF. The verifier walks a global subprogram by its prototype alone, so a context parameter
//! must have the type that the kernel knows by name.

use super::encode::{MemberOf, TypeId};
use super::types::CTypes;
use crate::bpf::module::{Function, Module, Parameter, Type};
use crate::elf::error::{ElfError, narrow};

/// `struct xdp_md` of `include/uapi/linux/bpf.h`.
const XDP_MD: (&str, &[&str]) =
    ("xdp_md", &["data", "data_end", "data_meta", "ingress_ifindex", "rx_queue_index", "egress_ifindex"]);

/// `struct __sk_buff` up to `data_end`, all that generated code reads.
const SK_BUFF: (&str, &[&str]) = (
    "__sk_buff",
    &[
        "len",
        "pkt_type",
        "mark",
        "queue_mapping",
        "protocol",
        "vlan_present",
        "vlan_tci",
        "vlan_proto",
        "priority",
        "ingress_ifindex",
        "ifindex",
        "tc_index",
        "cb0",
        "cb1",
        "cb2",
        "cb3",
        "cb4",
        "hash",
        "tc_classid",
        "data",
        "data_end",
    ],
);

/// Emits every function with its prototype, programs first.
pub(super) fn declare(types: &mut CTypes, module: &Module) -> Result<Vec<TypeId>, ElfError> {
    // Subprograms get the context of the programs that call them; one object has one hook.
    let classifier = module.programs.iter().any(|program| program.section == "classifier");
    let context = if classifier { SK_BUFF } else { XDP_MD };
    let mut pointer = None;
    let mut ids = Vec::new();
    for function in module.programs.iter().chain(&module.functions) {
        let pointer = match pointer {
            Some(pointer) => pointer,
            None => *pointer.insert(context_pointer(types, context)?),
        };
        ids.push(declare_one(types, function, pointer)?);
    }
    Ok(ids)
}

fn declare_one(types: &mut CTypes, function: &Function, context: TypeId) -> Result<TypeId, ElfError> {
    let mut parameters = Vec::with_capacity(function.parameters.len());
    for (position, parameter) in function.parameters.iter().enumerate() {
        parameters.push(match parameter {
            Parameter::Context => ("ctx".to_owned(), context),
            Parameter::Scalar => (format!("scalar{position}"), types.of(&Type::Unsigned(8))?),
        });
    }
    let int = types.int()?;
    let prototype = types.btf.prototype(int, &parameters)?;
    types.btf.function(&function.name, prototype)
}

fn context_pointer(types: &mut CTypes, context: (&str, &[&str])) -> Result<TypeId, ElfError> {
    let (name, fields) = context;
    let word = types.of(&Type::Unsigned(4))?;
    let mut members = Vec::with_capacity(fields.len());
    for (position, field) in fields.iter().enumerate() {
        let offset = narrow(position, "the context")? * 4;
        members.push(MemberOf { name: (*field).to_owned(), ty: word, offset });
    }
    let size = narrow(fields.len(), "the context")? * 4;
    let structure = types.btf.structure(name, size, &members)?;
    types.pointer(structure)
}
