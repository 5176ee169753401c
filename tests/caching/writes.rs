use super::Stand;
use super::backend::{Asked, Said, Scripted};
use crate::harness::{Call, eventually};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

const LONG: &str = "coalesce = true\ncache = { ttl = \"60s\" }";

/// Answers with its state, which every write that is not refused moves on.
fn stateful() -> (Scripted, Arc<AtomicU64>) {
    let state = Arc::new(AtomicU64::new(1));
    let shared = state.clone();
    let backend = Scripted::start(move |asked| {
        if asked.method == "GET" {
            return Said::ok("", format!("state {}", shared.load(Ordering::SeqCst)));
        }
        shared.fetch_add(1, Ordering::SeqCst);
        match asked.header("x-answer") {
            Some("location") => {
                Said::status(201, "Location: /made/7?x=1\r\nContent-Location: shown\r\n", "made")
            }
            Some("elsewhere") => Said::status(201, "Location: http://other.example/made/7\r\n", "made"),
            Some("fails") => Said::status(500, "", "failed"),
            Some("broken") => Said {
                by_hand: Some(|stream| drop(stream.shutdown(std::net::Shutdown::Both))),
                ..Said::ok("", "")
            },
            _ => Said::ok("", "written"),
        }
    });
    (backend, state)
}

fn from(caller: &str, method: &str, target: &str) -> Call {
    let call = Call::new(method, target).header("Host", "h");
    if caller.is_empty() { call } else { call.header("Authorization", &format!("Bearer {caller}")) }
}

fn read(stand: &Stand, caller: &str, target: &str) -> String {
    stand.send(&from(caller, "GET", target)).text()
}

#[test]
fn a_write_ends_everything_that_its_caller_had() {
    for (method, target) in [
        ("POST", "/elsewhere"),
        ("PUT", "/elsewhere"),
        ("PATCH", "/elsewhere"),
        ("DELETE", "/elsewhere"),
        ("M-SEARCH", "/elsewhere"),
        ("POST", "/guarded/x"),
    ] {
        for caller in ["ann", ""] {
            let (backend, _) = stateful();
            let stand = Stand::new(backend.address, LONG, "");
            assert_eq!([read(&stand, caller, "/a"), read(&stand, caller, "/b")], ["state 1", "state 1"]);
            assert_eq!(read(&stand, "bob", "/a"), "state 1");
            stand.send(&from(caller, method, target).body("x"));
            assert_eq!(
                [read(&stand, caller, "/a"), read(&stand, caller, "/b")],
                ["state 2", "state 2"],
                "{method}"
            );
            assert_eq!(read(&stand, "bob", "/a"), "state 1", "{method}: nobody else's");
        }
    }
}

#[test]
fn a_write_that_fails_or_breaks_off_may_have_been_executed() {
    for answer in ["fails", "broken"] {
        for target in ["/elsewhere", "/guarded/x"] {
            let (backend, _) = stateful();
            let stand = Stand::new(backend.address, LONG, "");
            read(&stand, "ann", "/a");
            stand.send(&from("ann", "POST", target).header("X-Answer", answer).body("x"));
            assert_eq!(read(&stand, "ann", "/a"), "state 2", "{answer} {target}");
        }
    }
}

#[test]
fn until_the_outcome_of_a_write_can_be_known_nothing_is_kept() {
    let (backend, state) = stateful();
    let stand = Stand::new(backend.address, LONG, "");
    stand.send(&from("ann", "POST", "/x").header("X-Answer", "broken").body("x"));
    read(&stand, "ann", "/a");
    // Bytes that waited in a hung backend take effect now.
    state.fetch_add(1, Ordering::SeqCst);
    assert_eq!(read(&stand, "ann", "/a"), "state 3");
}

