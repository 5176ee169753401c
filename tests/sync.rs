//! The claim is on the disk before the backend hears of it: seen in the system calls of a thousand guarded writes.

use crate::harness::{Call, Stand, eventually};
use std::collections::{HashMap, HashSet};
use std::process::Command;
use std::thread;

const WRITES: usize = 1000;
const CLIENTS: usize = 8;

/// The system calls in which a request arrives, goes out, is written down and is synced.
const CALLS: &str =
    "trace=read,readv,recvfrom,recvmsg,write,writev,sendto,sendmsg,pwrite64,pwritev,pwritev2,fdatasync,fsync";
const READS: &[&str] = &["read", "readv", "recvfrom", "recvmsg"];
const WRITES_OUT: &[&str] = &["write", "writev", "sendto", "sendmsg"];
const FILE_WRITES: &[&str] = &["write", "writev", "pwrite64", "pwritev", "pwritev2"];
const SYNCS: &[&str] = &["fdatasync", "fsync"];

/// One system call of the trace: begun at one line, returned at another.
#[derive(Debug)]
struct SystemCall {
    name: String,
    /// The first argument, a file descriptor in all of [`CALLS`].
    descriptor: String,
    text: String,
    begun: usize,
    returned: usize,
}

/// Reads `strace -f` output: `PID name(args) = result`, possibly torn into `<unfinished ...>` and `<... name resumed>`.
fn parse(trace: &str) -> Vec<SystemCall> {
    let mut calls: Vec<SystemCall> = Vec::new();
    let mut open: HashMap<&str, usize> = HashMap::new();
    for (line, text) in trace.lines().enumerate() {
        let Some((pid, rest)) = text.split_once(' ').map(|(pid, rest)| (pid, rest.trim_start())) else {
            continue;
        };
        if rest.starts_with("<... ") {
            if let Some(call) = open.remove(pid).and_then(|at| calls.get_mut(at)) {
                call.text.push_str(rest);
                call.returned = line;
            }
        } else if let Some((name, arguments)) = rest.split_once('(') {
            let descriptor = arguments.split([',', ')', ' ']).next().unwrap_or_default().to_owned();
            if rest.ends_with("<unfinished ...>") {
                open.insert(pid, calls.len());
            }
            let returned = if rest.ends_with("<unfinished ...>") { usize::MAX } else { line };
            calls.push(SystemCall {
                name: name.to_owned(),
                descriptor,
                text: rest.to_owned(),
                begun: line,
                returned,
            });
        }
    }
    calls
}

/// Whether the call wrote all it was given, and made it durable by itself.
fn is_synced_write(call: &SystemCall) -> bool {
    let given = call.text.rsplit_once("iov_len=").and_then(|(_, rest)| rest.split_once('}'));
    let written = call.text.rsplit_once("= ").map(|(_, result)| result.trim());
    call.name == "pwritev2"
        && given.is_some_and(|(len, rest)| rest.contains(", RWF_DSYNC") && written == Some(len) && len != "0")
}

/// Whether, between the arrival of the request with `marker` and its first byte to the backend, something was written
/// to a file and that file's sync began and returned well, or a write did that is its own sync.
fn synced_before_sent(calls: &[SystemCall], marker: &str) -> Result<(), String> {
    let is = |call: &SystemCall, names: &[&str]| names.contains(&call.name.as_str());
    let arrived =
        calls.iter().find(|call| is(call, READS) && call.text.contains(marker)).ok_or("it never arrived")?;
    let sent = calls
        .iter()
        .find(|call| is(call, WRITES_OUT) && call.text.contains(marker))
        .ok_or("it was never sent")?;
    let between = || calls.iter().filter(|call| call.begun > arrived.begun && call.returned < sent.begun);
    let mut written = HashSet::new();
    for call in between() {
        if is_synced_write(call) {
            return Ok(());
        }
        if is(call, SYNCS) && written.contains(&call.descriptor) && call.text.trim_end().ends_with("= 0") {
            return Ok(());
        }
        if is(call, FILE_WRITES) {
            written.insert(call.descriptor.clone());
        }
    }
    Err(format!("no sync in the {} calls between arrival and sending", between().count()))
}

