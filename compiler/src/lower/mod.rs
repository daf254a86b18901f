//! IR to BPF: one file per operation, then register allocation.
