//! The unwinder of the C compiler, linked into the program: as a shared library (libgcc_s) it would
//! be loaded, relocated and searched for every symbol at each start of a command, and stay in the
//! supervisor's memory. A static program has it in it anyway.
#![expect(unsafe_code, reason = "a library to link is named on an extern block")]

#[cfg(all(target_env = "gnu", not(target_feature = "crt-static")))]
#[link(name = "gcc_eh", kind = "static", modifiers = "-bundle")]
unsafe extern "C" {}