#[test]
fn a_sync_is_found_only_where_it_belongs() {
    let arrived = "7 recvfrom(9, \"POST /x?mark=1 HTTP\", 99, 0, NULL, NULL) = 19";
    let (written, sent) =
        ("8 pwrite64(5, \"..\", 2, 0) = 2", "7 writev(11, [{\"POST /x?mark=1 HTTP\"}], 1) = 19");
    let synced = "8 fdatasync(5) = 0";
    let verdict = |lines: &[&str]| synced_before_sent(&parse(&lines.join("\n")), "mark=1").is_ok();
    assert!(verdict(&[arrived, written, synced, sent]));
    assert!(verdict(&[
        arrived,
        written,
        "8 fdatasync(5 <unfinished ...>",
        "8 <... fdatasync resumed>) = 0",
        sent
    ]));
    assert!(!verdict(&[arrived, written, sent, synced]));
    assert!(!verdict(&[
        arrived,
        written,
        "8 fdatasync(5 <unfinished ...>",
        sent,
        "8 <... fdatasync resumed>) = 0"
    ]));
    assert!(!verdict(&[synced, arrived, written, sent]));
    assert!(!verdict(&[arrived, synced, written, sent]));
    assert!(!verdict(&[arrived, written, "8 fdatasync(6) = 0", sent]));
    assert!(!verdict(&[arrived, written, "8 fdatasync(5) = -1 EIO (Input/output error)", sent]));
}

#[test]
fn a_write_is_its_own_sync_only_where_it_says_so_and_wrote_everything() {
    let arrived = "7 recvfrom(9, \"POST /x?mark=1 HTTP\", 99, 0, NULL, NULL) = 19";
    let written =
        "8 pwritev2(5, [{iov_base=\"= 1, RWF_DSYNC\"..., iov_len=4096}], 1, 8192, RWF_DSYNC) = 4096";
    let begun = "8 pwritev2(5, [{iov_base=\"..\", iov_len=4096}], 1, 8192, RWF_DSYNC <unfinished ...>";
    let ended = "8 <... pwritev2 resumed>) = 4096";
    let sent = "7 writev(11, [{\"POST /x?mark=1 HTTP\"}], 1) = 19";
    let verdict = |lines: &[&str]| synced_before_sent(&parse(&lines.join("\n")), "mark=1").is_ok();
    assert!(verdict(&[arrived, written, sent]));
    assert!(verdict(&[arrived, begun, ended, sent]));
    assert!(!verdict(&[arrived, &written.replace("8192, RWF_DSYNC", "8192, 0"), sent]));
    assert!(!verdict(&[arrived, &written.replace(") = 4096", ") = 512"), sent]), "a part");
    assert!(!verdict(&[arrived, &written.replace(") = 4096", ") = -1 EIO (Input/output error)"), sent]));
    assert!(!verdict(&[arrived, begun, "8 <... pwritev2 resumed>) = -1 EIO (Input/output error)", sent]));
    assert!(!verdict(&[written, arrived, sent]));
    assert!(!verdict(&[begun, arrived, ended, sent]));
    assert!(!verdict(&[arrived, begun, sent, ended]));
    assert!(!verdict(&[arrived, sent, written]));
}

#[test]
fn every_claim_is_synced_before_its_first_byte_goes_to_the_backend() {
    let strace = ensure_strace();
    let mut stand = Stand::stopped(Default::default());
    let trace = stand.gate.log.with_file_name("trace");
    let file = trace.to_str().expect("a plain path");
    // With -D the tracer is the grandchild, so the gate itself is what gets killed and waited for.
    stand.gate.under(&[&strace, "-D", "-f", "-qq", "-s", "120", "-e", CALLS, "-o", file]);
    stand.start();
    let address = stand.gate.address;
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            scope.spawn(move || {
                for number in (client..WRITES).step_by(CLIENTS) {
                    let target = format!("/api/notes?mark={number:05}");
                    let reply = Call::post(&target, "{}").send(address).expect("an answer");
                    assert_eq!((reply.status, reply.is_replay()), (201, false));
                }
            });
        }
    });
    stand.gate.kill();
    let last = format!("mark={:05}", WRITES - 1);
    let text = eventually("the trace is complete", || {
        let text = String::from_utf8_lossy(&std::fs::read(&trace).ok()?).into_owned();
        (text.contains(&last) && text.trim_end().ends_with("+++")).then_some(text)
    });
    let calls = parse(&text);
    let verdict = |number: usize| synced_before_sent(&calls, &format!("mark={number:05}"));
    let wrong: Vec<String> = (0..WRITES)
        .filter_map(|number| verdict(number).err().map(|why| format!("write {number}: {why}")))
        .collect();
    assert!(wrong.is_empty(), "{} of {WRITES} not synced first:\n{}", wrong.len(), wrong.join("\n"));
    let syncs =
        calls.iter().filter(|call| is_synced_write(call) || SYNCS.contains(&call.name.as_str())).count();
    println!("strace: {WRITES} of {WRITES} writes synced before their first upstream byte, in {syncs} syncs");
}

/// The tracer; installed where it is missing and can be.
fn ensure_strace() -> String {
    let works = || {
        Command::new("strace")
            .args(["-o", "/dev/null", "true"])
            .output()
            .is_ok_and(|output| output.status.success())
    };
    if !works() {
        let _ = Command::new("apt-get").args(["install", "-y", "-q", "strace"]).output();
    }
    assert!(
        works(),
        "this test needs a strace that may trace; it could not be installed, or ptrace is not allowed here"
    );
    "strace".to_owned()
}
