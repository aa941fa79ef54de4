//! The unwinder of the C compiler, linked into the program: as a shared library (libgcc_s) it would
//! be loaded, relocated and searched for every symbol at each start of a command, and stay in the
//! supervisor's memory. A static program has it in it anyway. Whose compiler brings no libgcc_eh.a
//! builds with `--cfg nought_shared_unwinder`.
#![expect(unsafe_code, reason = "a library to link is named on an extern block")]

#[link(name = "gcc_eh", kind = "static", modifiers = "-bundle")]
unsafe extern "C" {}
