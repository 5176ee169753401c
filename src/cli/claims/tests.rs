//! The command against a running admin address.

use super::*;
use crate::admin::tests::{Door, id};
use crate::store::Claimed;
use clap::Parser;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    claims: ClaimsArgs,
}

fn parse(words: &[&str]) -> Result<ClaimsArgs, clap::Error> {
    Line::try_parse_from(std::iter::once(&"claims").chain(words)).map(|line| line.claims)
}

fn claims(door: &Door, words: &[&str]) -> Result<String, Failure> {
    let admin = format!("http://{}", door.address);
    let args = parse(&[words, &["--admin", &admin]].concat()).expect("good arguments");
    carry_out(args, None)
}

#[test]
fn an_operator_finds_a_doubt_and_settles_it_with_the_backends_answer() {
    let door = Door::open(None);
    door.doubt(id(0xab));
    let listed = claims(&door, &["list", "--phase", "in-doubt"]).expect("a table");
    assert!(listed.contains("abababababab  in-doubt"), "{listed}");
    let shown = claims(&door, &["show", "abababababab"]).expect("a record");
    assert!(shown.contains("request     POST /api/bookings"), "{shown}");
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("answer.bin");
    std::fs::write(&file, b"\xff\x00binary").expect("a file");
    let body = format!("@{}", file.display());
    let resolve = ["resolve", "ABABABAB", "--executed", "--status", "201", "--body", &body];
    let headers = ["--header", "X-A: 1", "--header", "x-a: 2"];
    let settled = claims(&door, &[&resolve[..], &headers].concat()).expect("settled");
    assert!(settled.contains("is settled: executed"), "{settled}");
    let Claimed::Done(answer) = door.claim(id(0xab)) else { panic!("the copy did not get the answer") };
    assert_eq!((answer.status().as_u16(), &answer.body()[..]), (201, &b"\xff\x00binary"[..]));
    assert_eq!(answer.headers().get_all("x-a").iter().collect::<Vec<_>>(), ["1", "2"]);
}

#[test]
fn not_executed_and_delete_let_the_next_copy_execute() {
    let door = Door::open(None);
    for (byte, words) in [(1, &["resolve", "01010101", "--not-executed"][..]), (2, &["delete", "02020202"])] {
        door.doubt(id(byte));
        claims(&door, words).expect("done");
        assert!(matches!(door.claim(id(byte)), Claimed::Granted), "{words:?}");
    }
}

#[test]
fn a_prefix_has_to_name_exactly_one_record() {
    let door = Door::open(None);
    let mut twin = id(7);
    twin.0[31] = 8;
    door.doubt(id(7));
    door.doubt(twin);
    let ambiguous = claims(&door, &["delete", "0707070707"]).expect_err("two records");
    assert!(ambiguous.to_string().contains("give more digits"), "{ambiguous}");
    let unknown = claims(&door, &["show", "0808080808"]).expect_err("no record");
    assert!(unknown.to_string().contains("no record begins with"), "{unknown}");
    for wrong in ["07", "xyzxyzxyz", &"0".repeat(65)] {
        let failure = claims(&door, &["delete", wrong]).expect_err("no id");
        assert_eq!(failure.exit_code(), 2, "{failure}");
    }
    assert!(claims(&door, &["delete", &twin.to_string()]).is_ok());
    assert!(matches!(door.claim(id(7)), Claimed::InDoubt { .. }), "the other one is untouched");
}

#[test]
fn json_is_what_the_api_answers() {
    let door = Door::open(None);
    door.doubt(id(7));
    let text = claims(&door, &["list", "--json", "--limit", "1"]).expect("a page");
    let page: ClaimsPage = serde_json::from_str(&text).expect("JSON");
    assert_eq!(page.claims[0].id, id(7).to_string());
    assert_eq!(page.next.as_deref(), Some(page.claims[0].id.as_str()));
    let next = claims(&door, &["list", "--after", &page.claims[0].id]).expect("the next page");
    assert_eq!(next, "no records\n");
}

#[test]
fn a_missing_token_is_explained_and_the_variables_one_is_used() {
    let door = Door::open(Some("a long secret"));
    let refused = claims(&door, &["list"]).expect_err("a token is required");
    assert!(refused.to_string().contains("ONCEGATE_ADMIN_TOKEN"), "{refused}");
    assert!(claims(&door, &["list", "--token", "a long secret"]).is_ok());
    let admin = format!("http://{}", door.address);
    let args = parse(&["list", "--admin", &admin]).expect("good arguments");
    assert!(carry_out(args, Some("a long secret".into())).is_ok());
}

#[test]
fn what_the_api_refuses_is_said_with_its_reason() {
    let door = Door::open(None);
    assert!(matches!(door.claim(id(7)), Claimed::Granted));
    let refused = claims(&door, &["resolve", &id(7).to_string(), "--not-executed"]).expect_err("in flight");
    assert_eq!(refused.exit_code(), 1);
    assert!(refused.to_string().contains("not in doubt"), "{refused}");
}

#[test]
fn address_and_token_come_from_the_configuration() {
    let door = Door::open(Some("a long secret"));
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("config.toml");
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:1\"\n[admin]\nlisten = \"{}\"\ntoken = \"a long secret\"\n\
         [store]\nurl = \"memory:\"\n[[upstream]]\nname = \"u\"\nurl = \"http://127.0.0.1:8000\"\n\
         [[route]]\nname = \"rest\"\nmatch = \"* /**\"\nupstream = \"u\"\n",
        door.address
    );
    std::fs::write(&file, text).expect("a file");
    let file = file.display().to_string();
    let args = parse(&["list", "--config", &file]).expect("good arguments");
    assert_eq!(carry_out(args, None), Ok("no records\n".into()));
    let elsewhere =
        claims(&door, &["list", "--config", &file]).expect_err("no token was given for this address");
    assert!(elsewhere.to_string().contains("token"), "{elsewhere}");
}

#[test]
fn an_unknown_admin_address_says_how_to_name_it() {
    let args = parse(&["list", "--config", "no-such-directory/config.toml"]).expect("good arguments");
    let failure = carry_out(args, None).expect_err("there is no configuration");
    assert_eq!(failure.exit_code(), 2);
    assert!(failure.to_string().contains("--admin http://HOST:PORT"), "{failure}");
}

#[test]
fn a_verdict_is_exactly_one_and_complete() {
    let id = "0".repeat(64);
    for words in [
        &["resolve", &id][..],
        &["resolve", &id, "--executed"],
        &["resolve", &id, "--executed", "--not-executed", "--status", "201"],
        &["resolve", &id, "--not-executed", "--status", "201"],
        &["resolve", &id, "--not-executed", "--body", "x"],
        &["list", "--phase", "lost"],
        &["list", "--limit", "0"],
    ] {
        assert!(parse(words).is_err(), "{words:?}");
    }
    assert!(parse(&["resolve", &id, "--executed", "--status", "201"]).is_ok());
}

#[test]
fn an_address_to_listen_on_becomes_one_to_connect_to() {
    let reached = |text: &str| reachable(text.parse().expect("an address")).to_string();
    assert_eq!(reached("0.0.0.0:9090"), "127.0.0.1:9090");
    assert_eq!(reached("[::]:9090"), "[::1]:9090");
    assert_eq!(reached("10.0.0.7:9090"), "10.0.0.7:9090");
}
