//! What needs no supervisor: manual pages and completions, made of the command line's definition.

use std::io;
use std::path::Path;

use clap::CommandFactory as _;

use super::args::Cli;

/// The completions of a shell.
pub(super) fn completions(shell: clap_complete::Shell) -> Vec<u8> {
    let mut out = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "nought", &mut out);
    out
}

/// The program's manual page, in roff.
pub(super) fn page() -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut out)?;
    Ok(out)
}

/// Writes the pages of the program and of every command: `nought.1`, `nought-stop.1`, ….
pub(super) fn pages(dir: &Path) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    clap_mangen::generate_to(Cli::command(), dir)
}
