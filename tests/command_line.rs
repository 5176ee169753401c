//! Exit codes and words of the commands.

use crate::harness::{Config, Signal, eventually, program, signal};
use std::process::{Command, Output, Stdio};

fn check(text: &str) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.toml");
    let text = text
        .replace("{listen}", "127.0.0.1:8080")
        .replace("{admin}", "127.0.0.1:9090")
        .replace("{store}", "memory:");
    std::fs::write(&file, text).unwrap();
    Command::new(program()).args(["check", "--config"]).arg(&file).output().unwrap()
}

fn usual() -> String {
    Config::default().text("127.0.0.1:8000".parse().unwrap())
}

#[test]
fn check_accepts_a_valid_file() {
    let output = check(&usual());
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn check_names_every_problem_at_once_and_exits_with_2() {
    let wrong =
        usual().replace("drain = \"5s\"", "drian = \"5s\"").replace("level = \"info\"", "level = \"loud\"");
    let output = check(&wrong);
    let said =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("drian") && said.contains("drain") && said.contains("loud"), "{said}");
}

#[test]
fn check_refuses_sections_that_it_would_not_obey() {
    let output = check(&(usual() + "\n[[alert]]\nname = \"storm\"\nevent = \"duplicate\"\n"));
    let said =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("not supported yet"), "{said}");
}

#[test]
fn run_with_a_wrong_file_exits_with_2_and_a_missing_file_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.toml");
    std::fs::write(&file, "mode = \"strict\"\n").unwrap();
    let output = Command::new(program()).args(["run", "--config"]).arg(&file).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    let output = Command::new(program()).args(["check", "--config", "no-such.toml"]).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("no-such.toml"));
}

#[test]
fn check_warns_of_a_machine_that_trusts_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.toml");
    let text = usual().replace("http://127.0.0.1:8000", "https://127.0.0.1:8000");
    let places = [("{listen}", "127.0.0.1:8080"), ("{admin}", "127.0.0.1:9090"), ("{store}", "memory:")];
    let text = places.into_iter().fold(text, |text, (hole, value)| text.replace(hole, value));
    std::fs::write(&file, text).unwrap();
    let mut check = Command::new(program());
    let check = check.args(["check", "--config"]).arg(&file);
    let nothing = directory.path().join("nothing");
    let output = check.env("SSL_CERT_FILE", &nothing).env("SSL_CERT_DIR", &nothing).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("warning: upstream") && said.contains("ca-certificates"), "{said}");
    assert_eq!(output.status.code(), Some(0), "{said}");
}

/// A container's first process gets no other answer from the system: what it does not listen for is lost.
#[test]
fn a_signal_ends_a_gateway_that_is_still_starting() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.toml");
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let store = format!("redis://{closed}/0\"\nsecret = \"one secret, long enough\"\nstate = \"lives");
    let text = usual().replace("{listen}", "127.0.0.1:0").replace("{admin}", "127.0.0.1:0");
    std::fs::write(&file, text.replace("{store}", &store)).unwrap();
    let mut run = Command::new(program());
    let run = run.args(["run", "--config"]).arg(&file).stdout(Stdio::null()).stderr(Stdio::piped());
    let gate = run.spawn().unwrap();
    eventually("it listens for signals", || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", gate.id())).unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"))?;
        let terminate = 1 << (Signal::TERM.as_raw() - 1);
        (u64::from_str_radix(mask.trim(), 16).ok()? & terminate != 0).then_some(())
    });
    signal(gate.id(), Signal::TERM);
    let output = gate.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("told to stop before it served"), "{said}");
}

#[test]
fn the_demo_ends_well_and_shows_the_bug_and_its_end() {
    let output = Command::new(program()).args(["demo", "--once"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(
        said.contains("double click") && said.contains("without") && said.contains("duplicate key"),
        "{said}"
    );
    let mut flood = said.lines().skip_while(|line| !line.starts_with("3 a page that polls"));
    let numbers =
        |line: &str| line.split_whitespace().filter_map(|word| word.parse::<u64>().ok()).collect::<Vec<_>>();
    // Behind the incident's number: client requests, backend requests, errors.
    let without = numbers(flood.next().expect("incident 3 without the gate"));
    let with = numbers(flood.next().expect("and with it"));
    let (asked, reached, errors) = (without[1], without[2], without[3]);
    assert!(asked > 20 && reached == asked && errors == 0, "{said}");
    // A percentage stands behind the backend's.
    assert!(with[0] <= 8 && with[1] <= 8 && with.last() == Some(&0), "{said}");
}
