//! One virtual machine: QEMU without KVM, driven through its serial console and QMP, every wait
//! bounded.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long anything may take in a machine that emulates its processor beside others.
pub(crate) const BOUND: Duration = Duration::from_secs(180);

/// What a machine is made of.
pub(crate) struct Hardware<'a> {
    pub(crate) kernel: &'a Path,
    pub(crate) initrd: Option<&'a Path>,
    /// Added to the kernel's command line.
    pub(crate) append: String,
    pub(crate) disk: Option<&'a Path>,
    pub(crate) memory_mib: u32,
    /// More of QEMU's own words.
    pub(crate) more: Vec<String>,
}

impl<'a> Hardware<'a> {
    pub(crate) fn new(kernel: &'a Path) -> Self {
        Self {
            kernel,
            initrd: None,
            append: String::new(),
            disk: None,
            memory_mib: 256,
            more: Vec::new(),
        }
    }
}

/// Everything that came out of the serial console.
#[derive(Default)]
struct Console {
    text: Mutex<String>,
    more: Condvar,
}

impl Console {
    fn lock(&self) -> MutexGuard<'_, String> {
        self.text.lock().unwrap()
    }
}

/// A running machine; killed when dropped.
pub(crate) struct Machine {
    qemu: Child,
    keyboard: ChildStdin,
    console: Arc<Console>,
    /// What was looked at already: a wait looks at what came after it.
    seen: usize,
    qmp: UnixStream,
    events: Receiver<Value>,
    dir: PathBuf,
    name: String,
}

/// How a machine ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It switched itself off.
    PoweredOff,
    /// It reset itself.
    Rebooted,
}

impl Machine {
    /// Switches a machine on.
    pub(crate) fn boot(name: &str, hardware: &Hardware<'_>) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("nought-vm-{}-{n}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        let qmp = dir.join("qmp");
        let mut command = Command::new("qemu-system-x86_64");
        command
            .args(["-machine", "q35,accel=tcg", "-cpu", "max", "-smp", "1"])
            .args(["-m", &hardware.memory_mib.to_string()])
            .args(["-nodefaults", "-no-user-config", "-display", "none"])
            .args(["-no-reboot", "-serial", "stdio"])
            .arg("-qmp")
            .arg(format!("unix:{},server=on,wait=off", qmp.display()))
            .arg("-kernel")
            .arg(hardware.kernel)
            .arg("-append")
            // An emulated timer that is late for want of a processor is no broken timer. Of the
            // kernel itself only what is critical: its other lines, errors among them, would come
            // in the midst of anybody's.
            .arg(format!(
                "console=ttyS0 panic=-1 no_timer_check loglevel=3 {}",
                hardware.append
            ))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        if let Some(initrd) = hardware.initrd {
            command.arg("-initrd").arg(initrd);
        }
        if let Some(disk) = hardware.disk {
            // NVMe is built into the kernel: no initramfs has to load a driver.
            let drive = format!("file={},format=raw,if=none,id=disk", disk.display());
            command.arg("-drive").arg(format!("{drive},cache=unsafe"));
            command.args(["-device", "nvme,drive=disk,serial=nought"]);
        }
        command.args(&hardware.more);
        let mut qemu = command
            .spawn()
            .expect("qemu-system-x86_64 (Debian's qemu-system-x86)");
        let console = Arc::new(Console::default());
        read_console(qemu.stdout.take().unwrap(), Arc::clone(&console));
        let keyboard = qemu.stdin.take().unwrap();
        let (qmp, events) = connect(&qmp, &mut qemu);
        let mut machine = Self {
            qemu,
            keyboard,
            console,
            seen: 0,
            qmp,
            events,
            dir,
            name: name.to_owned(),
        };
        machine.tell(&json!({"execute": "qmp_capabilities"}));
        machine
    }

    /// Everything the console said so far, its line ends made plain.
    pub(crate) fn said(&self) -> String {
        self.console.lock().replace('\r', "")
    }

    /// Waits until the console says `what`, after whatever was waited for before.
    pub(crate) fn expect(&mut self, what: &str) {
        self.expect_within(what, BOUND);
    }

    /// The same with a bound of one's own.
    pub(crate) fn expect_within(&mut self, what: &str, bound: Duration) {
        let end = Instant::now() + bound;
        let mut text = self.console.lock();
        loop {
            if let Some(at) = text[self.seen..].find(what) {
                self.seen += at + what.len();
                return;
            }
            let left = end.saturating_duration_since(Instant::now());
            let over = text.contains("Kernel panic") || text.ends_with(CLOSED);
            if left.is_zero() || over {
                break;
            }
            text = self.console.more.wait_timeout(text, left).unwrap().0;
        }
        let said = text.replace('\r', "");
        drop(text);
        panic!(
            "{}: the console never said {what:?} within {bound:?}; it said:\n{said}",
            self.name
        );
    }

    /// Waits until all of this was said, in whichever order.
    pub(crate) fn expect_all(&mut self, all: &[&str]) {
        let (from, mut last) = (self.seen, self.seen);
        for what in all {
            self.seen = from;
            self.expect(what);
            last = last.max(self.seen);
        }
        self.seen = last;
    }

    /// What follows on the line of what was waited for last.
    pub(crate) fn rest_of_line(&mut self) -> String {
        let from = self.seen;
        self.expect("\n");
        self.console.lock()[from..self.seen].trim().to_owned()
    }

    /// Types a line at the console.
    pub(crate) fn type_line(&mut self, line: &str) {
        writeln!(self.keyboard, "{line}").unwrap();
        self.keyboard.flush().unwrap();
    }

    /// Runs a command at the console's shell and returns what it printed. The command's end is
    /// told by a word that the terminal's echo does not hold.
    pub(crate) fn run(&mut self, command: &str) -> String {
        self.run_within(command, BOUND)
    }