#[test]
fn whoever_is_told_that_nobody_knows_gets_nothing_from_before_the_effect() {
    let (state, answers) = (Arc::new(AtomicU64::new(1)), Arc::new(Mutex::new(())));
    let (shared, held) = (state.clone(), answers.clone());
    let backend = Scripted::start(move |asked| match asked.target.as_str() {
        "/late" => {
            drop(held.lock());
            Said::ok("", "written")
        }
        _ => Said::ok("", format!("state {}", shared.load(Ordering::SeqCst))),
    });
    let late = format!(
        "[[upstream]]\nname = \"quick\"\nurl = \"http://{}\"\ntimeout = \"1s\"\n\
         [[route]]\nname = \"late\"\nmatch = \"POST /late\"\nupstream = \"quick\"\n[route.idempotency]\n",
        backend.address
    );
    let stand = Stand::new(backend.address, LONG, &late);
    let held = answers.lock().unwrap();
    let told = stand.send(&from("ann", "POST", "/late").body("x"));
    assert_eq!(told.status, 504);
    assert_eq!(read(&stand, "ann", "/a"), "state 1", "the effect has not come yet");
    // Now it comes, and nobody says so.
    state.fetch_add(1, Ordering::SeqCst);
    assert_eq!(read(&stand, "ann", "/a"), "state 2");
    drop(held);
    // The answer comes late; from then on answers are kept again.
    eventually("answers are kept again", || {
        let before = backend.count();
        read(&stand, "ann", "/a");
        (backend.count() == before).then_some(())
    });
}

#[test]
fn an_answer_from_before_a_write_takes_no_later_ones_place() {
    let (state, answers) = (Arc::new(AtomicU64::new(1)), Arc::new(Mutex::new(())));
    let (shared, held) = (state.clone(), answers.clone());
    let backend = Scripted::start(move |asked| {
        if asked.method != "GET" {
            shared.fetch_add(1, Ordering::SeqCst);
            return Said::ok("", "written");
        }
        let seen = shared.load(Ordering::SeqCst);
        if asked.header("authorization") == Some("Bearer bob") {
            drop(held.lock());
        }
        Said::ok("", format!("state {seen}"))
    });
    let stand = Stand::new(backend.address, "cache = { ttl = \"60s\", share = \"everyone\" }", "");
    let held = answers.lock().unwrap();
    let address = stand.gate.address;
    let slow = thread::spawn(move || from("bob", "GET", "/a").send(address).unwrap().text());
    eventually("the slow read is under way", || (backend.count() == 1).then_some(()));
    stand.send(&from("ann", "POST", "/x").body("x"));
    assert_eq!(read(&stand, "ann", "/a"), "state 2");
    drop(held);
    assert_eq!(slow.join().unwrap(), "state 1");
    let before = backend.count();
    assert_eq!((read(&stand, "ann", "/a"), backend.count()), ("state 2".into(), before));
}

#[test]
fn a_success_ends_what_everybody_has_of_its_target_and_of_what_it_names() {
    let (backend, _) = stateful();
    let stand = Stand::new(backend.address, LONG, "");
    let pages = ["/list", "/list?page=2", "/made/7", "/shown", "/other"];
    for page in pages {
        assert_eq!(read(&stand, "bob", page), "state 1");
    }
    stand.send(&from("ann", "POST", "/list").header("X-Answer", "location").body("x"));
    let now: Vec<String> = pages.iter().map(|page| read(&stand, "bob", page)).collect();
    assert_eq!(now, ["state 2", "state 2", "state 2", "state 2", "state 1"]);
    stand.send(&from("ann", "POST", "/nowhere").header("X-Answer", "elsewhere").body("x"));
    assert_eq!(read(&stand, "bob", "/made/7"), "state 2", "another host's resource is none of ours");
    stand.send(&from("ann", "PUT", "/made/7").header("X-Answer", "fails").body("x"));
    assert_eq!(read(&stand, "bob", "/made/7"), "state 2", "a failure changes nothing for others");
}

#[test]
fn whoever_has_written_sees_a_page_that_everyone_shares_anew() {
    let (backend, _) = stateful();
    let stand =
        Stand::new(backend.address, "coalesce = true\ncache = { ttl = \"60s\", share = \"everyone\" }", "");
    assert_eq!([read(&stand, "ann", "/a"), read(&stand, "bob", "/a")], ["state 1", "state 1"]);
    stand.send(&from("ann", "POST", "/x").body("x"));
    assert_eq!(read(&stand, "bob", "/a"), "state 1");
    assert_eq!(read(&stand, "ann", "/a"), "state 2");
    assert_eq!(read(&stand, "bob", "/a"), "state 2", "and what it got is the copy from now on");
}

