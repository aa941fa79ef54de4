//! The command line's entry.

fn main() -> std::process::ExitCode {
    if let Some(code) = nought::sys::selftest::run_if_probe() {
        return code;
    }
    let a: Vec<String> = std::env::args().collect();
    let options = nought::driver::Options { config: a[1].clone().into(), socket: a[2].clone().into(), state_dir: None, deadline: std::time::Duration::from_secs(25), ring_lines: None, debug: a.len() > 3 };
    match nought::driver::run(&options) {
        Ok(o) => std::process::ExitCode::from(o.exit_code()),
        Err(e) => { eprintln!("{e:?}"); std::process::ExitCode::FAILURE }
    }
}
