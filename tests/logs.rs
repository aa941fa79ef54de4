//! Capture, rings and the sink, on real pipes.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test may be blunt, spawn a process and read a clock for its bound"
)]

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nought::logs::{
    Closed, Command, Limits, Line, Logs, Mode, QUEUE_BYTES, Sink, Stream, Trace, WriteEnds, level,
};
use tracing::level_filters::LevelFilter;

const BOUND: Duration = Duration::from_secs(60);

fn null() -> OwnedFd {
    File::create("/dev/null").unwrap().into()
}

fn quiet_logs(limits: Limits) -> Logs {
    Logs::new(limits, Sink::new(null(), null()))
}

fn files(ends: WriteEnds) -> (File, File) {
    (ends.stdout.into(), ends.stderr.into())
}

fn shown(logs: &Logs, source: Option<&str>) -> Vec<String> {
    let lines = logs.snapshot(source, usize::MAX);
    assert!(lines.is_sorted_by_key(|line| line.seq));
    lines.iter().map(Line::to_string).collect()
}

/// Lets the reader task run until `done`.
async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < BOUND, "gave up waiting until {what}");
        tokio::task::yield_now().await;
    }
}

const START: &str = "[-] web: ------------ [start] ------------";

#[tokio::test]
async fn lines_come_out_in_zinits_form_and_in_order() {
    let logs = quiet_logs(Limits::default());
    let (ends, output) = logs.output("web", Command::Main, Mode::Ring).unwrap();
    let (mut out, mut err) = files(ends);
    assert_eq!(shown(&logs, None), [START]);

    out.write_all(b"hel").unwrap();
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert_eq!(shown(&logs, None), [START], "half a line is no line");
    out.write_all(b"lo\nworld\r\n").unwrap();
    until("two lines are there", || shown(&logs, None).len() == 3).await;
    err.write_all(b"bad \xFF\xFE bytes\n").unwrap();
    until("stderr's line is there", || shown(&logs, None).len() == 4).await;
    out.write_all(b"no line end").unwrap();
    drop((out, err));
    until("the ends are seen", || shown(&logs, None).len() == 5).await;
    assert_eq!(
        shown(&logs, Some("web")),
        [
            START,
            "[+] web: hello",
            "[+] web: world",
            "[-] web: bad \u{FFFD}\u{FFFD} bytes",
            "[+] web: no line end",
        ]
    );
    let lines = logs.snapshot(Some("web"), 2);
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0].text, b"bad \xFF\xFE bytes", "bytes are kept");
    assert_eq!(lines[0].stream, Stream::Stderr);
    assert!(lines[0].wall_us > 1_600_000_000_000_000);
    assert_eq!(output.close(), Closed { held: false });
}

#[tokio::test]
async fn a_test_and_a_stop_command_are_sources_of_their_own() {
    let logs = quiet_logs(Limits::default());
    for (command, text) in [(Command::Test, "probing"), (Command::Stop, "stopping")] {
        let (ends, output) = logs.output("web", command, Mode::Ring).unwrap();
        let (mut out, err) = files(ends);
        writeln!(out, "{text}").unwrap();
        drop((out, err));
        output.close();
    }
    assert_eq!(
        shown(&logs, None),
        ["[+] web/test: probing", "[+] web/stop: stopping"]
    );
    assert!(shown(&logs, Some("web")).is_empty());
    assert_eq!(shown(&logs, Some("web/test")), ["[+] web/test: probing"]);
    logs.forget("web");
    assert!(shown(&logs, None).is_empty());
}