    /// The same with a bound of one's own.
    pub(crate) fn run_within(&mut self, command: &str, bound: Duration) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        self.type_line(&format!("echo be''gin{n}; {command}; echo en''d{n}=$?"));
        self.expect(&format!("begin{n}\r\n"));
        let from = self.seen;
        self.expect_within(&format!("end{n}="), bound);
        let text = self.console.lock()[from..self.seen].replace('\r', "");
        let cut = text.rfind(&format!("end{n}=")).unwrap_or(text.len());
        text[..cut].to_owned()
    }

    /// What a command printed, without the lines that process 1 wrote on the console meanwhile.
    /// What it has to say of a thing comes as a rule after the answer to whoever asked for that.
    pub(crate) fn answer(&mut self, command: &str) -> String {
        let said = self.run(command);
        let own = ["nought: INFO ", "nought: WARN ", "nought: ERROR "];
        let lines = said.split_inclusive('\n');
        let lines = lines.filter(|line| !own.iter().any(|own| line.starts_with(own)));
        lines.collect::<String>().trim().to_owned()
    }

    /// Logs in at the console, as root without a password.
    pub(crate) fn log_in(&mut self) {
        // What it said before was overrun by other lines.
        self.type_line("");
        self.expect("login: ");
        self.type_line("root");
        self.expect("# ");
        self.run("stty cols 400; PS1='# '; export TERM=dumb");
    }

    /// Asks QEMU for something.
    pub(crate) fn tell(&mut self, what: &Value) {
        writeln!(self.qmp, "{what}").unwrap();
    }

    /// Presses keys at the machine's keyboard.
    pub(crate) fn send_keys(&mut self, keys: &str) {
        let line = format!("sendkey {keys}");
        let arguments = json!({"command-line": line});
        self.tell(&json!({"execute": "human-monitor-command", "arguments": arguments}));
    }

    /// Waits until the machine has ended by itself, and says how. A kernel panic is no end.
    pub(crate) fn end(mut self) -> (End, String) {
        let end = Instant::now() + BOUND;
        let how = loop {
            let left = end.saturating_duration_since(Instant::now());
            let Ok(event) = self.events.recv_timeout(left) else {
                panic!("{}: it never ended; it said:\n{}", self.name, self.said());
            };
            if event["event"] == "SHUTDOWN" {
                match event["data"]["reason"].as_str() {
                    Some("guest-shutdown") => break End::PoweredOff,
                    Some("guest-reset") => break End::Rebooted,
                    other => panic!("{}: ended by {other:?}\n{}", self.name, self.said()),
                }
            }
        };
        let left = end.saturating_duration_since(Instant::now());
        let gone = wait(&mut self.qemu, left);
        assert!(gone, "{}: QEMU stays after the machine's end", self.name);
        self.drain();
        let said = self.said();
        let calm = !said.contains("Kernel panic");
        assert!(calm, "{}: the kernel panicked:\n{said}", self.name);
        (how, said)
    }

    /// Waits until the console's last byte is read, QEMU being gone.
    fn drain(&self) {
        let closed = |text: &mut String| !text.ends_with(CLOSED);
        let (text, _) = self
            .console
            .more
            .wait_timeout_while(self.console.lock(), Duration::from_secs(5), closed)
            .unwrap();
        drop(text);
    }

    /// Whether the machine runs on for `pause` without an end.
    pub(crate) fn runs_on_for(&mut self, pause: Duration) -> bool {
        let end = Instant::now() + pause;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(left) {
                Ok(event) if event["event"] == "SHUTDOWN" => return false,
                Ok(_) => {}
                Err(mpsc::RecvTimeoutError::Timeout) => return true,
                Err(mpsc::RecvTimeoutError::Disconnected) => return false,
            }
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Ok(None) = self.qemu.try_wait() {
            let _ = self.qemu.kill();
            let _ = self.qemu.wait();
        }
        let _ = fs::remove_dir_all(&self.dir);
        if std::env::var_os("NOUGHT_VM_SHOW").is_some() {
            eprintln!("---- {} ----\n{}", self.name, self.said());
        }
    }
}

/// Stands at the end of the console's text when nothing more can come.
const CLOSED: &str = "\u{0}";

fn read_console(mut from: impl Read + Send + 'static, console: Arc<Console>) {
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        loop {
            let count = from.read(&mut buffer).unwrap_or(0);
            let mut text = console.lock();
            if count == 0 {
                text.push_str(CLOSED);
            } else {
                text.push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
            console.more.notify_all();
            if count == 0 {
                return;
            }
        }
    });
}

fn connect(path: &Path, qemu: &mut Child) -> (UnixStream, Receiver<Value>) {
    let end = Instant::now() + BOUND;
    let stream = loop {
        match UnixStream::connect(path) {
            Ok(stream) => break stream,
            Err(error) => {
                let ended = qemu.try_wait().unwrap();
                assert!(ended.is_none(), "QEMU has ended: {ended:?}");
                assert!(Instant::now() < end, "no QMP: {error}");
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    };
    let reader = BufReader::new(stream.try_clone().unwrap());
    let (sender, events) = mpsc::channel();
    std::thread::spawn(move || {
        for line in reader.lines() {
            let Ok(line) = line else { return };
            let Ok(value) = serde_json::from_str::<Value>(&line) else {
                continue;
            };
            if value.get("event").is_some() && sender.send(value).is_err() {
                return;
            }
        }
    });
    (stream, events)
}

fn wait(child: &mut Child, bound: Duration) -> bool {
    let end = Instant::now() + bound;
    while Instant::now() < end {
        if child.try_wait().unwrap().is_some() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}
