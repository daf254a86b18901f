//! A user-space virtual machine for the emitted bytecode: the second oracle.