#[tokio::test]
async fn a_flood_on_one_pipe_delays_the_others_by_a_bounded_number_of_turns() {
    const FLOOD: usize = 50 * 1024 * 1024;
    let logs = quiet_logs(Limits::default());
    let mut floods = Vec::new();
    let mut captures = Vec::new();
    for name in ["flood1", "flood2", "flood3"] {
        let (ends, output) = logs.output(name, Command::Main, Mode::Ring).unwrap();
        let (mut out, err) = files(ends);
        captures.push((output, err));
        floods.push(std::thread::spawn(move || {
            let chunk = b"0123456789abcdef0123456789abcde\n".repeat(2048);
            for _ in 0..FLOOD / chunk.len() {
                out.write_all(&chunk).unwrap();
            }
        }));
    }
    let (ends, output) = logs.output("quiet", Command::Main, Mode::Ring).unwrap();
    let (mut out, err) = files(ends);
    let mut worst = 0;
    let mut said = 0;
    while floods.iter().any(|flood| !flood.is_finished()) {
        // Into the thick of it, not before it began.
        tokio::task::yield_now().await;
        said += 1;
        writeln!(out, "line {said}").unwrap();
        let mut turns = 0;
        while logs
            .snapshot(Some("quiet"), 1)
            .last()
            .map(|line| line.text.clone())
            != Some(format!("line {said}").into_bytes())
        {
            tokio::task::yield_now().await;
            turns += 1;
            assert!(turns < 1000, "line {said} does not come through");
        }
        worst = worst.max(turns);
    }
    for flood in floods {
        flood.join().unwrap();
    }
    assert!(said > 10, "the flood was over too soon to tell: {said}");
    assert!(worst <= 8, "a quiet line took {worst} turns");
    drop((out, err, output, captures));
    let lines = FLOOD as u64 / 32;
    for name in ["flood1", "flood2", "flood3"] {
        let kept = logs.snapshot(Some(name), usize::MAX).len() as u64;
        assert_eq!(
            logs.lost(name) + kept,
            lines + 1,
            "every line is accounted for"
        );
    }
    assert_eq!(logs.lost("quiet"), 0);
}

#[tokio::test]
async fn a_chatty_service_evicts_only_its_own_lines() {
    let logs = quiet_logs(Limits {
        ring_bytes: 4096,
        ring_lines: 10,
    });
    let (ends, quiet) = logs.output("web", Command::Main, Mode::Ring).unwrap();
    let (mut out, _err) = files(ends);
    writeln!(out, "once").unwrap();
    quiet.close();
    let (ends, chatty) = logs.output("chatty", Command::Main, Mode::Ring).unwrap();
    let (mut out, _err) = files(ends);
    for n in 0..1000 {
        writeln!(out, "{n}").unwrap();
    }
    chatty.close();
    assert_eq!(shown(&logs, Some("web")), [START, "[+] web: once"]);
    let kept = shown(&logs, Some("chatty"));
    assert_eq!(kept.len(), 10);
    assert_eq!(kept[9], "[+] chatty: 999");
    assert_eq!((logs.lost("chatty"), logs.lost("web")), (991, 0));
    assert_eq!(shown(&logs, None).len(), 12);
    let last: Vec<String> = logs
        .snapshot(None, 11)
        .iter()
        .map(Line::to_string)
        .collect();
    assert_eq!(last[0], "[+] web: once");
    assert!(logs.snapshot(None, 0).is_empty());
}

#[tokio::test]
async fn a_held_pipe_delays_no_close_and_is_reported() {
    let logs = quiet_logs(Limits::default());
    let (ends, output) = logs.output("web", Command::Main, Mode::Ring).unwrap();
    let (mut out, err) = files(ends);
    let escapee = std::process::Command::new("sleep")
        .arg("1000")
        .stdout(out.try_clone().unwrap())
        .spawn();
    let mut escapee = escapee.unwrap();
    out.write_all(b"last words").unwrap();
    drop((out, err));
    let begin = Instant::now();
    let closed = output.close();
    let took = begin.elapsed();
    escapee.kill().unwrap();
    escapee.wait().unwrap();
    assert_eq!(closed, Closed { held: true });
    assert!(took < BOUND, "close took {took:?}");
    assert_eq!(shown(&logs, Some("web")), [START, "[+] web: last words"]);
}

#[tokio::test]
async fn a_writer_that_never_stops_delays_no_close_either() {
    let logs = quiet_logs(Limits::default());
    let (ends, output) = logs.output("web", Command::Main, Mode::Ring).unwrap();
    let (mut out, _err) = files(ends);
    let writer = std::thread::spawn(move || while out.write_all(&[b'x'; 65536]).is_ok() {});
    until("it floods", || !logs.snapshot(Some("web"), 1).is_empty()).await;
    assert_eq!(output.close(), Closed { held: true });
    // EPIPE has reached it: nobody is left blocked on a pipe that is not read.
    writer.join().unwrap();
}