/// A backend whose reads take their state when they come and answer when they are let go.
fn slow_reads() -> (Scripted, Arc<AtomicU64>, Arc<Mutex<()>>) {
    let state = Arc::new(AtomicU64::new(1));
    let lock = Arc::new(Mutex::new(()));
    let (shared, held) = (state.clone(), lock.clone());
    let backend = Scripted::start(move |asked: &Asked| {
        if asked.method != "GET" {
            shared.fetch_add(1, Ordering::SeqCst);
            return Said::ok("", "written");
        }
        let seen = shared.load(Ordering::SeqCst);
        drop(held.lock());
        Said::ok("", format!("state {seen}"))
    });
    (backend, state, lock)
}

#[test]
fn a_read_that_was_under_way_when_the_write_came_is_neither_kept_nor_joined() {
    let (backend, _, lock) = slow_reads();
    let stand = Stand::new(backend.address, LONG, "");
    let held = lock.lock().unwrap();
    let address = stand.gate.address;
    let first = thread::spawn(move || from("ann", "GET", "/a").send(address).unwrap().text());
    eventually("the read is under way", || (backend.count() == 1).then_some(()));
    stand.send(&from("ann", "POST", "/x").body("x"));
    let second = thread::spawn(move || from("ann", "GET", "/a").send(address).unwrap().text());
    eventually("the second read goes by itself", || (backend.count() == 3).then_some(()));
    drop(held);
    assert_eq!((first.join().unwrap(), second.join().unwrap()), ("state 1".into(), "state 2".into()));
    for _ in 0..3 {
        assert_eq!(read(&stand, "ann", "/a"), "state 2", "whichever of the two ended last");
    }
}

#[test]
fn a_read_that_began_while_the_write_was_under_way_is_not_kept() {
    let (backend, state) = stateful();
    let stand = Stand::new(backend.address, LONG, "");
    backend.hold();
    let address = stand.gate.address;
    let write = thread::spawn(move || from("ann", "POST", "/x").body("x").send(address).unwrap().status);
    eventually("the write is under way", || (backend.count() == 1).then_some(()));
    let reads: Vec<_> = (0..4)
        .map(|n| thread::spawn(move || from("ann", "GET", &format!("/{n}")).send(address).unwrap()))
        .collect();
    eventually("the reads are under way", || (backend.count() == 5).then_some(()));
    backend.release();
    assert_eq!(write.join().unwrap(), 200);
    reads.into_iter().for_each(|read| drop(read.join().unwrap()));
    let now = state.load(Ordering::SeqCst);
    for n in 0..4 {
        assert_eq!(read(&stand, "ann", &format!("/{n}")), format!("state {now}"));
    }
}

#[test]
fn a_renewed_cookie_does_not_hide_who_has_written() {
    let state = Arc::new(AtomicU64::new(1));
    let shared = state.clone();
    let backend = Scripted::start(move |asked| {
        if asked.method == "GET" {
            return Said::ok("", format!("state {}", shared.load(Ordering::SeqCst)));
        }
        shared.fetch_add(1, Ordering::SeqCst);
        Said::ok("Set-Cookie: s=2\r\n", "written")
    });
    let stand = Stand::new(backend.address, "cache = { ttl = \"60s\", share = \"everyone\" }", "");
    let with = |cookie: &str, method: &str| {
        stand.send(&Call::new(method, "/a").header("Host", "h").header("Cookie", cookie)).text()
    };
    assert_eq!(with("s=0", "GET"), "state 1");
    // Elsewhere, so that only who asks can make the difference.
    stand.send(&Call::new("POST", "/x").header("Host", "h").header("Cookie", "s=1"));
    assert_eq!(with("s=0", "GET"), "state 1");
    assert_eq!(with("s=2", "GET"), "state 2");
}

#[test]
fn a_stale_copy_from_before_a_write_stands_in_for_nothing() {
    let (backend, _) = stateful();
    let route = "coalesce = true\ncache = { ttl = \"1ms\", stale_if_error = \"60s\", stale_while_revalidate = \"60s\" }";
    let stand = Stand::new(backend.address, route, "");
    read(&stand, "ann", "/a");
    stand.send(&from("ann", "POST", "/x").body("x"));
    thread::sleep(Duration::from_millis(5));
    assert_eq!(read(&stand, "ann", "/a"), "state 2");
}
