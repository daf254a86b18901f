//! ELF bytes of an object: sections, symbols, relocations, BTF, line info, metadata.