#[tokio::test]
async fn log_none_captures_nothing_and_needs_no_pipe() {
    let logs = quiet_logs(Limits::default());
    let (ends, output) = logs.output("web", Command::Main, Mode::None).unwrap();
    let (mut out, mut err) = files(ends);
    out.write_all(b"nowhere\n").unwrap();
    err.write_all(b"nowhere\n").unwrap();
    assert_eq!(output.close(), Closed { held: false });
    assert!(shown(&logs, None).is_empty());
}

#[tokio::test]
async fn log_stdout_writes_to_the_supervisors_stdout_as_well() {
    let (mut read, write) = std::io::pipe().unwrap();
    let sink = Sink::new(write.into(), null());
    let logs = Logs::new(Limits::default(), sink.clone());
    let (ends, output) = logs.output("web", Command::Main, Mode::Stdout).unwrap();
    let (mut out, mut err) = files(ends);
    writeln!(out, "{}", "x".repeat(20_000)).unwrap();
    writeln!(err, "oops").unwrap();
    drop((out, err));
    output.close();
    assert!(sink.flush(BOUND));
    let kept = shown(&logs, None);
    drop((logs, sink));
    let mut text = String::new();
    read.read_to_string(&mut text).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines, kept);
    assert_eq!(lines[0], START);
    assert!(lines[1].ends_with("xxx [...]") && lines[1].len() > 16_384);
    assert!(lines[2].starts_with("[+] web: [...] xxx"));
    assert_eq!(lines[3], "[-] web: oops");
}

fn descriptors() -> Vec<String> {
    let mut all: Vec<String> = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .map(|target| target.display().to_string())
        .filter(|target| !target.ends_with("/fd"))
        .collect();
    all.sort();
    all
}

/// Counting descriptors takes a process where no other test opens any: `test`, its name given,
/// runs `body` in one.
fn alone(test: &str, body: impl FnOnce()) {
    const ALONE: &str = "NOUGHT_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return body();
    }
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("1 passed"), "{said}");
}

#[test]
fn no_task_and_no_descriptor_is_left() {
    alone(
        "no_task_and_no_descriptor_is_left",
        count_tasks_and_descriptors,
    );
}

fn count_tasks_and_descriptors() {
    // The first runtime of a process leaves tokio's own signal sockets behind.
    drop(
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build(),
    );
    let outside = descriptors();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .unwrap();
    let before = descriptors();
    runtime.block_on(async {
        let logs = quiet_logs(Limits::default());
        for round in 0..100 {
            let (ends, output) = logs.output("web", Command::Main, Mode::Ring).unwrap();
            let (mut out, err) = files(ends);
            writeln!(out, "round {round}").unwrap();
            match round % 3 {
                0 => drop((out, err)),
                1 => drop((err, out, tokio::task::yield_now().await)),
                _ => {}
            }
            drop(output);
        }
        assert_eq!(shown(&logs, None).len(), 200);
        let (ends, output) = logs.output("web", Command::Main, Mode::Ring).unwrap();
        drop(logs);
        drop((ends, output));
        let metrics = tokio::runtime::Handle::current().metrics();
        until("the reader task is gone", || metrics.num_alive_tasks() == 0).await;
    });
    assert_eq!(descriptors(), before);
    drop(runtime);
    assert_eq!(descriptors(), outside);
}

#[test]
fn without_a_runtime_the_error_says_so_and_leaves_nothing_open() {
    alone(
        "without_a_runtime_the_error_says_so_and_leaves_nothing_open",
        capture_without_a_runtime,
    );
}

fn capture_without_a_runtime() {
    let logs = quiet_logs(Limits::default());
    let before = descriptors();
    let error = logs.output("web", Command::Main, Mode::Ring).unwrap_err();
    assert_eq!(
        error.to_string(),
        "failed to find the tokio runtime for the output of service 'web'"
    );
    assert_eq!(descriptors(), before);
}

/// A pipe with no room left.
fn full_pipe() -> (std::io::PipeReader, OwnedFd, usize) {
    let (read, write) = std::io::pipe().unwrap();
    let mut file = File::from(OwnedFd::from(write));
    let size = nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_GETPIPE_SZ).unwrap();
    file.write_all(&vec![b'.'; size as usize - 1]).unwrap();
    file.write_all(b"\n").unwrap();
    (read, file.into(), size as usize)
}

