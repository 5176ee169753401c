//! Exit codes and words of the commands.

use crate::harness::{Config, program};
use std::process::{Command, Output};

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