#[test]
fn a_full_stdout_blocks_nobody_and_the_loss_is_said_where_it_happened() {
    let (mut read, write, size) = full_pipe();
    let sink = Sink::new(write, null());
    const LINES: u64 = 20_000;
    let begin = Instant::now();
    for n in 0..LINES {
        sink.line(Stream::Stdout, &[b"line ", format!("{n:044}").as_bytes()]);
    }
    assert!(
        begin.elapsed() < BOUND,
        "queueing took {:?}",
        begin.elapsed()
    );
    let lost = sink.lost();
    assert!(lost > LINES / 2, "the queue is bounded: {lost} lost");
    assert!((LINES - lost) as usize * 50 <= QUEUE_BYTES);
    assert!(!sink.flush(Duration::from_millis(50)), "nothing flows");

    let mut filler = vec![0; size];
    read.read_exact(&mut filler).unwrap();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        read.read_to_string(&mut text).unwrap();
        text
    });
    assert!(sink.flush(BOUND), "it flows again");
    sink.line(Stream::Stdout, &[b"after"]);
    drop(sink);
    let text = reader.join().unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let kept = (LINES - lost) as usize;
    for (n, line) in lines[..kept].iter().enumerate() {
        assert_eq!(*line, format!("line {n:044}"));
    }
    assert_eq!(
        lines[kept..],
        [
            format!("[-] nought: {lost} lines lost: the output is not read").as_str(),
            "after"
        ]
    );
}

#[test]
fn a_closed_stdout_ends_nothing_and_stderr_goes_on() {
    let (gone, closed) = std::io::pipe().unwrap();
    drop(gone);
    let (mut read, write) = std::io::pipe().unwrap();
    let sink = Sink::new(closed.into(), write.into());
    for _ in 0..3 {
        sink.line(Stream::Stdout, &[b"into nothing"]);
        sink.line(Stream::Stderr, &[b"heard"]);
    }
    assert!(sink.flush(BOUND));
    assert!(sink.lost() >= 3);
    drop(sink);
    let mut text = String::new();
    read.read_to_string(&mut text).unwrap();
    assert_eq!(text, "heard\n".repeat(3));
}

#[test]
fn a_non_blocking_stdout_gets_every_line() {
    let (mut read, write) = std::io::pipe().unwrap();
    nix::fcntl::fcntl(
        &write,
        nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK),
    )
    .unwrap();
    let sink = Sink::new(write.into(), null());
    let line = [b'x'; 1000];
    for _ in 0..200 {
        sink.line(Stream::Stdout, &[&line]);
    }
    assert!(!sink.flush(Duration::from_millis(20)));
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        read.read_to_end(&mut bytes).unwrap();
        bytes.len()
    });
    assert!(sink.flush(BOUND));
    drop(sink);
    assert_eq!(reader.join().unwrap(), 200 * 1001);
}

#[test]
fn an_unused_sink_starts_no_thread_and_is_flushed_at_once() {
    let (read, write) = std::io::pipe().unwrap();
    let inode = write.as_raw_fd();
    let sink = Sink::new(write.into(), null());
    let begin = Instant::now();
    assert!(sink.flush(BOUND));
    assert!(begin.elapsed() < BOUND / 2);
    drop(sink);
    // No thread holds the descriptor: the pipe's only writer is gone.
    let mut rest = Vec::new();
    { read }.read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty(), "descriptor {inode}");
}

#[test]
fn what_the_supervisor_says_is_one_line_each() {
    let (mut read, write) = std::io::pipe().unwrap();
    let sink = Sink::new(null(), write.into());
    let subscriber = Trace::new(sink.clone(), LevelFilter::INFO);
    tracing::subscriber::with_default(subscriber, || {
        tracing::info!(service = "web", pid = 12, "up");
        tracing::warn!(error = %"no such file", argv = ?["a\nb"], "two\nlines \u{1b}[31mred");
        tracing::error!(empty = "", on = true);
        tracing::debug!("not shown");
        let _span = tracing::info_span!("stop", service = "web").entered();
        tracing::info!("in a span");
    });
    assert!(sink.flush(BOUND));
    drop(sink);
    let mut text = String::new();
    read.read_to_string(&mut text).unwrap();
    assert_eq!(
        text,
        "nought: INFO up service=web pid=12\n\
         nought: WARN two\\nlines \\u{1b}[31mred error=\"no such file\" argv=\"[\\\"a\\\\nb\\\"]\"\n\
         nought: ERROR empty=\"\" on=true\n\
         nought: INFO in a span\n"
    );
}

#[test]
fn the_level_comes_from_the_flag_then_the_environment() {
    assert_eq!(level(true, Some("error")), Ok(LevelFilter::DEBUG));
    assert_eq!(level(false, Some(" Warn ")), Ok(LevelFilter::WARN));
    assert_eq!(level(false, Some("off")), Ok(LevelFilter::OFF));
    for unset in [None, Some("")] {
        assert_eq!(level(false, unset), Ok(LevelFilter::INFO));
    }
    assert_eq!(
        level(false, Some("loud")).unwrap_err().to_string(),
        "unknown log level 'loud' in NOUGHT_LOG: use off, error, warn, info, debug or trace"
    );
}

async fn next(follow: &mut nought::logs::Follow) -> nought::logs::Batch {
    let next = tokio::time::timeout(BOUND, follow.next());
    next.await.unwrap()
}

#[tokio::test]
async fn a_follower_gets_what_is_kept_and_then_each_line_of_its_sources_once() {
    let logs = quiet_logs(Limits::default());
    let (ends, _web) = logs.output("web", Command::Main, Mode::Ring).unwrap();
    let (mut out, _err) = files(ends);
    let (ends, _other) = logs.output("web2", Command::Main, Mode::Ring).unwrap();
    let (mut other, _) = files(ends);
    out.write_all(b"before\n").unwrap();
    until("it is kept", || shown(&logs, Some("web")).len() == 2).await;
    let (kept, mut follow) = logs.follow(&["web".into()], 1);
    assert_eq!(
        kept.lines.iter().map(Line::to_string).collect::<Vec<_>>(),
        ["[+] web: before"]
    );
    let (kept, mut all) = logs.follow(&[], 0);
    assert!(kept.lines.is_empty());
    other.write_all(b"not web\n").unwrap();
    until("it is kept", || shown(&logs, Some("web2")).len() == 2).await;
    out.write_all(b"one\ntwo\n").unwrap();
    let mut lines = Vec::new();
    while lines.len() < 2 {
        let batch = next(&mut follow).await;
        assert_eq!(batch.lost, 0);
        lines.extend(batch.lines.iter().map(|line| line.to_string()));
    }
    assert_eq!(lines, ["[+] web: one", "[+] web: two"]);
    let mut lines = Vec::new();
    while lines.len() < 3 {
        lines.extend(
            next(&mut all)
                .await
                .lines
                .iter()
                .map(|line| line.to_string()),
        );
    }
    assert_eq!(lines, ["[+] web2: not web", "[+] web: one", "[+] web: two"]);
}

#[tokio::test]
async fn a_follower_that_is_too_slow_loses_lines_in_one_place_and_is_told_how_many() {
    const LINES: usize = 3000;
    let logs = quiet_logs(Limits::default());
    let (ends, _web) = logs.output("web", Command::Main, Mode::Ring).unwrap();
    let (mut out, _err) = files(ends);
    let (_, mut follow) = logs.follow(&[], 0);
    let text = "x".repeat(1000);
    let writer = std::thread::spawn(move || {
        for n in 0..LINES {
            writeln!(out, "{n} {text}").unwrap();
        }
        out
    });
    until("all were read", || {
        let last = logs.snapshot(Some("web"), 1);
        last[0]
            .text
            .starts_with(format!("{} ", LINES - 1).as_bytes())
    })
    .await;
    let mut out = writer.join().unwrap();
    let batch = next(&mut follow).await;
    let bytes: usize = batch.lines.iter().map(|line| line.text.len()).sum();
    assert!(bytes <= nought::logs::FOLLOW_BYTES, "{bytes}");
    assert_eq!(batch.lines.len() as u64 + batch.lost, LINES as u64);
    for (n, line) in batch.lines.iter().enumerate() {
        assert!(
            line.text.starts_with(format!("{n} ").as_bytes()),
            "no gap before the end"
        );
    }
    out.write_all(b"again\n").unwrap();
    let batch = next(&mut follow).await;
    assert_eq!(
        (batch.lines[0].to_string().as_str(), batch.lost),
        ("[+] web: again", 0)
    );
}
